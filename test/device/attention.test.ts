/** The attention kernel on SwiftShader against float64: register tiles, and the tiling of matrices in plain WGSL. */
import { describe, expect, it } from 'vitest';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { attentionReason, type AttentionTactic, attentionTacticName } from '../../src/backends/webgpu/tactics/attention.ts';
import { type AttentionCase, attentionError, attentionProblem } from './attention-problem.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { randomInputs, runGraph as runReference } from '../helpers/ort.ts';
import { countOps, optimize } from '../helpers/passes.ts';
import { sketch } from '../helpers/rules.ts';
import { distance, noDevice, runGraph, testDevice } from './helpers.ts';
import { readHeld } from './packed-problem.ts';

const lanes = (bq: number, bk: number, down: number, across: number, splits = 1): AttentionTactic => ({
  engine: 'lanes', bq, bk, down, across, matrix: undefined, subgroup: 1, demandsSubgroup: false, splits,
});
const emulated = (bq: number, bk: number, down: number, across: number, matrix = { m: 8, n: 8, k: 8 }): AttentionTactic => ({
  engine: 'emulated', bq, bk, down, across, matrix, subgroup: 8, demandsSubgroup: false, splits: 1,
});

const bert: AttentionCase = { element: 'f16', batch: 2, heads: 2, rows: 12, length: 12, depth: 32, joined: true, mask: { dims: [2, 1, 1, 12], value: (i) => (i % 5 === 4 ? -10000 : 0) } };

const CASES: Readonly<Record<string, AttentionCase>> = {
  'self-attention out of one projection, a mask of keys': bert,
  'more keys than a block, a tail': { element: 'f16', heads: 1, rows: 9, length: 37, depth: 16 },
  'maxima that grow from block to block': { element: 'f16', heads: 1, rows: 5, length: 50, depth: 16, gain: 60, mask: { dims: [50], value: (i) => i - 40 } },
  'a full mask in halves': { element: 'f16', batch: 2, heads: 2, rows: 7, length: 20, depth: 16, mask: { dims: [2, 2, 7, 20], storage: 'f16', value: (i) => ((i * 7) % 11) / 4 - 1 } },
  'a mask of queries': { element: 'f16', heads: 3, rows: 4, length: 6, depth: 8, mask: { dims: [1, 1, 4, 1], value: (i) => i } },
  'another extent of values, results in f32': { element: 'f16', heads: 2, rows: 6, length: 18, depth: 24, depthV: 40, output: 'f32' },
  'floats that become halves as they are read': { element: 'f16', storage: 'f32', heads: 2, rows: 6, length: 37, depth: 24, depthV: 40 },
  'keys masked by −∞ in whole blocks': { element: 'f16', heads: 1, rows: 3, length: 40, depth: 8, mask: { dims: [40], value: (i) => (i < 33 ? Number.NEGATIVE_INFINITY : 0) } },
  'rows masked by −∞ are NaN': { element: 'f16', heads: 1, rows: 3, length: 20, depth: 8, mask: { dims: [3, 20], value: (i) => (i < 20 ? Number.NEGATIVE_INFINITY : 0) } },
  'rows masked by −∞ are zeros': { element: 'f16', heads: 1, rows: 3, length: 20, depth: 8, zeroEmptyRows: true, mask: { dims: [3, 20], value: (i) => (i < 20 ? Number.NEGATIVE_INFINITY : 0) } },
  'rows with a score of NaN or ∞ are zeros': { element: 'f16', heads: 1, rows: 4, length: 20, depth: 8, zeroEmptyRows: true, mask: { dims: [4, 20], value: (i) => (i === 3 ? Number.NaN : i === 59 ? Number.POSITIVE_INFINITY : 0) } },
  'heads that share keys, a token': { element: 'f16', batch: 2, heads: 2, sharing: 3, rows: 1, length: 20, depth: 16, mask: { dims: [2, 6, 1, 20], value: (i) => ((i * 7) % 11) / 4 - 1 } },
  'heads that share keys, several positions': { element: 'f16', batch: 2, heads: 2, sharing: 3, rows: 5, length: 20, depth: 16, depthV: 24, mask: { dims: [2, 6, 5, 20], value: (i) => ((i * 7) % 11) / 4 - 1 } },
  'one head of keys for all, a mask of all': { element: 'f16', batch: 2, heads: 1, sharing: 5, rows: 7, length: 21, depth: 16, output: 'f32', mask: { dims: [7, 21], value: (i) => (i % 21 > Math.floor(i / 21) ? Number.NEGATIVE_INFINITY : 0) } },
  'scores bent by a cap, a mask behind it': { element: 'f16', heads: 2, rows: 9, length: 37, depth: 16, gain: 60, softcap: 5, mask: { dims: [37], value: (i) => i / 8 } },
  'rows masked by the lowest float are averages': { element: 'f16', heads: 1, rows: 3, length: 20, depth: 8, mask: { dims: [3, 20], value: (i) => (i < 20 ? -3.4028234663852886e38 : 0) } },
};

