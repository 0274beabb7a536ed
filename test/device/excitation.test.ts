/** Squeeze and excitation as one kernel: on SwiftShader against onnxruntime, and as WGSL for several vendors. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions } from '../../src/backends/webgpu/lower/context.ts';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
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
  /** The convolution whose weights are an input of the network. */
  readonly open?: 'squeeze' | 'excitation';
}

function gated({ images, channels, squeezed, inner, bias = true, shows = false, filter = 1, open }: Gate): Graph {
  const { b, conv } = net(3);
  const x = b.input('x', { dtype: 'float32', dims: [images, channels, 5, 6] });
  const mean = b.node('GlobalAveragePool', [x], {});
  const opened = (row: string, dims: readonly number[]): string => b.node('Conv', [row, b.input('w', { dtype: 'float32', dims })], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] });
  const hidden = b.node(inner, [open === 'squeeze' ? opened(mean, [squeezed, channels, 1, 1]) : conv(mean, squeezed, 1, { bias })], {});
  const gate = b.node('Sigmoid', [open === 'excitation' ? opened(hidden, [channels, squeezed, 1, 1]) : conv(hidden, channels, filter, { bias })], {});
  const y = b.node('Mul', [x, gate], {}, { outputs: ['y'] });
  return b.finish(shows ? [y, hidden] : [y]);
}

const GATES: Readonly<Record<string, Gate>> = {
  'whole vectors': { images: 1, channels: 32, squeezed: 8, inner: 'Relu' },
  'a function that is not zero at zero, odd columns': { images: 2, channels: 20, squeezed: 5, inner: 'Sigmoid' },
  'no biases, several images': { images: 4, channels: 13, squeezed: 3, inner: 'Relu', bias: false },
  'more columns than a workgroup takes': { images: 1, channels: 200, squeezed: 50, inner: 'Relu' },
  'weights that are an input': { images: 2, channels: 16, squeezed: 4, inner: 'Relu', open: 'excitation' },
};

async function kinds(gate: Gate, options: LowerOptions = {}): Promise<string[]> {
  const { graph } = await optimize(gated(gate), 'webgpu');
  return lowerGraph(graph, PORTABLE_PROFILE, options).steps.map(({ call }) => call.source.label.split(' ')[0]!);
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

  it('counts the operations of both', async () => {
    const { graph } = await optimize(gated(small), 'webgpu');
    const flops = (windows: boolean): number => lowerGraph(graph, PORTABLE_PROFILE, { windows }).layers.reduce((sum, layer) => sum + layer.flops, 0);
    expect(flops(true)).toBe(flops(false));
  });

  describe.skipIf(noDevice)('(skipped without SwiftShader)', () => {
    it.each(Object.entries(GATES))('computes what onnxruntime does: %s', async (_, gate) => {
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
    for (const half of [false, true]) {
      const { graph } = await optimize(gated(GATES['a function that is not zero at zero, odd columns']!), 'webgpu');
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
