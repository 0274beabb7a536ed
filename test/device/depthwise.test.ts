/** Every way of computing a depthwise convolution on SwiftShader against float64: strips of pixels, widths, storages. */
import { describe, expect, it } from 'vitest';
import { depthwiseTactics, type DepthwiseSpec } from '../../src/backends/webgpu/kernels/depthwise.ts';
import type { LowerOptions } from '../../src/backends/webgpu/lower/context.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { distance, noDevice, noise, runGraph } from './helpers.ts';
import { conv, type ConvCase } from './references.ts';

const base = { strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1] };
const CASES: Readonly<Record<string, ConvCase>> = {
  'stride 1, a strip beyond the row': { ...base, x: [2, 16, 5, 7], w: [16, 1, 3, 3], group: 16 },
  'stride 2, uneven pads': { ...base, x: [1, 12, 8, 9], w: [12, 1, 3, 3], group: 12, strides: [2, 2], pads: [0, 0, 1, 1] },
  'dilation': { ...base, x: [1, 8, 9, 9], w: [8, 1, 3, 3], group: 8, pads: [2, 2, 2, 2], dilations: [2, 2] },
  '5x5 without padding': { ...base, x: [1, 8, 6, 12], w: [8, 1, 5, 5], group: 8, pads: [0, 0, 0, 0] },
  '1-D': { x: [2, 8, 11], w: [8, 1, 4], strides: [1], pads: [2, 1], dilations: [1], group: 8 },
  '3-D': { x: [1, 4, 3, 4, 6], w: [4, 1, 2, 2, 2], strides: [1, 1, 1], pads: [1, 0, 1, 0, 1, 0], dilations: [1, 1, 1], group: 4 },
  'loops': { ...base, x: [1, 8, 9, 9], w: [8, 1, 9, 9], group: 8, pads: [4, 4, 4, 4] },
};

/** Runs a convolution, then a Relu that keeps its result inside; takes the tactic of this name where there is one. */
async function run(test: ConvCase, half: boolean, wanted: string): Promise<{ readonly names: readonly string[]; readonly gap: number }> {
  const graph = newGraphBuilder('depthwise');
  graph.input('x', { dtype: 'float32', dims: test.x });
  const [x, w, b] = [noise(elementCount(test.x), 1), noise(elementCount(test.w), 2), noise(test.w[0]!, 3)];
  const weights = [graph.constant(fromNumbers('float32', test.w, w)), graph.constant(fromNumbers('float32', [test.w[0]!], b))];
  const attrs = { auto_pad: 'NOTSET', dilations: test.dilations, group: test.group, kernel_shape: test.w.slice(2), pads: test.pads, strides: test.strides } as const;
  const y = graph.node('Relu', [graph.node('Conv', ['x', ...weights], attrs)], {}, { outputs: ['y'] });
  const names: string[] = [];
  const choose: LowerOptions['choose'] = (_, candidates) => {
    names.push(...candidates.map(({ name }) => name));
    return candidates.find(({ name }) => name === wanted) ?? candidates[0]!;
  };
  const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', test.x, x) }, PORTABLE_PROFILE, { half, choose });
  const expected = conv(test, x, w, b).map((value) => Math.max(0, value));
  return { names, gap: distance(outputs['y']!, expected, half ? { absolute: 8e-3, relative: 4e-3 } : { absolute: 2e-5, relative: 1e-5 }) };
}

describe.skipIf(noDevice)('depthwise convolutions (skipped without SwiftShader)', () => {
  for (const half of [false, true]) {
    it.each(Object.entries(CASES))(`%s, halves ${half}`, { timeout: 120_000 }, async (_, test) => {
      const { names } = await run(test, half, '');
      expect(names.length).toBeGreaterThan(0);
      for (const name of names) expect({ name, isClose: (await run(test, half, name)).gap < 1 }).toEqual({ name, isClose: true });
    });
  }
});

describe('tactics of depthwise convolutions', () => {
  const tensor = (id: number, dims: readonly number[], layout: 'linear' | 'channels-last' = 'channels-last') => ({ id, dtype: 'float32', dims, storage: 'f16', layout }) as const;
  const spec = (images: number, size: number, stride: number): DepthwiseSpec => {
    const out = size / stride;
    const operand = { tensor: tensor(1, [images, 64, out, out]), view: { offset: 0, strides: [0, out * out * 64, out * 64, 64, 1] } };
    const end = { batch: [1], rows: [images, out, out], columns: 64, storedColumns: 64, scale: 1, biasScale: 1, bias: undefined, extras: [], epilogue: undefined, output: operand };
    const window = { images, inputSpatial: [size, size], outputSpatial: [out, out], kernel: [3, 3], stride: [stride, stride], dilation: [1, 1], padBegin: [1, 1] };
    return { ...window, x: tensor(0, [images, 64, size, size]), channels: 64, weights: tensor(2, [9, 64], 'linear'), end };
  };
  const best = (of: DepthwiseSpec, profile: DeviceProfile = PORTABLE_PROFILE) => depthwiseTactics(of, profile)[0];

  it('take many pixels where there are many, and few where invocations would be', () => {
    expect(best(spec(128, 112, 1))).toEqual({ pixels: 4, channels: 8 });
    expect(best(spec(128, 112, 2))).toEqual({ pixels: 2, channels: 8 });
    expect(best(spec(1, 14, 1))).toEqual({ pixels: 1, channels: 8 });
    expect(best(spec(128, 112, 1), { ...PORTABLE_PROFILE, compact: true })).toEqual({ pixels: 1, channels: 8 });
  });
});
