/** Concatenations of expressions in one kernel, on SwiftShader against onnxruntime on the graph as it was. */
import { describe, expect, it } from 'vitest';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { randomInputs, runGraph as runReference } from '../helpers/ort.ts';
import { countOps, optimize } from '../helpers/passes.ts';
import { cacheWrites, FORMS, rotations } from '../helpers/rotations.ts';
import { CONV, sketch, type Sketch } from '../helpers/rules.ts';
import { distance, noDevice, runGraph } from './helpers.ts';

/** How far the device's outputs are from onnxruntime's, in tolerances of their scale. Throws where nothing was fused. */
async function errorOf(graph: Graph, { half = false, windows = true, tolerance = 1e-6, profile = PORTABLE_PROFILE as DeviceProfile } = {}): Promise<number> {
  const inputs = randomInputs(graph, 3);
  const { graph: optimized } = await optimize(graph, 'webgpu');
  if (countOps(optimized).FusedConcat !== 1) throw new Error(`not one kernel: ${JSON.stringify(countOps(optimized))}`);
  const found = await runGraph(optimized, Object.fromEntries(inputs), profile, { half, windows });
  const errors = [...(await runReference(graph, inputs))].map(([name, wanted]) => {
    const values = toNumbers(wanted);
    return distance(found[name]!, values, { absolute: tolerance * Math.max(1, ...values.map(Math.abs)), relative: 0 });
  });
  return Math.max(...errors);
}

const join = ({ b }: Sketch, axis: number, ...parts: readonly string[]): string => b.node('Concat', parts, { axis });
const exp = ({ b }: Sketch, x: string): string => b.node('Exp', [x], {});
const neg = ({ b }: Sketch, x: string): string => b.node('Neg', [x], {});
/** As a convolution leaves it: channels last. */
const image = ({ b, x, w }: Sketch, channels: number): string => b.node('Conv', [x(2, 3, 4, 4), w(channels, 3, 1, 1)], { ...CONV, kernel_shape: [1, 1] });

const SHAPES: Readonly<Record<string, (s: Sketch) => string>> = {
  'along the first axis': (s) => join(s, 0, neg(s, s.x(2, 8)), s.x(3, 8)),
  'of parts that are no whole vectors': (s) => join(s, 1, neg(s, s.x(2, 3)), s.b.node('Add', [s.x(2, 1), s.x(1, 5)], {})),
  'in turn, by element': (s) => s.b.node('Reshape', [join(s, -1, ...[exp(s, s.x(3, 5)), s.x(3, 5)].map((x) => s.b.node('Unsqueeze', [x, s.ints(-1)], {}))), s.ints(3, 10)], { allowzero: 0 }),
  'four in turn': (s) => s.b.node('Reshape', [join(s, -1, ...[exp(s, s.x(3, 4)), s.x(3, 4), neg(s, s.x(3, 4)), s.x(1, 4)].map((x, i) => s.b.node('Unsqueeze', [i < 3 ? x : s.b.node('Add', [x, s.x(3, 1)], {}), s.ints(-1)], {}))), s.ints(3, 16)], { allowzero: 0 }),
  'in turn along the rows of an image': (s) => { const x = image(s, 16); return s.b.node('Reshape', [join(s, -1, ...[exp(s, x), neg(s, x)].map((y) => s.b.node('Unsqueeze', [y, s.ints(-1)], {}))), s.ints(2, 16, 4, 8)], { allowzero: 0 }); },
  'of flags': (s) => s.b.node('Not', [join(s, 1, s.b.node('Greater', [s.x(2, 4), s.n(0)], {}), s.b.node('Less', [s.x(2, 4), s.x(1, 4)], {}))], {}),
  'of an image\'s channels': (s) => { const x = image(s, 32); return s.b.node('MaxPool', [join(s, 1, ...[16, 0].map((from) => exp(s, s.b.node('Slice', [x, s.ints(from), s.ints(from + 16), s.ints(1)], {}))))], { ...CONV, ceil_mode: 0, storage_order: 0, kernel_shape: [2, 2] }); },
  'of channels that leave lanes of a vector': (s) => { const x = image(s, 12); return s.b.node('GlobalAveragePool', [join(s, 1, ...[[8, 12], [0, 8]].map(([from, to]) => exp(s, s.b.node('Slice', [x, s.ints(from!), s.ints(to!), s.ints(1)], {}))))], {}); },
  'of an image\'s rows': (s) => { const x = image(s, 6); return join(s, 2, ...[2, 0].map((from) => exp(s, s.b.node('Slice', [x, s.ints(from), s.ints(from + 2), s.ints(2)], {})))); },
};

