/** Warm-up, scenarios and lanes on simulated time. */
import { describe, expect, test } from 'vitest';
import type { DeviceYardstick, Session, TensorMap } from '../../../src/backends/backend.ts';
import { openNullSession } from '../../../src/backends/null/session.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { createSessionClock, createSystemClock, measureQuantum } from '../../../src/measure/clock.ts';
import { seededInputs } from '../../../src/measure/inputs.ts';
import { openLanes } from '../../../src/measure/lanes.ts';
import { measureRound, shortestSampleNs } from '../../../src/measure/round.ts';
import { type Timings, timeLoad } from '../../../src/measure/scenarios.ts';
import { WarmUps, type WarmupPolicy, warmupPolicy } from '../../../src/measure/warmup.ts';
import type { Scenario } from '../../../src/results/record.ts';
import { createRandom, exponential } from '../../../src/stats/random.ts';
import { sampleHeader } from '../../helpers/engine.ts';
import { SINGLE_STREAM, nullBuild } from '../../helpers/measure.ts';

const MS = 1e6;

/** A null session whose executions end in a later turn of the event loop, as a device's do. */
async function nullSession(options: Record<string, string | number> = {}): Promise<Session> {
  const session = await openNullSession({ header: sampleHeader({ options: nullBuild(options) }), parts: new Map() });
  return {
    ...session,
    async run(inputs) {
      await new Promise((resolve) => void setImmediate(resolve));
      return session.run(inputs);
    },
  };
}

async function load(scenario: Partial<Scenario>, options: Record<string, string | number> = {}, executionNs = MS): Promise<Timings> {
  const session = await nullSession(options);
  const full = { ...SINGLE_STREAM, ...scenario };
  const lanes = await openLanes(session, seededInputs(session.inputs, 1, 'full'), full.streams, full.transfers);
  const policy = { sampleMs: 100, minSamples: 5, maxSamples: 200 };
  return timeLoad({ lanes, clock: createSessionClock(session.clock!), scenario: full, policy, executionNs, minSampleNs: 0, seed: 3 });
}

describe('clock', () => {
  test('the system clock has a quantum, a simulated one reads exactly', async () => {
    const clock = createSystemClock();
    const quantum = measureQuantum(() => clock.nowNs());
    expect(quantum).toBeGreaterThan(0);
    expect(quantum).toBeLessThan(1e6);
    const { clock: simulated } = await nullSession();
    expect(measureQuantum(() => Number(simulated!.now()))).toBe(0);
  });

  test('measureQuantum finds the step of a coarse clock', () => {
    let calls = 0;
    expect(measureQuantum(() => Math.floor(calls++ / 3) * 100)).toBe(100);
  });

  test('waiting never ends early, nor waits for what is past', async () => {
    const clock = createSystemClock();
    const until = clock.nowNs() + 4 * MS;
    await clock.waitUntil(until, () => Promise.resolve());
    expect(clock.nowNs()).toBeGreaterThanOrEqual(until);
    await clock.waitUntil(0, () => Promise.resolve());
  });
});

