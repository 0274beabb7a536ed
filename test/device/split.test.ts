/** fp32 products made of halves, on SwiftShader by the kernels that need no matrices, against onnxruntime's f32. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions, TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { runGraph as runOrt } from '../helpers/ort.ts';
import { GEMM, net, pictures } from '../unit/quantize/networks.ts';
import { noDevice, runGraph } from './helpers.ts';

/** A device that has matrices, of which the tests take the kernels that need none. */
const MATRICES: DeviceProfile = {
  ...PORTABLE_PROFILE,
  features: new Set(['subgroups', 'chromium-experimental-subgroup-matrix']),
  subgroupSize: { min: 32, max: 32 },
  matrixConfigs: [{ element: 'f16', result: 'f32', m: 16, n: 16, k: 16 }],
};
const choose: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.startsWith('lanes')) ?? candidates[0]!;
const SPLIT: LowerOptions = { split: true, choose };

interface Case {
  readonly channels: number;
  readonly kernel: number;
  readonly stride: number;
  readonly groups: number;
  readonly size: number;
}

function convolution({ channels, kernel, stride, groups, size }: Case): Graph {
  const { b, weight } = net(11);
  const x = b.input('x', { dtype: 'float32', dims: [2, channels, size, size] });
  const pad = (kernel - 1) >> 1;
  const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: groups, kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], strides: [stride, stride] } as const;
  return b.finish([b.node('Conv', [x, weight(24, channels / groups, kernel, kernel), weight(24)], attrs, { outputs: ['y'] })]);
}

function product(): Graph {
  const { b, weight } = net(12);
  const x = b.input('x', { dtype: 'float32', dims: [19, 44] });
  return b.finish([b.node('Gemm', [x, weight(21, 44), weight(21)], GEMM, { outputs: ['y'] })]);
}

const CASES: readonly Case[] = [
  { channels: 16, kernel: 3, stride: 1, groups: 1, size: 9 },
  { channels: 20, kernel: 1, stride: 1, groups: 1, size: 7 },
  { channels: 10, kernel: 3, stride: 2, groups: 1, size: 11 },
  { channels: 16, kernel: 3, stride: 1, groups: 2, size: 8 },
  { channels: 3, kernel: 7, stride: 2, groups: 1, size: 18 },
];

/** Largest error over the largest value. */
async function error(graph: Graph, gain: number, options: LowerOptions): Promise<number> {
  const inputs = pictures(graph, 4, gain);
  const [expected, actual] = [toNumbers((await runOrt(graph, inputs)).get('y')!), toNumbers((await runGraph(graph, Object.fromEntries(inputs), MATRICES, options))['y']!)];
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!))) / Math.max(...expected.map(Math.abs));
}

describe.skipIf(noDevice)('f32 from halves (skipped without SwiftShader)', () => {
  it.each(CASES)('$channels channels, $kernel×$kernel, stride $stride, $groups groups', { timeout: 60_000 }, async (spec) => {
    const graph = convolution(spec);
    expect(buildPlan(graph, MATRICES, SPLIT).plan.shaders.some(({ wgsl }) => wgsl.includes('split_halves'))).toBe(true);
    for (const gain of [1, 300, 1 / 300]) expect(await error(graph, gain, SPLIT)).toBeLessThan(gain < 1 ? 2e-5 : 3e-6);
    // Halves alone are a hundred times as far off: the low ones do their work.
    expect(await error(graph, 1, { half: true, choose })).toBeGreaterThan(1e-4);
  });

  it('matrix products', { timeout: 60_000 }, async () => {
    expect(await error(product(), 1, SPLIT)).toBeLessThan(3e-6);
  });
});
