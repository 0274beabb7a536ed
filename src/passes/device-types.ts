/**
 * Types that a device has no arithmetic for, as the nearest that it has: bfloat16 and float64 as float32, uint64 as uint32. And halves as the
 * float32 that int8 is made of.
 *
 * Inputs and outputs of the graph keep their types, and a cast stands between: bindings convert as they are uploaded and downloaded. Casts to
 * bfloat16 still round to it on a device; what is computed between casts has the precision of float32, which bfloat16 never has less of.
 * Prior art: XLA's FloatNormalization.
 */
import { freshName } from '../ir/build.ts';
import { prune } from '../ir/edit.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import { beyond32Bits, type DType, is32Bits, retyped, type Tensor, type TensorType } from '../ir/tensor.ts';
import type { Pass, PassReport, PassResult } from './pass.ts';

/** Types that values have between casts only, behind the passes: bindings, and what nodes read and write to which the type itself matters. */
export const CAST_ONLY: ReadonlySet<DType> = new Set(['bfloat16', 'float64', 'uint64']);

type Held = Readonly<Partial<Record<DType, DType>>>;

/** Both are parts of float32, so that constants stay what they are. */
const HALVES: Held = { float16: 'float32', bfloat16: 'float32' };
/** Every bfloat16 is a float32, so that constants may be folded in it. */
const BFLOAT16: Held = { bfloat16: 'float32' };
/** These lose something, which what depends on constants alone should not: it is evaluated before. */
const WIDE: Held = { float64: 'float32', uint64: 'uint32' };

/**
 * A cast to a half no longer rounds: it goes, as an identity. That is no loss. All ops of the graph leave out the same rounding, so a few casts would
 * not bring the model's numbers back, and a grid of 8 bits is coarser than a half's 11 by far. What a cast would do is stand between a product
 * and the next one's grid, and make infinities of numbers that float32 holds.
 */
export const halvesAsFloat32: Pass = {
  name: 'halves-as-float32',
  summary: 'for int8: compute float16 and bfloat16 in float32, without the rounding of casts',
  targets: ['onnx'],
  basic: true,
  forInt8: true,
  run: (graph) => holdTypes(graph, HALVES, 'exact'),
};

export const bfloat16AsFloat32: Pass = {
  name: 'bfloat16-as-float32',
  summary: 'compute bfloat16 in float32, rounded where the model casts to it',
  targets: ['webgpu'],
  basic: true,
  run: (graph) => holdTypes(graph, BFLOAT16),
};

export const narrowTypes: Pass = {
  name: 'narrow-types',
  summary: 'compute float64 in float32 and uint64 in uint32',
  targets: ['webgpu'],
  basic: true,
  run: (graph) => holdTypes(graph, WIDE),
};

/** The graph as the first of the passes leaves it, and as both do. */
export const withoutBfloat16 = (graph: Graph): Graph => holdTypes(graph, BFLOAT16).graph;
export const inDeviceTypes = (graph: Graph): Graph => holdTypes(graph, { ...BFLOAT16, ...WIDE }).graph;

/** Types that every half has the numbers of: all others may be rounded. */
const IN_HALVES: ReadonlySet<DType> = new Set(['bool', 'int8', 'uint8']);
/** Casts named in a notice. */
const NAMED = 5;

/** The notice of casts of the imported graph that {@link halvesAsFloat32} took the rounding of; none where it did not run or there are none. */
export function droppedRounding({ nodes, types }: Graph, reports: readonly PassReport[]): readonly string[] {
  if (!reports.some(({ pass }) => pass === halvesAsFloat32.name)) return [];
  const casts = nodes.filter(({ op, inputs, outputs }) => {
    if (op !== 'Cast' && op !== 'CastLike') return false;
    const [from, to] = [types.get(inputs[0]!)!.dtype, types.get(outputs[0]!)!.dtype];
    return HALVES[to] !== undefined && from !== to && !IN_HALVES.has(from);
  });
  if (casts.length === 0) return [];
  const halves = [...new Set(casts.map(({ outputs }) => types.get(outputs[0]!)!.dtype))].join(' and ');
  const names = casts.slice(0, NAMED).map(({ name }) => `'${name}'`).join(', ');
  const more = casts.length > NAMED ? ` and ${casts.length - NAMED} more` : '';
  return [`Casts to ${halves} do not round, as int8 is made of the model in float32: ${names}${more}.`];
}

