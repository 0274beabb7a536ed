/** Constant matrices of 8 bits or fewer behind a DequantizeLinear, as kernels can read them packed: weights of products, and tables whose rows are gathered. */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { type Dims, elementCount, type Tensor } from '../ir/tensor.ts';
import { valuesOf } from '../ops/block-scales.ts';
import { isIdentityPerm, positiveAxis } from './tensors.ts';

/** Bits that an integer may take in memory. */
export type PackedBits = 2 | 4 | 8;
const PACKED_BITS: readonly PackedBits[] = [2, 4, 8];

/** Bits of the word in which integers of neighbouring depths lie. */
const WORD_BITS = 32;

/** Columns of a table that a thread gathers at once: they share a scale. */
const ROW_VECTOR = 4;

export interface FewBits {
  readonly bits: PackedBits;
  /** Depths of a product's weights, or columns of a table, that share a scale; 0 where all do. */
  readonly block_size: number;
  /** The one zero point; undefined where they differ. */
  readonly zeroPoint: number | undefined;
}

/** An integer as kernels have it, from 0 on: signed ones lie higher by this. */
export function unsignedShift(dtype: string, bits: PackedBits): number {
  return dtype === 'int8' ? 2 ** (bits - 1) : 0;
}

/** The weights of a product that reads them with the depth along this axis; undefined where kernels can't read them so. */
export function fewBitWeights(node: Node<'DequantizeLinear'>, depthAxis: number, edit: GraphEditor): FewBits | undefined {
  const operands = operandsOf(node, edit);
  const block = operands && blockOf(node.attrs, operands.integers.dims, operands.scale.dims, depthAxis);
  return block === undefined ? undefined : fewBits(operands!, block, (bits) => WORD_BITS / bits);
}

/** The table of a gather of rows; undefined where kernels can't read it packed. */
export function fewBitRows(node: Node<'DequantizeLinear'>, edit: GraphEditor): FewBits | undefined {
  const operands = operandsOf(node, edit);
  if (!operands || operands.integers.dims[1]! % ROW_VECTOR !== 0) return undefined;
  const block = rowBlockOf(node.attrs, operands.integers.dims[1]!, operands.scale.dims);
  return block === undefined ? undefined : fewBits(operands, block, () => ROW_VECTOR);
}

/** The constants of a dequantized matrix. */
interface Operands {
  readonly integers: Tensor;
  readonly scale: Tensor;
  readonly zero: Tensor | undefined;
}

function operandsOf({ inputs }: Node<'DequantizeLinear'>, edit: GraphEditor): Operands | undefined {
  const [integers, scale, zero] = inputs.map((id) => edit.constant(id));
  if (!integers || !scale || (inputs[2] && !zero) || integers.dims.length !== 2 || elementCount(integers.dims) === 0) return undefined;
  if ((integers.dtype !== 'int8' && integers.dtype !== 'uint8') || (scale.dtype !== 'float32' && scale.dtype !== 'float16')) return undefined;
  return { integers, scale, zero };
}

/** The fewest bits that hold the integers, where blocks are multiples of what kernels read at once. */
function fewBits({ integers, zero }: Operands, block: number, unit: (bits: PackedBits) => number): FewBits | undefined {
  const zeros = zero ? rangeOf(zero) : { least: 0, most: 0 };
  const bits = PACKED_BITS.find((count) => block % unit(count) === 0 && holds(integers, zeros, count));
  return bits && { bits, block_size: block, zeroPoint: zeros.least === zeros.most ? zeros.least : undefined };
}

/** Depths that share a scale; undefined where scales lie in another way. */
function blockOf({ axis: given, block_size: block }: Node<'DequantizeLinear'>['attrs'], dims: Dims, scales: Dims, depthAxis: number): number | undefined {
  const axis = positiveAxis(given, dims.length);
  if (block === 0) return elementCount(scales) === 1 || axis !== depthAxis ? 0 : undefined;
  if (axis !== depthAxis) return undefined;
  return block < dims[depthAxis]! ? block : 0;
}

/** Columns of a table that share a scale, of which a row has one or more, or 0 where all share one; undefined where scales lie in another way. */
function rowBlockOf({ axis: given, block_size: block }: Node<'DequantizeLinear'>['attrs'], columns: number, scales: Dims): number | undefined {
  const axis = positiveAxis(given, 2);
  if (block === 0) return elementCount(scales) === 1 ? 0 : axis === 0 ? columns : undefined;
  return axis === 1 ? Math.min(block, columns) : undefined;
}

/** The least and the greatest of a constant's numbers. */
interface Range {
  readonly least: number;
  readonly most: number;
}

/** Several passes ask of the same weights, which are many. */
const ranges = new WeakMap<Tensor, Range>();

function rangeOf(tensor: Tensor): Range {
  const known = ranges.get(tensor);
  if (known) return known;
  const values = valuesOf(tensor);
  let [least, most] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const range = { least, most };
  ranges.set(tensor, range);
  return range;
}

/** Whether so many bits hold every weight, and a byte every zero point, as unsigned integers. */
function holds(weights: Tensor, zeros: Range, bits: PackedBits): boolean {
  const shift = unsignedShift(weights.dtype, bits);
  const own = rangeOf(weights);
  return zeros.least + shift >= 0 && zeros.most + shift <= 255 && own.least + shift >= 0 && own.most + shift < 2 ** bits;
}

/** A product's right operand and the axis along which its depth lies; undefined for what is no such product. */
export function rightMatrix(node: AnyNode, edit: GraphEditor): { readonly id: ValueId; readonly depthAxis: number } | undefined {
  if (node.op !== 'MatMul' && node.op !== 'Gemm' && node.op !== 'FusedMatMul') return undefined;
  const [a, id] = node.inputs as [ValueId, ValueId];
  if (a === id || edit.type(a).dims.length < 2) return undefined;
  if (node.op === 'MatMul') return { id, depthAxis: 0 };
  const isPlain = node.attrs.transA === 0 && (node.op === 'FusedMatMul' || node.attrs.beta === 1 || !node.inputs[2]);
  return isPlain ? { id, depthAxis: node.attrs.transB } : undefined;
}

/** Whether a node gathers rows by indices that the data give. What indices known at build pick is a constant. */
export function gathersRows(node: AnyNode, edit: GraphEditor): node is Node<'Gather'> {
  if (node.op !== 'Gather') return false;
  const [data, indices] = node.inputs as [ValueId, ValueId];
  return positiveAxis(node.attrs.axis, edit.type(data).dims.length) === 0 && !edit.constant(indices);
}

/** Whether every reader is a product or a gather of rows that can read the integers packed. */
export function areReadPacked(node: Node<'DequantizeLinear'>, edit: GraphEditor): boolean {
  const output = node.outputs[0]!;
  return !edit.isOutput(output) && edit.consumers(output).every((reader) => {
    if (gathersRows(reader, edit)) return fewBitRows(node, edit) !== undefined;
    const swaps = reader.op === 'Transpose' && isIdentityPerm(reader.attrs.perm.toReversed());
    // A transpose goes into the product that alone reads it.
    const product = swaps ? edit.onlyConsumer(reader.outputs[0]!) : reader;
    const right = product && rightMatrix(product, edit);
    if (!right || right.id !== (swaps ? reader.outputs[0] : output)) return false;
    return fewBitWeights(node, swaps ? 1 - right.depthAxis : right.depthAxis, edit) !== undefined;
  });
}
