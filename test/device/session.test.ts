/** Sessions: requests in flight, executions, profiles, disposal, lost devices, broken engines. */
import { describe, expect, it, vi } from 'vitest';
import { TsrtError } from '../../src/errors.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { requestAdapter } from '../../src/backends/webgpu/dawn.ts';
import { openDevice } from '../../src/backends/webgpu/device.ts';
import { createResources, type ReadyStep } from '../../src/backends/webgpu/resources.ts';
import { createSession } from '../../src/backends/webgpu/session.ts';
import { timeExecutions } from '../../src/backends/webgpu/timestamps.ts';
import { readPlan } from '../../src/engine/plan.ts';
import { engineOf, noDevice, swiftshader, testDevice, validatingDevice, withSession } from './helpers.ts';

/** y = (x + 1) · 2, in two kernels. */
function twoKernels() {
  const graph = newGraphBuilder('two');
  graph.input('x', { dtype: 'float32', dims: [5] });
  const one = graph.constant(fromNumbers('float32', [1], [1]));
  const two = graph.constant(fromNumbers('float32', [1], [2]));
  const sum = graph.node('Add', ['x', one], {}, { name: 'add' });
  return graph.finish([graph.node('Mul', [sum, two], {}, { name: 'mul', outputs: ['y'] })]);
}

const request = (value: number) => ({ x: fromNumbers('float32', [5], [value, 1, 2, 3, 4]) });

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    if (error instanceof TsrtError) return error.code;
    throw error;
  }
  return 'none';
}

