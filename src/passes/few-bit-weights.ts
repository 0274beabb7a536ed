/** Constant matrices of 8 bits or fewer behind a DequantizeLinear, as kernels can read them packed. */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { type Dims, elementCount, type Tensor, toNumbers } from '../ir/tensor.ts';
import { valuesOf } from '../ops/block-scales.ts';
import { isIdentityPerm, positiveAxis } from './tensors.ts';

/** Bits that an integer may take in memory. */
export type PackedBits = 2 | 4 | 8;
const PACKED_BITS: readonly PackedBits[] = [2, 4, 8];

/** Bits of the word in which integers of neighbouring depths lie. */
const WORD_BITS = 32;

export interface FewBitWeights {
  readonly bits: PackedBits;
  /** Depths that share a scale; 0 where all do. */
  readonly block_size: number;
  /** The one zero point; undefined where they differ. */
  readonly zeroPoint: number | undefined;
}

/** An integer as kernels have it, from 0 on: signed ones lie higher by this. */
export function unsignedShift(dtype: string, bits: PackedBits): number {
  return dtype === 'int8' ? 2 ** (bits - 1) : 0;
}

/** The weights of a product that reads them with the depth along this axis; undefined where kernels can't read them so. */
export function fewBitWeights({ inputs, attrs }: Node<'DequantizeLinear'>, depthAxis: number, edit: GraphEditor): FewBitWeights | undefined {
  const [weights, scale, zero] = inputs.map((id) => edit.constant(id));
  if (!weights || !scale || (inputs[2] && !zero) || weights.dims.length !== 2 || elementCount(weights.dims) === 0) return undefined;
  if ((weights.dtype !== 'int8' && weights.dtype !== 'uint8') || (scale.dtype !== 'float32' && scale.dtype !== 'float16')) return undefined;
  const block = blockOf(attrs, weights.dims, scale.dims, depthAxis);
  if (block === undefined) return undefined;
  const zeros = zero ? [...new Set(toNumbers(zero))] : [0];
  const bits = PACKED_BITS.find((count) => block % (WORD_BITS / count) === 0 && holds(weights, zeros, count));
  return bits && { bits, block_size: block, zeroPoint: zeros.length === 1 ? zeros[0] : undefined };
}

/** Depths that share a scale; undefined where scales lie in another way. */
function blockOf({ axis: given, block_size: block }: Node<'DequantizeLinear'>['attrs'], dims: Dims, scales: Dims, depthAxis: number): number | undefined {
  const axis = positiveAxis(given, dims.length);
  if (block === 0) return elementCount(scales) === 1 || axis !== depthAxis ? 0 : undefined;
  if (axis !== depthAxis) return undefined;
  return block < dims[depthAxis]! ? block : 0;
}

/** Whether so many bits hold every weight, and a byte every zero point, as unsigned integers. */
function holds(weights: Tensor, zeros: readonly number[], bits: PackedBits): boolean {
  const shift = unsignedShift(weights.dtype, bits);
  if (zeros.some((zero) => zero + shift < 0 || zero + shift > 255)) return false;
  const values = valuesOf(weights);
  for (let i = 0; i < values.length; i++) if (values[i]! + shift < 0 || values[i]! + shift >= 2 ** bits) return false;
  return true;
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

/** Whether every reader is a product that can read the weights packed. */
export function areForProducts(node: Node<'DequantizeLinear'>, edit: GraphEditor): boolean {
  const output = node.outputs[0]!;
  return !edit.isOutput(output) && edit.consumers(output).every((reader) => {
    const swaps = reader.op === 'Transpose' && isIdentityPerm(reader.attrs.perm.toReversed());
    // A transpose goes into the product that alone reads it.
    const product = swaps ? edit.onlyConsumer(reader.outputs[0]!) : reader;
    const right = product && rightMatrix(product, edit);
    if (!right || right.id !== (swaps ? reader.outputs[0] : output)) return false;
    return fewBitWeights(node, swaps ? 1 - right.depthAxis : right.depthAxis, edit) !== undefined;
  });
}
