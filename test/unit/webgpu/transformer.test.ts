/** What an encoder layer becomes for a device with matrices: seven kernels, none of which only moves data. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../../src/backends/webgpu/build.ts';
import type { KernelCall } from '../../../src/backends/webgpu/lower/call.ts';
import { lowerGraph } from '../../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { optimize } from '../../helpers/passes.ts';
import { PROFILES } from '../../helpers/profiles.ts';
import { sketch } from '../../helpers/rules.ts';
import { bertLayer, vitBlock } from '../../helpers/transformer.ts';
import { expectValidKernels } from '../../helpers/valid-kernels.ts';

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

  describe('normalizes rows before many columns', () => {
    const graphOf = (rows: number, isProduct: boolean, depth = 16, columns = 4096): Graph =>
      sketch(({ b, x, w }) => {
        const h = isProduct ? b.node('Add', [b.node('MatMul', [x(rows, depth), w(depth, 128)], {}), w(128)], {}) : b.node('Neg', [x(rows, 128)], {});
        return b.node('MatMul', [b.node('LayerNormalization', [h, w(128)], { axis: -1, epsilon: 1e-5, stash_type: 1 }), w(128, columns)], {});
      });
    const HALVES: DeviceProfile = { ...NVIDIA, matrixConfigs: [...NVIDIA.matrixConfigs, { element: 'f16', result: 'f16', m: 16, n: 16, k: 16 }] };

    it.each([[64, false], [8000, true]] as const)('that no product made, %i of them: in a kernel of its own where it costs less than sums in every workgroup', async (rows, own) => {
      expect((await kinds(graphOf(rows, false), true)).includes('LayerNormalization')).toBe(own);
    });

    it.each([[64, 4096], [8000, 256]] as const)('that a product made, %i of them before %i columns: it leaves their sums', async (rows, columns) => {
      const { graph } = await optimize(graphOf(rows, true, 16, columns), 'webgpu');
      const { steps } = lowerGraph(graph, NVIDIA, { half: true });
      const products = steps.filter(({ call }) => call.source.label.startsWith('MatMul'));
      expect(products.map(({ call }) => ['row_sums', 'given_sums'].filter((name) => call.source.wgsl.includes(`> ${name}: `)))).toEqual([['row_sums'], ['given_sums']]);
      const sums = products[0]!.call.operands.at(-1)!;
      expect(sums.dims).toEqual([rows < 1024 ? 4 : 2, rows, 2]);
      expect(products[1]!.call.operands.map(({ id }) => id)).toContain(sums.id);
    });

    it.each(Object.entries(PROFILES))('and their sums, that leave with a product and with parts of a deep one are valid WGSL for %s', { timeout: 120_000 }, async (_, given) => {
      const profile = { ...given, maxStorageBuffers: 16 };
      const { graph } = await optimize(graphOf(24, true, 3072), 'webgpu');
      const calls: KernelCall[] = [];
      lowerGraph(graph, profile, {
        half: true,
        choose: ({ key }, candidates) => {
          if (/by row|by sums/.test(key)) calls.push(...[...candidates.slice(0, 3), ...candidates.filter(({ name }) => name.includes('/')).slice(0, 1)].flatMap((candidate) => candidate.kernels()));
          return candidates[0]!;
        },
      });
      expect(calls.some(({ source }) => source.wgsl.includes('given_sums'))).toBe(true);
      expect(calls.some(({ source }) => source.wgsl.includes('own_sums'))).toBe(true);
      await expectValidKernels(calls, profile);
    });

    it.each(Object.entries(PROFILES))('that a deep product made, on %s without scratch memory: nothing is split', async (_, profile) => {
      const { graph } = await optimize(graphOf(24, true, 16_384, 64), 'webgpu');
      const { steps, scratch } = lowerGraph(graph, profile, { half: true, workspaceBytes: 0 });
      expect(steps.filter(({ call }) => call.source.label.startsWith('MatMul')).map(({ call }) => call.source.wgsl.includes('> row_sums: '))).toEqual([true, false]);
      expect(scratch.size).toBe(0);
    });

    it('that a product made, 8000 of them before so many columns that each is normalized too often: in a kernel of its own', async () => {
      expect(await kinds(graphOf(8000, true), true)).toContain('LayerNormalization');
    });

    it('that a product made, 8000 of them: in a kernel of its own where products could then be summed in halves', async () => {
      const { graph } = await optimize(graphOf(8000, true, 16, 1104), 'webgpu');
      const found = [false, true].map((halfSums) => lowerGraph(graph, HALVES, { half: true, halfSums }).layers.some(({ kind }) => kind === 'LayerNormalization'));
      expect(found).toEqual([false, true]);
    });
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