describe('WarmUps', () => {
  const policy: WarmupPolicy = { minMs: 100, minExecutions: 3, maxMs: 1000, blockMs: 25, tolerance: 0.03 };

  /** A process on a clock of its own; `times` is of its executions, the first warm-up's and all after it. */
  function process(times: (execution: number) => number, minStepNs = 0) {
    let nowNs = 0;
    let executions = 0;
    const clock = { nowNs: () => nowNs, waitUntil: () => Promise.reject(new Error('nobody waits')) };
    const step = async (repeat: number): Promise<void> => {
      for (let i = 0; i < repeat; i++) nowNs += times(executions++);
    };
    const warmUps = new WarmUps();
    return { warmUp: (own: WarmupPolicy, yardstick?: () => Promise<DeviceYardstick>) => warmUps.run({ step, clock, minStepNs, yardstick }, own), executions: () => executions };
  }

  async function warm(times: (execution: number) => number, overrides: Partial<WarmupPolicy> = {}, minStepNs = 0) {
    const { warmUp, executions } = process(times, minStepNs);
    return { ...(await warmUp({ ...policy, ...overrides })), executions: executions() };
  }

  test('a steady load ends at the minimum', async () => {
    const { reading, executionNs, executions } = await warm(() => MS);
    expect(reading).toEqual({ executions: 100, durationMs: 100, steady: true });
    expect(executions).toBe(100);
    expect(executionNs).toBe(MS);
  });

  test('a load that still gets faster goes on until it does not', async () => {
    // A GPU that raises its clock over 300 executions.
    const { reading, executionNs } = await warm((execution) => MS * (execution < 300 ? 4 - execution / 100 : 1));
    expect(reading.steady).toBe(true);
    expect(reading.executions).toBeGreaterThan(300);
    expect(executionNs).toBe(MS);
  });

  test('one that never settles ends at the bound and says so', async () => {
    const { reading } = await warm((execution) => MS * 1.01 ** execution);
    expect(reading.steady).toBe(false);
    expect(reading.durationMs).toBeGreaterThanOrEqual(1000);
    expect(reading.durationMs).toBeLessThan(1100);
  });

  test('slow executions: three of them are enough', async () => {
    const { reading } = await warm(() => 300 * MS);
    expect(reading).toEqual({ executions: 3, durationMs: 900, steady: true });
  });

  test('executions below the clock are repeated, and the estimate is of one', async () => {
    const { reading, executionNs } = await warm(() => 100, {}, 10_000);
    expect(executionNs).toBe(100);
    expect(reading.steady).toBe(true);
  });

  test('a clock that stands still ends too', async () => {
    expect((await warm(() => 0)).reading.steady).toBe(false);
  });

  test('a GPU gets 500 ms of continuous load before anything is believed', () => {
    expect(warmupPolicy('gpu', 3000).minMs).toBe(500);
    expect(warmupPolicy('cpu', 3000)).toMatchObject({ minMs: 100, minExecutions: 3, maxMs: 3000 });
  });

  describe('a later one of the same process', () => {
    const gpu = warmupPolicy('gpu', 3000);
    const yardstick = (durationNs: number, clock: DeviceYardstick['clock'] = 'device') => () => Promise.resolve({ durationNs, clock });

    /** The second of two on a GPU: the first is steady at 1 ms after 500. */
    async function later(times: (execution: number) => number, first?: () => Promise<DeviceYardstick>, second = first) {
      const { warmUp } = process((execution) => (execution < 500 ? MS : times(execution - 500)));
      expect(await warmUp(gpu, first)).toMatchObject({ reading: { executions: 500, durationMs: 500, steady: true }, executionNs: MS });
      return warmUp(gpu, second);
    }

    test('a GPU that is as it was shows so in a fifth of the time, whatever the host does', async () => {
      for (const factor of [1.02, 1.3]) {
        const { reading, yardstick: shown } = await later(() => factor * MS, yardstick(1000), yardstick(1020));
        expect(reading).toMatchObject({ steady: true });
        expect(reading.durationMs).toBeLessThan(120);
        expect(shown).toEqual({ durationNs: 1020, clock: 'device' });
      }
    });

    test('by its executions alone: one that is slower or faster than it was takes all of it', async () => {
      expect((await later(() => 1.02 * MS)).reading.durationMs).toBeLessThan(120);
      for (const factor of [1.05, 0.95]) {
        const { reading, executionNs } = await later(() => factor * MS);
        expect(reading.durationMs).toBeGreaterThanOrEqual(500);
        expect(reading.durationMs).toBeLessThan(520);
        expect(executionNs).toBe(factor * MS);
      }
    });

    test('one that rested goes on until its clock is up', async () => {
      const { reading, executionNs } = await later((execution) => MS * (execution < 75 ? 4 : 1));
      expect(reading.durationMs).toBeGreaterThanOrEqual(500);
      expect(executionNs).toBe(MS);
    });

    test('what the host hides shows in the yardstick, by the device’s clock alone', async () => {
      const { reading } = await later(() => MS, yardstick(1000), yardstick(1900));
      expect(reading).toEqual({ executions: 500, durationMs: 500, steady: true });
      expect((await later(() => MS, yardstick(1000, 'host'), yardstick(1900, 'host'))).reading.durationMs).toBe(100);
    });

    test('levels are of warm-ups that took all of it: small steps do not add up', async () => {
      const { warmUp } = process((execution) => MS * (execution < 500 ? 1 : execution < 600 ? 1.02 : 1.04));
      const durations: number[] = [];
      for (let round = 0; round < 3; round++) durations.push(Math.round((await warmUp(gpu)).reading.durationMs / 50) * 50);
      expect(durations).toEqual([500, 100, 500]);
    });

    test('a neighbour who comes and goes makes two levels, each shown once', async () => {
      const { warmUp } = process((execution) => MS * (execution < 500 ? 1 : execution < 917 ? 1.2 : execution < 1017 ? 1 : 1.2));
      const durations: number[] = [];
      for (let round = 0; round < 4; round++) durations.push(Math.round((await warmUp(gpu)).reading.durationMs / 50) * 50);
      expect(durations).toEqual([500, 500, 100, 100]);
    });

    test('after one that never became steady nothing is shown', async () => {
      // Its last block is of other executions than those before and after it.
      const { warmUp } = process((execution) => (execution < 400 || execution >= 450 ? MS : 2 * MS));
      const bounded = { ...gpu, maxMs: 500 };
      expect(await warmUp(bounded)).toMatchObject({ reading: { executions: 450, steady: false }, executionNs: MS });
      expect((await warmUp(bounded)).reading).toEqual({ executions: 500, durationMs: 500, steady: true });
    });

    test('three executions that take longer than the proof may are no proof', async () => {
      const { warmUp } = process(() => 80 * MS);
      expect((await warmUp(gpu)).reading).toEqual({ executions: 8, durationMs: 640, steady: true });
      expect((await warmUp(gpu)).reading).toEqual({ executions: 8, durationMs: 640, steady: true });
    });
  });
});