const TACTICS = {
  lanes: [lanes(8, 16, 8, 4), lanes(16, 16, 4, 4)],
  emulated: [emulated(16, 16, 2, 1), emulated(8, 32, 1, 1), emulated(16, 16, 1, 1, { m: 8, n: 16, k: 8 })],
} as const;

/** Halves within a step of results below 1; f32 within the rounding of the sums. */
const tolerance = ({ element, output = element }: AttentionCase, engine: string): number => (output === 'f16' || engine === 'emulated' ? 2e-3 : 2e-5);

describe.skipIf(noDevice)('attention (skipped without SwiftShader)', () => {
  for (const [name, given] of Object.entries(CASES)) {
    for (const engine of ['lanes', 'emulated'] as const) {
      it(`${engine}: ${name}`, { timeout: 120_000 }, async () => {
        const test = attentionProblem(given);
        const open = await testDevice();
        const worst: { readonly tactic: string; readonly isClose: boolean }[] = [];
        for (const tactic of TACTICS[engine]) {
          if (attentionReason(test.problem, tactic, PORTABLE_PROFILE) !== undefined) continue;
          const error = await attentionError(open.device, test, tactic, PORTABLE_PROFILE);
          worst.push({ tactic: attentionTacticName(tactic), isClose: error < tolerance(given, engine) });
        }
        expect(worst.length).toBeGreaterThan(0);
        expect(worst.filter(({ isClose }) => !isClose)).toEqual([]);
        open.check();
      });
    }
  }

  it.each([[32, 'f32'], [64, 'f32'], [80, 'f32'], [128, 'f16']] as const)('lanes: heads of %i in %s', { timeout: 120_000 }, async (depth, element) => {
    const test = attentionProblem({ element, heads: 2, rows: 5, length: 21, depth });
    const open = await testDevice();
    const tactic = [lanes(8, 16, 8, 4), lanes(4, 16, 4, 4)].find((one) => attentionReason(test.problem, one, PORTABLE_PROFILE) === undefined)!;
    expect(await attentionError(open.device, test, tactic, PORTABLE_PROFILE)).toBeLessThan(element === 'f32' ? 2e-5 : 2e-3);
  });

  it('emulated: two subgroups side by side, results in rounds', { timeout: 120_000 }, async () => {
    const test = attentionProblem({ element: 'f16', heads: 1, rows: 10, length: 40, depth: 16, depthV: 64, gain: 60 });
    const open = await testDevice();
    for (const tactic of [emulated(8, 16, 1, 2), emulated(16, 32, 2, 2)]) {
      expect(attentionReason(test.problem, tactic, PORTABLE_PROFILE)).toBeUndefined();
      expect(await attentionError(open.device, test, tactic, PORTABLE_PROFILE)).toBeLessThan(2e-3);
    }
  });

  // A whole span of −∞, spans of several blocks and of one, the last one shorter, and a row that nothing is visible to.
  const hidden = (key: number, row: number): boolean => key < 90 || row === 2;
  const divided: AttentionCase = {
    element: 'f16', batch: 2, heads: 2, rows: 7, length: 301, depth: 16, depthV: 24, gain: 60,
    mask: { dims: [7, 301], value: (i) => (hidden(i % 301, Math.floor(i / 301)) ? Number.NEGATIVE_INFINITY : (i % 301) / 8) },
  };
  const DIVISIONS = [
    { element: 'f16', tactic: lanes(8, 16, 8, 4, 4) },
    { element: 'f16', tactic: lanes(4, 16, 4, 4, 19) },
    { element: 'f32', tactic: lanes(8, 16, 8, 4, 5) },
    { element: 'f16', tactic: { ...emulated(16, 16, 2, 1), splits: 4 } },
    { element: 'f16', tactic: { ...emulated(8, 32, 1, 1), splits: 10 } },
  ] as const;
  it.each(DIVISIONS.map(({ element, tactic }) => [attentionTacticName(tactic), element, tactic] as const))('%s of %s: keys divided among workgroups', { timeout: 120_000 }, async (_, element, tactic) => {
    const open = await testDevice();
    for (const zeroEmptyRows of [false, true]) {
      const given = { ...divided, element, zeroEmptyRows };
      const test = attentionProblem(given);
      expect(attentionReason(test.problem, tactic, PORTABLE_PROFILE)).toBeUndefined();
      expect(await attentionError(open.device, test, tactic, PORTABLE_PROFILE)).toBeLessThan(tolerance(given, tactic.engine));
    }
    open.check();
  });

  /** Attention in one kernel (heads of 8) and in three (of 6), with NaN for a query that sees no key, and with zeros. */
  const blind = (mask: 'bool' | 'float' | 'constant', allowed: readonly number[]): Graph =>
    sketch(({ b, x, n }) => {
      const [dims, lowest] = [[1, 1, 5, 7], Number.NEGATIVE_INFINITY];
      const addends = fromNumbers('float32', dims, allowed.map((isSeen) => (isSeen ? 0 : lowest)));
      const added = { bool: () => b.node('Where', [b.input('mask', { dtype: 'bool', dims }), n(0), n(lowest)], {}), float: () => b.input('mask', addends), constant: () => b.constant(addends) }[mask]();
      return [8, 6].flatMap((depth) => [true, false].map((zeros) => {
        const weights = b.node('Softmax', [b.node('Add', [b.node('MatMul', [x(1, 2, 5, depth), x(1, 2, depth, 7)], {}), added], {})], { axis: -1 });
        return b.node('MatMul', [zeros ? b.node('Where', [b.node('IsNaN', [weights], {}), n(0), weights], {}) : weights, x(1, 2, 7, depth)], {});
      }));
    });
  it.each((['bool', 'float', 'constant'] as const).flatMap((mask) => [false, true].map((half) => [mask, half] as const)))('a query that sees no key, by a %s mask, in halves: %s', { timeout: 120_000 }, async (mask, half) => {
    const allowed = Array.from({ length: 35 }, (_, i) => Number(i % 7 <= Math.floor(i / 7) && (i < 14 || i >= 21)));
    const graph = blind(mask, allowed);
    const inputs = randomInputs(graph, 3);
    if (mask === 'bool') inputs.set('mask', fromNumbers('bool', [1, 1, 5, 7], allowed));
    if (mask === 'float') inputs.set('mask', fromNumbers('float32', [1, 1, 5, 7], allowed.map((isSeen) => (isSeen ? 0 : Number.NEGATIVE_INFINITY))));
    const { graph: optimized } = await optimize(graph, 'webgpu');
    expect(countOps(optimized)).toMatchObject({ FusedAttention: 4 });
    const outputs = await runGraph(optimized, Object.fromEntries(inputs), PORTABLE_PROFILE, { half });
    for (const [at, [id, wanted]] of [...(await runReference(graph, inputs))].entries()) {
      const values = toNumbers(wanted);
      expect(values.some(Number.isNaN)).toBe(at % 2 === 1);
      expect(distance(outputs[id]!, values, half ? { absolute: 1e-2, relative: 1e-2 } : undefined)).toBeLessThan(1);
    }
  });

  it('a token beside a cache of floats, in a build of halves', { timeout: 120_000 }, async () => {
    const { held, expected } = attentionProblem({ element: 'f16', storage: 'f32', heads: 1, rows: 7, length: 300, depth: 16, gain: 30 });
    const graph = newGraphBuilder('token');
    const inputs = Object.fromEntries(['q', 'k', 'v'].map((name, i) => {
      const [, rows, , depth] = held[i]!.tensor.dims as [number, number, number, number];
      const dims = [1, 1, rows, depth];
      graph.input(name, { dtype: 'float32', dims });
      return [name, fromNumbers('float32', dims, readHeld(held[i]!.tensor, held[i]!.bytes).values)];
    }));
    const y = graph.node('FusedAttention', ['q', 'k', 'v'], { scale: 1 / 4, softcap: 0, transposedK: 0, zeroEmptyRows: 0 }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), inputs, PORTABLE_PROFILE, { half: true });
    expect(distance(outputs['y']!, expected, { absolute: 2e-3, relative: 0 })).toBeLessThan(1);
  });
});
