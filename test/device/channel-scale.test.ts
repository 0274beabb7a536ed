/** An image times factors of its channels, multiplied by the convolution that reads it: against onnxruntime on SwiftShader, and as WGSL for several vendors. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions, TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { runGraph as runOrt } from '../helpers/ort.ts';
import { optimize } from '../helpers/passes.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { net, pictures } from '../unit/quantize/networks.ts';
import { noDevice, runGraph, validatingDevice } from './helpers.ts';

interface Block {
  readonly images: number;
  readonly channels: number;
  readonly outputs: number;
  readonly pixels?: readonly [number, number];
  /** The factors stand first. */
  readonly swapped?: boolean;
  /** The block's input is added at the end. */
  readonly residual?: boolean;
  /** Groups of the convolution that makes the image; as many as channels by default. */
  readonly before?: number;
  /** Of the convolution that reads the product. */
  readonly filter?: number;
  readonly group?: number;
  /** What is given out beside the result. */
  readonly shows?: 'product';
  /** One factor for each image, or for each pixel. */
  readonly factors?: 'images' | 'pixels';
}

/** Convolution in groups, squeeze and excitation, projection. */
function block({ images, channels, outputs, pixels = [5, 6], swapped = false, residual = false, before = channels, filter = 1, group = 1, shows, factors }: Block): Graph {
  const { b, conv } = net(3);
  const x = b.input('x', { dtype: 'float32', dims: [images, channels, ...pixels] });
  const wide = b.node('HardSwish', [conv(x, channels, 3, { group: before })], {});
  const whole = factors === 'pixels' ? wide : b.node('GlobalAveragePool', [wide], {});
  const hidden = b.node('Relu', [conv(whole, 6, 1)], {});
  const gate = b.node('Sigmoid', [conv(hidden, factors === undefined ? channels : 1, 1)], {});
  const product = b.node('Mul', swapped ? [gate, wide] : [wide, gate], {});
  const projected = conv(product, outputs, filter, { group });
  const y = b.node('Relu', [residual ? b.node('Add', [projected, x], {}) : projected], {}, { outputs: ['y'] });
  return b.finish(shows ? [y, product] : [y]);
}

const BLOCKS: Readonly<Record<string, Block>> = {
  'whole vectors': { images: 1, channels: 32, outputs: 16 },
  'odd channels, two images, the factors first': { images: 2, channels: 13, outputs: 10, swapped: true },
  'five images, a residual, tiles across images': { images: 5, channels: 24, outputs: 24, residual: true },
  'behind groups whose channels are whole vectors of halves, not of bytes': { images: 2, channels: 24, outputs: 16, before: 3 },
  'behind a convolution': { images: 1, channels: 16, outputs: 20, before: 1 },
  'more channels than a block, one line of pixels': { images: 2, channels: 100, outputs: 21, pixels: [1, 7] },
};

async function labels(given: Block, options: LowerOptions = {}, profile: DeviceProfile = PORTABLE_PROFILE): Promise<string[]> {
  const { graph } = await optimize(block(given), 'webgpu');
  return lowerGraph(graph, profile, options).steps.map(({ call }) => call.source.label);
}

const whole = BLOCKS['whole vectors']!;

