/** First convolutions of few channels, in runs of pixels: halves and bytes on SwiftShader, against onnxruntime. */
import { describe, expect, it } from 'vitest';
import { evaluateConstants } from '../../src/backends/onnxruntime/evaluate.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import { runGraph as runOrt } from '../helpers/ort.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { net, pictures, quantizeNet } from '../unit/quantize/networks.ts';
import { COMPACT_PROFILE, noDevice, runGraph } from './helpers.ts';

/** A device that has matrices, of which the tests take the kernels that need none. */
const MATRICES: DeviceProfile = {
  ...PORTABLE_PROFILE,
  features: new Set(['subgroups', 'chromium-experimental-subgroup-matrix']),
  subgroupSize: { min: 32, max: 32 },
  matrixConfigs: [{ element: 'f16', result: 'f32', m: 16, n: 16, k: 16 }],
};
/** The same for bytes, which then lie in pairs of rows. */
const BYTE_MATRICES: DeviceProfile = { ...MATRICES, matrixConfigs: [{ element: 'i8', result: 'i32', m: 16, n: 16, k: 32 }] };
const lanes: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.startsWith('lanes')) ?? candidates[0]!;

interface Stem {
  readonly channels: number;
  readonly kernel: number;
  readonly stride: number;
  readonly height: number;
  readonly width: number;
}

function stem({ channels, kernel, stride, height, width }: Stem): Graph {
  const { b, weight } = net(3);
  const x = b.input('x', { dtype: 'float32', dims: [2, channels, height, width] });
  const pad = (kernel - 1) >> 1;
  const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], strides: [stride, stride] } as const;
  const y = b.node('Conv', [x, weight(20, channels, kernel, kernel), weight(20)], attrs);
  return b.finish([b.node('Relu', [y], {}, { outputs: ['y'] })]);
}

const STEMS: readonly Stem[] = [
  { channels: 3, kernel: 7, stride: 2, height: 21, width: 32 },
  { channels: 3, kernel: 3, stride: 2, height: 12, width: 24 },
  { channels: 1, kernel: 5, stride: 1, height: 9, width: 16 },
  { channels: 4, kernel: 4, stride: 4, height: 16, width: 32 },
];

async function prepared(graph: Graph): Promise<Graph> {
  const { graph: ready } = await runPasses(graph, { target: 'webgpu', fusion: 'on', disabled: [], fold: evaluateConstants, verify: true });
  return ready;
}

function worst(expected: readonly number[], actual: readonly number[]): number {
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!))) / largest;
}

describe.skipIf(noDevice)('convolutions of few channels (skipped without SwiftShader)', () => {
  it.each(STEMS)('halves: $channels channels, $kernel×$kernel, stride $stride', { timeout: 60_000 }, async (spec) => {
    const graph = stem(spec);
    const ready = await prepared(graph);
    const shaders = buildPlan(ready, MATRICES, { half: true, choose: lanes }).plan.shaders.map(({ label }) => label);
    expect(shaders).toContain('FewChannels');
    const inputs = pictures(graph, 5);
    const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), MATRICES, { half: true, choose: lanes })];
    expect(worst(toNumbers(expected.get('y')!), toNumbers(actual['y']!))).toBeLessThan(3e-3);
  });

  it.each(STEMS)('bytes: $channels channels, $kernel×$kernel, stride $stride', { timeout: 60_000 }, async (spec) => {
    const { graph } = await quantizeNet(stem(spec));
    const ready = await prepared(graph);
    const inputs = pictures(graph, 5);
    const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), COMPACT_PROFILE, { half: true })];
    expect(worst(toNumbers(expected.get('y')!), toNumbers(actual['y']!))).toBeLessThan(0.01);
  });
});

describe.skipIf(noDevice)('bytes in pairs of rows (skipped without SwiftShader)', () => {
  const odd: Stem = { channels: 3, kernel: 5, stride: 2, height: 11, width: 18 };
  it.each([...STEMS, odd])('$channels channels, $kernel×$kernel, stride $stride', { timeout: 60_000 }, async (spec) => {
    const { graph } = await quantizeNet(stem(spec));
    const ready = await prepared(graph);
    const inputs = pictures(graph, 5);
    const options = { half: true, choose: lanes } as const;
    expect(buildPlan(ready, BYTE_MATRICES, options).plan.shaders.map(({ label }) => label)).toContain('FewChannels');
    const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), BYTE_MATRICES, options)];
    expect(worst(toNumbers(expected.get('y')!), toNumbers(actual['y']!))).toBeLessThan(0.01);
  });
});

describe('rows that overlap', () => {
  /** The candidates whose rows slide, of the stem's convolution on an NVIDIA GPU. */
  const sliding = async (graph: Graph): Promise<string[]> => {
    const names: string[] = [];
    const choose: TacticChooser = (_, candidates) => (names.push(...candidates.map(({ name }) => name)), candidates[0]!);
    buildPlan(await prepared(graph), PROFILES['NVIDIA']!, { half: true, choose });
    return names.filter((name) => name.includes('slide'));
  };
  const wide: Stem = { channels: 3, kernel: 7, stride: 2, height: 20, width: 64 };
  const narrow: Stem = { ...wide, width: 40 };

  it('slide where lines are whole matrices', async () => {
    expect((await sliding(stem(wide))).length).toBeGreaterThan(3);
    expect((await sliding((await quantizeNet(stem(wide))).graph)).length).toBeGreaterThan(3);
  });

  it('do not where a matrix would reach into the next line, nor where phases take turns, nor where nothing overlaps', async () => {
    for (const other of [narrow, { ...wide, kernel: 3, stride: 1 }, { ...wide, kernel: 4, stride: 4 }]) {
      expect(await sliding(stem(other))).toEqual([]);
      expect(await sliding((await quantizeNet(stem(other))).graph)).toEqual([]);
    }
  });
});

describe('what is done to a picture first', () => {
  it('is done by the kernel that lays it out', async () => {
    const kinds = async (graph: Graph, windows: boolean) => buildPlan(await prepared(graph), MATRICES, { half: true, windows }).plan.shaders.map(({ label }) => label.split(' ')[0]);
    expect((await kinds(normalized(), true)).slice(0, 2)).toEqual(['FewChannels', 'Conv']);
    expect((await kinds(normalized(), false)).slice(0, 2)).toEqual(['FusedElementwise', 'FewChannels']);
    const { graph } = await quantizeNet(stem(STEMS[0]!));
    expect((await kinds(graph, true))[0]).toBe('FewChannels');
    expect((await kinds(graph, false)).slice(0, 2)).toEqual(['QuantizeLinear', 'FewChannels']);
  });

  it.skipIf(noDevice)('gives what it gave', { timeout: 60_000 }, async () => {
    const graph = normalized();
    const inputs = pictures(graph, 5);
    const [expected, actual] = [await runOrt(graph, inputs), await runGraph(await prepared(graph), Object.fromEntries(inputs), MATRICES, { half: true, choose: lanes })];
    expect(worst(toNumbers(expected.get('y')!), toNumbers(actual['y']!))).toBeLessThan(3e-3);
  });
});

/** A picture minus a mean by channel, times a number by pixel, in front of a convolution. */
function normalized(): Graph {
  const { b, weight, conv } = net(11);
  const x = b.input('x', { dtype: 'float32', dims: [2, 3, 13, 16] });
  const centred = b.node('Mul', [b.node('Sub', [x, weight(1, 3, 1, 1)], {}), weight(13, 16)], {});
  return b.finish([b.node('Relu', [conv(centred, 16, 3)], {}, { outputs: ['y'] })]);
}
