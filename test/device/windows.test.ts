/** Networks that split and join without copies, on SwiftShader against onnxruntime. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import { fold, randomInputs, runGraph as runOnnxruntime } from '../helpers/ort.ts';
import { randomImageGraph } from '../helpers/random-graph.ts';
import { COMPACT_PROFILE, distance, noDevice, noise, runGraph } from './helpers.ts';

const onePixel = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
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

  it('copies a part whose rows are no whole vectors to f32, where a product reads it in halves', async () => {
    const graph = newGraphBuilder('nonlocal');
    graph.input('x', { dtype: 'float32', dims: [2, 8, 6, 6] });
    const constant = (dims: readonly number[], seed: number) => graph.constant(fromNumbers('float32', dims, noise(elementCount(dims), seed)));
    const shape = (...sizes: number[]) => graph.constant(fromNumbers('int64', [sizes.length], sizes));
    // Queries, keys and values are parts of one convolution; keys and values are pooled to rows of nine.
    const [q, k, v] = [1, 2, 3].map((seed) => graph.node('Conv', ['x', constant([4, 8, 1, 1], seed)], onePixel)) as [string, string, string];
    const rows = (image: string) => graph.node('Reshape', [image, shape(2, 4, -1)], { allowzero: 0 });
    const turned = (image: string) => graph.node('Transpose', [rows(image)], { perm: [0, 2, 1] });
    const pooled = (image: string) => graph.node('MaxPool', [image], { ...onePixel, ceil_mode: 0, storage_order: 0, kernel_shape: [2, 2], strides: [2, 2] });
    const weights = graph.node('Softmax', [graph.node('MatMul', [turned(q), rows(pooled(k))], {})], { axis: -1 });
    const y = graph.node('MatMul', [weights, turned(pooled(v))], {}, { outputs: ['y'] });
    const whole = graph.finish([y]);
    const inputs = randomInputs(whole, 7);
    const expected = toNumbers((await runOnnxruntime(whole, inputs)).get('y')!);
    const passes = await runPasses(whole, { target: 'webgpu', fusion: 'on', disabled: [], fold });
    const { y: actual } = await runGraph(passes.graph, Object.fromEntries(inputs), PORTABLE_PROFILE, { half: true });
    expect(distance(actual!, expected, { absolute: 1e-2, relative: 1e-2 })).toBeLessThan(1);
  });

  it('writes and reads in place in most of them', () => {
    const counts = seeds.map((seed) => buildPlan(randomImageGraph(seed, 14), PORTABLE_PROFILE).inPlace);
    expect(counts.filter(({ written }) => written > 0).length).toBeGreaterThan(seeds.length / 2);
    expect(counts.filter(({ viewed }) => viewed > 0).length).toBeGreaterThan(seeds.length / 2);
  });
});
