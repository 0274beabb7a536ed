/**
 * Whether a model whose fixed batch was replaced still keeps the samples apart: each node's own meaning, beside the sizes.
 *
 * Sizes alone say little: a softmax or a convolution along the batch has the size of its operand, and what is computed from the batch's size has
 * any. So every node is asked whether it brings together entries of the axis that grew with the batch, and whether what it takes
 * beside the samples is what it was, repeated for the new ones.
 */
import { isDeepStrictEqual } from 'node:util';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { elementCount, sameDims, type Tensor, toNumbers, type TensorType } from '../ir/tensor.ts';
import { decomposes } from '../ops/custom-routes.ts';
import { type Decomposition, decompositionOf } from '../ops/decomposition.ts';
import { BROADCAST } from '../ops/elementwise-broadcast.ts';
import { UNARY } from '../ops/elementwise-unary.ts';
import { normalizeAxis } from '../ops/shapes.ts';
import { offsets, rowMajorStrides } from '../ops/values.ts';

/** What is known of a model at a batch. */
export interface AtBatch {
  readonly types: ReadonlyMap<ValueId, TensorType>;
  readonly constants: ReadonlyMap<ValueId, Tensor>;
}

export interface Rebatched {
  readonly inputs: Iterable<ValueId>;
  readonly nodes: readonly AnyNode[];
  readonly own: AtBatch;
  readonly now: AtBatch;
}

/** The first node, in topological order, whose results at the new batch are none of single samples; undefined where all are. */
export function mixingNode(model: Rebatched): AnyNode | undefined {
  const steady = steadyValues(model);
  const dependent = new Set(model.inputs);
  for (const node of model.nodes) {
    if (SHAPE_OPS.has(node.op) || !node.inputs.some((id) => dependent.has(id))) continue;
    for (const id of node.outputs) dependent.add(id);
    const mixes = node.inputs.some((id, index) => {
      if (id === '') return false;
      if (!dependent.has(id)) return !SIZES.get(node.op)?.has(index) && !MOVES.get(node.op)?.has(index) && !steady(id);
      const axis = grownAxis(id, model);
      if (axis === 'elsewhere') return true;
      if (axis === 'in front') return !survivesInFront(node);
      return axis !== undefined && bringsTogether(node, index, axis, { ...model, steady });
    });
    if (mixes || meetsApart(node, dependent, model) || (node.op === 'Custom' && customMixes(node, dependent, model))) return node;
  }
  return undefined;
}

/** An op of a plugin is what it says that it is in standard ops; of one that says nothing nothing is known. */
function customMixes(node: Node<'Custom'>, dependent: ReadonlySet<ValueId>, { own, now }: Rebatched): boolean {
  const { definition } = node.attrs;
  // One of onnxruntime's own.
  if (!definition) return false;
  if (!decomposes(definition.op)) return true;
  const partAt = ({ types, constants }: AtBatch): Decomposition => {
    const operands = node.inputs.map((id) => {
      const type = types.get(id);
      return type && { type, constant: constants.get(id) };
    });
    return decompositionOf(definition, operands, node.outputs.map((id) => types.get(id)));
  };
  const [before, after] = [partAt(own), partAt(now)];
  const form = ({ graph }: Decomposition) => graph.nodes.map(({ op, attrs, inputs, outputs }) => ({ op, attrs, inputs, outputs }));
  // What it does depends on the batch.
  if (!isDeepStrictEqual(form(before), form(after))) return true;
  const samples = after.inputs.filter((_, index) => dependent.has(node.inputs[index] ?? ''));
  const part = { inputs: samples, nodes: after.graph.nodes, own: before.graph, now: after.graph };
  return losesSamples(part) || mixingNode(part) !== undefined;
}