/** `rounded`: casts to bfloat16 round to it; `exact`: no cast rounds to a type that is held in another. */
function holdTypes(graph: Graph, held: Held, casts: 'rounded' | 'exact' = 'rounded'): PassResult {
  const isAny = [...graph.types.values()].some(({ dtype }) => held[dtype] !== undefined);
  return isAny ? new Holder(graph, held, casts === 'rounded').run() : { graph, rewrites: {} };
}

/** A graph on its way into other types. A value keeps its name in the type that it is computed in; a binding keeps it in its own type. */
class Holder {
  readonly #graph: Graph;
  readonly #held: Held;
  readonly #rounds: boolean;
  readonly #types: Map<ValueId, TensorType>;
  readonly #constants: Map<ValueId, Tensor>;
  readonly #nodes: AnyNode[] = [];
  readonly #values: Set<string>;
  readonly #names: Set<string>;
  /** What a binding is computed with. */
  readonly #computed = new Map<ValueId, ValueId>();
  /** Values in their own type, where a node reads or writes them so. */
  readonly #own = new Map<ValueId, ValueId>();
  /** Constants that 32 bits don't hold: they stay, and so do the nodes that read them. */
  readonly #wide: ReadonlySet<ValueId>;
  readonly #counts: Record<string, number> = {};

  constructor(graph: Graph, held: Held, rounds: boolean) {
    this.#graph = graph;
    this.#held = held;
    this.#rounds = rounds;
    this.#types = new Map(graph.types);
    this.#constants = new Map(graph.constants);
    this.#values = new Set(graph.types.keys());
    this.#names = new Set(graph.nodes.map(({ name }) => name));
    this.#wide = new Set([...graph.constants].flatMap(([id, tensor]) => (held[tensor.dtype] && beyond32Bits(tensor) !== undefined ? [id] : [])));
  }

