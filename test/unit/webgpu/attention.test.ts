/** WGSL of the attention kernel, validated by Dawn's null backend for matrices of several vendors. */
import { describe, expect, it } from 'vitest';
import { lowerGraph } from '../../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, type MatrixConfig, PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import { attentionReason, attentionScratchBytes, attentionTacticName, attentionTactics, attentionWorkgroupBytes } from '../../../src/backends/webgpu/tactics/attention.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { attentionCalls, type AttentionCase, attentionProblem } from '../../device/attention-problem.ts';
import { validatingDevice } from '../../device/helpers.ts';

const f16 = (m: number, n: number, k: number): MatrixConfig => ({ element: 'f16', result: 'f32', m, n, k });
const features = new Set(['subgroups', 'subgroup-size-control', 'shader-f16', 'chromium-experimental-subgroup-matrix']);

const PROFILES: Readonly<Record<string, DeviceProfile>> = {
  NVIDIA: { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 49152, maxInvocations: 1024, subgroupSize: { min: 32, max: 32 }, matrixConfigs: [f16(16, 16, 16), f16(16, 8, 16)] },
  AMD: { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 65536, maxInvocations: 1024, subgroupSize: { min: 32, max: 64 }, matrixConfigs: [f16(16, 16, 16)] },
  Intel: { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 65536, maxInvocations: 1024, subgroupSize: { min: 16, max: 32 }, matrixConfigs: [f16(8, 16, 16)] },
  Apple: { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 32768, maxInvocations: 1024, subgroupSize: { min: 32, max: 32 }, matrixConfigs: [f16(8, 8, 8)] },
  'default limits': { ...PORTABLE_PROFILE, features, subgroupSize: { min: 32, max: 32 }, matrixConfigs: [f16(16, 16, 16)] },
  'no matrices': PORTABLE_PROFILE,
};

const CASES: readonly AttentionCase[] = [
  { element: 'f16', heads: 2, rows: 128, length: 128, depth: 64, joined: true, mask: { dims: [1, 1, 1, 128], storage: 'f16', value: () => 0 } },
  { element: 'f16', heads: 1, rows: 197, length: 197, depth: 64 },
  { element: 'f16', heads: 1, rows: 77, length: 77, depth: 80, zeroEmptyRows: true, mask: { dims: [77, 77], value: () => 0 } },
  { element: 'f16', heads: 1, rows: 40, length: 150, depth: 128 },
  { element: 'f16', heads: 1, rows: 40, length: 40, depth: 32 },
  { element: 'f32', heads: 1, rows: 40, length: 50, depth: 64 },
  { element: 'f16', heads: 2, rows: 7, length: 1000, depth: 64, zeroEmptyRows: true, mask: { dims: [1000], value: () => 0 } },
  { element: 'f16', storage: 'f32', heads: 2, rows: 7, length: 1000, depth: 64 },
  { element: 'f32', heads: 2, rows: 1, length: 1024, depth: 64 },
  { element: 'f16', heads: 2, sharing: 7, rows: 1, length: 1024, depth: 64, mask: { dims: [1024], value: () => 0 } },
  { element: 'f16', batch: 2, heads: 2, sharing: 4, rows: 40, length: 150, depth: 64, softcap: 50, mask: { dims: [2, 8, 40, 150], value: () => 0 } },
  { element: 'f32', heads: 1, sharing: 71, rows: 3, length: 50, depth: 64, zeroEmptyRows: true, mask: { dims: [3, 50], value: () => 0 } },
];

