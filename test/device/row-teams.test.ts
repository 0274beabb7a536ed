/** Teams of the row kernel on SwiftShader against float64: subgroups and parts of them, several subgroups, trees. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { DeviceProfile } from '../../src/backends/webgpu/profile.ts';
import { rowTeam } from '../../src/backends/webgpu/kernels/row-team.ts';
import { fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { COMPACT_PROFILE, distance, noDevice, noise, runGraph, testDevice } from './helpers.ts';

const REDUCTIONS = {
  ReduceSum: (row: readonly number[]) => row.reduce((a, b) => a + b, 0),
  ReduceProd: (row: readonly number[]) => row.reduce((a, b) => a * b, 1),
  ReduceMax: (row: readonly number[]) => Math.max(...row),
  ReduceMin: (row: readonly number[]) => Math.min(...row),
} as const;
type Reduction = keyof typeof REDUCTIONS;
const OPS = Object.keys(REDUCTIONS) as Reduction[];
const TEAMS = ['subgroups', 'trees'] as const;

/** The device's own subgroups, or none; the fewer workgroups keep it busy, the fewer rows are plenty. */
async function profileFor(teams: (typeof TEAMS)[number], busyWorkgroups = COMPACT_PROFILE.busyWorkgroups): Promise<DeviceProfile> {
  const { features, subgroupSize } = (await testDevice()).profile;
  return teams === 'trees' ? { ...COMPACT_PROFILE, busyWorkgroups } : { ...COMPACT_PROFILE, busyWorkgroups, features, subgroupSize };
}

const split = (length: number, values: ArrayLike<number>): number[][] =>
  Array.from({ length: values.length / length }, (_, row) => Array.from({ length }, (_each, i) => values[row * length + i]!));

/** The op's results over the last axis of `values`, which are of `dtype`. */
async function reduced(op: Reduction, length: number, values: ArrayLike<number>, profile: DeviceProfile, dtype: 'float32' | 'int32' | 'uint32' = 'float32'): Promise<Tensor> {
  const dims = [values.length / length, length];
  const graph = newGraphBuilder(op);
  graph.input('x', { dtype, dims });
  const axes = graph.constant(fromNumbers('int64', [1], [1]));
  const y = graph.node(op, ['x', axes], { keepdims: 0, noop_with_empty_axes: 0 }, { outputs: ['y'] });
  return (await runGraph(graph.finish([y]), { x: fromNumbers(dtype, dims, values) }, profile))['y']!;
}

/** Factors near 1, so that products of a thousand of them stay in range. */
const near1 = (values: Float64Array): Float64Array => values.map((value) => Math.fround(1 + value / 8));

function softmax(row: readonly number[]): number[] {
  const max = Math.max(...row);
  const exps = row.map((x) => Math.exp(x - max));
  const sum = REDUCTIONS.ReduceSum(exps);
  return exps.map((e) => e / sum);
}

function normalized(row: readonly number[], scale: ArrayLike<number>, bias: ArrayLike<number>): number[] {
  const mean = REDUCTIONS.ReduceSum(row) / row.length;
  const variance = REDUCTIONS.ReduceSum(row.map((x) => (x - mean) ** 2)) / row.length;
  return row.map((x, i) => ((x - mean) / Math.sqrt(variance + 1e-5)) * scale[i]! + bias[i]!);
}

/** Rows × length: one lane, a part of a subgroup, one subgroup, several with and without a tail, more than is held; vectors and not. */
const SHAPES = [[1, 1], [5, 3], [7, 8], [1, 12], [33, 30], [3, 128], [2, 100], [1, 1000], [5, 1001], [2, 516], [1, 4100], [300, 7], [300, 64]] as const;

