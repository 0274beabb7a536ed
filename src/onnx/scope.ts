/**
 * The graph under construction: what the importer knows of every value so far, and the only place where nodes are added.
 *
 * Adding a node completes its attributes, infers its types and follows small integers (shape arithmetic), so that what an
 * upgrade rule emits is checked like anything else.
 */
import { freshName } from '../ir/build.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import { fromNumbers, type DType, type Dims, type Tensor, type TensorType } from '../ir/tensor.ts';
import { importAttributes } from '../ops/attributes.ts';
import { boundedAxisOf } from '../ops/bounded.ts';
import { NotStaticError, ShapeError, type InferContext, type RawAttribute } from '../ops/def.ts';
import { inferContext, inferNode, propagateNode } from '../ops/infer.ts';
import { materialize } from '../ops/values.ts';

/** A node on its way in: ONNX's, with attributes in the op table's raw form. */
export interface SourceNode {
  /** Unique in the model. */
  readonly name: string;
  readonly opType: string;
  readonly domain: string;
  readonly opset: number;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  readonly attributes: ReadonlyMap<string, RawAttribute>;
}

export type RawRecord = Readonly<Record<string, RawAttribute | undefined>>;

export interface Scope {
  /** Whether the value is known: one that folding left out is not. */
  has(id: ValueId): boolean;
  /** Type of a value; throws ShapeError for `''` or a value that is not known. */
  type(id: ValueId): TensorType;
  /** Its value where it is a constant. */
  constant(id: ValueId): Tensor | undefined;
  /** Its elements where they are few and known at build. */
  known(id: ValueId): readonly number[] | undefined;
  /** Whether a node or the graph's outputs read the value; nobody reads '', which stands for an input that is left out. */
  isUsed(id: ValueId): boolean;
  /** Adds a constant, under a fresh name unless one is given. */
  addConstant(tensor: Tensor, name?: ValueId): ValueId;
  /** A name that no value has. */
  freshValue(hint: string): ValueId;
  /**
   * Adds a node for `source`; gives its outputs. `outputs` default to one fresh value. The node that carries the source's
   * outputs takes its name, helpers get a suffix. Throws NotStaticError where an input's length is up to the data.
   */
  emit<K extends OpKind>(source: SourceNode, op: K, inputs: readonly ValueId[], attributes: RawRecord, outputs?: readonly ValueId[]): readonly ValueId[];
  /** Adds a node whose types are given. */
  emitTyped<K extends OpKind>(source: SourceNode, op: K, attrs: OpAttrs[K], types: readonly TensorType[]): void;
}

export interface ScopeState extends Scope {
  readonly types: Map<ValueId, TensorType>;
  readonly constants: Map<ValueId, Tensor>;
  readonly nodes: AnyNode[];
}

export interface ScopeOptions {
  /** Every name that the model uses; fresh names avoid them. */
  readonly names: Set<string>;
  readonly nodeNames: Set<string>;
  /** Values that nodes or the graph's outputs read. */
  readonly used: ReadonlySet<ValueId>;
  readonly graphOutputs: ReadonlySet<ValueId>;
}

/** Throws NotStaticError. */
function refuseBounded({ bounded }: Store, inputs: readonly ValueId[]): void {
  const id = inputs.find((input) => bounded.has(input));
  if (id !== undefined) throw new NotStaticError(`the length of its input '${id}' depends on the data of ${bounded.get(id)}`);
}

/** Shape arithmetic in these types is replaced by its result. */
const FOLDED: ReadonlySet<DType> = new Set<DType>(['int64', 'int32', 'bool']);

/** A scalar or vector of int64, the type of shapes and axes. */
export function int64(values: readonly number[], dims: Dims = [values.length]): Tensor {
  return fromNumbers('int64', dims, values);
}

/** What the functions below share: the scope's maps and what naming and folding need. */
interface Store extends ScopeOptions {
  readonly types: Map<ValueId, TensorType>;
  readonly constants: Map<ValueId, Tensor>;
  readonly known: Map<ValueId, readonly number[]>;
  readonly nodes: AnyNode[];
  /** Values whose types are upper bounds, with the node that gives them. */
  readonly bounded: Map<ValueId, string>;
  /** Sources whose name a node carries. */
  readonly carried: Set<string>;
}