describe.skipIf(noDevice)('sessions (skipped without SwiftShader)', () => {
  it('answers many requests at once, each with its own', async () => {
    await withSession(twoKernels(), async (session) => {
      const values = Array.from({ length: 20 }, (_, i) => i);
      const answers = await Promise.all(values.map((value) => session.run(request(value))));
      expect(answers.map((answer) => toNumbers(answer['y']!)[0])).toEqual(values.map((value) => (value + 1) * 2));
    });
  });

  it('submits the copy of the outputs with what computes them', async () => {
    const { device } = await testDevice();
    await withSession(twoKernels(), async (session) => {
      const submits = vi.spyOn(device.queue, 'submit');
      for (const value of [3, 4]) expect(toNumbers((await session.run(request(value)))['y']!)[0]).toBe((value + 1) * 2);
      expect(submits).toHaveBeenCalledTimes(2);
      submits.mockRestore();
    });
  });

  it('keeps the inputs of executions apart', async () => {
    await withSession(twoKernels(), async (session) => {
      const [first, second] = [await session.prepare(request(10)), await session.prepare(request(20))];
      await first.execute(1);
      expect(toNumbers((await first.download())['y']!)[0]).toBe(22);
      await second.execute(40);
      expect(toNumbers((await second.download())['y']!)[0]).toBe(42);
      await first.execute(2);
      expect(toNumbers((await first.download())['y']!)[0]).toBe(22);
      await first.dispose();
      await expect(first.execute(1)).rejects.toThrow('disposed');
    });
  });

  it('downloads what an execution computed, whatever ran since', async () => {
    await withSession(twoKernels(), async (session) => {
      const [first, second] = [await session.prepare(request(10)), await session.prepare(request(20))];
      const answers = async () => [await first.download(), await second.download()].map((answer) => toNumbers(answer['y']!)[0]);
      await first.execute(1);
      await second.execute(1);
      expect(await answers()).toEqual([22, 42]);
      await session.run(request(1));
      expect(await answers()).toEqual([22, 42]);
      await session.profile!(request(2));
      await session.deviceTime!();
      expect(await answers()).toEqual([22, 42]);
      // Before it was executed at all.
      expect(toNumbers((await (await session.prepare(request(30))).download())['y']!)[0]).toBe(62);
    });
  });

  it('takes inputs that are staged, each request in memory of its own', async () => {
    const graph = newGraphBuilder('large');
    graph.input('x', { dtype: 'float32', dims: [2 ** 18] });
    graph.input('factor', { dtype: 'float32', dims: [1] });
    const large = graph.finish([graph.node('Mul', ['x', 'factor'], {}, { outputs: ['y'] })]);
    await withSession(
      large,
      async (session) => {
        expect(session.maxInFlight).toBe(2);
        expect(session.memory.stagingBytes).toBe(2 * 2 * 2 ** 20);
        const x = (seed: number) => fromNumbers('float32', [2 ** 18], Float64Array.from({ length: 2 ** 18 }, (_, i) => (i * seed) % 1000));
        const factor = fromNumbers('float32', [1], [3]);
        const answers = await Promise.all([1, 2, 3, 4, 5, 6, 7].map(async (seed) => toNumbers((await session.run({ x: x(seed), factor }))['y']!)));
        for (const [i, answer] of answers.entries()) expect([answer[1], answer[777], answer.at(-1)]).toEqual([1, 777, 2 ** 18 - 1].map((at) => ((at * (i + 1)) % 1000) * 3));
        expect(session.observeMemory().deviceBytes).toBe(Object.values(session.memory).reduce((sum, bytes) => sum + bytes, 0));
      },
      undefined,
      { streams: 2 },
    );
  });

  it('uploads the inputs of executions once, however they take turns', async () => {
    const { device } = await testDevice();
    await withSession(twoKernels(), async (session) => {
      const same = request(1);
      const executions = [await session.prepare(same), await session.prepare(same), await session.prepare(request(2)), await session.prepare(request(3))];
      const planned = Object.values(session.memory).reduce((sum, bytes) => sum + bytes, 0);
      expect(session.observeMemory().deviceBytes).toBe(planned + 2 * 32);
      const writes = vi.spyOn(device.queue, 'writeBuffer');
      const seen: number[] = [];
      for (const execution of [...executions, ...executions]) {
        await execution.execute(1);
        seen.push(toNumbers((await execution.download())['y']!)[0]!);
      }
      expect(seen).toEqual([4, 4, 6, 8, 4, 4, 6, 8]);
      expect(writes).not.toHaveBeenCalled();
      writes.mockRestore();
      for (const execution of executions) await execution.dispose();
      expect(session.observeMemory().deviceBytes).toBe(planned);
      // A request between two executions takes the plan's own buffers; the execution takes them back.
      const again = await session.prepare(request(5));
      await session.run(request(6));
      await again.execute(1);
      expect(toNumbers((await again.download())['y']!)[0]).toBe(12);
    });
  });

  it('profiles every layer', async () => {
    await withSession(twoKernels(), async (session) => {
      const times = await session.profile!(request(0));
      expect(times.map(({ layer }) => layer)).toEqual(['add', 'mul']);
      for (const { durationNs } of times) expect(durationNs).toBeGreaterThan(0);
    });
  });

  it('tells what the device takes for an execution', async () => {
    await withSession(twoKernels(), async (session) => {
      const execution = await session.prepare(request(0));
      const start = performance.now();
      const deviceNs = (await session.deviceTime!())!;
      expect(deviceNs).toBeGreaterThan(0);
      expect(deviceNs).toBeLessThan((performance.now() - start) * 1e6);
      // The inputs are where they were.
      await execution.execute(1);
      expect(toNumbers((await execution.download())['y']!)[1]).toBe(toNumbers((await session.run(request(0)))['y']!)[1]);
    });
  });

  it('tells it from the first pass to the last one, where transfers stand between', async () => {
    const open = await testDevice();
    const engine = engineOf(twoKernels());
    const plan = readPlan(engine.header.backendData, engine.parts);
    const resources = await createResources(open, plan, engine.parts);
    const { buffer } = plan.inputs[0]!;
    const clear: ReadyStep = { kind: 'clear', range: { buffer, offset: 0, bytes: plan.buffers[buffer]!.bytes }, layer: 0 };
    const [first, second] = resources.steps as [ReadyStep, ReadyStep];
    const times = (steps: readonly ReadyStep[]) => timeExecutions(open.device, { steps, buffers: resources.buffers }, 4);
    for (const steps of [[first], [clear, first, clear, second, clear], [first, clear, second, clear, first]]) {
      expect((await times(steps)).map((ns) => ns > 0)).toEqual([true, true, true, true]);
    }
    expect(await times([clear])).toEqual([0, 0, 0, 0]);
    resources.destroy();
    open.check();
  });

  it('has a workload of its own to tell drift by', async () => {
    await withSession(twoKernels(), async (session) => expect(await session.yardstick!()).toEqual({ durationNs: expect.any(Number), clock: 'device' }));
  });

  it('refuses inputs that do not fit, and int64 beyond 32 bits', async () => {
    const graph = newGraphBuilder('wide');
    graph.input('n', { dtype: 'int64', dims: [1] });
    await withSession(graph.finish([graph.node('Neg', ['n'], {}, { outputs: ['y'] })]), async (session) => {
      expect(await codeOf(session.run({}))).toBe('USAGE');
      expect(await codeOf(session.run({ n: fromNumbers('int64', [2], [1, 2]) }))).toBe('USAGE');
      expect(await codeOf(session.run({ n: fromNumbers('int64', [1], [2 ** 31]) }))).toBe('USAGE');
      expect(toNumbers((await session.run({ n: fromNumbers('int64', [1], [2 ** 31 - 1]) }))['y']!)).toEqual([1 - 2 ** 31]);
    });
  });

  it('takes inputs in shared memory, staged and not', async () => {
    for (const count of [5, 2 ** 18]) {
      const graph = newGraphBuilder('shared');
      graph.input('x', { dtype: 'float32', dims: [count] });
      graph.input('bytes', { dtype: 'uint8', dims: [4] });
      const outputs = [graph.node('Neg', ['x'], {}, { outputs: ['y'] }), graph.node('Cast', ['bytes'], { to: 'float32', saturate: 1 }, { outputs: ['z'] })];
      await withSession(graph.finish(outputs), async (session) => {
        const data = new Uint8Array(new SharedArrayBuffer(count * 4));
        new Float32Array(data.buffer).fill(3);
        const bytes = new Uint8Array(new SharedArrayBuffer(4)).fill(7);
        const answer = await session.run({ x: { dtype: 'float32', dims: [count], data }, bytes: { dtype: 'uint8', dims: [4], data: bytes } });
        expect(toNumbers(answer['y']!).at(-1)).toBe(-3);
        expect(toNumbers(answer['z']!)).toEqual([7, 7, 7, 7]);
      });
    }
  });

  it('rejects calls after it is disposed, and may be disposed twice', async () => {
    let released = 0;
    const session = await createSession(engineOf(twoKernels()), await testDevice(), () => released++);
    expect(session.observeMemory().deviceBytes).toBeGreaterThan(0);
    await session.dispose();
    await session.dispose();
    expect(released).toBe(1);
    expect(session.observeMemory().deviceBytes).toBe(0);
    expect(await codeOf(session.run(request(0)))).toBe('USAGE');
  });

  it('is disposed of when its measurements have ended: the device is others\' too', async () => {
    const adapter = await requestAdapter({ swiftshader, unchecked: true });
    const open = await openDevice(adapter!);
    for (const name of ['profile', 'deviceTime', 'yardstick'] as const) {
      const session = await createSession(engineOf(twoKernels()), open);
      const measured = session[name]!(request(0));
      await session.dispose();
      await measured;
      await open.device.queue.onSubmittedWorkDone();
      open.check();
      expect(await codeOf(session[name]!(request(0)))).toBe('USAGE');
    }
    open.destroy();
  });

  it('is disposed of when its device was lost amid measurements', async () => {
    const adapter = await requestAdapter({ swiftshader, unchecked: true });
    const open = await openDevice(adapter!);
    let released = 0;
    const session = await createSession(engineOf(twoKernels()), open, () => released++);
    const measured = codeOf(session.yardstick!());
    open.device.destroy();
    expect(await measured).toBe('DEVICE_LOST');
    await session.dispose();
    expect(released).toBe(1);
  });

  it('holds what its ledger says', async () => {
    await withSession(twoKernels(), async (session) => {
      const { weightBytes, activationBytes, workspaceBytes, stagingBytes } = session.memory;
      expect(session.observeMemory().deviceBytes).toBe(weightBytes + activationBytes + workspaceBytes + stagingBytes);
    });
  });

  it('reports a lost device', async () => {
    const adapter = await requestAdapter({ swiftshader, unchecked: true });
    const open = await openDevice(adapter!);
    const session = await createSession(engineOf(twoKernels()), open);
    open.device.destroy();
    await open.device.lost;
    expect(await codeOf(session.run(request(0)))).toBe('DEVICE_LOST');
    await session.dispose();
  });

  it('says so where there is no adapter, which is what requestAdapter gives then', async () => {
    expect(await codeOf(openDevice(null))).toBe('BACKEND_UNAVAILABLE');
  });

  it('gives the same answers with the driver\'s bounds checks', async () => {
    const adapter = await requestAdapter({ swiftshader, unchecked: false });
    const open = await openDevice(adapter!);
    const session = await createSession(engineOf(twoKernels()), open);
    expect(toNumbers((await session.run(request(3)))['y']!)).toEqual([8, 4, 6, 8, 10]);
    await session.dispose();
    open.destroy();
  });
});