describe('scenarios', () => {
  test('single-stream: samples in the order in which they were measured', async () => {
    const timings = await load({}, { drift: 0.5, latencyNs: 1000 }, 2 * MS);
    expect(timings.samplesNs).toHaveLength(50);
    expect([...timings.samplesNs]).toEqual([...timings.samplesNs].sort((a, b) => a - b));
    expect(timings.samplesNs.slice(0, 3)).toEqual([1000, 1500, 2250]);
    expect(timings.elapsedNs).toBe(timings.samplesNs.reduce((sum, ns) => sum + ns, 0));
    expect(timings.requests).toBe(50);
  });

  test('the fewest and the most samples win over the time', async () => {
    expect((await load({}, {}, 1000 * MS)).samplesNs).toHaveLength(5);
    expect((await load({}, {}, 0.01 * MS)).samplesNs).toHaveLength(200);
  });

  test('multi-stream on one lane: every request but the first waits for the others', async () => {
    const timings = await load({ name: 'multi-stream', streams: 4 }, {}, MS);
    expect(timings.samplesNs[0]).toBe(MS);
    expect(timings.samplesNs.slice(4, -4).every((ns) => ns === 4 * MS)).toBe(true);
    expect(timings.requests).toBe(100);
    expect(timings.elapsedNs).toBe(100 * MS);
  });

  test('offline: a sample is a burst that holds every stream', async () => {
    const timings = await load({ name: 'offline', streams: 8, transfers: false }, { maxInFlight: 2 }, 2 * MS);
    expect(timings.executionsPerSample).toBe(8);
    expect(timings.samplesNs.every((ns) => ns === 8 * MS)).toBe(true);
    expect(timings.requests).toBe(8 * timings.samplesNs.length);
    expect(timings.elapsedNs / timings.requests).toBe(MS);
  });

  test('server: latency counts from the scheduled arrival, as a queue computed by hand has it', async () => {
    const timings = await load({ name: 'server', targetQps: 900 });
    const random = createRandom(3);
    let arrival = 0;
    let free = 0;
    const expected = timings.samplesNs.map(() => {
      arrival += exponential(900, random) * 1e9;
      free = Math.max(arrival, free) + MS;
      return free - arrival;
    });
    expect(timings.samplesNs).toHaveLength(90);
    for (const [i, ns] of timings.samplesNs.entries()) expect(Math.abs(ns - expected[i]!)).toBeLessThan(100);
    expect(Math.max(...timings.samplesNs)).toBeGreaterThan(2 * MS);
  });

  test('server beyond capacity: the queue, and with it the latency, only grows', async () => {
    const { samplesNs, requests, elapsedNs } = await load({ name: 'server', targetQps: 5000 });
    expect(samplesNs.at(-1)).toBeGreaterThan(100 * MS);
    expect((requests / elapsedNs) * 1e9).toBeLessThan(1001);
  });

  test.each(['single-stream', 'multi-stream', 'offline', 'server'] as const)('%s: the session’s error comes out as it is', async (name) => {
    const options = { fault: 'error', faultAfter: 3 };
    await expect(load({ name, streams: 2, targetQps: 10 }, options)).rejects.toMatchObject({ code: 'DEVICE_LOST' });
  });
});

