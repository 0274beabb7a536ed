/**
 * BatchNormalization and per-channel arithmetic folded into the weights of the linear op before or after it.
 *
 * A linear op L(x) = W·x + b followed by y·s + t per output channel is (W·s)·x + (b·s + t). All arithmetic is in float64 and
 * rounded once. Prior art: Jacob et al. 2018 (arXiv:1712.05877), section 3.2, and every inference compiler since.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import { elementCount, fromNumbers, toNumbers, typedView, type Dims, type Tensor } from '../ir/tensor.ts';
import { MATMUL_ADD } from './gemm.ts';
import { rulePass, type Rule } from './pass.ts';
import { FLOATS } from './tensors.ts';

/** y·scale + shift per channel; one entry per channel. */
interface Affine {
  readonly scale: readonly number[];
  readonly shift: readonly number[];
}

type LinearOp = 'Conv' | 'ConvTranspose' | 'Gemm' | 'MatMul';

const AFFINE_OPS: readonly OpKind[] = ['BatchNormalization', 'Add', 'Sub', 'Mul', 'Div'];

const RULES: readonly Rule[] = [
  // Gemm has the bias that MatMul lacks, so that a shift has somewhere to go.
  MATMUL_ADD,
  // affine(W·x + b) = (W·s)·x + (b·s + t)
  { name: 'affine-into-weights', ops: AFFINE_OPS, rewrite: foldAfter },
  // (W·(x·s)) = (W·s)·x, s per input channel
  { name: 'scale-into-weights', ops: ['Conv'], rewrite: foldBefore },
];

function foldAfter(node: AnyNode, edit: GraphEditor): boolean {
  const side = node.op === 'BatchNormalization' || !edit.constant(node.inputs[0]) ? 0 : 1;
  const source = node.inputs[side]!;
  const linear = edit.producer(source);
  if (!linear || !isLinear(linear) || edit.onlyConsumer(source) !== node) return false;
  const { dims } = edit.type(node.outputs[0]!);
  if (edit.type(source).dims.length !== dims.length || elementCount(edit.type(source).dims) !== elementCount(dims)) return false;
  const axis = linear.op === 'Conv' || linear.op === 'ConvTranspose' ? 1 : dims.length - 1;
  const affine = affineOf(node, side, axis, dims, edit);
  return affine !== undefined && foldInto(node, linear, affine, edit);
}

function isLinear(node: AnyNode): node is AnyNode & { op: LinearOp } {
  return node.op === 'Conv' || node.op === 'ConvTranspose' || node.op === 'Gemm' || node.op === 'MatMul';
}

/** What `node` does to each channel of input `side`; undefined where it is not the same for a whole channel. */
function affineOf(node: AnyNode, side: number, axis: number, dims: Dims, edit: GraphEditor): Affine | undefined {
  const channels = dims[axis];
  // The product of two vectors is a scalar.
  if (channels === undefined) return undefined;
  if (node.op === 'BatchNormalization') return axis === 1 ? batchNormAffine(node, edit) : undefined;
  const operand = perChannel(edit.constant(node.inputs[1 - side]), axis, dims);
  if (!operand) return undefined;
  const all = (value: number): number[] => Array.from({ length: channels }, () => value);
  switch (node.op) {
    case 'Add':
      return { scale: all(1), shift: operand };
    case 'Sub': // x − c, or c − x
      return side === 0 ? { scale: all(1), shift: operand.map((c) => -c) } : { scale: all(-1), shift: operand };
    case 'Mul':
      return { scale: operand, shift: all(0) };
    case 'Div': // c / x is not affine
      return side === 0 ? { scale: operand.map((c) => 1 / c), shift: all(0) } : undefined;
    default:
      return undefined;
  }
}

/** s = γ / √(σ² + ε), t = β − μ·s (Ioffe & Szegedy 2015, arXiv:1502.03167); undefined where a statistic is not constant. */
export function batchNormAffine(node: AnyNode, edit: GraphEditor): Affine | undefined {
  const [gamma, beta, mean, variance] = node.inputs.slice(1).map((id) => edit.constant(id));
  if (!gamma || !beta || !mean || !variance) return undefined;
  const { epsilon } = node.attrs as OpAttrs['BatchNormalization'];
  const [g, b, m, v] = [toNumbers(gamma), toNumbers(beta), toNumbers(mean), toNumbers(variance)];
  const scale = g.map((gain, c) => gain / Math.sqrt(v[c]! + epsilon));
  return { scale, shift: scale.map((s, c) => b[c]! - m[c]! * s) };
}

/** A constant that has one value per index of `axis` when broadcast to `dims`. */
function perChannel(tensor: Tensor | undefined, axis: number, dims: Dims): readonly number[] | undefined {
  if (!tensor || !FLOATS.has(tensor.dtype) || tensor.dims.length > dims.length) return undefined;
  const offset = dims.length - tensor.dims.length;
  if (!tensor.dims.every((dim, index) => dim === 1 || index + offset === axis)) return undefined;
  const values = toNumbers(tensor);
  return values.length === dims[axis] ? values : Array.from({ length: dims[axis]! }, () => values[0]!);
}

function foldInto(node: AnyNode, linear: AnyNode & { op: LinearOp }, affine: Affine, edit: GraphEditor): boolean {
  const weight = foldedWeight(linear, affine.scale, edit);
  const bias = foldedBias(linear, affine, edit);
  if (weight === undefined || bias === undefined) return false;
  const attrs = linear.op === 'Gemm' ? { ...linear.attrs, beta: 1 } : linear.attrs;
  const inputs = [linear.inputs[0]!, weight, bias];
  edit.replaceNode(node, { op: linear.op, inputs, attrs: attrs as never, origins: unionOrigins(linear, node) });
  return true;
}