/** Whether a value computed from samples does not hold as much per sample as before: a mean over the batch. */
function losesSamples({ inputs, nodes, own, now }: Rebatched): boolean {
  const [first = ''] = inputs;
  const countOf = (id: ValueId, { types }: AtBatch): number => elementCount(types.get(id)?.dims ?? []);
  const computed = new Set(inputs);
  return nodes.some((node) => {
    if (SHAPE_OPS.has(node.op) || !node.inputs.some((id) => computed.has(id))) return false;
    for (const id of node.outputs) computed.add(id);
    return node.outputs.some((id) => id !== '' && countOf(id, now) * countOf(first, own) !== countOf(id, own) * countOf(first, now));
  });
}

const SHAPE_OPS: ReadonlySet<OpKind> = new Set(['Shape', 'Size']);

/** Inputs that say how large something becomes, which shows in the types. */
const SIZES: ReadonlyMap<OpKind, ReadonlySet<number>> = new Map([
  ['ConstantOfShape', new Set([0])],
  ['Expand', new Set([1])],
  ['Reshape', new Set([1])],
  ['Tile', new Set([1])],
]);

/** Inputs that say where elements of samples go, for which their nodes are asked. */
const MOVES: ReadonlyMap<OpKind, ReadonlySet<number>> = new Map([
  ['Pad', new Set([1, 3])],
  ['Resize', new Set([1, 2, 3])],
  ['ScatterND', new Set([1])],
  ['Slice', new Set([1, 2, 3, 4])],
  ['Split', new Set([1])],
]);

/**
 * The axis of a value that follows the batch; undefined where none does. An axis-less Squeeze keeps a batch that is no longer 1: an axis more, in front of
 * the others or elsewhere.
 */
function grownAxis(id: ValueId, { own, now }: Pick<Rebatched, 'own' | 'now'>): number | 'in front' | 'elsewhere' | undefined {
  const [before, after] = [own.types.get(id)?.dims, now.types.get(id)?.dims];
  if (!before || !after) return undefined;
  if (before.length !== after.length) return sameDims(before, after.slice(1)) ? 'in front' : 'elsewhere';
  const axis = after.findIndex((dim, at) => dim !== before[at]);
  return axis < 0 ? undefined : axis;
}

/** Ops of single elements, whose operands broadcast. */
const ELEMENTWISE: ReadonlySet<OpKind> = new Set(Object.keys({ ...UNARY, ...BROADCAST }) as OpKind[]);

/** Whether a node means the same for a value of an axis more in front: it looks at none, or counts from behind. */
function survivesInFront(node: AnyNode): boolean {
  return ELEMENTWISE.has(node.op) || node.op === 'Reshape' || ('axis' in node.attrs && typeof node.attrs.axis === 'number' && node.attrs.axis < 0);
}

/** Ops whose operands broadcast, and which therefore meet at equal distances from the last axis. */
const BROADCASTING: ReadonlySet<OpKind> = new Set<OpKind>([...ELEMENTWISE, 'Expand']);

/** Whether operands that have the samples along different axes meet element by element. */
function meetsApart(node: AnyNode, dependent: ReadonlySet<ValueId>, model: Rebatched): boolean {
  const isProduct = node.op === 'MatMul';
  if (!isProduct && !BROADCASTING.has(node.op)) return false;
  const places = node.inputs.flatMap((id) => {
    const axis = dependent.has(id) ? grownAxis(id, model) : undefined;
    if (typeof axis !== 'number') return [];
    const place = model.now.types.get(id)!.dims.length - axis;
    // A product's own two axes stay apart in its result.
    return isProduct && place <= 2 ? [] : [place];
  });
  return new Set(places).size > 1;
}

/** Ops whose result at a larger size repeats what it was, where their operands do. */
const REPEATING: ReadonlySet<OpKind> = new Set<OpKind>([...ELEMENTWISE, 'Concat', 'ConstantOfShape', 'Expand', 'Flatten', 'Reshape', 'Squeeze', 'Tile', 'Transpose', 'Unsqueeze']);