describe('measureRound', () => {
  test('a server that collects requests: one item each, the batch’s items in turn, and batches counted', async () => {
    const seen: number[][] = [];
    const binding = (name: string) => ({ name, dtype: 'float32' as const, dims: [4, 1] });
    const session = {
      ...(await nullSession()),
      clock: undefined,
      header: sampleHeader({ options: { ...nullBuild(), batch: 4 } }),
      inputs: [binding('x')],
      outputs: [binding('y')],
      maxInFlight: 2,
      run: async ({ x }: TensorMap): Promise<TensorMap> => {
        seen.push(toNumbers(x!));
        await new Promise((resolve) => void setImmediate(resolve));
        return { y: x! };
      },
    } as unknown as Session;
    const timing = { sampleMs: 1, minSamples: 50, maxSamples: 50, maxWarmupMs: 200 };
    const scenario = { ...SINGLE_STREAM, name: 'server' as const, streams: 2, targetQps: 5000, maxQueueDelayMs: 1 };
    const inputs = { x: fromNumbers('float32', [4, 1], [10, 20, 30, 40]) };
    const round = { session, inputs, scenario, timing, quantumNs: 0, seed: 1, clock: createSystemClock(), warmUps: new WarmUps() };
    const { reading } = await measureRound({ ...round, onSampling: () => void seen.splice(0) });
    expect(reading.requests).toBe(50);
    expect(reading.samplesNs).toHaveLength(50);
    expect(reading.samplesNs.every((ns) => ns > 0)).toBe(true);
    expect(reading.batches).toBe(seen.length);
    expect(seen.length).toBeGreaterThanOrEqual(13);
    expect(seen.length).toBeLessThanOrEqual(50);
    // Padding repeats the first of a batch.
    let next = 0;
    for (const values of seen) {
      expect(values[0]).toBe(10 + 10 * (next % 4));
      const padding = values.indexOf(values[0]!, 1);
      next += padding === -1 ? 4 : padding;
    }
    expect(next).toBe(50);

    const simulated = { ...session, clock: (await nullSession()).clock! };
    await expect(measureRound({ ...round, session: simulated, clock: createSessionClock(simulated.clock), onSampling: () => {} })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('only on a real clock'),
    });
  });

  test('repeats inside a sample what is too short for the clock', async () => {
    const session = await nullSession({ latencyNs: 1000 });
    const timing = { sampleMs: 1, minSamples: 5, maxSamples: 20, maxWarmupMs: 200 };
    const scenario = { ...SINGLE_STREAM, transfers: false };
    const options = { inputs: seededInputs(session.inputs, 1, 'full'), clock: createSessionClock(session.clock!), scenario };
    const { reading } = await measureRound({ ...options, session, timing, quantumNs: 500, seed: 1, warmUps: new WarmUps(), onSampling: () => {} });
    expect(reading.executionsPerSample).toBe(500);
    expect(reading.samplesNs).toEqual(Array.from({ length: 5 }, () => 500_000));
    expect(reading.requests).toBe(500 * 5);
  });

  test('reads a device’s own yardstick after the warm-up', async () => {
    const session: Session = { ...(await nullSession()), yardstick: () => Promise.resolve({ durationNs: 1234, clock: 'device' as const }) };
    const timing = { sampleMs: 1, minSamples: 1, maxSamples: 1, maxWarmupMs: 200 };
    const options = { inputs: seededInputs(session.inputs, 1, 'full'), clock: createSessionClock(session.clock!), scenario: SINGLE_STREAM };
    const { reading } = await measureRound({ ...options, session, timing, quantumNs: 0, seed: 1, warmUps: new WarmUps(), onSampling: () => {} });
    expect(reading.yardstick).toEqual([{ workload: 'gpu-clock', durationNs: 1234 }]);
    expect(reading.deviceNs).toBeUndefined();
  });

  test('asks a device with a clock of its own what an execution takes it', async () => {
    const session: Session = { ...(await nullSession()), deviceTime: () => Promise.resolve(900) };
    const timing = { sampleMs: 1, minSamples: 1, maxSamples: 1, maxWarmupMs: 200 };
    const options = { inputs: seededInputs(session.inputs, 1, 'full'), clock: createSessionClock(session.clock!), scenario: SINGLE_STREAM };
    const { reading } = await measureRound({ ...options, session, timing, quantumNs: 0, seed: 1, warmUps: new WarmUps(), onSampling: () => {} });
    expect(reading.deviceNs).toBe(900);
  });

  test('what no time can be is no reading', async () => {
    for (const ns of [0, -5, Number.NaN, Number.POSITIVE_INFINITY]) {
      const session: Session = { ...(await nullSession()), deviceTime: () => Promise.resolve(ns), yardstick: () => Promise.resolve({ durationNs: ns, clock: 'host' as const }) };
      const timing = { sampleMs: 1, minSamples: 1, maxSamples: 1, maxWarmupMs: 200 };
      const options = { inputs: seededInputs(session.inputs, 1, 'full'), clock: createSessionClock(session.clock!), scenario: SINGLE_STREAM };
      const { reading } = await measureRound({ ...options, session, timing, quantumNs: 0, seed: 1, warmUps: new WarmUps(), onSampling: () => {} });
      expect([reading.deviceNs, reading.yardstick]).toEqual([undefined, []]);
    }
  });
});

test('shortestSampleNs: a thousand quanta, and not below 200 µs where time is real', () => {
  expect([0, 1, 500, 1000].map(shortestSampleNs)).toEqual([0, 200_000, 500_000, 1_000_000]);
});