describe.skipIf(noDevice)('concatenations of expressions (skipped without SwiftShader)', () => {
  it.each(FORMS)('rotate %s', async (form) => {
    expect(await errorOf(rotations(form, 2))).toBeLessThan(1);
    expect(await errorOf(rotations(form), { half: true, tolerance: 2e-3 })).toBeLessThan(1);
  });

  it('read copies of the parts where windows are off, as many as a kernel binds', async () => {
    expect(await errorOf(rotations('halves'), { windows: false })).toBeLessThan(1);
  });

  it.each(Object.entries(SHAPES))('%s', async (_, draw) => {
    expect(await errorOf(sketch(draw), { half: true, tolerance: 5e-3 })).toBeLessThan(1);
  });

  it('write integers on a grid', async () => {
    const graph = sketch((s) => {
      const grid = [s.n(0.02), s.n(7, 'uint8')] as const;
      const quantized = (x: string): string => s.b.node('QuantizeLinear', [x, ...grid], { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined });
      const real = (q: string): string => s.b.node('DequantizeLinear', [q, ...grid], { axis: 1, block_size: 0 });
      const x = real(quantized(s.x(2, 32)));
      const [low, high] = [0, 16].map((from) => s.b.node('Slice', [x, s.ints(from), s.ints(from + 16), s.ints(1)], {})) as [string, string];
      return real(quantized(s.b.node('Mul', [join(s, 1, neg(s, high), low), s.x(2, 32)], {})));
    });
    expect(await errorOf(graph)).toBeLessThan(1);
  });

  it('are one kernel', async () => {
    const { graph } = await optimize(rotations('a part of each head in pairs'), 'webgpu');
    expect(lowerGraph(graph, PORTABLE_PROFILE).steps.map(({ call }) => call.source.label)).toEqual(['FusedConcat']);
  });
});

describe.skipIf(noDevice)('a token on its way into caches (skipped without SwiftShader)', () => {
  it.each(FORMS)('is one kernel where enough can be bound, and as many as need be elsewhere: %s', async (form) => {
    for (const [profile, options] of [[PORTABLE_PROFILE, {}], [{ ...PORTABLE_PROFILE, maxStorageBuffers: 11 }, {}], [PORTABLE_PROFILE, { half: true, tolerance: 2e-3 }]] as const) {
      expect(await errorOf(cacheWrites(form, 2), { ...options, profile })).toBeLessThan(1);
    }
  });

  it('is divided by parts where these are no windows', async () => {
    expect(await errorOf(cacheWrites('a part of each head', 2), { windows: false })).toBeLessThan(1);
  });

  it('binds no more than the device does', async () => {
    const { graph } = await optimize(cacheWrites('halves'), 'webgpu');
    for (const [maxStorageBuffers, kernels] of [[11, 1], [10, 2], [8, 2]] as const) {
      const { steps } = lowerGraph(graph, { ...PORTABLE_PROFILE, maxStorageBuffers });
      expect(steps.map(({ call }) => call.operands.length).every((count) => count <= maxStorageBuffers)).toBe(true);
      expect(steps).toHaveLength(kernels);
    }
  });
});
