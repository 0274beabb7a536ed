/**
 * Every tile of the matrix kernel: its code validated on Dawn's null backend, which needs no GPU, and run on SwiftShader
 * against float64.
 */
import { describe, expect, it } from 'vitest';
import { type Dims, elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { type MatmulTactic, matmulTactics, tacticInvocations, tacticName, tacticWorkgroupBytes } from '../../src/backends/webgpu/tactics/matmul.ts';
import { createSession } from '../../src/backends/webgpu/session.ts';
import { distance, engineOf, noDevice, noise, runGraph, validatingDevice } from './helpers.ts';
import { conv, matMul } from './references.ts';

/** Limits of a large GPU, where every tile is legal. */
const LARGE: DeviceProfile = { ...PORTABLE_PROFILE, maxWorkgroupBytes: 49152, maxInvocations: 1024 };
const SHAPE = { batch: 1, rows: 150, columns: 140, depth: 600 };
const TACTICS = matmulTactics(SHAPE, LARGE);

/** The candidate with this tile and, where the problem is deep enough for it, this split. */
function taking(tactic: MatmulTactic): TacticChooser {
  return (_, candidates) =>
    candidates.find(({ name }) => name === tacticName(tactic)) ?? candidates.find(({ name }) => name === tacticName({ ...tactic, splitK: 1 }))!;
}

function product(a: Dims, b: Dims) {
  const graph = newGraphBuilder('product');
  graph.input('a', { dtype: 'float32', dims: a });
  graph.input('b', { dtype: 'float32', dims: b });
  return graph.finish([graph.node('MatMul', ['a', 'b'], {}, { outputs: ['y'] })]);
}

function convolution(group: number, channels = 12) {
  const test = { x: [1, channels, 13, 13], w: [18, channels / group, 3, 3], strides: [2, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group };
  const graph = newGraphBuilder('convolution');
  graph.input('x', { dtype: 'float32', dims: test.x });
  const w = noise(elementCount(test.w), 2);
  const weights = graph.constant(fromNumbers('float32', test.w, w));
  const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group, kernel_shape: [3, 3], pads: test.pads, strides: test.strides } as const;
  return { test, w, graph: graph.finish([graph.node('Conv', ['x', weights], attrs, { outputs: ['y'] })]) };
}

describe('tiles of the matrix kernel', () => {
  it('fit the limits that they were asked for', () => {
    for (const tactic of matmulTactics(SHAPE, PORTABLE_PROFILE)) {
      expect(tacticInvocations(tactic)).toBeLessThanOrEqual(256);
      expect(tacticWorkgroupBytes(tactic)).toBeLessThanOrEqual(16384);
    }
    expect(new Set(TACTICS.map((tactic) => tacticName({ ...tactic, splitK: 1 }))).size).toBeGreaterThan(10);
  });

  it('are valid WGSL and valid plans, split or not', { timeout: 60_000 }, async () => {
    let loaded = 0;
    const device = await validatingDevice();
    const graphs = [product([150, 600], [600, 140]), product([2, 37, 45], [2, 45, 41]), convolution(1).graph, convolution(3).graph];
    // The null backend has the default limits.
    const legal = TACTICS.filter((tactic) => tacticInvocations(tactic) <= 256 && tacticWorkgroupBytes(tactic) <= 16384);
    for (const tactic of legal.filter(({ splitK }) => splitK === 1 || splitK === 4)) {
      for (const graph of graphs) {
        const session = await createSession(engineOf(graph, LARGE, { choose: taking(tactic) }), device);
        await session.dispose();
        device.check();
        loaded++;
      }
    }
    device.destroy();
    expect(loaded).toBeGreaterThan(40);
  });
});

describe.skipIf(noDevice)('tiles of the matrix kernel on a device (skipped without SwiftShader)', () => {
  const tiles = TACTICS.filter(({ splitK }) => splitK === 1);

  it.each(tiles.map((tactic) => [tacticName(tactic), tactic] as const))('%s', { timeout: 60_000 }, async (_, tactic) => {
    const [a, b] = [[140, 37], [37, 133]];
    const [x0, x1] = [noise(elementCount(a), 1), noise(elementCount(b), 2)];
    const outputs = await runGraph(product(a, b), { a: fromNumbers('float32', a, x0), b: fromNumbers('float32', b, x1) }, LARGE, { choose: taking(tactic) });
    expect(distance(outputs['y']!, matMul(a, b, x0, x1).values, { absolute: 5e-5, relative: 1e-5 })).toBeLessThan(1);
  });

  it.each([2, 4, 16])('splits the depth of a convolution in %i', async (splitK) => {
    const { test, w, graph } = convolution(1, 32);
    const x = noise(elementCount(test.x), 1);
    const choose: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.endsWith(` /${splitK}`))!;
    const outputs = await runGraph(graph, { x: fromNumbers('float32', test.x, x) }, LARGE, { choose });
    expect(distance(outputs['y']!, conv(test, x, w), { absolute: 5e-5, relative: 1e-5 })).toBeLessThan(1);
  });

  // 20 channels are five vectors of sums and, as halves, three of eight that are stored: the parts' rows are shorter than the image's.
  it('keeps the padding lanes of halves out of the parts of a split depth, and zero', async () => {
    const test = { x: [1, 64, 2, 1], w: [20, 64, 1, 1], strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };
    const [x, w, v] = [noise(elementCount(test.x), 1), noise(elementCount(test.w), 2), noise(20, 3)];
    const graph = newGraphBuilder('padded');
    graph.input('x', { dtype: 'float32', dims: test.x });
    const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: test.pads, strides: [1, 1] } as const;
    const y = graph.node('Conv', ['x', graph.constant(fromNumbers('float32', test.w, w))], attrs, { outputs: ['y'] });
    const z = graph.node('Conv', [y, graph.constant(fromNumbers('float32', [1, 20, 1, 1], v))], attrs, { outputs: ['z'] });
    const choose: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.endsWith(' /4')) ?? candidates[0]!;
    const outputs = await runGraph(graph.finish([y, z]), { x: fromNumbers('float32', test.x, x) }, LARGE, { choose, half: true });
    const expected = conv(test, x, w);
    const second = conv({ ...test, x: [1, 20, 2, 1], w: [1, 20, 1, 1] }, Float32Array.from(expected), v);
    // Operands and results are rounded to binary16: 2⁻¹¹ of the largest sum of 64 products.
    expect(distance(outputs['y']!, expected, { absolute: 2e-2, relative: 1e-3 })).toBeLessThan(1);
    expect(distance(outputs['z']!, second, { absolute: 5e-2, relative: 1e-3 })).toBeLessThan(1);
  });
});
