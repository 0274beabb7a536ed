/** Peaks of a device: their kernels are valid for every kind of arithmetic, and what they measure on SwiftShader is no nonsense. */
import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import type { TsrtError } from '../../src/errors.ts';
import { measurePeaks } from '../../src/backends/webgpu/peaks.ts';
import { arithmetics, copyKernel, EMPTY_KERNEL, GROUP } from '../../src/backends/webgpu/peak-kernels.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { countingDevice } from './counting.ts';
import { noDevice, validatingDevice, withSession } from './helpers.ts';

const MATRICES = [
  [{ element: 'f16', result: 'f32', m: 16, n: 16, k: 16 }, { element: 'i8', result: 'i32', m: 16, n: 16, k: 32 }],
  [{ element: 'f16', result: 'f32', m: 8, n: 8, k: 8 }],
  [{ element: 'f16', result: 'f32', m: 8, n: 16, k: 16 }, { element: 'i8', result: 'i32', m: 8, n: 16, k: 32 }],
] as const;

describe('peak kernels', () => {
  it.each(MATRICES.map((configs) => [configs] as const))('are valid WGSL with matrices %o', async (matrixConfigs) => {
    const open = await validatingDevice();
    const found = arithmetics({ ...PORTABLE_PROFILE, features: new Set(['shader-f16', 'subgroups']), subgroupSize: { min: 32, max: 32 }, matrixConfigs });
    expect(found.map(({ type }) => type)).toEqual(['float32', 'float16', 'int8', ...matrixConfigs.map(({ element }) => (element === 'f16' ? 'float16' : 'int8'))]);
    for (const code of [EMPTY_KERNEL, copyKernel(GROUP * 64), ...found.map(({ wgsl }) => wgsl)]) {
      open.device.pushErrorScope('validation');
      open.device.createComputePipeline({ layout: 'auto', compute: { module: open.device.createShaderModule({ code }), entryPoint: 'main' } });
      expect((await open.device.popErrorScope())?.message).toBeUndefined();
    }
    open.destroy();
  });

  it('count what they compute', () => {
    const [f32, dots, f16] = arithmetics({ ...PORTABLE_PROFILE, subgroupSize: { min: 32, max: 32 }, matrixConfigs: MATRICES[0] });
    expect(f32!.operationsPerGroup).toBe(256 * 256 * 8 * 8);
    expect(dots!.operationsPerGroup).toBe(256 * 256 * 8 * 8);
    expect(f16!.operationsPerGroup).toBe(8 * 256 * 8 * 2 * 16 ** 3);
  });
});

describe('peaks of a device with little memory left', () => {
  // Dawn's null backend has 512 MB.
  it.each([[0, true], [300, true], [420, false]] as const)('%i MB are taken', async (takenMB, fits) => {
    const { device, ...rest } = await validatingDevice();
    const taken = [1, 2].map(() => device.createBuffer({ size: Math.max(4, takenMB * 2 ** 19), usage: 0x80 }));
    const counted = countingDevice({ ...rest, device, info: { ...rest.info, kind: 'gpu' } });
    const measured = measurePeaks(counted.open).then(() => 'measured', (error: unknown) => (error as TsrtError).code);
    expect(await measured).toBe(fits ? 'measured' : 'OUT_OF_MEMORY');
    expect(counted.live().buffers).toBe(0);
    expect(() => rest.check()).not.toThrow();
    for (const buffer of taken) buffer.destroy();
    rest.destroy();
  });
});

describe.skipIf(noDevice)('peaks of a device (skipped without SwiftShader)', () => {
  it('are measured once', { timeout: 60_000 }, async () => {
    const graph = newGraphBuilder('one');
    graph.input('x', { dtype: 'float32', dims: [64] });
    const y = graph.node('Mul', ['x', graph.constant(fromNumbers('float32', [1], [2]))], {}, { outputs: ['y'] });
    await withSession(graph.finish([y]), async (session) => {
      const peaks = await session.peaks!();
      expect(await session.peaks!()).toBe(peaks);
      expect(peaks.bytesPerSecond).toBeGreaterThan(1e7);
      expect(peaks.operationsPerSecond.float32).toBeGreaterThan(1e7);
      expect(peaks.operationsPerSecond.int8).toBeGreaterThan(1e7);
      expect(peaks.launchNs).toBeGreaterThan(0);
      expect(peaks.quantumNs).toBeGreaterThan(0);
      const [time] = await session.profile!({ x: fromNumbers('float32', [64], new Float64Array(64)) });
      // 64 numbers in and out, and the factor.
      expect(time!.bytes).toBe((2 * 64 + 1) * 4);
    });
  });
});
