/** Squeeze and excitation as one kernel, with the mean before it: on SwiftShader against onnxruntime, and as WGSL for several vendors. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions } from '../../src/backends/webgpu/lower/context.ts';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { runGraph as runOrt } from '../helpers/ort.ts';
import { optimize } from '../helpers/passes.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { net, pictures } from '../unit/quantize/networks.ts';
import { noDevice, runGraph, validatingDevice } from './helpers.ts';

interface Gate {
  readonly images: number;
  readonly channels: number;
  readonly squeezed: number;
  /** What comes between, and at the end. */
  readonly inner: 'Relu' | 'Sigmoid';
  readonly bias?: boolean;
  /** The hidden row is given out as well. */
  readonly shows?: boolean;
  readonly filter?: number;
  /** A depthwise convolution makes the image, so that its channels lie side by side, and this op takes the mean. */
  readonly mean?: 'GlobalAveragePool' | 'ReduceMean';
  readonly pixels?: readonly [number, number];
  /** What is given out beside the results, or read twice. */
  readonly also?: 'mean';
  /** The convolution whose weights are an input of the network. */
  readonly open?: 'squeeze' | 'excitation';
}

function gated({ images, channels, squeezed, inner, bias = true, shows = false, filter = 1, open, mean: op, pixels = [5, 6], also }: Gate): Graph {
  const { b, conv } = net(3);
  const input = b.input('x', { dtype: 'float32', dims: [images, channels, ...pixels] });
  const x = op ? b.node('HardSwish', [conv(input, channels, 3, { group: channels })], {}) : input;
  const axes = (): string => b.constant(fromNumbers('int64', [2], [-1, 2]));
  const mean = op === 'ReduceMean' ? b.node(op, [x, axes()], { keepdims: 1, noop_with_empty_axes: 0 }) : b.node('GlobalAveragePool', [x], {});
  const opened = (row: string, dims: readonly number[]): string => b.node('Conv', [row, b.input('w', { dtype: 'float32', dims })], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] });
  const hidden = b.node(inner, [open === 'squeeze' ? opened(mean, [squeezed, channels, 1, 1]) : conv(mean, squeezed, 1, { bias })], {});
  const gate = b.node('Sigmoid', [open === 'excitation' ? opened(hidden, [channels, squeezed, 1, 1]) : conv(hidden, channels, filter, { bias })], {});
  const y = b.node('Mul', [x, gate], {}, { outputs: ['y'] });
  return b.finish([y, ...(shows ? [hidden] : []), ...(also ? [mean] : [])]);
}

const GATES: Readonly<Record<string, Gate>> = {
  'whole vectors': { images: 1, channels: 32, squeezed: 8, inner: 'Relu' },
  'a function that is not zero at zero, odd columns': { images: 2, channels: 20, squeezed: 5, inner: 'Sigmoid' },
  'no biases, several images': { images: 4, channels: 13, squeezed: 3, inner: 'Relu', bias: false },
  'more columns than a workgroup takes': { images: 1, channels: 200, squeezed: 50, inner: 'Relu' },
  'weights that are an input': { images: 2, channels: 16, squeezed: 4, inner: 'Relu', open: 'excitation' },
};

/** With the mean in the same kernel. */
const MEANS: Readonly<Record<string, Gate>> = {
  'whole vectors': { images: 1, channels: 32, squeezed: 8, inner: 'Relu', mean: 'GlobalAveragePool' },
  'odd channels, two images, axes': { images: 2, channels: 13, squeezed: 5, inner: 'Sigmoid', mean: 'ReduceMean' },
  'more pixels than slices of them, loads beyond the last': { images: 1, channels: 40, squeezed: 8, inner: 'Relu', mean: 'GlobalAveragePool', pixels: [13, 14] },
  'as many channels as invocations take, one slice': { images: 1, channels: 1024, squeezed: 8, inner: 'Relu', mean: 'GlobalAveragePool', pixels: [3, 2] },
  'four images of one line': { images: 4, channels: 8, squeezed: 4, inner: 'Relu', mean: 'ReduceMean', pixels: [1, 3] },
};

async function kinds(gate: Gate, options: LowerOptions = {}, profile: DeviceProfile = PORTABLE_PROFILE): Promise<string[]> {
  const { graph } = await optimize(gated(gate), 'webgpu');
  return lowerGraph(graph, profile, options).steps.map(({ call }) => call.source.label.split(' ')[0]!);
}

