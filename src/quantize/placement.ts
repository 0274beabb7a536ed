/**
 * Placement: which nodes of a graph run in int8, and which values therefore need a grid.
 *
 * Products with constant weights are chosen first; then ops between them that have an integer form, so that activations stay
 * int8 from one product to the next. Activations that saturation performs for free are taken into the node before them.
 */
import type { Int8Behaviour } from '../ir/custom.ts';
import { consumers, producers, typeOf, type AnyNode, type Graph, type ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { type Tensor, toNumbers, typedView } from '../ir/tensor.ts';
import type { Range, Scheme } from './params.ts';

export interface PlacementPolicy {
  readonly scheme: Scheme;
  /** Names of graph nodes, or of ONNX nodes whose work they do, that stay as they are. */
  readonly keep: ReadonlySet<string>;
  /** `keep` leaves the products next to the graph's inputs, or outputs, as they are. */
  readonly firstLayer: 'int8' | 'keep';
  readonly lastLayer: 'int8' | 'keep';
}

export const DEFAULT_POLICY: PlacementPolicy = { scheme: 'affine', keep: new Set(), firstLayer: 'int8', lastLayer: 'int8' };

/** `product`: int8 weights and int32 sums. `elementwise`: its own grid out. `movement`: the grid that came in goes out. */
export type Role = 'product' | 'elementwise' | 'movement';

export interface Placement {
  /** Nodes that run in int8, by name. */
  readonly roles: ReadonlyMap<string, Role>;
  /** Values that need a grid. */
  readonly quantized: ReadonlySet<ValueId>;
  /** The value whose grid a value takes; values without an entry have their own. */
  readonly sharedWith: ReadonlyMap<ValueId, ValueId>;
  /** By name of an activation node, the interval to which it clips; its input has no other reader. */
  readonly activations: ReadonlyMap<string, Range>;
}

/** Moves elements, or picks among them. */
const MOVEMENT: ReadonlySet<OpKind> = new Set<OpKind>(['Flatten', 'Gather', 'MaxPool', 'Reshape', 'Slice', 'Squeeze', 'Transpose', 'Unsqueeze']);
/** Ops with an integer form of their own in onnxruntime, all of whose float inputs are data. */
const ELEMENTWISE: ReadonlySet<OpKind> = new Set<OpKind>(['Add', 'AveragePool', 'Concat', 'GlobalAveragePool', 'LeakyRelu', 'Mul', 'Sigmoid']);

/** What a plugin says of its op between int8 ops; undefined where it says nothing. */
function customInt8(node: AnyNode): Int8Behaviour | undefined {
  return node.op === 'Custom' ? node.attrs.definition?.op.int8 : undefined;
}

function isMovement(node: AnyNode): boolean {
  return MOVEMENT.has(node.op) || customInt8(node)?.output === 'same' || (node.op === 'Resize' && node.attrs.mode !== 'cubic');
}

/** The float inputs of an int8 node that carry activations; weights, shapes and bounds are not among them. */
export function dataInputs(node: AnyNode): readonly ValueId[] {
  const custom = customInt8(node);
  if (custom) return [...new Set((custom.inputs ?? [0]).flatMap((index) => node.inputs[index] || []))];
  return node.op === 'Add' || node.op === 'Mul' || node.op === 'Concat' ? [...new Set(node.inputs)] : node.inputs.slice(0, 1);
}

export function placeInt8(graph: Graph, policy: PlacementPolicy): Placement {
  const producer = producers(graph);
  const readers = consumers(graph);
  const clips = new Map<string, Range>();
  const roles = new Map<string, Role>();
  const isInt8 = (id: ValueId): boolean => {
    const source = producer.get(id);
    return source !== undefined && (roles.has(source.name) || clips.has(source.name));
  };
  const onlyReader = (id: ValueId) => (readers.get(id)?.length === 1 && !graph.outputs.includes(id) ? readers.get(id)![0] : undefined);

  for (const node of graph.nodes) {
    if (isKept(node, policy)) continue;
    if (isProduct(node, graph) && !isEdge(node, graph, producer, readers, policy)) roles.set(node.name, 'product');
    else if (canFollow(node, graph, isInt8)) roles.set(node.name, isMovement(node) ? 'movement' : 'elementwise');
    const source = producer.get(node.inputs[0] ?? '');
    const interval = clipInterval(node, graph);
    const role = source && roles.get(source.name);
    if (interval && (role === 'product' || role === 'elementwise') && onlyReader(node.inputs[0]!) === node) clips.set(node.name, interval);
  }
  dropUseless(graph, roles, clips, producer, readers);
  return { roles, activations: clips, ...gridsOf(graph, roles, clips, readers) };
}

/** Names of the products that a placement has run in int8. */
export function productsOf({ roles }: Placement): ReadonlySet<string> {
  return new Set([...roles].filter(([, role]) => role === 'product').map(([name]) => name));
}

function isKept(node: AnyNode, { keep }: PlacementPolicy): boolean {
  return keep.has(node.name) || node.origins.some((origin) => keep.has(origin));
}

/** Conv, Gemm or MatMul of float data with constant float weights and no bias but a constant one. */
function isProduct(node: AnyNode, graph: Graph): boolean {
  if (node.op !== 'Conv' && node.op !== 'Gemm' && node.op !== 'MatMul') return false;
  const [x = '', w = '', b = ''] = node.inputs;
  const weights = graph.constants.get(w);
  if (typeOf(graph, x).dtype !== 'float32' || weights?.dtype !== 'float32' || graph.constants.has(x)) return false;
  if (b && !graph.constants.has(b)) return false;
  if (node.op === 'MatMul' && weights.dims.length !== 2) return false;
  if (node.op === 'Gemm') {
    const { alpha, beta, transA } = node.attrs;
    const columns = typeOf(graph, node.outputs[0]!).dims[1]!;
    if (alpha !== 1 || transA !== 0 || (b && (beta !== 1 || typeOf(graph, b).dims.reduce((a, dim) => a * dim, 1) !== columns))) return false;
  }
  // A grid can't hold NaN or infinities.
  return [w, b].every((id) => !id || allFinite(graph.constants.get(id)!));
}

/** By tensor: a product's neighbours ask as well. */
const FINITE = new WeakMap<Tensor, boolean>();

function allFinite(tensor: Tensor): boolean {
  const known = FINITE.get(tensor);
  if (known !== undefined) return known;
  const values = typedView(tensor) as Float32Array;
  let at = 0;
  while (at < values.length && Number.isFinite(values[at])) at++;
  const finite = at === values.length;
  FINITE.set(tensor, finite);
  return finite;
}

/** Whether a product is the first after an input, or the last before an output, and the policy keeps those. */
function isEdge(
  node: AnyNode,
  graph: Graph,
  producer: ReadonlyMap<ValueId, AnyNode>,
  readers: ReadonlyMap<ValueId, readonly AnyNode[]>,
  policy: PlacementPolicy,
): boolean {
  const searchFor = (start: readonly ValueId[], next: (id: ValueId) => readonly AnyNode[], onward: (node: AnyNode) => readonly ValueId[]): boolean => {
    const seen = new Set(start);
    for (const id of seen) {
      for (const other of next(id)) {
        if (isProduct(other, graph)) return true;
        for (const further of onward(other)) if (further) seen.add(further);
      }
    }
    return false;
  };
  const before = () => searchFor(node.inputs.slice(0, 1), (id) => [producer.get(id)].filter((source) => source !== undefined), (other) => other.inputs);
  const after = () => searchFor(node.outputs, (id) => readers.get(id) ?? [], (other) => other.outputs);
  return (policy.firstLayer === 'keep' && !before()) || (policy.lastLayer === 'keep' && !after());
}

/** An op between products: all its activations are int8 already, or constants. */
function canFollow(node: AnyNode, graph: Graph, isInt8: (id: ValueId) => boolean): boolean {
  const movement = isMovement(node);
  if (!movement && !ELEMENTWISE.has(node.op) && !customInt8(node)) return false;
  if (node.outputs.length !== 1 || typeOf(graph, node.outputs[0]!).dtype !== 'float32') return false;
  const data = dataInputs(node);
  if (node.op === 'AveragePool' && node.attrs.ceil_mode === 1) return false;
  return data.some(isInt8) && data.every((id) => isInt8(id) || (!movement && graph.constants.get(id)?.dtype === 'float32'));
}

/** The interval to which an activation clips its input, where that is all it does. */
function clipInterval(node: AnyNode, graph: Graph): Range | undefined {
  if (node.op === 'Relu') return { low: 0, high: Number.POSITIVE_INFINITY };
  if (node.op !== 'Clip') return undefined;
  const [, low, high] = node.inputs.map((id) => graph.constants.get(id));
  const bounds: Range = {
    low: low ? toNumbers(low)[0]! : Number.NEGATIVE_INFINITY,
    high: high ? toNumbers(high)[0]! : Number.POSITIVE_INFINITY,
  };
  const known = [node.inputs[1], node.inputs[2]].every((id) => !id || graph.constants.has(id));
  return known && bounds.low <= 0 && bounds.high >= 0 ? bounds : undefined;
}

/** An op between products that only float ops read gains nothing from int8. */
function dropUseless(
  graph: Graph,
  roles: Map<string, Role>,
  clips: Map<string, Range>,
  producer: ReadonlyMap<ValueId, AnyNode>,
  readers: ReadonlyMap<ValueId, readonly AnyNode[]>,
): void {
  for (const node of graph.nodes.toReversed()) {
    const used = (readers.get(node.outputs[0] ?? '') ?? []).some((reader) => roles.has(reader.name) || clips.has(reader.name));
    const role = roles.get(node.name);
    if ((role === 'elementwise' || role === 'movement') && !used) roles.delete(node.name);
    const source = clips.has(node.name) ? producer.get(node.inputs[0]!) : undefined;
    // An activation after something that became float again is a float op.
    if (source && roles.get(source.name) !== 'product' && !used) clips.delete(node.name);
  }
}

/** Values at the borders of int8 nodes, but for those between a node and the activation that it takes in. */
function gridsOf(
  graph: Graph,
  roles: ReadonlyMap<string, Role>,
  clips: ReadonlyMap<string, Range>,
  readers: ReadonlyMap<ValueId, readonly AnyNode[]>,
): Pick<Placement, 'quantized' | 'sharedWith'> {
  const quantized = new Set<ValueId>();
  const sharedWith = new Map<ValueId, ValueId>();
  for (const node of graph.nodes) {
    const role = roles.get(node.name);
    if (role === undefined) continue;
    for (const id of dataInputs(node)) if (!graph.constants.has(id)) quantized.add(id);
    const direct = node.outputs[0]!;
    const activation = (readers.get(direct) ?? []).find((reader) => clips.has(reader.name));
    const output = activation?.outputs[0] ?? direct;
    const toInt8 = (readers.get(output) ?? []).some((reader) => roles.has(reader.name));
    // A matrix product can give floats; a convolution can't.
    if (node.op === 'Conv' || toInt8) quantized.add(output);
    if (role === 'movement') sharedWith.set(direct, sharedWith.get(node.inputs[0]!) ?? node.inputs[0]!);
  }
  return { quantized, sharedWith };
}
