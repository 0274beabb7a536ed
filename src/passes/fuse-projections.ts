/**
 * Products of one matrix by several weights are one product by the weights side by side: queries, keys and values of attention.
 *
 * One large product fills a device that three small ones leave idle, and reads its input once; the parts are windows of the result.
 * Prior art: TensorRT's and XLA's horizontal fusion, the packed projections of PyTorch's MultiheadAttention.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { DTYPE_BITS, elementCount, fromNumbers, type Tensor, toNumbers } from '../ir/tensor.ts';
import { fewBitWeights } from './few-bit-weights.ts';
import { rulePass } from './pass.ts';
import { addInts, FLOATS, positiveAxis } from './tensors.ts';

/** Parts begin at whole vectors of this many columns, so that they are read without copies. */
const ALIGNMENT = 8;

/** Ops behind which a part may be a window: an elementwise op would rather be the end of a product of its own. */
const READERS: ReadonlySet<OpKind> = new Set(['FusedAttention', 'MatMul', 'Reshape', 'Split', 'Squeeze', 'Transpose', 'Unsqueeze']);

/** x·w, and the sum with a vector where one follows. */
interface Projection {
  readonly product: AnyNode;
  /** The constant matrix, or the integers that it is dequantized from. */
  readonly weights: Tensor;
  readonly grid: WeightGrid | undefined;
  readonly bias: Tensor | undefined;
  /** The node whose output becomes a part. */
  readonly last: AnyNode;
}

/** Of integers: their steps, by column or by block and column. */
interface WeightGrid {
  readonly steps: Tensor;
  /** As many zero points; undefined where all are 0. */
  readonly zeros: Tensor | undefined;
  /** Depths that share a step; 0 where a column has one. */
  readonly block: number;
  /** Bits that blocks of integers take in memory: joined ones take the most of any. */
  readonly bits: number | undefined;
}

// x·w1 + b1, x·w2 + b2 = parts of x·[w1 w2] + [b1 b2]
function fuse(node: AnyNode, edit: GraphEditor): boolean {
  const x = node.inputs[0]!;
  const first = node.op === 'MatMul' ? projectionOf(node, edit) : undefined;
  if (!first) return false;
  const [depth] = first.weights.dims;
  const alike = edit.consumers(x).flatMap((reader) => {
    const other = reader.op === 'MatMul' && reader.inputs[0] === x ? projectionOf(reader, edit) : undefined;
    const isAlike = other && other.weights.dims[0] === depth && other.weights.dtype === first.weights.dtype && areAlike(other.grid, first.grid) && !other.bias === !first.bias;
    return isAlike ? [other] : [];
  });
  if (alike.length < 2) return false;
  replace(x, alike, edit);
  return true;
}

function areAlike(a: WeightGrid | undefined, b: WeightGrid | undefined): boolean {
  return a?.steps.dtype === b?.steps.dtype && a?.block === b?.block && a?.bits === b?.bits && !a?.zeros === !b?.zeros;
}

function projectionOf(product: AnyNode, edit: GraphEditor): Projection | undefined {
  const quantized = quantizedWeights(edit.producer(product.inputs[1]), edit);
  const weights = quantized?.weights ?? edit.constant(product.inputs[1]);
  const value = product.outputs[0]!;
  const columns = weights?.dims[1];
  if (weights?.dims.length !== 2 || columns! % ALIGNMENT !== 0 || !FLOATS.has(edit.type(product.inputs[1]!).dtype) || edit.type(product.inputs[0]!).dims.length < 2) return undefined;
  const add = edit.onlyConsumer(value);
  const vector = add?.op === 'Add' ? edit.constant(add.inputs.find((id) => id !== value)) : undefined;
  const bias = vector?.dims.length === 1 && vector.dims[0] === columns ? vector : undefined;
  const last = bias ? add! : product;
  const output = last.outputs[0]!;
  const readers = edit.consumers(output);
  const isPart = !edit.isOutput(output) && readers.length > 0 && readers.every((reader) => READERS.has(reader.op));
  return isPart ? { product, weights, grid: quantized?.grid, bias, last } : undefined;
}

