/** Attention of heads that share keys and values, as exporters write it, on SwiftShader against onnxruntime on the graph as exported. */
import { describe, expect, it } from 'vitest';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { falconAttention, ONE_FOR_ALL, REPEATING, sharedAttention, type SharedShape } from '../helpers/decoder.ts';
import { randomInputs, runGraph as runReference } from '../helpers/ort.ts';
import { expectClose, optimize } from '../helpers/passes.ts';
import { noDevice, runGraph } from './helpers.ts';

const SHAPE: SharedShape = { batch: 2, heads: 6, own: 2, rows: 3, past: 4, size: 8 };

const CASES = [
  ...Object.entries(REPEATING).map(([name, form]) => [name, form, SHAPE] as const),
  ...['broadcast by the products', 'expanded, and nothing else'].map((name) => [`one head for all, ${name}`, ONE_FOR_ALL[name]!, { ...SHAPE, own: 1 }] as const),
  ['a token', REPEATING['scaled_dot_product_attention of graphs']!, { ...SHAPE, rows: 1 }] as const,
  ['heads of no whole vectors', REPEATING['scores bent by a cap']!, { ...SHAPE, size: 6 }] as const,
  ['heads of no whole vectors, one for all', ONE_FOR_ALL['broadcast by the products']!, { ...SHAPE, own: 1, size: 6 }] as const,
];

describe.skipIf(noDevice)('heads that share keys and values (skipped without SwiftShader)', () => {
  for (const [name, form, shape] of CASES) {
    it.each([['f32', false, 1e-5], ['halves', true, 5e-3]] as const)(`${name}, in %s`, { timeout: 120_000 }, async (_, half, tolerance) => {
      const graph = sharedAttention(form, shape);
      const { graph: optimized } = await optimize(graph, 'webgpu');
      const inputs = randomInputs(graph, 3);
      const outputs = await runGraph(optimized, Object.fromEntries(inputs), PORTABLE_PROFILE, { half });
      expectClose(new Map(Object.entries(outputs)), await runReference(graph, inputs), tolerance);
      expect(Object.keys(outputs)).toEqual(graph.outputs);
    });
  }

  it.each([[2, 1], [2, 3], [1, 1]])("Falcon's attention moves nothing but its cache: %i × %i positions", { timeout: 120_000 }, async (batch, rows) => {
    const graph = falconAttention({ batch, heads: 5, rows, past: 4, size: 8 });
    const { graph: optimized } = await optimize(graph, 'webgpu');
    const inputs = randomInputs(graph, 3);
    const wanted = await runReference(graph, inputs);
    for (const [half, tolerance] of [[false, 1e-5], [true, 5e-3]] as const) {
      const { steps, layers } = lowerGraph(optimized, PORTABLE_PROFILE, { half });
      expect(steps.map(({ layer }) => layers[layer]!.kind).filter((kind) => kind !== 'Reformat')).toEqual(['MatMul', 'FusedConcat', 'Concat', 'Concat', 'FusedAttention', 'Relu']);
      const outputs = await runGraph(optimized, Object.fromEntries(inputs), PORTABLE_PROFILE, { half });
      expectClose(new Map(Object.entries(outputs)), wanted, tolerance);
    }
  });

  it.each([false, true])('copy neither heads nor rows beside the cache, in halves: %s', async (half) => {
    for (const [name, form, shape] of CASES.filter(([name, , { size }]) => size === 8 && name !== 'batch and heads in one axis')) {
      const { graph } = await optimize(sharedAttention(form, { ...shape, rows: 2 }), 'webgpu');
      const { steps, layers } = lowerGraph(graph, PORTABLE_PROFILE, { half });
      expect([name, ...steps.map(({ layer }) => layers[layer]!.kind)]).toEqual([name, 'Concat', 'Concat', 'FusedAttention', 'Relu']);
    }
  });

  it('are read where the projection left them, though they are given out too, in halves', async () => {
    const graph = sharedAttention(REPEATING['matmul, softmax, matmul']!, { ...SHAPE, rows: 9, past: 0 });
    const { graph: optimized } = await optimize(graph, 'webgpu');
    const { steps, layers } = lowerGraph(optimized, PORTABLE_PROFILE, { half: true });
    const reader = optimized.nodes.find(({ op }) => op === 'FusedAttention')!;
    expect(reader.inputs.filter((id) => graph.outputs.includes(id))).toEqual([]);
    // One for each of the two that are given out; inputs of the network become halves.
    expect(steps.map(({ layer }) => layers[layer]!.kind).filter((kind) => kind !== 'Reformat')).toEqual(['Transpose', 'Transpose', 'FusedAttention', 'Relu']);
    const inputs = randomInputs(graph, 3);
    const outputs = await runGraph(optimized, Object.fromEntries(inputs), PORTABLE_PROFILE, { half: true });
    expectClose(new Map(Object.entries(outputs)), await runReference(graph, inputs), 5e-3);
  });
});
