/** Quantization, integer products and direct convolutions on SwiftShader, against onnxruntime or loops written here. */
import { describe, expect, it } from 'vitest';
import type { Expr } from '../../src/ir/expr.ts';
import type { ConvAttrs } from '../../src/ir/ops.ts';
import { type Dims, elementCount, toNumbers } from '../../src/ir/tensor.ts';
import { distance, noDevice, noise } from './helpers.ts';
import { conv, convTranspose, matMul } from './references.ts';
import { floats, ints, type Operand, oracle, runOp } from './run-op.ts';

const bytes = (dtype: 'int8' | 'uint8', dims: Dims, seed: number): Operand => ({
  dtype,
  dims,
  values: Array.from(noise(elementCount(dims), seed), (v) => Math.trunc(v * 127) + (dtype === 'uint8' ? 128 : 0)),
});
const one = (dtype: Operand['dtype'], value: number): Operand => ({ dtype, dims: [], values: [value] });

describe.skipIf(noDevice)('quantization and integer products (skipped without SwiftShader)', () => {
  const linear = { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined } as const;

  it('QuantizeLinear rounds halves to even and saturates', async () => {
    const x = [-1000, -0.75, -0.25, 0.25, 0.75, 1.25, 63.2, 1000];
    const [y] = await runOp('QuantizeLinear', linear, [floats([8], x), one('float32', 0.5), one('int8', -3)]);
    expect(toNumbers(y!)).toEqual([-128, -5, -3, -3, -1, -1, 123, 127]);
  });

  it.each([false, true])('quantizes and dequantizes per channel, channels-last %j', async (channelsLast) => {
    const dims = [1, 3, 2, 2];
    const scale = floats([3], [0.01, 0.1, 0.02]);
    const zero: Operand = { dtype: 'uint8', dims: [3], values: [0, 128, 255] };
    const x = floats(dims, noise(12, 2), { channelsLast });
    const [q] = await runOp('QuantizeLinear', linear, [x, scale, zero]);
    const expected = Array.from(x.values, (v, i) => {
      const c = Math.floor(i / 4);
      const ratio = Math.fround(v / Math.fround(scale.values[c]!));
      const rounded = Math.abs(ratio % 1) === 0.5 ? 2 * Math.round(ratio / 2) : Math.round(ratio);
      return Math.min(255, Math.max(0, rounded + zero.values[c]!));
    });
    expect(toNumbers(q!)).toEqual(expected);
    const [back] = await runOp('DequantizeLinear', { axis: 1, block_size: 0 }, [{ dtype: 'uint8', dims, values: expected }, scale, zero]);
    expect(distance(back!, expected.map((v, i) => (v - zero.values[Math.floor(i / 4)]!) * scale.values[Math.floor(i / 4)]!))).toBeLessThan(1);
  });

  it('dequantizes by blocks, the last one cut short', async () => {
    const dims = [2, 5];
    const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    const scale = [1, 10, 100, 0.5, 0.25, 2];
    const [y] = await runOp('DequantizeLinear', { axis: 1, block_size: 2 }, [{ dtype: 'int8', dims, values }, floats([2, 3], scale)]);
    expect(toNumbers(y!)).toEqual(values.map((v, i) => v * scale[Math.floor(i / 5) * 3 + Math.floor((i % 5) / 2)]!));
  });

  it('DynamicQuantizeLinear finds a range that holds zero', async () => {
    const x = floats([2, 3], [0.5, 1, 2, 3.5, 2.5, 1.1]);
    const outputs = await runOp('DynamicQuantizeLinear', {}, [x], 3);
    const expected = await oracle('DynamicQuantizeLinear', {}, [x], 3);
    expect(toNumbers(outputs[0]!)).toEqual(expected[0]);
    expect(distance(outputs[1]!, expected[1]!, { absolute: 0, relative: 1e-6 })).toBeLessThan(1);
    expect(toNumbers(outputs[2]!)).toEqual(expected[2]);
  });

  it('MatMulInteger with zero points', async () => {
    const operands = [bytes('uint8', [2, 3, 5], 1), bytes('int8', [5, 4], 2), one('uint8', 130), one('int8', -7)];
    const [y] = await runOp('MatMulInteger', {}, operands);
    const shifted = (operand: Operand, zero: number): number[] => Array.from(operand.values, (v) => v - zero);
    expect(toNumbers(y!)).toEqual(matMul([2, 3, 5], [5, 4], shifted(operands[0]!, 130), shifted(operands[1]!, -7)).values);
  });

  it('QLinearMatMul', async () => {
    const scales = [one('float32', 0.02), one('float32', 0.03), one('float32', 0.15)];
    const operands = [bytes('uint8', [3, 6], 3), scales[0], one('uint8', 120), bytes('uint8', [6, 4], 4), scales[1], one('uint8', 128), scales[2], one('uint8', 110)];
    const [y] = await runOp('QLinearMatMul', {}, operands);
    expect(toNumbers(y!)).toEqual((await oracle('QLinearMatMul', {}, operands))[0]);
  });

  const window: ConvAttrs = { auto_pad: 'NOTSET', dilations: [1, 2], group: 2, kernel_shape: [3, 2], pads: [1, 0, 2, 1], strides: [2, 1] };

  it('ConvInteger, whose padding is the zero point', async () => {
    const [x, w] = [bytes('uint8', [1, 4, 5, 6], 5), bytes('uint8', [6, 2, 3, 2], 6)];
    const [y] = await runOp('ConvInteger', window, [x, w, one('uint8', 100), one('uint8', 140)]);
    const minus = (operand: Operand, zero: number): number[] => Array.from(operand.values, (v) => v - zero);
    expect(toNumbers(y!)).toEqual(conv({ x: x.dims, w: w.dims, ...window }, minus(x, 100), minus(w, 140)));
  });

  it('QLinearConv with a scale per filter and a bias', async () => {
    const scale = floats([6], [0.01, 0.02, 0.03, 0.015, 0.025, 0.005]);
    const zero: Operand = { dtype: 'int8', dims: [6], values: [0, 0, 0, 0, 0, 0] };
    const bias: Operand = { dtype: 'int32', dims: [6], values: [100, -200, 0, 50, 7, -9] };
    const operands = [
      bytes('uint8', [1, 4, 5, 6], 7), one('float32', 0.02), one('uint8', 121), bytes('int8', [6, 2, 3, 2], 8), scale, zero, one('float32', 0.1), one('uint8', 99), bias,
    ];
    const [y] = await runOp('QLinearConv', window, operands);
    // Not onnxruntime's answer: on x86 processors without VNNI its sums of byte products saturate at 16 bits.
    const sums = conv({ x: operands[0]!.dims, w: operands[3]!.dims, ...window }, Array.from(operands[0]!.values, (v) => v - 121), Array.from(operands[3]!.values));
    const perFilter = sums.length / 6;
    const real = sums.map((sum, i) => ((sum + bias.values[Math.floor(i / perFilter)]!) * 0.02 * scale.values[Math.floor(i / perFilter)]!) / 0.1 + 99);
    const far = toNumbers(y!).filter((value, i) => Math.abs(value - Math.min(255, Math.max(0, real[i]!))) > 0.5 + 1e-3);
    expect([toNumbers(y!).length, far]).toEqual([sums.length, []]);
  });

  it('MatMul of int64 is exact', async () => {
    const [a, b] = [[1, 20_000_003, -3, 4], [5, 6, -7, 8]];
    const [y] = await runOp('MatMul', {}, [ints([2, 2], a), ints([2, 2], b)]);
    expect(toNumbers(y!)).toEqual(matMul([2, 2], [2, 2], a, b).values);
  });

  it('Gemm of int32 is exact, where its factors are whole', async () => {
    const matrices = [[2, 2], [3, 2], [1, 3]].map((dims, i): Operand => ({ dtype: 'int32', dims, values: [[1, 2, 3, 4], [1, -2, 3, 4, 5, 2_000_000], [1, 2, 3]][i]! }));
    const [y] = await runOp('Gemm', { alpha: 2, beta: -1, transA: 1, transB: 1 }, matrices);
    expect(toNumbers(y!)).toEqual([-11, 28, 12_000_007, -13, 42, 16_000_017]);
    await expect(runOp('Gemm', { alpha: 0.5, beta: 1, transA: 1, transB: 1 }, matrices)).rejects.toThrow('no kernel for int32 with factors of 0.5 and 1');
  });

  it('convolves with weights that come as an input', async () => {
    const shapes = { x: [2, 4, 5, 6], w: [6, 2, 3, 2] };
    const [x, w, b] = [noise(240, 9), noise(72, 10), noise(6, 11)];
    const [y] = await runOp('Conv', window, [floats(shapes.x, x), floats(shapes.w, w), floats([6], b)]);
    expect(distance(y!, conv({ ...shapes, ...window }, x, w, b))).toBeLessThan(1);
  });

  it('applies an epilogue to such a convolution', async () => {
    const shapes = { x: [2, 4, 5, 6], w: [6, 2, 3, 2] };
    const [x, w, b, extra] = [noise(240, 9), noise(72, 10), noise(6, 11), noise(6, 12)];
    const sum: Expr = { kind: 'input', index: 0, dtype: 'float32' };
    const zero: Expr = { kind: 'const', value: 0, dtype: 'float32' };
    const relu: Expr = { kind: 'binary', fn: 'max', a: sum, b: zero };
    const epilogue: Expr = { kind: 'binary', fn: 'mul', a: relu, b: { kind: 'input', index: 1, dtype: 'float32' } };
    const operands = [floats(shapes.x, x), floats(shapes.w, w), floats([6], b), floats([6, 1, 1], extra)];
    const [y] = await runOp('FusedConv', { ...window, epilogue }, operands);
    const pixels = elementCount(y!.dims.slice(2));
    const expected = conv({ ...shapes, ...window }, x, w, b).map((v, i) => Math.max(v, 0) * extra[Math.floor(i / pixels) % 6]!);
    expect(distance(y!, expected)).toBeLessThan(1);
  });

  it('transposed convolution with weights that come as an input', async () => {
    const shapes = { x: [1, 4, 3, 4], w: [4, 3, 3, 2] };
    const attrs = { ...window, dilations: [1, 1], pads: [1, 0, 0, 1], strides: [2, 3], output_padding: [1, 0] };
    const [x, w] = [noise(48, 12), noise(72, 13)];
    const [y] = await runOp('ConvTranspose', attrs, [floats(shapes.x, x), floats(shapes.w, w)]);
    expect(y!.dims).toEqual([1, 6, 7, 10]);
    expect(distance(y!, convTranspose({ ...shapes, ...attrs, y: y!.dims }, x, w))).toBeLessThan(1);
  });
});
