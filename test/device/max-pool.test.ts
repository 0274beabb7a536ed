/** Maxima over windows in strips of 16 bytes, on SwiftShader against the definition: every storage, every way. */
import { describe, expect, it } from 'vitest';
import type { TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { maxPoolCandidates } from '../../src/backends/webgpu/kernels/max-pool.ts';
import type { DeviceTensor } from '../../src/backends/webgpu/lower/tensor.ts';
import { type Dims, elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice, noise, runGraph } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';

const pool = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [3, 3], pads: [0, 0, 0, 0], storage_order: 0, strides: [1, 1] } as const;
const onePixel = { auto_pad: 'NOTSET', ceil_mode: 0, count_include_pad: 0, dilations: [1, 1], kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
const CASES: readonly (readonly [string, Partial<Record<keyof typeof pool, number | readonly number[]>>, Dims])[] = [
  ['pads and strides, an odd number of pixels', { pads: [1, 1, 1, 1], strides: [2, 2] }, [2, 5, 7, 9]],
  ['ceil mode, where the last window overhangs', { ceil_mode: 1, strides: [2, 2], kernel_shape: [2, 3] }, [1, 16, 6, 6]],
  ['one pixel apart, other pads at each end', { pads: [0, 2, 1, 0] }, [1, 24, 4, 5]],
  ['windows that share nothing', { kernel_shape: [2, 2], strides: [2, 2] }, [2, 8, 4, 6]],
];

const way = (name: string): TacticChooser => (_, candidates) => candidates.find((candidate) => candidate.name.startsWith(name)) ?? candidates[0]!;

describe.skipIf(noDevice)('max pools in strips (skipped without SwiftShader)', () => {
  for (const storage of ['f32', 'f16', 'uint8', 'int8'] as const) {
    it.each(CASES)(`${storage}: %s`, async (_, changes, dims) => {
      const attrs = { ...pool, ...changes } as typeof pool;
      const bytes = storage === 'uint8' || storage === 'int8';
      const dtype = bytes ? storage : 'float32';
      const graph = newGraphBuilder('pool');
      graph.input('x', { dtype, dims });
      // A pool takes what lies in f32 as it is: means of one pixel give it halves.
      const source = storage === 'f16' ? graph.node('AveragePool', ['x'], onePixel) : 'x';
      const y = graph.node('MaxPool', [source], attrs, { outputs: ['y'] });
      // Numbers that halves hold.
      const x = Array.from(noise(elementCount(dims)), (value) => (bytes ? Math.round(value * 120) + (storage === 'uint8' ? 125 : 0) : Math.round(value * 512) / 256));
      for (const name of ['strip 2', 'strip 1', 'plain']) {
        const outputs = await runGraph(graph.finish([y]), { x: fromNumbers(dtype, dims, x) }, PORTABLE_PROFILE, { half: storage !== 'f32', choose: way(name) });
        const expected = eachCoordinate(outputs['y']!.dims).map(([n, c, ...at]) => {
          const taps = eachCoordinate(attrs.kernel_shape).map((tap) => at.map((p, i) => p * attrs.strides[i]! - attrs.pads[i]! + tap[i]!));
          return Math.max(...taps.filter((place) => place.every((p, i) => p >= 0 && p < dims[i + 2]!)).map((place) => x[broadcastIndex([n!, c!, ...place], dims)]!));
        });
        expect([...toNumbers(outputs['y']!)]).toEqual(expected);
      }
    });
  }
});

describe('tactics of a max pool', () => {
  const tensor = (dims: Dims): DeviceTensor => ({ id: 0, dtype: 'float32', dims, storage: 'f16', layout: 'channels-last' });
  const names = (changes: Partial<Parameters<typeof maxPoolCandidates>[0]>, profile: DeviceProfile = PORTABLE_PROFILE): string[] => {
    const [x, output] = [tensor([64, 64, 112, 112]), tensor([64, 64, 56, 56])];
    const spec = { label: 'MaxPool', x, output, images: 64, inputSpatial: [112, 112], outputSpatial: [56, 56], kernel: [3, 3], stride: [2, 2], dilation: [1, 1], padBegin: [1, 1], padEnd: [1, 1], channels: 64, validChannels: 64, how: { kind: 'max' }, ...changes } as const;
    return maxPoolCandidates(spec, profile).candidates.map(({ name }) => name);
  };

  it('are strips where windows share pixels, and the plain kernel everywhere', () => {
    expect(names({})).toEqual(['strip 2x8', 'strip 1x8', 'plain']);
    expect(names({ images: 1 })).toEqual(['strip 1x8', 'strip 2x8', 'plain']);
    expect(names({ kernel: [2, 2], padBegin: [0, 0], padEnd: [0, 0] })).toEqual(['strip 1x8', 'plain']);
    expect(names({}, { ...PORTABLE_PROFILE, compact: true })).toEqual(['plain']);
  });

  it('are the plain kernel alone where a tap outside has no edge to go to', () => {
    expect(names({ dilation: [2, 1] })).toEqual(['plain']);
    expect(names({ padBegin: [3, 1], padEnd: [0, 1] })).toEqual(['plain']);
    expect(names({ inputSpatial: [100, 112] })).toEqual(['plain']);
    expect(names({ kernel: [7, 7] })).toEqual(['plain']);
  });
});
