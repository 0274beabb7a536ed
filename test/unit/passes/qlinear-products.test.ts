import { describe } from 'vitest';
import { elementCount, fromNumbers, type DType } from '../../../src/ir/tensor.ts';
import { qlinearProducts } from '../../../src/passes/qlinear-products.ts';
import { type Sketch, testRows } from '../../helpers/rules.ts';

interface Weights {
  readonly dtype?: 'int8' | 'uint8';
  readonly zero?: number;
  /** Up to 255. */
  readonly isWide?: boolean;
  /** A scale for each channel. */
  readonly isMany?: boolean;
}

/** Constant integers of small magnitude: without VNNI, onnxruntime's sums of byte products saturate at 16 bits. */
function bytes({ b }: Sketch, dims: readonly number[], { dtype = 'int8', zero = 0, isWide = false }: Weights): string {
  return b.constant(fromNumbers(dtype, dims, Array.from({ length: elementCount(dims) }, (_, i) => zero + ((i * 37) % (isWide ? 256 : 101)) - 50)));
}

/** Scale and zero point; powers of two, so that both ways of computing give the same bytes. */
function grid({ b, n }: Sketch, scale: number, zero: number, dtype: DType, channels = 0): [string, string] {
  if (channels === 0) return [n(scale), n(zero, dtype)];
  return [b.constant(fromNumbers('float32', [channels], Array.from({ length: channels }, (_, i) => scale * 2 ** (i % 3)))), b.constant(fromNumbers(dtype, [channels], Array.from({ length: channels }, () => zero)))];
}

function conv(s: Sketch, w: Weights & { readonly channels?: number; readonly group?: number; readonly bias?: boolean } = {}): string {
  const { channels = 16, group = 1, bias = false, dtype = 'int8', zero = 0, isMany = false } = w;
  const x = s.b.input('q', { dtype: 'uint8', dims: [1, channels, 4, 5] });
  const inputs = [x, ...grid(s, 2 ** -6, 2, 'uint8'), bytes(s, [8, channels / group, 3, 3], w), ...grid(s, 2 ** -7, zero, dtype, isMany ? 8 : 0), ...grid(s, 0.25, 120, 'uint8')];
  const own = bias ? [s.b.constant(fromNumbers('int32', [8], [500, -300, 40, 0, 7, -9, 1000, 1]))] : [];
  return s.b.node('QLinearConv', [...inputs, ...own], { auto_pad: 'NOTSET', dilations: [1, 1], group, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] });
}

function matMul(s: Sketch, w: Weights & { readonly depth?: number; readonly isOpen?: boolean } = {}): string {
  const { depth = 16, dtype = 'int8', zero = 0, isMany = false, isOpen = false } = w;
  const a = s.b.input('q', { dtype: 'uint8', dims: [2, 3, depth] });
  const b = isOpen ? s.b.input('w', { dtype, dims: [depth, 8] }) : bytes(s, [depth, 8], w);
  return s.b.node('QLinearMatMul', [a, ...grid(s, 2 ** -6, 2, 'uint8'), b, ...grid(s, 2 ** -7, zero, dtype, isMany ? 8 : 0), ...grid(s, 0.25, 120, 'uint8')], {});
}

const CONV = 'DequantizeLinear DequantizeLinear Conv QuantizeLinear';
const MATMUL = 'DequantizeLinear DequantizeLinear MatMul QuantizeLinear';

describe('products in the operator format', () => {
  testRows(qlinearProducts, [
    ['a convolution', (s) => conv(s), CONV],
    ['a convolution with a bias', (s) => conv(s, { bias: true }), CONV],
    ['a scale for each filter, with a bias', (s) => conv(s, { isMany: true, bias: true }), CONV],
    ['unsigned weights around 128', (s) => conv(s, { dtype: 'uint8', zero: 128 }), CONV],
    ['weights whose zero point leaves more than 8 bits', (s) => conv(s, { dtype: 'uint8', zero: 50, isWide: true }), 'QLinearConv'],
    ['groups of no whole vectors', (s) => conv(s, { group: 2 }), 'QLinearConv'],
    ['a matrix product', (s) => matMul(s), MATMUL],
    ['a scale for each column', (s) => matMul(s, { isMany: true }), MATMUL],
    ['a depth of no whole vectors', (s) => matMul(s, { depth: 12 }), 'QLinearMatMul'],
    ['weights that the data give', (s) => matMul(s, { isOpen: true }), 'QLinearMatMul'],
  ]);
});
