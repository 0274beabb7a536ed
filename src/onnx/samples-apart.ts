/**
 * Whether a model whose fixed batch was replaced still keeps the samples apart: each node's own meaning, beside the sizes.
 *
 * Sizes alone say little: a softmax or a convolution along the batch has the size of its operand, and what is computed from the batch's size has
 * any. So every node is asked whether it brings together entries of the axis that grew with the batch, and whether what it takes
 * beside the samples is what it was, repeated for the new ones.
 */
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { sameDims, type Tensor, toNumbers, type TensorType } from '../ir/tensor.ts';
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
      if (!dependent.has(id)) return !PARAMETERS.get(node.op)?.has(index) && !steady(id);
      const axis = grownAxis(id, model);
      return axis !== undefined && bringsTogether(node, index, axis, model);
    });
    if (mixes) return node;
  }
  return undefined;
}

const SHAPE_OPS: ReadonlySet<OpKind> = new Set(['Shape', 'Size']);

/** Inputs that say where elements go, and are none themselves: what they do shows in the sizes. */
const PARAMETERS: ReadonlyMap<OpKind, ReadonlySet<number>> = new Map([
  ['ConstantOfShape', new Set([0])],
  ['Expand', new Set([1])],
  ['Pad', new Set([1, 3])],
  ['Reshape', new Set([1])],
  ['Resize', new Set([1, 2, 3])],
  ['Slice', new Set([1, 2, 3, 4])],
  ['Split', new Set([1])],
  ['Tile', new Set([1])],
]);

/** The axis of a value that follows the batch; undefined where none does. */
function grownAxis(id: ValueId, { own, now }: Pick<Rebatched, 'own' | 'now'>): number | undefined {
  const [before, after] = [own.types.get(id)?.dims, now.types.get(id)?.dims];
  if (!before || before.length !== after?.length) return undefined;
  const axis = after.findIndex((dim, at) => dim !== before[at]);
  return axis < 0 ? undefined : axis;
}

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
    const result = constant ? !before || isRepeated(before, constant) : !node || node.inputs.every((input, index) => input === '' || PARAMETERS.get(node.op)?.has(index) || isSteady(input));
    found.set(id, result);
    return result;
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
function bringsTogether(node: AnyNode, index: number, axis: number, model: Rebatched): boolean {
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
    case 'ScatterElements':
    case 'Softmax':
    case 'Split':
    case 'TopK':
      return is(node.attrs.axis);
    case 'Gather':
      return index === 0 && is(node.attrs.axis);
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
      return index === 0;
    case 'Slice':
      return index === 0 && (hasOtherExtent(node, axis, model) || isReversed(node, axis, rank, model));
    case 'Pad':
    case 'Resize':
    case 'Tile':
      return index === 0 && hasOtherExtent(node, axis, model);
    case 'Custom':
      return axis !== 0;
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