describe('attention kernels', () => {
  it.each(Object.entries(PROFILES))('are valid WGSL and within the limits of %s', { timeout: 120_000 }, async (_, profile) => {
    const open = await validatingDevice();
    for (const given of CASES) {
      const test = attentionProblem(given);
      const { problem } = test;
      const tactics = attentionTactics(problem, profile);
      expect(tactics.length).toBeGreaterThan(0);
      expect(new Set(tactics.map(attentionTacticName)).size).toBe(tactics.length);
      for (const tactic of tactics) {
        expect(attentionReason(problem, tactic, profile)).toBeUndefined();
        for (const { source, operands } of attentionCalls(test, tactic, profile).calls) {
          expect(source.workgroupBytes).toBeLessThanOrEqual(attentionWorkgroupBytes(problem, tactic));
          expect(source.access.length).toBe(operands.length);
          expect(source.access.length).toBeLessThanOrEqual(profile.maxStorageBuffers);
          const { messages } = await open.device.createShaderModule({ code: source.wgsl }).getCompilationInfo();
          expect(messages.map(({ message, lineNum }) => `${attentionTacticName(tactic)}:${lineNum}: ${message}`)).toEqual([]);
        }
      }
    }
    open.check();
    open.destroy();
  });

  it('become pipelines where the workgroup is whole subgroups of the largest size', async () => {
    const open = await validatingDevice();
    // The null backend has subgroups of 4 to 128 and the default limits.
    const profile = { ...PROFILES['default limits']!, subgroupSize: { min: 4, max: 128 } };
    for (const given of CASES.filter(({ element }) => element === 'f16')) {
      const test = attentionProblem(given);
      const tactic = attentionTactics(test.problem, profile).find(({ engine }) => engine === 'matrix');
      if (!tactic) continue;
      const module = open.device.createShaderModule({ code: attentionCalls(test, tactic, profile).calls[0]!.source.wgsl });
      await open.device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    }
    expect(attentionTactics(attentionProblem(CASES[0]!).problem, profile)[0]!.demandsSubgroup).toBe(true);
    expect(() => open.check()).not.toThrow();
    open.destroy();
  });

  it('are of matrices where the device has them, and of few rows where there are few heads', () => {
    const problem = { heads: 12, rows: 128, length: 128, depth: 64, depthV: 64, element: 'f16', keyBytes: 256 } as const;
    const [few] = attentionTactics(problem, PROFILES['NVIDIA']!);
    const [many] = attentionTactics({ ...problem, heads: 384 }, PROFILES['NVIDIA']!);
    expect(few!.engine).toBe('matrix');
    expect(few!.bq).toBeLessThan(many!.bq);
    expect(attentionTactics({ ...problem, element: 'f32', keyBytes: 512 }, PROFILES['NVIDIA']!)[0]!.engine).toBe('lanes');
  });

  it('divide the keys of few rows, and of no others', () => {
    const token = { heads: 2, rows: 7, length: 1024, depth: 64, depthV: 64, element: 'f16', keyBytes: 256 } as const;
    for (const profile of [PROFILES['NVIDIA']!, PROFILES['no matrices']!]) {
      const [first, ...others] = attentionTactics(token, profile);
      expect(others.some(({ splits }) => splits === 1)).toBe(true);
      expect(first!.splits).toBeGreaterThan(8);
      expect(attentionScratchBytes(token, first!)).toBe(2 * first!.splits * 7 * (64 + 4) * 4);
      // Many heads are workgroups enough, and few keys take less than a second kernel.
      for (const other of [{ ...token, heads: 512 }, { ...token, length: 128 }, { ...token, rows: 200 }, { ...token, rows: 1024 }]) {
        expect(attentionTactics(other, profile).map(({ splits }) => splits).filter((splits) => splits > 1)).toEqual([]);
      }
    }
  });

  // The fastest of all that were measured on an H200 (docs/performance.md).
  it.each([
    [{ heads: 2, rows: 7, length: 1024, keyBytes: 512 }, 'fused matrix 16x64 1x4 16x16x16 /16'],
    [{ heads: 12, rows: 197, length: 197, keyBytes: 256 }, 'fused matrix 32x128 2x2 16x16x16'],
    [{ heads: 12, rows: 128, length: 128, keyBytes: 256 }, 'fused matrix 16x128 1x4 16x16x16'],
    [{ heads: 48, rows: 128, length: 128, keyBytes: 256 }, 'fused matrix 16x64 1x4 16x16x16'],
  ])('put the fastest first: %o', (problem, name) => {
    expect(attentionTacticName(attentionTactics({ ...problem, depth: 64, depthV: 64, element: 'f16' }, PROFILES['NVIDIA']!)[0]!)).toBe(name);
  });

  it('keep the keys together on a software adapter', () => {
    const token = { heads: 2, rows: 7, length: 1024, depth: 64, depthV: 64, element: 'f16', keyBytes: 256 } as const;
    expect(attentionTactics(token, { ...PORTABLE_PROFILE, compact: true }).map(({ splits }) => splits)).toEqual([1, 1]);
  });

  it('say why a tactic is none for a problem', () => {
    const problem = { heads: 12, rows: 128, length: 128, depth: 64, depthV: 64, element: 'f16', keyBytes: 256 } as const;
    const [tactic] = attentionTactics(problem, PROFILES['NVIDIA']!);
    expect(attentionReason({ ...problem, depth: 60 }, tactic!, PROFILES['NVIDIA']!)).toContain('whole vectors');
    expect(attentionReason({ ...problem, element: 'f32', depth: 32, depthV: 32, keyBytes: 256 }, tactic!, PROFILES['NVIDIA']!)).toContain('halves');
    expect(attentionReason(problem, tactic!, PORTABLE_PROFILE)).toBeDefined();
    expect(attentionReason({ ...problem, rows: 1 }, { ...tactic!, splits: 2 }, PROFILES['NVIDIA']!)).toContain('keys are too few');
    expect(attentionReason({ ...problem, length: 512 }, { ...tactic!, splits: 2 }, PROFILES['NVIDIA']!)).toContain('rows are too many');
    expect(attentionReason({ ...problem, rows: 1, length: 512 }, { ...tactic!, splits: 512 }, PROFILES['NVIDIA']!)).toContain('no keys');
  });

  it('read a cache of floats as it lies for a token, and have it converted once for a prompt', () => {
    const stepsOf = (rows: number, { keepFloat = [], keys = 'k' }: { readonly keepFloat?: readonly string[]; readonly keys?: 'k' | 'given' } = {}): string[] => {
      const graph = newGraphBuilder('cached');
      for (const [name, count] of [['x', rows], ['k', 512], ['v', 512]] as const) graph.input(name, { dtype: 'float32', dims: [1, 2, count, 64] });
      const q = graph.node('Relu', ['x'], {});
      if (keys === 'given') graph.node('Abs', ['k'], {}, { outputs: ['given'] });
      const y = graph.node('FusedAttention', [q, keys, 'v'], { scale: 0.125, softcap: 0, transposedK: 0, zeroEmptyRows: 0 }, { outputs: ['y'] });
      const { steps, layers } = lowerGraph(graph.finish(keys === 'given' ? [y, keys] : [y]), PROFILES['NVIDIA']!, { half: true, keepFloat: new Set(keepFloat) });
      return steps.map(({ layer, call }) => (layers[layer]!.kind === 'FusedAttention' ? call.source.label.split(' ').slice(0, 3).join(' ') : layers[layer]!.kind));
    };
    expect(stepsOf(7)).toEqual(['Relu', 'Attention fused matrix', 'Attention of 8']);
    expect(stepsOf(512)).toEqual(['Relu', 'Reformat', 'Reformat', 'Attention fused matrix']);
    // What is given out stays f32.
    expect(stepsOf(7, { keys: 'given' })).toEqual(['Relu', 'Abs', 'Attention fused matrix', 'Attention of 8']);
    expect(stepsOf(512, { keys: 'given' })).toEqual(['Relu', 'Abs', 'Reformat', 'Attention fused matrix']);
    // What a calibration saw beyond halves is no operand of them.
    expect(stepsOf(7, { keepFloat: ['k'] }).some((step) => step.startsWith('Attention'))).toBe(false);
  });
});
