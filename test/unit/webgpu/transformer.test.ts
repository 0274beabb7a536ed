/** What an encoder layer becomes for a device with matrices: seven kernels, none of which only moves data. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../../src/backends/webgpu/build.ts';
import { lowerGraph } from '../../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { optimize } from '../../helpers/passes.ts';
import { sketch } from '../../helpers/rules.ts';
import { bertLayer, vitBlock } from '../../helpers/transformer.ts';

const NVIDIA: DeviceProfile = {
  ...PORTABLE_PROFILE,
  features: new Set(['subgroups', 'shader-f16', 'chromium-experimental-subgroup-matrix']),
  maxWorkgroupBytes: 49152,
  maxInvocations: 1024,
  maxStorageBuffers: 16,
  subgroupSize: { min: 32, max: 32 },
  matrixConfigs: [{ element: 'f16', result: 'f32', m: 16, n: 16, k: 16 }],
};
const SHAPE = { batch: 2, tokens: 24, hidden: 128, heads: 2 };

async function kinds(graph: Graph, half: boolean, windows = true): Promise<string[]> {
  const { graph: optimized } = await optimize(graph, 'webgpu');
  return buildPlan(optimized, NVIDIA, { half, windows }).layers.map(({ kind }) => kind);
}

const BERT = ['FusedMatMul', 'FusedAttention', 'FusedMatMul', 'LayerNormalization', 'FusedMatMul', 'FusedMatMul', 'LayerNormalization'];
const VIT = ['LayerNormalization', 'FusedMatMul', 'FusedAttention', 'FusedMatMul', 'LayerNormalization', 'FusedMatMul', 'FusedMatMul'];

describe('an encoder layer', () => {
  it('of BERT is seven kernels in f32', async () => {
    expect(await kinds(bertLayer(SHAPE), false)).toEqual(BERT);
  });

  it('of BERT is six kernels in halves: products normalize what they read, and what comes and goes is f32', async () => {
    expect((await kinds(bertLayer(SHAPE), true)).filter((kind) => kind !== 'Reformat')).toEqual(BERT.filter((_, i) => i !== 3));
  });

  it.each([[64, false], [8000, true]] as const)('of %i rows and many columns: a kernel of its own where it costs less than sums in every workgroup', async (rows, own) => {
    const graph = sketch(({ b, x, w }) => {
      const h = b.node('Add', [b.node('MatMul', [x(rows, 16), w(16, 128)], {}), w(128)], {});
      return b.node('MatMul', [b.node('LayerNormalization', [h, w(128)], { axis: -1, epsilon: 1e-5, stash_type: 1 }), w(128, 4096)], {});
    });
    expect((await kinds(graph, true)).includes('LayerNormalization')).toBe(own);
  });

  it('of BERT has its normalization among the nodes of the first product that reads it, and of no other', async () => {
    const graph = bertLayer(SHAPE);
    const { graph: optimized } = await optimize(graph, 'webgpu');
    const { origins } = graph.nodes.find((node) => node.op === 'LayerNormalization')!;
    const { layers } = buildPlan(optimized, NVIDIA, { half: true });
    expect(layers.flatMap((layer, i) => (origins.every((origin) => layer.origins.includes(origin)) ? [layers.slice(0, i + 1).filter(({ kind }) => kind === 'FusedMatMul').length] : []))).toEqual([3]);
  });

  it('of BERT keeps its normalization where a kernel may bind too few buffers for the sum with it', async () => {
    const { graph: optimized } = await optimize(bertLayer(SHAPE), 'webgpu');
    const plans = [8, 9].map((maxStorageBuffers) => lowerGraph(optimized, { ...NVIDIA, maxStorageBuffers }, { half: true }));
    expect(plans.map(({ layers }) => layers.filter(({ kind }) => kind === 'LayerNormalization').length)).toEqual([2, 1]);
    expect(Math.max(...plans[0]!.steps.map(({ call }) => call.operands.length))).toBeLessThanOrEqual(8);
  });

  it('of BERT keeps its normalization where its values are given out', async () => {
    const graph = bertLayer(SHAPE);
    const inner = graph.nodes.find((node) => node.op === 'LayerNormalization')!.outputs[0]!;
    expect((await kinds({ ...graph, outputs: [...graph.outputs, inner] }, true)).filter((kind) => kind === 'LayerNormalization')).toHaveLength(2);
  });

  it('of ViT is the same, and what is picked of a tensor is a window', async () => {
    // The last normalization and the copy of its first token, which is an output.
    expect((await kinds(vitBlock(SHAPE), false)).filter((kind) => kind !== 'Reformat')).toEqual([...VIT, 'LayerNormalization']);
  });

  it('copies where windows are off', async () => {
    const layers = await kinds(bertLayer(SHAPE), false, false);
    expect(layers.filter((kind) => kind === 'Transpose')).toHaveLength(4);
    expect(layers.filter((kind) => kind === 'Slice')).toHaveLength(3);
  });
});
