/** Networks that take pictures as bytes, against onnxruntime on the numbers that the pictures stand for. */
import { describe, expect, it } from 'vitest';
import { openGraph } from '../../src/backends/onnxruntime/observe.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions } from '../../src/backends/webgpu/lower/context.ts';
import type { Graph } from '../../src/ir/graph.ts';
import type { PixelInput } from '../../src/ir/pixels.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { withBytes } from '../../src/passes/input-bytes.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import { COMPACT_PROFILE, distance, noDevice, noise, runGraph } from './helpers.ts';

const N = 2;
const SIDE = 16;
const scale = [0.229, 0.224, 0.225].map((std) => 1 / 255 / std);
const shift = [0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225].map((x) => -x);

/** A strided convolution with a margin of zeros: what lies outside of a picture is 0 after the normalization, not before. */
function network(layout: 'NCHW' | 'NHWC'): Graph {
  const graph = newGraphBuilder('picture');
  graph.input('image', { dtype: 'float32', dims: layout === 'NCHW' ? [N, 3, SIDE, SIDE] : [N, SIDE, SIDE, 3] });
  const w = graph.constant(fromNumbers('float32', [8, 3, 3, 3], noise(8 * 27)));
  const b = graph.constant(fromNumbers('float32', [8], noise(8, 2)));
  const x = layout === 'NCHW' ? 'image' : graph.node('Transpose', ['image'], { perm: [0, 3, 1, 2] });
  const conv = graph.node('Conv', [x, w, b], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] });
  return graph.finish([graph.node('Relu', [conv], {}, { outputs: ['y'] })]);
}

const bytes = Uint8Array.from(noise(N * SIDE * SIDE * 3, 7), (x) => Math.floor((x + 1) * 128));

/** What the network would be given without the pass. */
function numbers(layout: 'NCHW' | 'NHWC'): Float64Array {
  const area = SIDE * SIDE;
  return Float64Array.from({ length: bytes.length }, (_, i) => {
    if (layout === 'NHWC') return bytes[i]! * scale[i % 3]! + shift[i % 3]!;
    const [n, c, at] = [Math.floor(i / (3 * area)), Math.floor(i / area) % 3, i % area];
    return bytes[(n * area + at) * 3 + c]! * scale[c]! + shift[c]!;
  });
}

async function expected(layout: 'NCHW' | 'NHWC'): Promise<readonly number[]> {
  const dims = layout === 'NCHW' ? [N, 3, SIDE, SIDE] : [N, SIDE, SIDE, 3];
  const runner = await openGraph(network(layout));
  const outputs = await runner.run({ image: fromNumbers('float32', dims, numbers(layout)) });
  await runner.dispose();
  return toNumbers(outputs.get('y')!);
}

async function compiled(layout: 'NCHW' | 'NHWC', fusion: 'on' | 'off'): Promise<Graph> {
  const pixels: PixelInput = { input: 'image', layout, dtype: 'float32', scale, shift };
  const { graph } = withBytes(network(layout), [pixels]);
  return (await runPasses(graph, { target: 'webgpu', fusion, disabled: [], fold: undefined, verify: true })).graph;
}

const byteInputs = new Set(['image']);
const picture = { image: fromNumbers('uint8', [N, SIDE, SIDE, 3], bytes) };

describe('pictures as bytes', () => {
  it('are bound as bytes and cost one kernel', async () => {
    const { plan, layers, inputs } = buildPlan(await compiled('NCHW', 'on'), COMPACT_PROFILE, { byteInputs });
    expect(inputs).toEqual([{ name: 'image', dtype: 'uint8', dims: [N, SIDE, SIDE, 3] }]);
    expect(plan.inputs[0]!.storage).toBe('u8');
    expect(plan.buffers[plan.inputs[0]!.buffer]!.bytes).toBe(N * SIDE * SIDE * 3);
    // The last puts the output in the order of the user's.
    expect(layers.map(({ kind }) => kind)).toEqual(['FusedElementwise', 'FusedConv', 'Reformat']);
  });
});

describe.skipIf(noDevice)('pictures as bytes on a device (skipped without SwiftShader)', () => {
  const cases: readonly (readonly [string, 'NCHW' | 'NHWC', 'on' | 'off', LowerOptions, number])[] = [
    ['fp32', 'NCHW', 'on', {}, 1e-5],
    ['fp32 without fusion', 'NCHW', 'off', { windows: false }, 1e-5],
    ['fp32, channels last', 'NHWC', 'on', {}, 1e-5],
    ['halves', 'NCHW', 'on', { half: true }, 4e-3],
    ['halves, channels last', 'NHWC', 'on', { half: true }, 4e-3],
  ];
  for (const [name, layout, fusion, options, tolerance] of cases) {
    it(`give what the numbers give: ${name}`, async () => {
      const outputs = await runGraph(await compiled(layout, fusion), picture, COMPACT_PROFILE, { ...options, byteInputs });
      expect(distance(outputs['y']!, await expected(layout), { absolute: 4 * tolerance, relative: tolerance })).toBeLessThan(1);
    });
  }
});