function foldedWeight(linear: AnyNode & { op: LinearOp }, scale: readonly number[], edit: GraphEditor): ValueId | undefined {
  const id = linear.inputs[1]!;
  if (scale.every((factor) => factor === 1)) return id;
  const weight = ownConstant(id, linear, edit);
  const scaled = weight && weight.dims.length > 1 ? scaleWeights(linear, weight, scale) : undefined;
  return scaled && edit.addConstant(scaled, id);
}

/** b·s + t; `''` where the op has no bias and gets none. */
function foldedBias(linear: AnyNode & { op: LinearOp }, { scale, shift }: Affine, edit: GraphEditor): ValueId | undefined {
  const id = linear.inputs[2];
  const hasShift = shift.some((value) => value !== 0);
  if (!id && !hasShift) return '';
  if (linear.op === 'MatMul') return undefined;
  const channels = scale.length;
  const dims = linear.op === 'Gemm' ? [1, channels] : [channels];
  const bias = id ? perChannel(edit.constant(id), dims.length - 1, dims) : shift.map(() => 0);
  const gain = linear.op === 'Gemm' ? linear.attrs.beta : 1;
  const values = bias?.map((value, c) => value * gain * scale[c]! + shift[c]!);
  if (!values?.every(Number.isFinite)) return undefined;
  return edit.addConstant(fromNumbers(edit.type(linear.outputs[0]!).dtype, [channels], values), id || `${linear.name}_bias`);
}

/** A floating constant that nobody else reads: changing it keeps the size of the weights. */
function ownConstant(id: ValueId, reader: AnyNode, edit: GraphEditor): Tensor | undefined {
  const tensor = edit.constant(id);
  return tensor && FLOATS.has(tensor.dtype) && edit.onlyConsumer(id) === reader ? tensor : undefined;
}

/** W·s with s along the axis of W that makes output channels; undefined where an element leaves its type's range. */
function scaleWeights(linear: AnyNode & { op: LinearOp }, weight: Tensor, scale: readonly number[]): Tensor | undefined {
  const columns = weight.dims.at(-1)!;
  switch (linear.op) {
    case 'Conv': // [M, C/g, …]
      return scaleBlocks(weight, elementCount(weight.dims.slice(1)), (channel) => scale[channel]!);
    case 'ConvTranspose': {
      // [C, M/g, …]: the group of an input channel tells which of the output channels it feeds.
      const perGroup = weight.dims[1]!;
      const groupInputs = weight.dims[0]! / linear.attrs.group;
      const channelOf = (block: number): number => Math.floor(block / perGroup / groupInputs) * perGroup + (block % perGroup);
      return scaleBlocks(weight, elementCount(weight.dims.slice(2)), (block) => scale[channelOf(block)]!);
    }
    case 'Gemm': // [K, N], or [N, K] where transposed
      return linear.attrs.transB
        ? scaleBlocks(weight, columns, (channel) => scale[channel]!)
        : scaleBlocks(weight, 1, (element) => scale[element % columns]!);
    case 'MatMul': // [..., K, N]
      return scaleBlocks(weight, 1, (element) => scale[element % columns]!);
    default:
      return linear satisfies never;
  }
}

/** Multiplies each run of `size` elements by its factor; undefined where an element leaves its type's range. */
function scaleBlocks(weight: Tensor, size: number, factor: (block: number) => number): Tensor | undefined {
  const source = elements(weight);
  const scaled = new Float64Array(source.length);
  for (let i = 0, block = 0; i < source.length; block++) {
    const by = factor(block);
    for (const end = i + size; i < end; i++) scaled[i] = source[i]! * by;
  }
  const tensor = fromNumbers(weight.dtype, weight.dims, scaled);
  return elements(tensor).every(Number.isFinite) ? tensor : undefined;
}

/** As `toNumbers`, without boxing the millions of elements that float32 weights have. */
function elements(weight: Tensor): Float32Array | Float64Array {
  return weight.dtype === 'float32' ? (typedView(weight) as Float32Array) : Float64Array.from(toNumbers(weight));
}

/** conv(x·s, W) = conv(x, W·s): zero padding commutes with scaling. Shifts stay, as padding is not shifted. */
function foldBefore(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Conv') return false;
  const before = edit.producer(node.inputs[0]);
  if (!before || (before.op !== 'Mul' && before.op !== 'Div') || edit.onlyConsumer(node.inputs[0]!) !== node) return false;
  const side = edit.constant(before.inputs[0]) ? 1 : 0;
  const { dims } = edit.type(node.inputs[0]!);
  const weight = ownConstant(node.inputs[1]!, node, edit);
  const affine = affineOf(before, side, 1, dims, edit);
  if (!weight || !affine || elementCount(edit.type(before.inputs[side]!).dims) !== elementCount(dims)) return false;
  const perGroup = weight.dims[1]!;
  const groupOutputs = weight.dims[0]! / node.attrs.group;
  const channelOf = (block: number): number => Math.floor(block / perGroup / groupOutputs) * perGroup + (block % perGroup);
  const scaled = scaleBlocks(weight, elementCount(weight.dims.slice(2)), (block) => affine.scale[channelOf(block)]!);
  if (!scaled) return false;
  const inputs = [before.inputs[side]!, edit.addConstant(scaled, node.inputs[1]!), ...node.inputs.slice(2)];
  edit.replaceNode(node, { op: 'Conv', inputs, attrs: node.attrs, origins: unionOrigins(before, node) });
  return true;
}

export const foldLinear = rulePass(
  { name: 'fold-linear', summary: 'MatMul + Add as Gemm; BatchNorm and per-channel arithmetic into weights' },
  RULES,
);