export function createImportScope(options: ScopeOptions): ScopeState {
  const store: Store = { ...options, types: new Map(), constants: new Map(), known: new Map(), nodes: [], bounded: new Map(), carried: new Set() };
  return {
    types: store.types,
    constants: store.constants,
    nodes: store.nodes,
    has: (id) => store.types.has(id),
    type: (id) => typeIn(store, id),
    constant: (id) => store.constants.get(id),
    known: (id) => (id === '' ? undefined : contextOf(store, [id], 0).numbers(0)),
    isUsed: (id) => id !== '' && options.used.has(id),
    addConstant: (tensor, name) => addConstant(store, tensor, name ?? freshName(options.names, 'constant')),
    freshValue: (hint) => freshName(options.names, hint),
    emit: (source, op, inputs, attributes, outputs) =>
      emit(store, source, op, inputs, attributes, outputs ?? [freshName(options.names, `${source.name}/${op}`)]),
    emitTyped(source, op, attrs, types) {
      refuseBounded(store, source.inputs);
      const outputs = trimmed(source.outputs);
      for (const [index, id] of outputs.entries()) if (id !== '') store.types.set(id, types[index]!);
      push(store, source, op, attrs, trimmed(source.inputs), outputs);
    },
  };
}

function emit<K extends OpKind>(
  store: Store,
  source: SourceNode,
  op: K,
  inputs: readonly ValueId[],
  attributes: RawRecord,
  outputs: readonly ValueId[],
): readonly ValueId[] {
  const given = trimmed(inputs);
  const wanted = trimmed(outputs);
  refuseBounded(store, given);
  const context = contextOf(store, given, wanted.length);
  const raw = new Map(Object.entries(attributes).filter((entry): entry is [string, RawAttribute] => entry[1] !== undefined));
  const attrs = importAttributes(op, raw, context);
  const types = inferNode(op, attrs, context);
  const values = propagateNode(op, attrs, context);
  if (fold(store, types, values, wanted)) return outputs;
  for (const [index, id] of wanted.entries()) {
    if (id === '') continue;
    const type = types[index];
    if (!type) throw new ShapeError(`output ${index} has no type`);
    store.types.set(id, { dtype: type.dtype, dims: type.dims });
    const elements = values[index];
    if (elements) store.known.set(id, elements);
  }
  if (boundedAxisOf(op, attrs, context) !== undefined) store.bounded.set(wanted[0]!, `${op} '${source.name}'`);
  push(store, source, op, attrs, given, wanted);
  return outputs;
}

/** Small integers known in full become constants, so that no backend computes shapes. */
function fold(store: Store, types: readonly TensorType[], values: readonly (readonly number[] | undefined)[], outputs: readonly ValueId[]): boolean {
  const folded = outputs.map((id, index) => {
    const type = types[index];
    const elements = values[index];
    if (id === '' || !type || !elements || !FOLDED.has(type.dtype) || store.graphOutputs.has(id)) return undefined;
    return materialize(type, elements);
  });
  if (folded.length === 0 || !folded.every((tensor) => tensor !== undefined)) return false;
  for (const [index, tensor] of folded.entries()) addConstant(store, tensor, outputs[index]!);
  return true;
}

function push(store: Store, source: SourceNode, op: OpKind, attrs: OpAttrs[OpKind], inputs: readonly ValueId[], outputs: readonly ValueId[]): void {
  const isMain = outputs.some((output) => source.outputs.includes(output));
  const name = isMain && !store.carried.has(source.name) ? source.name : freshName(store.nodeNames, `${source.name}/${op}`);
  if (name === source.name) store.carried.add(name);
  store.nodes.push({ op, name, inputs, outputs, attrs, origins: [source.name] } as AnyNode);
}

function addConstant(store: Store, tensor: Tensor, name: ValueId): ValueId {
  store.types.set(name, { dtype: tensor.dtype, dims: tensor.dims });
  store.constants.set(name, tensor);
  return name;
}

function typeIn(store: Store, id: ValueId): TensorType {
  const type = store.types.get(id);
  if (!type) throw new ShapeError(id === '' ? 'a required input is left out' : `the value '${id}' has no known type`);
  return type;
}

function contextOf(store: Store, inputs: readonly ValueId[], outputCount: number): InferContext {
  const infos = inputs.map((id) => (id === '' ? undefined : { type: typeIn(store, id), constant: store.constants.get(id), known: store.known.get(id) }));
  return inferContext(infos, outputCount);
}

function trimmed(ids: readonly ValueId[]): readonly ValueId[] {
  const last = ids.findLastIndex((id) => id !== '');
  return last === ids.length - 1 ? ids : ids.slice(0, last + 1);
}