describe('engines that are broken', () => {
  it('are refused before anything is allocated', async () => {
    const open = await validatingDevice();
    const engine = engineOf(twoKernels());
    const plan = engine.header.backendData as { readonly version: number };
    const altered = (header: object) => createSession({ ...engine, header: { ...engine.header, ...header } }, open);
    expect(await codeOf(altered({ backendData: { ...plan, version: 99 } }))).toBe('ENGINE_INVALID');
    expect(await codeOf(altered({ backendData: null }))).toBe('ENGINE_INVALID');
    expect(await codeOf(altered({ inputs: [] }))).toBe('ENGINE_INVALID');
    expect(await codeOf(altered({ layers: [] }))).toBe('ENGINE_INVALID');
    expect(await codeOf(createSession({ ...engine, parts: new Map() }, open))).toBe('ENGINE_INVALID');
    open.destroy();
  });

  it('are refused where their grids are beyond the device, which stays sound for others', async () => {
    const open = await validatingDevice();
    const engine = engineOf(twoKernels());
    const plan = engine.header.backendData as { readonly steps: readonly object[] };
    const steps = plan.steps.map((step) => ({ ...step, ...('workgroups' in step && { workgroups: [70_000, 1, 1] }) }));
    const session = await createSession(engine, open);
    expect(await codeOf(createSession({ ...engine, header: { ...engine.header, backendData: { ...plan, steps } } }, open))).toBe('ENGINE_INVALID');
    await session.run(request(1));
    open.destroy();
  });

  it('load and leave a thousand times', { timeout: 60_000 }, async () => {
    const open = await validatingDevice();
    const engine = engineOf(twoKernels());
    const cycle = async (count: number): Promise<number> => {
      for (let i = 0; i < count; i++) await (await createSession(engine, open)).dispose();
      return process.memoryUsage().rss;
    };
    const settled = await cycle(500);
    // 500 sessions that each leaked their 4 KB of buffers and staging alone would take 2 MB; objects would take far more.
    expect((await cycle(500)) - settled).toBeLessThan(30e6);
    open.destroy();
  });
});