/** Constant int8 weights around 0, with one step for all or one for each column; or weights that kernels read packed, with one for each block and column. */
function quantizedWeights(node: AnyNode | undefined, edit: GraphEditor): { readonly weights: Tensor; readonly grid: WeightGrid } | undefined {
  if (node?.op !== 'DequantizeLinear') return undefined;
  const [weights, scale, zero] = node.inputs.map((id) => edit.constant(id));
  if (node.attrs.block_size > 0) {
    const bits = fewBitWeights(node, 0, edit)?.bits;
    return bits && { weights: weights!, grid: { steps: scale!, zeros: zero, block: node.attrs.block_size, bits } };
  }
  const isCentred = !node.inputs[2] || (zero !== undefined && toNumbers(zero).every((value) => value === 0));
  if (weights?.dtype !== 'int8' || weights.dims.length !== 2 || scale?.dtype !== 'float32' || !isCentred) return undefined;
  const columns = weights.dims[1]!;
  const byColumn = (steps: Tensor) => ({ weights, grid: { steps, zeros: undefined, block: 0, bits: undefined } });
  if (elementCount(scale.dims) === 1) return byColumn(fromNumbers('float32', [columns], Array.from({ length: columns }, () => toNumbers(scale)[0]!)));
  const isByColumn = scale.dims[0] === columns && positiveAxis(node.attrs.axis, 2) === 1;
  return isByColumn ? byColumn(scale) : undefined;
}

function replace(x: ValueId, parts: readonly Projection[], edit: GraphEditor): void {
  const { name } = parts[0]!.product;
  const origins = unionOrigins(...parts.flatMap(({ product, last }) => [product, last]));
  const { dtype, dims } = edit.type(parts[0]!.product.outputs[0]!);
  const widths = parts.map(({ weights }) => weights.dims[1]!);
  const type = { dtype, dims: [...dims.slice(0, -1), widths.reduce((sum, width) => sum + width, 0)] };
  const stored = edit.addConstant(sideBySide(parts.map((part) => part.weights)), `${name}_weights`);
  const weights = parts[0]!.grid ? dequantized(stored, parts.map((part) => part.grid!), name, origins, edit) : stored;
  let joined = edit.add({ op: 'MatMul', inputs: [x, weights], attrs: {}, origins, name: `${name}_joined`, type });
  if (parts[0]!.bias) {
    const bias = edit.addConstant(sideBySide(parts.map((part) => part.bias!)), `${name}_bias`);
    joined = edit.add({ op: 'Add', inputs: [joined, bias], attrs: {}, origins, name: `${name}_biased`, type });
  }
  const axis = addInts(edit, [dims.length - 1], `${name}_axis`);
  let start = 0;
  for (const [i, { last }] of parts.entries()) {
    const [from, to] = [start, (start += widths[i]!)].map((at) => addInts(edit, [at], `${last.name}_at`)) as [ValueId, ValueId];
    edit.replaceNode(last, { op: 'Slice', inputs: [joined, from, to, axis], attrs: {}, origins: last.origins });
  }
}

/** Integers with a step for each column, or for each block of it, as the product's operand. */
function dequantized(weights: ValueId, grids: readonly WeightGrid[], name: string, origins: readonly string[], edit: GraphEditor): ValueId {
  const scale = edit.addConstant(sideBySide(grids.map(({ steps }) => steps)), `${name}_steps`);
  const { block, zeros } = grids[0]!;
  const zero = zeros ? edit.addConstant(sideBySide(grids.map((grid) => grid.zeros!)), `${name}_zeros`) : '';
  const type = { dtype: edit.type(scale).dtype, dims: edit.type(weights).dims };
  return edit.add({ op: 'DequantizeLinear', inputs: [weights, scale, zero], attrs: { axis: block > 0 ? 0 : 1, block_size: block }, origins, name: `${name}_dequantized`, type });
}

/** Matrices of one height (or vectors) joined along their last axis. */
function sideBySide(tensors: readonly Tensor[]): Tensor {
  const [{ dtype, dims }] = tensors as [Tensor];
  const widths = tensors.map((tensor) => tensor.dims.at(-1)!);
  const rows = dims.length === 1 ? 1 : dims[0]!;
  const size = DTYPE_BITS[dtype] / 8;
  const total = widths.reduce((sum, width) => sum + width, 0);
  const data = new Uint8Array(rows * total * size);
  let column = 0;
  for (const [i, tensor] of tensors.entries()) {
    const bytes = widths[i]! * size;
    for (let row = 0; row < rows; row++) data.set(tensor.data.subarray(row * bytes, (row + 1) * bytes), (row * total + column) * size);
    column += widths[i]!;
  }
  return { dtype, dims: [...dims.slice(0, -1), total], data };
}

export const fuseProjections = rulePass(
  { name: 'fuse-projections', summary: 'products of one matrix by several weights as one', targets: ['webgpu'] },
  [{ name: 'projections', ops: ['MatMul'], rewrite: fuse }],
);
