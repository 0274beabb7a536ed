/** Networks that split and join without copies, on SwiftShader against onnxruntime. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import { fold, randomInputs, runGraph as runOnnxruntime } from '../helpers/ort.ts';
import { randomImageGraph } from '../helpers/random-graph.ts';
import { COMPACT_PROFILE, distance, noDevice, runGraph } from './helpers.ts';

const seeds = Array.from({ length: 10 }, (_, seed) => seed);
const cases = seeds.flatMap((seed) => (['on', 'off'] as const).map((fusion) => ({ seed, fusion })));

describe.skipIf(noDevice)('random networks of joined and split images (skipped without SwiftShader)', () => {
  it.each(cases)('seed $seed, fusion $fusion', async ({ seed, fusion }) => {
    const graph = randomImageGraph(seed, 14);
    const inputs = randomInputs(graph, seed);
    const expected = await runOnnxruntime(graph, inputs);
    const passes = await runPasses(graph, { target: 'webgpu', fusion, disabled: [], fold });
    // Windows of an unfused graph too: more values have a home there.
    const profile = seed % 2 === 0 ? COMPACT_PROFILE : { ...PORTABLE_PROFILE, compact: true, maxInvocations: 128 };
    const outputs = await runGraph(passes.graph, Object.fromEntries(inputs), profile);
    for (const [name, wanted] of expected) {
      const values = toNumbers(wanted);
      const scale = Math.max(1e-3, ...values.map(Math.abs));
      expect(distance(outputs[name]!, values, { absolute: 1e-5 * scale, relative: 1e-4 })).toBeLessThan(1);
    }
  });

  it.each([20, 21, 22, 23])('seed %i, stored in halves', async (seed) => {
    const graph = randomImageGraph(seed, 14);
    const inputs = randomInputs(graph, seed);
    const expected = await runOnnxruntime(graph, inputs);
    const outputs = await runGraph(graph, Object.fromEntries(inputs), COMPACT_PROFILE, { half: true });
    for (const [name, wanted] of expected) {
      const values = toNumbers(wanted);
      // Eleven bits of mantissa, through a dozen kernels.
      const scale = Math.max(1e-3, ...values.map(Math.abs));
      expect(distance(outputs[name]!, values, { absolute: 5e-3 * scale, relative: 1e-2 })).toBeLessThan(1);
    }
  });

  it('writes and reads in place in most of them', () => {
    const counts = seeds.map((seed) => buildPlan(randomImageGraph(seed, 14), PORTABLE_PROFILE).inPlace);
    expect(counts.filter(({ written }) => written > 0).length).toBeGreaterThan(seeds.length / 2);
    expect(counts.filter(({ viewed }) => viewed > 0).length).toBeGreaterThan(seeds.length / 2);
  });
});
