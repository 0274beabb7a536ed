/** Memory: what the plan says is what is allocated, all of it is given back, and what can't fit is refused before anything is made. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { openDevice, type WebgpuDevice } from '../../src/backends/webgpu/device.ts';
import { requestAdapter } from '../../src/backends/webgpu/dawn.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { createSession } from '../../src/backends/webgpu/session.ts';
import type { Session } from '../../src/backends/backend.ts';
import { TsrtError } from '../../src/errors.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { countingDevice } from './counting.ts';
import { COMPACT_PROFILE, engineOf, noDevice, noise, swiftshader, testDevice, validatingDevice, withSession } from './helpers.ts';

const CONV = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] } as const;

/** Convolutions with a residual, a pool and a product: weights, activations that share memory, several outputs. */
function network(size = 12): Graph {
  const graph = newGraphBuilder('network');
  graph.input('x', { dtype: 'float32', dims: [1, 5, size, size] });
  const first = graph.node('Conv', ['x', graph.constant(fromNumbers('float32', [7, 5, 3, 3], noise(315)))], CONV);
  const relu = graph.node('Relu', [first], {});
  const second = graph.node('Conv', [relu, graph.constant(fromNumbers('float32', [7, 7, 3, 3], noise(441)))], CONV);
  const sum = graph.node('Add', [relu, second], {}, { outputs: ['sum'] });
  const pooled = graph.node('GlobalAveragePool', [sum], {});
  const flat = graph.node('Flatten', [pooled], { axis: 1 });
  graph.node('MatMul', [flat, graph.constant(fromNumbers('float32', [7, 3], noise(21)))], {}, { outputs: ['y'] });
  return graph.finish(['sum', 'y']);
}

const input = (size = 12) => ({ x: fromNumbers('float32', [1, 5, size, size], noise(5 * size * size)) });

const total = (session: Session): number => Object.values(session.memory).reduce((sum, bytes) => sum + bytes, 0);

async function errorOf(action: () => unknown): Promise<TsrtError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof TsrtError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

async function freshDevice(): Promise<WebgpuDevice> {
  const adapter = await requestAdapter({ swiftshader, unchecked: true });
  return openDevice(adapter!);
}

describe.skipIf(noDevice)('memory on a device (skipped without SwiftShader)', () => {
  it('is allocated as planned, within 5 %', async () => {
    const counted = countingDevice(await testDevice());
    const session = await createSession(engineOf(network()), counted.open);
    await session.run(input());
    const { bytes } = counted.live();
    expect(Math.abs(total(session) - bytes) / bytes).toBeLessThan(0.05);
    expect(session.observeMemory().deviceBytes).toBe(bytes);
    await session.dispose();
    expect(counted.live()).toEqual({ buffers: 0, bytes: 0, querySets: 0 });
  });

  it('does not grow over loads, runs, profiles and disposals', async () => {
    const counted = countingDevice(await testDevice());
    const engine = engineOf(network());
    for (let cycle = 0; cycle < 20; cycle++) {
      const session = await createSession(engine, counted.open);
      const execution = await session.prepare(input());
      await execution.execute(3);
      await Promise.all([session.run(input()), session.run(input()), execution.download()]);
      if (cycle % 5 === 0) await session.profile!(input());
      if (cycle % 7 === 0) await session.yardstick!();
      await session.dispose();
      expect(counted.live()).toEqual({ buffers: 0, bytes: 0, querySets: 0 });
    }
  });

  it('is given back by a load that fails half-way, which harms nobody else on the device', async () => {
    const counted = countingDevice(await testDevice());
    const engine = engineOf(network());
    const plan = JSON.parse(JSON.stringify(engine.header.backendData)) as { shaders: { wgsl: string }[] };
    plan.shaders[1]!.wgsl = 'this is no shader';
    const error = await errorOf(() => createSession({ ...engine, header: { ...engine.header, backendData: plan } }, counted.open));
    expect(error.code).toBe('ENGINE_INVALID');
    expect(counted.live().buffers).toBe(0);
    const session = await createSession(engine, counted.open);
    expect(Object.keys(await session.run(input()))).toEqual(['sum', 'y']);
    await session.dispose();
  });

  it('tells how long kernels took to compile, apart from the rest', async () => {
    const session = await createSession(engineOf(network()), await testDevice());
    expect(session.loadSteps!.pipelinesMs).toBeGreaterThan(0);
    expect(session.loadSteps!.uploadMs).toBeGreaterThan(0);
    await session.dispose();
  });
});

describe.skipIf(noDevice)('a lost device (skipped without SwiftShader)', () => {
  it('rejects what is under way and what comes, says the way out, and leaves other devices alone', async () => {
    const [first, second] = [await freshDevice(), await freshDevice()];
    const engine = engineOf(network());
    const [lost, other] = [await createSession(engine, first), await createSession(engine, second)];
    const execution = await lost.prepare(input());
    const underWay = [lost.run(input()), lost.run(input()), execution.execute(1), execution.download()].map((action) => errorOf(() => action));
    first.device.destroy();
    for (const error of await Promise.all(underWay)) {
      expect(error.code).toBe('DEVICE_LOST');
      expect(error.fix).toContain('load the engine again');
    }
    expect((await errorOf(() => lost.run(input()))).code).toBe('DEVICE_LOST');
    expect((await errorOf(() => lost.prepare(input()))).code).toBe('DEVICE_LOST');
    expect((await errorOf(() => createSession(engine, first))).code).toBe('DEVICE_LOST');
    expect(Object.keys(await other.run(input()))).toEqual(['sum', 'y']);
    await lost.dispose();
    await other.dispose();
    second.destroy();
  });
});

