/** Encoder layers on SwiftShader against onnxruntime on the graph as exported: f32, and halves. */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { expectClose, optimize } from '../helpers/passes.ts';
import { randomInputs, runGraph as runReference } from '../helpers/ort.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { bertLayer, vitBlock } from '../helpers/transformer.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { randomRowGraph } from '../helpers/random-rows.ts';
import { sketch } from '../helpers/rules.ts';
import { noDevice, noise, runGraph } from './helpers.ts';

const SHAPE = { batch: 2, tokens: 10, hidden: 32, heads: 2 };

/** SwiftShader binds as many: sums with what a product normalizes need more than WebGPU guarantees. */
const PROFILE = { ...PORTABLE_PROFILE, maxStorageBuffers: 10 };

/** Outputs of the optimized graph on the device, and of the graph as it was. */
async function answers(graph: Graph, half: boolean, windows: boolean) {
  const inputs = randomInputs(graph, 3);
  const { graph: optimized } = await optimize(graph, 'webgpu');
  const outputs = await runGraph(optimized, Object.fromEntries(inputs), PROFILE, { half, windows });
  return { found: new Map(Object.entries(outputs)), wanted: await runReference(graph, inputs) };
}

describe.skipIf(noDevice)('encoder layers (skipped without SwiftShader)', () => {
  for (const [name, layer] of Object.entries({ BERT: bertLayer, ViT: vitBlock })) {
    it.each([
      ['f32', false, true, 1e-5],
      ['f32 without windows', false, false, 1e-5],
      ['halves', true, true, 5e-3],
    ] as const)(`${name} in %s`, { timeout: 120_000 }, async (_, half, windows, tolerance) => {
      const { found, wanted } = await answers(layer(SHAPE), half, windows);
      expectClose(found, wanted, tolerance);
      expect([...found.keys()]).toEqual([...wanted.keys()]);
    });
  }

  it.each(['LayerNormalization', 'RMSNormalization'] as const)('%s in front of products normalizes in their kernels, with and without biases', { timeout: 120_000 }, async (op) => {
    const graph = sketch(({ b, x, w, n }) => {
      const h = b.node('Add', [b.node('MatMul', [x(2, 7, 16), w(16, 32)], {}), w(32)], {});
      const attrs = { axis: -1, epsilon: 1e-5, stash_type: 1 };
      const y = op === 'LayerNormalization' ? b.node(op, [h, w(32), w(32)], attrs) : b.node(op, [h, w(32)], attrs);
      const doubled = b.node('Relu', [b.node('Add', [b.node('MatMul', [y, w(32, 24)], {}), w(24)], {})], {});
      const sum = b.node('Add', [b.node('MatMul', [b.node('Mul', [doubled, n(0.2)], {}), w(24, 32)], {}), y], {});
      return [b.node('MatMul', [y, w(32, 8)], {}), sum];
    });
    const { graph: optimized } = await optimize(graph, 'webgpu');
    expect(buildPlan(optimized, PROFILE, { half: true }).layers.map(({ kind }) => kind)).not.toContain(op);
    const { found, wanted } = await answers(graph, true, true);
    expectClose(found, wanted, 1e-2);
    expect([...found.keys()]).toEqual([...wanted.keys()]);
  });

  it('random networks of rows, in halves: what products normalize is what a kernel would', { timeout: 240_000 }, async () => {
    let normalizing = 0;
    for (let seed = 0; seed < 24; seed++) {
      const graph = randomRowGraph(seed, 14);
      const { found, wanted } = await answers(graph, true, true);
      expectClose(found, wanted, 2e-2);
      const { graph: optimized } = await optimize(graph, 'webgpu');
      for (const profile of [PROFILE, PORTABLE_PROFILE]) {
        const { steps } = lowerGraph(optimized, profile, { half: true });
        expect(Math.max(0, ...steps.map(({ call }) => call.operands.length))).toBeLessThanOrEqual(profile.maxStorageBuffers);
      }
      const left = buildPlan(optimized, PROFILE, { half: true }).layers.filter(({ kind }) => kind.endsWith('Normalization')).length;
      normalizing += optimized.nodes.filter(({ op }) => op.endsWith('Normalization')).length - left;
    }
    expect(normalizing).toBeGreaterThan(10);
  });

  it('random networks of rows whose widths are whole groups of columns, in halves: sums of rows come from the products that store them', { timeout: 240_000 }, async () => {
    let summed = 0;
    for (let seed = 0; seed < 16; seed++) {
      const graph = randomRowGraph(seed, 14, [32, 64, 32, 24]);
      const { found, wanted } = await answers(graph, true, true);
      expectClose(found, wanted, 2e-2);
      const { graph: optimized } = await optimize(graph, 'webgpu');
      summed += lowerGraph(optimized, PROFILE, { half: true }).steps.filter(({ call }) => call.source.wgsl.includes('> given_sums: ')).length;
    }
    expect(summed).toBeGreaterThan(10);
  });

  it('a Gemm behind a normalization keeps its factors, its bias and its transposed weights', { timeout: 60_000 }, async () => {
    const graph = sketch(({ b, x, w }) => {
      const h = b.node('Gemm', [x(7, 16), w(16, 32), w(32)], { alpha: 1, beta: 1, transA: 0, transB: 0 });
      const y = b.node('LayerNormalization', [h, w(32), w(32)], { axis: 1, epsilon: 1e-5, stash_type: 1 });
      return [b.node('Gemm', [y, w(24, 32), w(1, 24)], { alpha: 0.5, beta: 2, transA: 0, transB: 1 }), b.node('Gemm', [y, w(32, 8)], { alpha: 2, beta: 3, transA: 0, transB: 0 })];
    });
    const { graph: optimized } = await optimize(graph, 'webgpu');
    expect(buildPlan(optimized, PROFILE, { half: true }).layers.map(({ kind }) => kind)).not.toContain('LayerNormalization');
    const { found, wanted } = await answers(graph, true, true);
    expectClose(found, wanted, 1e-2);
    expect(found.size).toBe(2);
  });

  it('of heads that are no whole vectors take three kernels', { timeout: 120_000 }, async () => {
    const { found, wanted } = await answers(bertLayer({ ...SHAPE, hidden: 36, heads: 6 }), true, true);
    expectClose(found, wanted, 5e-3);
    expect(found.size).toBe(1);
  });

  it.each([false, true])('embeddings are gathered in vectors, halves %s', { timeout: 60_000 }, async (half) => {
    const graph = newGraphBuilder('embedding');
    const table = graph.constant(fromNumbers('float32', [5, 16], noise(80, 1)));
    graph.input('ids', { dtype: 'int64', dims: [2, 3] });
    graph.input('rows', { dtype: 'float32', dims: [2, 4, 8] });
    const y = graph.node('Relu', [graph.node('Gather', [table, 'ids'], { axis: 0 })], {}, { outputs: ['y'] });
    const z = graph.node('Relu', [graph.node('Gather', ['rows', 'ids'], { axis: 1 })], {}, { outputs: ['z'] });
    const finished = graph.finish([y, z]);
    const inputs = new Map([
      ['ids', fromNumbers('int64', [2, 3], [0, 3, -1, 1, 2, -2])],
      ['rows', fromNumbers('float32', [2, 4, 8], noise(64, 2))],
    ]);
    const outputs = await runGraph(finished, Object.fromEntries(inputs), undefined, { half });
    const wanted = await runReference(finished, inputs);
    expectClose(new Map(Object.entries(outputs)), wanted, half ? 1e-3 : 0);
    expect(toNumbers(outputs['y']!).some((value) => value > 0)).toBe(true);
  });
});