describe.skipIf(noDevice)('teams of rows (skipped without SwiftShader)', () => {
  it('are of every kind for these shapes', async () => {
    const sizes = async (busyWorkgroups: number) => {
      const profile = await profileFor('subgroups', busyWorkgroups);
      return SHAPES.map(([rows, length]) => rowTeam({ rows, steps: length % 4 === 0 ? length / 4 : length, across: false }, profile).size);
    };
    expect((await testDevice()).profile.subgroupSize).toEqual({ min: 4, max: 4 });
    expect(await sizes(256)).toEqual([1, 4, 2, 4, 4, 4, 4, 32, 32, 32, 32, 4, 4]);
    expect(await sizes(1)).toEqual([1, 4, 2, 4, 4, 4, 4, 32, 32, 32, 32, 1, 4]);
  });

  describe.each(TEAMS)('of %s', (teams) => {
    it.each(SHAPES)('reduce %i rows of %i', { timeout: 60_000 }, async (rows, length) => {
      for (const op of OPS) {
        const x = near1(noise(rows * length, 7));
        const expected = split(length, x).map(REDUCTIONS[op]);
        for (const busy of rows === 300 ? [1, 256] : [256]) {
          expect(distance(await reduced(op, length, x, await profileFor(teams, busy)), expected, { absolute: 1e-6, relative: 1e-4 })).toBeLessThan(1);
        }
      }
    });

    it('reduce integers exactly', async () => {
      const profile = await profileFor(teams);
      const x = Array.from({ length: 6 * 50 }, (_, i) => ((i * 7919) % 2003) - 1001);
      for (const op of ['ReduceSum', 'ReduceMax', 'ReduceMin'] as const) {
        expect(toNumbers(await reduced(op, 50, x, profile, 'int32'))).toEqual(split(50, x).map(REDUCTIONS[op]));
      }
      const large = x.map((value) => 4_000_000_000 + value);
      expect(toNumbers(await reduced('ReduceMax', 50, large, profile, 'uint32'))).toEqual(split(50, large).map(REDUCTIONS.ReduceMax));
      expect(toNumbers(await reduced('ReduceProd', 3, [1, -2, 3, 4, 5, 6], profile, 'int32'))).toEqual([-6, 120]);
    });

    it.each([9, 64, 1001])('keep infinities to their rows of %i', { timeout: 60_000 }, async (length) => {
      const profile = await profileFor(teams);
      const { POSITIVE_INFINITY: up, NEGATIVE_INFINITY: down } = Number;
      const rows = split(length, noise(5 * length, 3)).map((row, at) => row.map((value, i) => (at === 1 ? down : at === 2 ? up : at === 3 && i === 5 ? down : value)));
      for (const op of ['ReduceSum', 'ReduceMax', 'ReduceMin'] as const) {
        expect(distance(await reduced(op, length, rows.flat(), profile), rows.map(REDUCTIONS[op]), { absolute: 1e-4, relative: 1e-5 })).toBeLessThan(1);
      }
      const graph = newGraphBuilder('infinities');
      graph.input('x', { dtype: 'float32', dims: [5, length] });
      const y = graph.node('Softmax', ['x'], { axis: 1 }, { outputs: ['y'] });
      const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', [5, length], rows.flat()) }, profile);
      expect(distance(outputs['y']!, rows.flatMap(softmax))).toBeLessThan(1);
    });

    it('keep NaN to its row', async () => {
      const rows = split(40, noise(120, 5)).map((row, at) => row.map((value, i) => (at === 1 && i === 21 ? Number.NaN : value)));
      const sums = await reduced('ReduceSum', 40, rows.flat(), await profileFor(teams));
      expect(distance(sums, rows.map(REDUCTIONS.ReduceSum))).toBeLessThan(1);
    });

    it.each([[1, 1000], [130, 96], [7, 50], [2, 4104]])('normalize %i rows of %i, and their softmax in halves', { timeout: 60_000 }, async (rows, length) => {
      const [x, scale, bias] = [noise(rows * length, 1).map((value) => Math.fround(value * 3 + 10)), noise(length, 2), noise(length, 3)];
      const graph = newGraphBuilder('norm');
      graph.input('x', { dtype: 'float32', dims: [rows, length] });
      const parameters = [scale, bias].map((values) => graph.constant(fromNumbers('float32', [length], values)));
      const attrs = { axis: 1, epsilon: 1e-5, stash_type: 1 } as const;
      const norm = graph.node('LayerNormalization', ['x', ...parameters], attrs);
      const whole = graph.node('LayerNormalization', ['x', ...parameters], attrs, { outputs: ['whole'] });
      const y = graph.node('Softmax', [norm], { axis: 1 }, { outputs: ['y'] });
      const ready = graph.finish([whole, y]);
      const profile = await profileFor(teams);
      const outputs = await runGraph(ready, { x: fromNumbers('float32', [rows, length], x) }, profile, { half: true });
      const expected = split(length, x).map((row) => normalized(row, scale, bias));
      // Weights are rounded to halves, and so is what the softmax reads.
      expect(distance(outputs['whole']!, expected.flat(), { absolute: 2e-3, relative: 1e-3 })).toBeLessThan(1);
      expect(distance(outputs['y']!, expected.flatMap(softmax), { absolute: 1e-6, relative: 5e-3 })).toBeLessThan(1);
      const shaders = buildPlan(ready, profile, { half: true }).plan.shaders.filter(({ label }) => label === 'Softmax' || label === 'LayerNormalization');
      expect(shaders.some(({ wgsl }) => wgsl.includes('in0: array<vec2<u32>'))).toBe(length % 8 === 0);
      expect(new Set(shaders.map(({ wgsl }) => wgsl.includes('subgroupShuffleXor')))).toEqual(new Set([teams === 'subgroups']));
    });
  });

  it('of subgroups give what the rows give, whatever their shape', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...OPS), fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 700 }), fc.constantFrom(1, 16, 256), async (op, rows, length, busy) => {
        const x = near1(noise(rows * length, rows + length));
        const actual = await reduced(op, length, x, await profileFor('subgroups', busy));
        expect(distance(actual, split(length, x).map(REDUCTIONS[op]), { absolute: 1e-6, relative: 1e-4 })).toBeLessThan(1);
      }),
      { seed: 3, numRuns: 40 },
    );
  });
});