describe('what can not fit', () => {
  const bytesOf = (message: string): number[] => [...message.matchAll(/\d+/g)].map(([digits]) => Number(digits));

  it.each([
    ['maxBufferSize', { maxBufferBytes: 2048 }],
    ['maxStorageBufferBindingSize', { maxBindingBytes: 2048 }],
    ['has 20000', { memoryBytes: 20_000 }],
  ])('is refused at build with the figure: %s', async (limit, change) => {
    const error = await errorOf(() => buildPlan(network(), { ...PORTABLE_PROFILE, compact: true, ...change }));
    expect(error.code).toBe('OUT_OF_MEMORY');
    expect(error.message).toContain(limit);
    expect(bytesOf(error.message)[0]).toBeGreaterThan(Object.values(change)[0]!);
  });

  it.each([
    ['maxBufferSize', { maxBufferBytes: 2048 }],
    ['maxStorageBufferBindingSize', { maxBindingBytes: 2048 }],
    ['has 20000', { memoryBytes: 20_000 }],
  ])('is refused at load before anything is allocated: %s', async (limit, change) => {
    const device = await validatingDevice();
    const counted = countingDevice({ ...device, profile: { ...device.profile, ...change } });
    const error = await errorOf(() => createSession(engineOf(network()), counted.open));
    expect(error.code).toBe('OUT_OF_MEMORY');
    expect(error.message).toContain(limit);
    expect(counted.live().buffers).toBe(0);
    device.destroy();
  });

  it('is refused at load where it is what requests have for themselves, and the device stays sound', async () => {
    const device = await validatingDevice();
    const counted = countingDevice(device);
    const graph = newGraphBuilder('wide');
    graph.input('x', { dtype: 'float32', dims: [1] });
    const y = graph.node('Expand', ['x', graph.constant(fromNumbers('int64', [1], [2 ** 22]))], {}, { outputs: ['y'] });
    // 64 copies of 16 MB: Dawn's null backend has 512 MB.
    const error = await errorOf(() => createSession(engineOf(graph.finish([y]), undefined, { streams: 64 }), counted.open));
    expect(error.code).toBe('OUT_OF_MEMORY');
    expect(bytesOf(error.message)[0]).toBe(64 * 2 ** 24);
    expect(counted.live().buffers).toBe(0);
    expect(() => device.check()).not.toThrow();
    const session = await createSession(engineOf(network()), device);
    await session.run(input());
    await session.dispose();
    device.destroy();
  });
});

describe.skipIf(noDevice)('outputs that are larger together than a buffer may be (skipped without SwiftShader)', () => {
  it('are read from several', async () => {
    const open = await testDevice();
    const graph = newGraphBuilder('outputs');
    const dims = [256];
    graph.input('x', { dtype: 'float32', dims });
    const outputs = (['Neg', 'Abs', 'Relu'] as const).map((op) => graph.node(op, ['x'], {}, { outputs: [op] }));
    const x = noise(256);
    for (const [maxBufferBytes, largest] of [[1024, 1024], [2500, 2048], [4096, 3072]] as const) {
      const counted = countingDevice({ ...open, profile: { ...open.profile, maxBufferBytes } });
      const session = await createSession(engineOf(graph.finish(outputs)), counted.open);
      expect(counted.largest()).toBe(largest);
      const { Neg, Abs, Relu } = await session.run({ x: fromNumbers('float32', dims, x) });
      expect([...toNumbers(Neg!)]).toEqual(Array.from(x, (value) => -value));
      expect([...toNumbers(Abs!)]).toEqual(Array.from(x, Math.abs));
      expect([...toNumbers(Relu!)]).toEqual(Array.from(x, (value) => Math.max(0, value)));
      await session.dispose();
      expect(counted.live().buffers).toBe(0);
    }
  });
});

describe.skipIf(noDevice)('weights that are larger together than a buffer may be (skipped without SwiftShader)', () => {
  it('are read from several', async () => {
    const graph = newGraphBuilder('weights');
    const [x, first, second] = [noise(16), noise(256), noise(256)];
    graph.input('x', { dtype: 'float32', dims: [1, 16] });
    const product = (input: string, values: Float64Array, name: string) => graph.node('MatMul', [input, graph.constant(fromNumbers('float32', [16, 16], values))], {}, { outputs: [name] });
    const whole = graph.finish([product(product('x', first, 'h'), second, 'y')]);
    const profile = { ...COMPACT_PROFILE, maxBufferBytes: 1024 };
    expect([...engineOf(whole, profile).parts.keys()]).toEqual(['weights', 'weights-1']);
    const times = (row: readonly number[], matrix: Float64Array) => row.map((_, column) => row.reduce((sum, value, k) => sum + value * matrix[k * 16 + column]!, 0));
    const expected = times(times([...x], first), second);
    await withSession(whole, async (session) => {
      const found = toNumbers((await session.run({ x: fromNumbers('float32', [1, 16], x) }))['y']!);
      expected.forEach((value, i) => expect(found[i]).toBeCloseTo(value, 4));
    }, profile);
  });
});