describe('squeeze and excitation', () => {
  const small = GATES['whole vectors']!;

  it('is one kernel behind the mean', async () => {
    expect((await kinds(small)).filter((kind) => kind === 'Excitation' || kind === 'Conv')).toEqual(['Excitation']);
  });

  it.each<readonly [string, Gate, LowerOptions]>([
    ['of many images', { ...small, images: 5 }, {}],
    ['of many weights', { ...small, channels: 512, squeezed: 256 }, {}],
    ['whose hidden row is an output', { ...small, shows: true }, {}],
    ['with a filter', { ...small, filter: 3 }, {}],
    ['whose first weights are not constant', { ...small, open: 'squeeze' }, {}],
    ['whose second weights are not constant', { ...small, open: 'excitation' }, {}],
    ['where nothing is fused', small, { windows: false }],
  ])('is two kernels %s', async (_, gate, options) => {
    expect((await kinds(gate, options)).filter((kind) => kind === 'Excitation')).toEqual([]);
  });

  const pooled = MEANS['whole vectors']!;

  it.each(Object.entries(MEANS))('takes the mean, too: %s', async (_, gate) => {
    for (const half of [false, true]) expect((await kinds(gate, { half })).filter((kind) => kind !== 'Mul' && kind !== 'Reformat')).toEqual(['Depthwise', 'Excitation']);
  });

  it.each<readonly [string, Gate, LowerOptions, DeviceProfile]>([
    ['of an image as it comes in', small, {}, PORTABLE_PROFILE],
    ['of many images', { ...pooled, images: 5 }, {}, PORTABLE_PROFILE],
    ['of a large image', { ...pooled, pixels: [64, 64] }, {}, PORTABLE_PROFILE],
    ['of more channels than invocations take', { ...pooled, channels: 1028 }, {}, PORTABLE_PROFILE],
    ['where workgroup memory is little', pooled, {}, { ...PORTABLE_PROFILE, maxWorkgroupBytes: 4096 }],
    ['that is an output', { ...pooled, also: 'mean' }, {}, PORTABLE_PROFILE],
    ['where the excitation is no kernel of both', { ...pooled, filter: 3 }, {}, PORTABLE_PROFILE],
    ['where nothing is fused', pooled, { windows: false }, PORTABLE_PROFILE],
  ])('leaves the mean %s', async (_, gate, options, profile) => {
    expect((await kinds(gate, options, profile)).filter((kind) => kind === 'GlobalAveragePool')).toHaveLength(1);
  });

  it('leaves a mean over other axes', async () => {
    const { b, conv } = net(3);
    const image = b.node('Relu', [conv(b.input('x', { dtype: 'float32', dims: [1, 8, 4, 1] }), 8, 3, { group: 8 })], {});
    const mean = b.node('ReduceMean', [image, b.constant(fromNumbers('int64', [1], [2]))], { keepdims: 1, noop_with_empty_axes: 0 });
    const gate = conv(b.node('Relu', [conv(mean, 4, 1)], {}), 8, 1);
    const { graph } = await optimize(b.finish([b.node('Mul', [image, gate], {}, { outputs: ['y'] })]), 'webgpu');
    const found = lowerGraph(graph, PORTABLE_PROFILE).steps.map(({ call }) => call.source.label);
    expect(found.filter((label) => label === 'ReduceMean' || label === 'Excitation')).toEqual(['ReduceMean', 'Excitation']);
  });

  it('of three convolutions in a row takes two', async () => {
    const { b, conv } = net(3);
    const image = b.node('Relu', [conv(b.input('x', { dtype: 'float32', dims: [1, 8, 4, 4] }), 8, 3, { group: 8 })], {});
    const row = [4, 4, 8].reduce((from, columns) => b.node('Sigmoid', [conv(from, columns, 1)], {}), b.node('GlobalAveragePool', [image], {}));
    const { graph } = await optimize(b.finish([b.node('Mul', [image, row], {}, { outputs: ['y'] })]), 'webgpu');
    const found = lowerGraph(graph, PORTABLE_PROFILE).steps.map(({ call }) => call.source.label.split(' ')[0]);
    expect(found).toEqual(['Reformat', 'Depthwise', 'Excitation', 'Conv', 'Mul', 'Reformat']);
  });

  it('names all the nodes that it stands for', async () => {
    const { graph } = await optimize(gated(pooled), 'webgpu');
    const origins = (windows: boolean): Set<string> => new Set(lowerGraph(graph, PORTABLE_PROFILE, { windows }).layers.flatMap((layer) => layer.origins));
    expect(origins(true)).toEqual(origins(false));
  });

  it.each([['two convolutions', small], ['a mean and two convolutions', pooled]])('counts the operations of %s', async (_, gate) => {
    const { graph } = await optimize(gated(gate), 'webgpu');
    const flops = (windows: boolean): number => lowerGraph(graph, PORTABLE_PROFILE, { windows }).layers.reduce((sum, layer) => sum + layer.flops, 0);
    expect(flops(true)).toBe(flops(false));
  });

  describe.skipIf(noDevice)('(skipped without SwiftShader)', () => {
    it.each([...Object.entries(GATES), ...Object.entries(MEANS).map(([name, gate]) => [`the mean, ${name}`, gate] as const)])('computes what onnxruntime does: %s', async (_, gate) => {
      const imported = gated(gate);
      const { graph } = await optimize(imported, 'webgpu');
      const inputs = pictures(imported, 4);
      const expected = toNumbers((await runOrt(imported, inputs)).get('y')!);
      for (const [half, tolerance] of [[false, 2e-6], [true, 2e-3]] as const) {
        const actual = toNumbers((await runGraph(graph, Object.fromEntries(inputs), PORTABLE_PROFILE, { half }))['y']!);
        expect(Math.max(...actual.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThan(tolerance);
      }
    });
  });

  it.each(Object.entries(PROFILES))('is valid WGSL for %s', async (_, profile) => {
    const open = await validatingDevice();
    for (const [half, gate] of [false, true].flatMap((wide) => [GATES['a function that is not zero at zero, odd columns']!, ...Object.values(MEANS)].map((one) => [wide, one] as const))) {
      const { graph } = await optimize(gated(gate), 'webgpu');
      const { plan } = buildPlan(graph, profile, { half });
      const shaders = plan.shaders.filter(({ label }) => label.startsWith('Excitation'));
      expect(shaders).toHaveLength(1);
      const { messages } = await open.device.createShaderModule({ code: shaders[0]!.wgsl }).getCompilationInfo();
      expect(messages.map(({ message }) => message)).toEqual([]);
    }
    open.check();
    open.destroy();
  });
});
