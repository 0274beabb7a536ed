/** bfloat16, float64 and uint64 on SwiftShader, against float64: computed in 32 bits, rounded once. */
import { describe, expect, it } from 'vitest';
import { bfloat16ToNumber, type DType, fromNumbers, numberToBfloat16, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { optimize } from '../helpers/passes.ts';
import { noDevice, noise, runGraph } from './helpers.ts';

const cast = (to: DType) => ({ to, saturate: 1 }) as const;

describe.skipIf(noDevice)('types that the device lacks (skipped without SwiftShader)', () => {
  it.each(['on', 'off'] as const)('round to bfloat16 as its definition says, fusion %s', async (fusion) => {
    const values = [1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8 + 2 ** -20), 3.4e38, -3.4e38, Infinity, -Infinity, Number.NaN, 0, -0, 65504, 1e-30, 2 ** -126, 255.5];
    const b = newGraphBuilder('rounding');
    b.input('x', { dtype: 'float32', dims: [values.length] });
    const narrow = b.node('Cast', ['x'], cast('bfloat16'), { outputs: ['narrow'] });
    const back = b.node('Cast', [narrow], cast('float32'));
    const { graph } = await optimize(b.finish([narrow, b.node('Mul', [back, b.constant(fromNumbers('float32', [], [0.5]))], {}, { outputs: ['y'] })]), 'webgpu', { fusion });
    const results = await runGraph(graph, { x: fromNumbers('float32', [values.length], values) });
    const wanted = values.map((value) => bfloat16ToNumber(numberToBfloat16(value)));
    expect(results['narrow']!.dtype).toBe('bfloat16');
    expect(toNumbers(results['narrow']!)).toEqual(wanted);
    // Halved, what is least is no normal number any more.
    expect(toNumbers(results['y']!).filter((_, i) => values[i] !== 2 ** -126)).toEqual(wanted.map((value) => value / 2).filter((_, i) => values[i] !== 2 ** -126));
  });

  it.each(['on', 'off'] as const)('multiply matrices of bfloat16 to within half a unit of the last place, fusion %s', async (fusion) => {
    const [rows, depth, columns] = [4, 24, 8];
    const [x, w] = [noise(rows * depth, 1), noise(depth * columns, 2)].map((values) => fromNumbers('bfloat16', [values.length], values));
    const b = newGraphBuilder('product');
    b.input('x', { dtype: 'bfloat16', dims: [rows, depth] });
    const y = b.node('Relu', [b.node('MatMul', ['x', b.constant({ ...w!, dims: [depth, columns] })], {})], {}, { outputs: ['y'] });
    const { graph } = await optimize(b.finish([y]), 'webgpu', { fusion });
    const [left, right] = [toNumbers(x!), toNumbers(w!)];
    const exact = Array.from({ length: rows * columns }, (_, at) => Math.max(0, Array.from({ length: depth }, (__, k) => left[Math.floor(at / columns) * depth + k]! * right[k * columns + (at % columns)]!).reduce((sum, value) => sum + value, 0)));
    const found = toNumbers((await runGraph(graph, { x: { ...x!, dims: [rows, depth] } }))['y']!);
    for (const [at, value] of exact.entries()) expect(Math.abs(found[at]! - value)).toBeLessThanOrEqual(value * (2 ** -8 + 1e-5) + 1e-6);
  });

  it('keep what no half holds where halves are stored and a calibration says so', async () => {
    const b = newGraphBuilder('wide');
    b.input('x', { dtype: 'bfloat16', dims: [2, 8] });
    const wide = b.node('Transpose', [b.node('Mul', ['x', b.constant(fromNumbers('bfloat16', [], [2 ** 30]))], {}, { outputs: ['wide'] })], { perm: [1, 0] });
    const y = b.node('Mul', [b.node('Transpose', [wide], { perm: [1, 0] }), b.constant(fromNumbers('bfloat16', [], [2 ** -30]))], {}, { outputs: ['y'] });
    const { graph } = await optimize(b.finish([y, b.node('Neg', ['wide'], {}, { outputs: ['z'] })]), 'webgpu', { fusion: 'off' });
    const x = fromNumbers('bfloat16', [2, 8], noise(16, 4));
    const results = await runGraph(graph, { x }, undefined, { half: true, keepFloat: new Set(graph.types.keys()) });
    expect(toNumbers(results['y']!)).toEqual(toNumbers(x));
    expect(toNumbers(results['z']!)).toEqual(toNumbers(x).map((value) => -value * 2 ** 30));
  });

  it('take doubles and long unsigned integers, and give them', async () => {
    const b = newGraphBuilder('wide');
    b.input('x', { dtype: 'float64', dims: [3] });
    b.input('n', { dtype: 'uint64', dims: [3] });
    const y = b.node('Div', ['x', b.constant(fromNumbers('float64', [3], [3, 7, -1e30]))], {}, { outputs: ['y'] });
    const m = b.node('Sub', ['n', b.constant(fromNumbers('uint64', [], [5]))], {}, { outputs: ['m'] });
    const isLess = b.node('Less', ['n', b.constant(fromNumbers('uint64', [], [3_000_000_000]))], {}, { outputs: ['less'] });
    const { graph } = await optimize(b.finish([y, m, isLess]), 'webgpu');
    const results = await runGraph(graph, { x: fromNumbers('float64', [3], [1, 0.1, 2e30]), n: fromNumbers('uint64', [3], [5, 2_999_999_999, 4_294_967_295]) });
    expect([results['y']!.dtype, results['m']!.dtype]).toEqual(['float64', 'uint64']);
    for (const [i, value] of [1 / 3, 0.1 / 7, -2].entries()) expect(Math.abs(toNumbers(results['y']!)[i]! - value)).toBeLessThan(3e-7 * Math.abs(value));
    expect(toNumbers(results['m']!)).toEqual([0, 2_999_999_994, 4_294_967_290]);
    expect(toNumbers(results['less']!)).toEqual([1, 1, 0]);
  });
});