  run(): PassResult {
    const { inputs, outputs, nodes, types } = this.#graph;
    const bindings = new Set([...inputs, ...outputs]);
    for (const id of types.keys()) this.#retype(id, bindings.has(id));
    for (const id of inputs) if (this.#computed.has(id)) this.#cast(id, this.#in(id), []);
    for (const node of nodes) this.#add(node);
    return { graph: prune({ ...this.#graph, types: this.#types, constants: this.#constants, nodes: this.#nodes }), rewrites: this.#counts };
  }

  /** The type that a value is computed in, where it is not its own. */
  #heldAs(id: ValueId): DType | undefined {
    return this.#wide.has(id) ? undefined : this.#held[this.#graph.types.get(id)!.dtype];
  }

  #retype(id: ValueId, isBinding: boolean): void {
    const dtype = this.#heldAs(id);
    if (!dtype) return;
    const as = isBinding ? freshName(this.#values, `${id}/${dtype}`) : id;
    if (isBinding) {
      this.#computed.set(id, as);
      this.#own.set(id, id);
    }
    const type = this.#graph.types.get(id)!;
    this.#counts[type.dtype] = (this.#counts[type.dtype] ?? 0) + 1;
    this.#types.set(as, { dtype, dims: type.dims });
    const constant = this.#graph.constants.get(id);
    if (constant) this.#constants.set(as, retyped(constant, dtype));
  }

  /** The value as it is computed with. */
  #in(id: ValueId): ValueId {
    return this.#computed.get(id) ?? id;
  }

  #add(node: AnyNode): void {
    const ids = [...node.inputs, ...node.outputs].filter((id) => id !== '' && this.#held[this.#graph.types.get(id)!.dtype] !== undefined);
    if (ids.length === 0) this.#nodes.push(node);
    else if (this.#isKept(node)) this.#keep(node);
    else this.#hold(node);
  }

  /** Whether the node's result depends on the type itself, and not on numbers alone; or a number of it does not fit. */
  #isKept(node: AnyNode): boolean {
    if (node.op === 'Custom') return true;
    // All of the upper 32 bits would be ones.
    if (node.op === 'BitwiseNot') return true;
    if (this.#rounds && (node.op === 'Cast' || node.op === 'CastLike') && this.#graph.types.get(node.outputs[0]!)!.dtype === 'bfloat16') return true;
    if (node.op === 'ConstantOfShape') {
      return !is32Bits(node.attrs.value.value, node.attrs.value.dtype);
    }
    return node.inputs.some((id) => this.#wide.has(id));
  }

  #hold(node: AnyNode): void {
    const typed = withTypes(node, this.#held, this.#graph);
    const named = (ids: readonly ValueId[]) => ids.map((id) => id && this.#in(id));
    this.#nodes.push({ ...typed, inputs: named(typed.inputs), outputs: named(typed.outputs) } as AnyNode);
    for (const id of node.outputs) if (this.#computed.has(id)) this.#cast(this.#in(id), id, node.origins);
  }

  /** The node in its own types, between casts. */
  #keep(node: AnyNode): void {
    const isCast = node.op === 'Cast' || node.op === 'CastLike';
    const plain = isCast ? castNode(node, this.#graph.types.get(node.outputs[0]!)!.dtype) : node;
    const inputs = plain.inputs.map((id) => (id && this.#heldAs(id) ? this.#ownOf(id, node.origins) : id));
    const outputs = plain.outputs.map((id) => (id && this.#heldAs(id) ? this.#freshOwn(id) : id));
    this.#nodes.push({ ...plain, inputs, outputs } as AnyNode);
    for (const [i, id] of plain.outputs.entries()) if (id !== outputs[i] || this.#computed.has(id)) this.#cast(outputs[i]!, this.#in(id), node.origins);
  }

  #ownOf(id: ValueId, origins: readonly string[]): ValueId {
    const known = this.#own.get(id);
    if (known !== undefined) return known;
    const own = this.#freshOwn(id);
    const constant = this.#graph.constants.get(id);
    if (constant) this.#constants.set(own, constant);
    else this.#cast(id, own, origins);
    return own;
  }

  #freshOwn(id: ValueId): ValueId {
    const known = this.#own.get(id);
    if (known !== undefined) return known;
    const type = this.#graph.types.get(id)!;
    const own = freshName(this.#values, `${id}/${type.dtype}`);
    this.#types.set(own, type);
    this.#own.set(id, own);
    return own;
  }

  #cast(from: ValueId, to: ValueId, origins: readonly string[]): void {
    const name = freshName(this.#names, `${to}/cast`);
    this.#nodes.push({ op: 'Cast', name, inputs: [from], outputs: [to], attrs: { to: this.#types.get(to)!.dtype, saturate: 1 }, origins });
  }
}

function castNode(node: AnyNode, to: DType): AnyNode {
  return { ...node, op: 'Cast', inputs: node.inputs.slice(0, 1), attrs: { to, saturate: 1 } } as AnyNode;
}

/** The node with the held types in the attributes that name types. */
function withTypes(node: AnyNode, held: Held, graph: Graph): AnyNode {
  const as = (dtype: DType): DType => held[dtype] ?? dtype;
  switch (node.op) {
    case 'Cast':
    case 'CastLike':
      return castNode(node, as(graph.types.get(node.outputs[0]!)!.dtype));
    case 'ConstantOfShape':
      return { ...node, attrs: { value: { ...node.attrs.value, dtype: as(node.attrs.value.dtype) } } };
    case 'EyeLike':
      return { ...node, attrs: { ...node.attrs, dtype: node.attrs.dtype && as(node.attrs.dtype) } };
    case 'GroupNormalization':
    case 'LayerNormalization':
    case 'RMSNormalization':
      // Statistics of float16 (10) and bfloat16 (16) are computed in float32 (1) too.
      return { ...node, attrs: { ...node.attrs, stash_type: (node.attrs.stash_type === 10 && held.float16) || (node.attrs.stash_type === 16 && held.bfloat16) ? 1 : node.attrs.stash_type } } as AnyNode;
    default:
      return node;
  }
}
