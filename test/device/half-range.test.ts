/** Values that no half holds, on SwiftShader against float64: f32 where they are named, the largest half where they are not. */
import { describe, expect, it } from 'vitest';
import { elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { COMPACT_PROFILE, distance, noDevice, noise, runGraph } from './helpers.ts';
import { conv } from './references.ts';

describe.skipIf(noDevice)('values beyond the range of halves (skipped without SwiftShader)', () => {
  const test = { x: [1, 16, 5, 5], w: [16, 16, 3, 3], strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 };
  const x = noise(elementCount(test.x), 1);
  const up = noise(elementCount(test.w), 2).map((value) => value * 30_000);
  const down = noise(elementCount(test.w), 3).map((value) => value * 0.001);
  const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: test.pads, strides: [1, 1] } as const;
  const graph = newGraphBuilder('range');
  graph.input('x', { dtype: 'float32', dims: test.x });
  const big = graph.node('Conv', ['x', graph.constant(fromNumbers('float32', test.w, up))], attrs, { outputs: ['big'] });
  const y = graph.node('Conv', [big, graph.constant(fromNumbers('float32', test.w, down))], attrs, { outputs: ['y'] });
  const ready = graph.finish([y]);
  // Weights are rounded to halves: 144 products of about 30, each wrong by 2⁻¹² of itself, and four standard deviations of their sum.
  const TOLERANCE = { absolute: 1, relative: 2e-3 };
  const middle = conv(test, x, up);
  const expected = conv(test, Float32Array.from(middle), down);
  const inputs = { x: fromNumbers('float32', test.x, x) };

  it('stay what they are where they are kept in f32', async () => {
    expect(Math.max(...middle.map(Math.abs))).toBeGreaterThan(65_504);
    const { y: actual } = await runGraph(ready, inputs, COMPACT_PROFILE, { half: true, keepFloat: new Set(['big']) });
    expect(distance(actual!, expected, TOLERANCE)).toBeLessThan(1);
  });

  it('become the largest half elsewhere, and never infinite', async () => {
    const { y: actual } = await runGraph(ready, inputs, COMPACT_PROFILE, { half: true });
    const clipped = conv(test, middle.map((value) => Math.max(-65_504, Math.min(65_504, value))), down);
    expect(distance(actual!, clipped, TOLERANCE)).toBeLessThan(1);
    expect(distance(actual!, expected, TOLERANCE)).toBeGreaterThan(1);
  });
});