/** Whether a value that no sample goes into is what it was at the model's own batch, repeated where it grew. */
function steadyValues({ nodes, own, now }: Rebatched): (id: ValueId) => boolean {
  const made = new Map(nodes.flatMap((node) => node.outputs.map((id) => [id, node] as const)));
  const found = new Map<ValueId, boolean>();
  const isSteady = (id: ValueId): boolean => {
    const known = found.get(id);
    if (known !== undefined) return known;
    found.set(id, true);
    const constant = now.constants.get(id);
    const before = own.constants.get(id);
    const node = made.get(id);
    const result = constant ? !before || isRepeated(before, constant) : !node || isMadeSteady(node, id);
    found.set(id, result);
    return result;
  };
  const isMadeSteady = (node: AnyNode, id: ValueId): boolean => {
    if (grownAxis(id, { own, now }) !== undefined && !REPEATING.has(node.op)) return false;
    return node.inputs.every((input, index) => input === '' || SIZES.get(node.op)?.has(index) || isSteady(input));
  };
  return isSteady;
}

function isRepeated(before: Tensor, after: Tensor): boolean {
  if (before.data === after.data) return true;
  if (before.dtype !== after.dtype || before.dims.length !== after.dims.length) return false;
  if (sameDims(before.dims, after.dims)) return before.data.every((byte, i) => byte === after.data[i]);
  const [was, is] = [toNumbers(before), toNumbers(after)];
  // What differs from sample to sample at the model's own batch can't be known for new ones.
  const strides = rowMajorStrides(before.dims).map((stride, axis) => (before.dims[axis] === after.dims[axis] ? stride : 0));
  const places = offsets(after.dims, strides);
  return is.every((value, i) => Object.is(value, was[places[i]!]));
}

/** Ops over images, which bring together what lies along every axis but the samples'. */
const IMAGE_OPS: ReadonlySet<OpKind> = new Set<OpKind>(['Conv', 'ConvInteger', 'ConvTranspose', 'DepthToSpace', 'GridSample', 'GroupNormalization', 'LRN', 'QLinearConv', 'SpaceToDepth']);

/** Ops over each channel of an image by itself. */
const CHANNEL_OPS: ReadonlySet<OpKind> = new Set<OpKind>(['AveragePool', 'GlobalAveragePool', 'GlobalLpPool', 'GlobalMaxPool', 'InstanceNormalization', 'LpPool', 'MaxPool', 'MaxUnpool']);

/** Whether a node's result for one sample takes in other ones: `axis` of its input `index` has the samples. */
function bringsTogether(node: AnyNode, index: number, axis: number, model: Rebatched & { readonly steady: (id: ValueId) => boolean }): boolean {
  const rank = model.now.types.get(node.inputs[index]!)!.dims.length;
  const is = (given: number): boolean => normalizeAxis(given, rank) === axis;
  if (IMAGE_OPS.has(node.op)) return axis !== 0;
  if (CHANNEL_OPS.has(node.op)) return axis > 1;
  switch (node.op) {
    case 'ArgMax':
    case 'ArgMin':
    case 'Concat':
    case 'GatherElements':
    case 'Hardmax':
    case 'LogSoftmax':
    case 'LpNormalization':
    case 'Softmax':
    case 'Split':
    case 'TopK':
      return is(node.attrs.axis);
    case 'Gather':
      return index === 0 && is(node.attrs.axis);
    case 'ScatterElements':
      // Indices may be fewer than elements: then those of the first samples alone are named.
      return is(node.attrs.axis) || model.now.types.get(node.inputs[1]!)!.dims[axis] !== model.now.types.get(node.inputs[0]!)!.dims[axis];
    case 'LayerNormalization':
    case 'RMSNormalization':
      return index === 0 && axis >= normalizeAxis(node.attrs.axis, rank);
    case 'MeanVarianceNormalization':
      return node.attrs.axes.some(is);
    case 'CumSum':
      return index === 0 && knownInts(node, 1, model).some(is);
    case 'ReverseSequence':
      return index === 0 && is(node.attrs.time_axis);
    case 'Trilu':
      return axis >= rank - 2;
    case 'MatMul':
    case 'MatMulInteger':
      return axis === (index === 0 ? rank - 1 : Math.max(0, rank - 2)) && index < 2;
    case 'QLinearMatMul':
      return axis === (index === 0 ? rank - 1 : Math.max(0, rank - 2)) && (index === 0 || index === 3);
    case 'Gemm':
      return index < 2 && axis === (index === 0 ? 1 - node.attrs.transA : node.attrs.transB);
    case 'Einsum':
      return summedOver(node.attrs.equation, index, axis, rank);
    case 'GRU':
    case 'LSTM':
    case 'RNN':
      return index !== 4 && axis !== (node.attrs.layout === 1 ? 0 : 1);
    case 'GatherND':
      return index === 0 ? axis >= node.attrs.batch_dims : axis === rank - 1;
    case 'ScatterND':
      return index === 1 || scattersAcross(node, model);
    case 'EyeLike':
    case 'NonMaxSuppression':
    case 'NonZero':
    case 'RoiAlign':
      // Results by the number of the sample.
      return true;
    case 'Slice':
      return index === 0 && (hasOtherExtent(node, axis, model) || isReversed(node, axis, rank, model));
    case 'Pad':
      return index === 0 && padsOf(node, rank, model).some(([at, begin, end]) => at === axis && (begin !== 0 || end !== 0));
    case 'Resize':
    case 'Tile':
      return index === 0 && hasOtherExtent(node, axis, model);
    case 'Custom':
      return !node.attrs.definition && axis !== 0;
    default:
      return false;
  }
}

