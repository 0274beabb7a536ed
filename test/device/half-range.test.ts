/** Values that no half holds, on SwiftShader against float64: f32 where they are named, the largest half where they are not. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import { fold, randomInputs, runGraph as runReference } from '../helpers/ort.ts';
import { expectClose, optimize } from '../helpers/passes.ts';
import { type Sketch, sketch } from '../helpers/rules.ts';
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

/** A product of four rows of 16. */
const product = ({ b, x, w }: Sketch): string => b.node('MatMul', [x(4, 8), w(8, 16)], {});
const below = ({ b }: Sketch, ...parts: string[]): string => b.node('Concat', parts, { axis: 0 }, { outputs: ['joined'] });
const filled = ({ b }: Sketch, dims: readonly number[], value: (i: number) => number): string =>
  b.constant(fromNumbers('float32', dims, Array.from({ length: elementCount(dims) }, (_, i) => value(i))));
/** Scores of four heads in their batches, and what is added to them. */
const masked = (s: Sketch, least: number): string =>
  s.b.node('Add', [s.b.node('Reshape', [s.b.node('MatMul', [s.x(4, 8, 16), s.x(4, 16, 8)], {}), s.ints(2, 2, 8, 8)], { allowzero: 0 }), filled(s, [2, 2, 8, 8], (i) => (i % 8 > Math.floor(i / 8) % 8 ? least : 0))], {});
const times = ({ b, n }: Sketch, x: string, factor: number): string => b.node('Mul', [x, n(factor)], {});
const large = (s: Sketch): string => s.b.node('Mul', [product(s), s.n(6e4)], {}, { outputs: ['large'] });
const largeSums = (s: Sketch): string => s.b.node('ReduceSumSquare', [times(s, s.x(30, 1, 16), 200), s.ints(0)], { keepdims: 0, noop_with_empty_axes: 0 });
const sum = (s: Sketch, of: string, dims: readonly number[]): string => s.b.node('Add', [of, filled(s, dims, (i) => 700 + (i % 2))], {}, { outputs: ['sum'] });

describe.skipIf(noDevice)('beside halves, values beyond their range are what they were (skipped without SwiftShader)', () => {
  it.each<{ what: string; draw: (s: Sketch) => string | string[]; wide?: readonly string[] }>([
    { what: 'constants of a concatenation that is given out', draw: (s) => below(s, product(s), filled(s, [1, 16], () => 1e5)) },
    { what: 'the same before what is computed', draw: (s) => below(s, filled(s, [1, 16], () => -1e5), product(s)) },
    { what: 'constants of a concatenation that is read', draw: (s) => times(s, below(s, product(s), filled(s, [1, 16], () => 1e5)), 1e-3) },
    { what: 'infinite ones', draw: (s) => s.b.node('Sigmoid', [below(s, product(s), filled(s, [1, 16], () => -Infinity))], {}) },
    { what: 'sums that a kernel writes in f32', draw: (s) => times(s, below(s, product(s), largeSums(s)), 1e-4) },
    { what: 'what a calibration saw', draw: (s) => times(s, below(s, product(s), large(s)), 1e-4), wide: ['large', 'joined'] },
    { what: 'a mask behind a view, given out', draw: (s) => masked(s, -1e9) },
    { what: 'a mask behind a view, computed with', draw: (s) => times(s, masked(s, -1e9), 1e-3) },
    { what: 'sums behind a view that a calibration saw', draw: (s) => times(s, sum(s, s.b.node('Reshape', [large(s), s.ints(2, 2, 16)], { allowzero: 0 }), [2, 2, 16]), 1e-4), wide: ['large', 'sum'] },
    { what: 'sums behind a concatenation that a calibration saw', draw: (s) => times(s, sum(s, below(s, large(s), s.w(4, 16)), [8, 16]), 1e-4), wide: ['large', 'joined', 'sum'] },
  ])('$what', async ({ draw, wide: names = [] }) => {
    const graph = sketch(draw);
    const wide = new Set(names);
    const inputs = randomInputs(graph, 3);
    const { graph: optimized } = await runPasses(graph, { target: 'webgpu', fusion: 'on', disabled: [], fold, wide });
    const found = await runGraph(optimized, Object.fromEntries(inputs), COMPACT_PROFILE, { half: true, keepFloat: wide });
    expect(Object.keys(found)).toEqual(graph.outputs);
    expectClose(new Map(Object.entries(found)), await runReference(graph, inputs), 2e-2);
  });

  it('concatenations of halves are halves, and copied four at a time', async () => {
    const graph = sketch((s) => s.b.node('LayerNormalization', [s.b.node('Concat', [s.w(1, 1, 16), s.b.node('MatMul', [s.x(1, 4, 8), s.w(8, 16)], {})], { axis: 1 }), s.w(16), s.w(16)], { axis: -1, epsilon: 1e-5, stash_type: 1 }));
    const { plan, layers } = buildPlan((await optimize(graph, 'webgpu')).graph, COMPACT_PROFILE, { half: true });
    expect(layers.find(({ kind }) => kind === 'Concat')).toMatchObject({ precision: 'float16' });
    expect(plan.shaders.find(({ label }) => label === 'Concat')!.wgsl).toContain(') / 4u]');
  });
});

describe.skipIf(noDevice)('grouped convolutions of halves (skipped without SwiftShader)', () => {
  it.each([[8, 1, 2], [8, 2, 2], [4, 3, 4], [16, 2, 3], [3, 8, 8], [3, 4, 4]])('of %i groups, %i channels to %i each', async (group, from, to) => {
    const test = { x: [1, group * from, 8, 8], w: [group * to, from, 3, 3], strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group };
    const [x, w] = [noise(elementCount(test.x), 5), noise(elementCount(test.w), 6)];
    const builder = newGraphBuilder('groups');
    builder.input('x', { dtype: 'float32', dims: test.x });
    const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group, kernel_shape: [3, 3], pads: test.pads, strides: [1, 1] } as const;
    const middle = builder.node('Conv', ['x', builder.constant(fromNumbers('float32', test.w, w))], attrs, {});
    const { y } = await runGraph(builder.finish([builder.node('Neg', [middle], {}, { outputs: ['y'] })]), { x: fromNumbers('float32', test.x, x) }, COMPACT_PROFILE, { half: true });
    expect(distance(y!, conv(test, x, w).map((value) => -value), { absolute: 2e-2, relative: 2e-3 })).toBeLessThan(1);
  });
});