describe('factors of channels', () => {
  it.each(Object.entries(BLOCKS))('have no kernel of their own: %s', async (_, given) => {
    for (const [options, profile, projection] of [[{}, PORTABLE_PROFILE, /^Conv scaled \d/], [{ half: true }, PORTABLE_PROFILE, /^Conv scaled \d/], [{}, PROFILES['NVIDIA']!, /^Conv scaled \d/], [{ half: true }, PROFILES['NVIDIA']!, /^Conv scaled matrix/]] as const) {
      const found = await labels(given, options, profile);
      expect(found.filter((label) => label.startsWith('Mul'))).toEqual([]);
      expect(found.filter((label) => projection.test(label))).toHaveLength(1);
    }
  });

  it('are a problem of their own for tuning, whose rows do not stay in registers', async () => {
    const { graph } = await optimize(block({ images: 1, channels: 64, outputs: 512, pixels: [16, 16] }), 'webgpu');
    const problems = new Map<string, string[]>();
    const choose: TacticChooser = (problem, candidates) => (problems.set(problem.key, candidates.map(({ name }) => name)), candidates[0]!);
    lowerGraph(graph, PROFILES['NVIDIA']!, { half: true, choose });
    const names = problems.get('Conv scaled f16 1x256x512x64')!;
    expect(names.length).toBeGreaterThan(5);
    expect(names.filter((name) => name.includes('stationary'))).toEqual([]);
  });

  it.each<readonly [string, Block, LowerOptions, DeviceProfile]>([
    ['where a filter reads the product', { ...whole, filter: 3 }, {}, PORTABLE_PROFILE],
    ['where groups read it', { ...whole, group: 2 }, {}, PORTABLE_PROFILE],
    ['where the product is an output', { ...whole, shows: 'product' }, {}, PORTABLE_PROFILE],
    ['of images', { ...whole, factors: 'images' }, {}, PORTABLE_PROFILE],
    ['of pixels', { ...whole, factors: 'pixels' }, {}, PORTABLE_PROFILE],
    ['where nothing is fused', whole, { windows: false }, PORTABLE_PROFILE],
    ['where the device has no binding left', whole, {}, { ...PORTABLE_PROFILE, maxStorageBuffers: 4 }],
    ['where products of f32 are made of halves', whole, { split: true }, PROFILES['NVIDIA']!],
  ])('have a kernel %s', async (_, given, options, profile) => {
    expect((await labels(given, options, profile)).filter((label) => label.startsWith('Mul'))).toHaveLength(1);
  });

  it('stay where halves do not hold the product', async () => {
    const { graph } = await optimize(block(whole), 'webgpu');
    const keepFloat = new Set(graph.nodes.filter(({ op }) => op === 'Mul').map(({ outputs }) => outputs[0]!));
    expect(keepFloat.size).toBe(1);
    expect(lowerGraph(graph, PORTABLE_PROFILE, { half: true, keepFloat }).steps.filter(({ call }) => call.source.label.startsWith('Mul'))).toHaveLength(1);
  });

  describe.skipIf(noDevice)('(skipped without SwiftShader)', () => {
    const lanes: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.startsWith('lanes')) ?? candidates[0]!;
    const divided: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.endsWith('/2')) ?? candidates[0]!;
    it.each(Object.entries(BLOCKS))('are multiplied as onnxruntime does: %s', async (_, given) => {
      const imported = block(given);
      const { graph } = await optimize(imported, 'webgpu');
      const inputs = pictures(imported, 4);
      const expected = toNumbers((await runOrt(imported, inputs)).get('y')!);
      for (const [options, tolerance] of [[{}, 4e-6], [{ choose: divided }, 4e-6], [{ half: true }, 4e-3], [{ half: true, choose: lanes }, 4e-3]] as const) {
        const actual = toNumbers((await runGraph(graph, Object.fromEntries(inputs), PORTABLE_PROFILE, options))['y']!);
        expect(Math.max(...actual.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThan(tolerance);
      }
    });
  });

  it.each(Object.entries(PROFILES))('are valid WGSL for %s', async (_, profile) => {
    const open = await validatingDevice();
    for (const half of [false, true]) {
      for (const given of Object.values(BLOCKS)) {
        const { graph } = await optimize(block(given), 'webgpu');
        const shaders = buildPlan(graph, profile, { half }).plan.shaders.filter(({ label }) => label.startsWith('Conv scaled'));
        expect(shaders.length).toBeGreaterThan(0);
        for (const { wgsl } of shaders) {
          const { messages } = await open.device.createShaderModule({ code: wgsl }).getCompilationInfo();
          expect(messages.map(({ message }) => message)).toEqual([]);
        }
      }
    }
    open.check();
    open.destroy();
  });
});