function knownInts(node: AnyNode, index: number, { now }: Rebatched): readonly number[] {
  const constant = now.constants.get(node.inputs[index] ?? '');
  return constant ? toNumbers(constant) : [];
}

function hasOtherExtent(node: AnyNode, axis: number, { now }: Rebatched): boolean {
  return now.types.get(node.outputs[0]!)?.dims[axis] !== now.types.get(node.inputs[0]!)!.dims[axis];
}

/** Axis, begin and end of every axis that a Pad names. */
function padsOf(node: AnyNode, rank: number, model: Rebatched): readonly (readonly [number, number, number])[] {
  const pads = knownInts(node, 1, model);
  const axes = node.inputs[3] ? knownInts(node, 3, model) : Array.from({ length: rank }, (_, axis) => axis);
  return axes.map((axis, at) => [normalizeAxis(axis, rank), pads[at] ?? 0, pads[axes.length + at] ?? 0]);
}

/** Whether updates go to other samples than their own: they have as many coordinates as say which, and these do not count the samples. */
function scattersAcross(node: AnyNode, model: Rebatched & { readonly steady: (id: ValueId) => boolean }): boolean {
  const grown = grownAxis(node.outputs[0]!, model);
  if (typeof grown !== 'number') return true;
  const [, indices, updates] = node.inputs as [ValueId, ValueId, ValueId];
  const { dims } = model.now.types.get(indices)!;
  const coordinates = dims.at(-1)!;
  if (grown >= coordinates) return !model.steady(indices);
  if (grown !== 0 || dims.length < 2 || grownAxis(updates, model) !== 0) return true;
  const values = knownInts(node, 1, model);
  const perSample = values.length / dims[0]!;
  return values.length === 0 || !values.every((value, at) => at % coordinates !== 0 || value === Math.floor(at / perSample));
}

/** Whether a Slice that keeps the extent of an axis walks it backwards. */
function isReversed(node: AnyNode, axis: number, rank: number, model: Rebatched): boolean {
  const steps = knownInts(node, 4, model);
  const axes = node.inputs[3] ? knownInts(node, 3, model) : steps.map((_, at) => at);
  return axes.some((given, at) => normalizeAxis(given, rank) === axis && (steps[at] ?? 1) < 0);
}

/** Whether an Einsum sums over an axis of an operand: its letter is not in the result. Axes of an ellipsis stay. */
function summedOver(equation: string, index: number, axis: number, rank: number): boolean {
  const [left = '', right] = equation.replaceAll(' ', '').split('->');
  const term = left.split(',')[index] ?? '';
  const [before, after] = term.split('...') as [string, string?];
  const letter = axis < before.length ? before[axis] : after === undefined ? undefined : after[axis - (rank - after.length)];
  if (letter === undefined) return false;
  return right === undefined ? left.split(letter).length > 2 : !right.includes(letter);
}
