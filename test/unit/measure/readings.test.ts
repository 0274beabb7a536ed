/** What is read from the machine and derived from rounds. */
import { describe, expect, test } from 'vitest';
import { NULL_DEVICE } from '../../../src/backends/null/session.ts';
import { toNumbers } from '../../../src/ir/tensor.ts';
import { readEnvironment } from '../../../src/measure/environment.ts';
import { exitFailure, reportedFailure } from '../../../src/measure/failure.ts';
import { seededInputs } from '../../../src/measure/inputs.ts';
import { readClockMhz, watchCpuLoad } from '../../../src/measure/machine.ts';
import { readResident } from '../../../src/measure/memory.ts';
import { completedOutcome } from '../../../src/measure/outcome.ts';
import { type WarningInput, warningsOf } from '../../../src/measure/warnings.ts';
import { createYardstick } from '../../../src/measure/yardstick.ts';
import type { Round } from '../../../src/results/record.ts';
import { availableCores } from '../../../src/system.ts';
import { nullCase, sampleRound } from '../../helpers/measure.ts';

describe('environment', () => {
  const files = (entries: Record<string, string>) => (path: string) => entries[path];

  test.each([
    ['no quota', {}, 8],
    ['cgroup v2', { '/sys/fs/cgroup/cpu.max': '200000 100000' }, 2],
    ['cgroup v2, a fraction', { '/sys/fs/cgroup/cpu.max': '150000 100000' }, 2],
    ['cgroup v2 without limit', { '/sys/fs/cgroup/cpu.max': 'max 100000' }, 8],
    ['cgroup v1', { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '300000', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000' }, 3],
    ['cgroup v1 without limit', { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000' }, 8],
    ['a quota beyond the machine', { '/sys/fs/cgroup/cpu.max': '9900000 100000' }, 8],
  ])('cores with %s', (_, entries, cores) => {
    expect(availableCores(files(entries), 8)).toBe(cores);
  });

  test('names the machine, and the versions of what is installed', () => {
    const environment = readEnvironment({
      device: NULL_DEVICE,
      packages: ['tinybench', '@oclif/core', 'no-such-package'],
      read: (path) => (path.endsWith('scaling_governor') ? 'powersave' : undefined),
    });
    expect(environment).toMatchObject({ device: NULL_DEVICE, node: process.version, cpu: { governor: 'powersave' } });
    expect(environment.memoryBytes).toBeGreaterThan(2 ** 26);
    expect(Object.keys(environment.packages)).toEqual(['tinybench', '@oclif/core']);
    expect(environment.packages['tinybench']).toMatch(/^6\./);
  });

  test('the clock is the mean of the cores', () => {
    expect(readClockMhz((path) => (path.includes('cpu0') ? '2000000' : '3000000'))).toBeGreaterThanOrEqual(2000);
    expect(readClockMhz((path) => (path.includes('cpu0') ? '2000000' : undefined))).toBe(2000);
  });

  test('the load of others is not negative', () => {
    expect(watchCpuLoad()().others).toBeGreaterThanOrEqual(0);
  });
});

describe('memory', () => {
  test('reads proc(5), and Node where there is none', () => {
    expect(readResident('VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n')).toEqual({ nowBytes: 2 ** 20, peakBytes: 2 ** 21 });
    const { nowBytes, peakBytes } = readResident('');
    expect(nowBytes).toBeGreaterThan(2 ** 24);
    expect(peakBytes).toBeGreaterThanOrEqual(nowBytes);
  });
});

describe('yardstick', () => {
  test('reads the whole at the speed of the median piece: interruptions of fewer than half do not show', () => {
    let nowNs = 0;
    let readings = 0;
    // Two looks at the clock of five come late.
    const clock = { nowNs: () => (nowNs += ++readings % 5 < 2 ? 1000 : 5), waitUntil: () => Promise.resolve() };
    const read = createYardstick({ clock, arithmeticSteps: 1200, copyBytes: 64 });
    expect(read()).toEqual([
      { workload: 'cpu-arithmetic', durationNs: 12 * 5 },
      { workload: 'memory', durationNs: 8 * 5 },
    ]);
  });
});

describe('seededInputs', () => {
  test('floats are normal variates, integers and booleans are 0 or 1, the seed decides', () => {
    const bindings = [
      { name: 'x', dtype: 'float32', dims: [1000] },
      { name: 'half', dtype: 'float16', dims: [2, 3] },
      { name: 'ids', dtype: 'int64', dims: [200] },
      { name: 'mask', dtype: 'bool', dims: [200] },
    ] as const;
    const inputs = seededInputs(bindings, 5, 'full');
    const x = toNumbers(inputs['x']!);
    expect(Math.abs(x.reduce((sum, value) => sum + value, 0) / 1000)).toBeLessThan(0.1);
    expect(inputs['half']).toMatchObject({ dtype: 'float16', dims: [2, 3] });
    expect(inputs['half']!.data).toHaveLength(12);
    for (const name of ['ids', 'mask']) expect(new Set(toNumbers(inputs[name]!))).toEqual(new Set([0, 1]));
    expect(seededInputs(bindings, 5, 'full')).toEqual(inputs);
    expect(seededInputs(bindings, 6, 'full')).not.toEqual(inputs);
  });

  test('attention masks are full where a request is timed', () => {
    const bindings = [
      { name: 'attention_mask', dtype: 'int64', dims: [1, 40] },
      { name: 'decoder_attention_mask', dtype: 'bool', dims: [1, 40] },
      { name: 'no_attention_mask_type', dtype: 'int64', dims: [1, 40] },
    ] as const;
    const found = (masks: 'full' | 'drawn') => Object.values(seededInputs(bindings, 5, masks)).map((tensor) => new Set(toNumbers(tensor)).size);
    expect(found('full')).toEqual([1, 1, 2]);
    expect(found('drawn')).toEqual([2, 2, 2]);
  });
});

describe('failures', () => {
  test.each([
    ['FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory', null, 'SIGABRT', false, 'out-of-memory'],
    ["terminate called after throwing an instance of 'std::bad_alloc'", null, 'SIGABRT', false, 'out-of-memory'],
    ['', null, 'SIGKILL', true, 'out-of-memory'],
    ['', null, 'SIGKILL', false, 'crashed'],
    ['', null, 'SIGSEGV', true, 'crashed'],
    ['', 3, null, false, 'crashed'],
  ] as const)('%j, status %j, signal %j, kernel killed %j: %s', (stderr, code, signal, oomKilled, cause) => {
    const failure = exitFailure('warmup', { code, signal, oomKilled }, stderr);
    expect(failure).toMatchObject({ stage: 'warmup', cause, stderr });
    expect(failure.error.message).toContain(signal ?? 'status 3');
  });

  test('a reported error is out of memory by its code or its words', () => {
    expect(reportedFailure('load', { code: 'OUT_OF_MEMORY', message: 'x' }, '').cause).toBe('out-of-memory');
    expect(reportedFailure('load', { code: 'INTERNAL', message: 'Array buffer allocation failed' }, '').cause).toBe('out-of-memory');
    expect(reportedFailure('load', { code: 'DEVICE_LOST', message: 'x' }, '').cause).toBe('error');
  });
});

describe('warningsOf', () => {
  const input = (rounds: readonly Round[], overrides: Partial<WarningInput> = {}): WarningInput => ({
    case: nullCase({ id: 'a' }).case,
    rounds,
    plannedRounds: rounds.length,
    quantumNs: 40,
    cores: 2,
    ...overrides,
  });

  test('rounds in which nothing is remarkable give none', () => {
    expect(warningsOf(input([sampleRound(), sampleRound()]))).toEqual([]);
  });

  test('names what is wrong with the rounds', () => {
    const unsteady = sampleRound({ warmup: { executions: 5, durationMs: 3000, steady: false }, cpuLoad: 1 });
    expect(warningsOf(input([unsteady, unsteady, sampleRound()]))).toEqual([
      { kind: 'not-steady', rounds: 2 },
      { kind: 'busy-machine', loadAverage: 1, cores: 2 },
    ]);
    expect(warningsOf(input([sampleRound({ executionsPerSample: 30 })]))).toEqual([{ kind: 'clock-quantum', quantumNs: 40, executionsPerSample: 30 }]);
    expect(warningsOf(input([sampleRound()], { plannedRounds: 4 }))).toEqual([{ kind: 'notice', text: 'the time budget ended after 1 of 4 rounds' }]);
  });

  test('few samples: the lowest percentile that they cannot bound', () => {
    const few = (count: number) => warningsOf(input([sampleRound({ samplesNs: Array.from({ length: count }, () => 1) })]));
    expect(few(5)).toEqual([{ kind: 'few-samples', samples: 5, percentile: 50 }]);
    expect(few(50)).toEqual([{ kind: 'few-samples', samples: 50, percentile: 95 }]);
    expect(few(100)).toEqual([{ kind: 'few-samples', samples: 100, percentile: 99 }]);
    expect(few(368)).toEqual([]);
  });

  test('offline samples are large and few by design', () => {
    const offline = nullCase({ id: 'a', scenario: { name: 'offline', streams: 8 } }).case;
    expect(warningsOf(input([sampleRound({ executionsPerSample: 64, samplesNs: [1, 1, 1] })], { case: offline }))).toEqual([]);
  });

  test('drift is told from the yardstick, not from the case', () => {
    const at = (durationNs: number) => sampleRound({ yardstick: [{ workload: 'memory', durationNs }] });
    expect(warningsOf(input([at(100), at(109)]))).toEqual([]);
    expect(warningsOf(input([at(100), at(125), at(110)]))).toEqual([{ kind: 'drift', yardstick: 'memory', ratio: 1.25 }]);
    const slower = sampleRound({ samplesNs: sampleRound().samplesNs.map((ns) => 2 * ns) });
    expect(warningsOf(input([sampleRound(), slower]))).toEqual([]);
  });

  test('a device that works less than three quarters of a request waits for the host', () => {
    const bare = nullCase({ id: 'a', scenario: { transfers: false } }).case;
    const of = (deviceNs: number) => sampleRound({ deviceNs });
    expect(warningsOf(input([of(5e5), of(6e5), of(9e5)], { case: bare }))).toEqual([{ kind: 'host-bound', latencyNs: 1e6 + 3, deviceNs: 6e5 }]);
    expect(warningsOf(input([of(8e5), of(7e5), of(8e5)], { case: bare }))).toEqual([]);
    // Transfers are the host's to begin with, and several requests at once hide it.
    expect(warningsOf(input([of(5e5)]))).toEqual([]);
    expect(warningsOf(input([of(5e5)], { case: nullCase({ id: 'a', scenario: { name: 'multi-stream', streams: 2, transfers: false } }).case }))).toEqual([]);
  });

  test('a server to which requests come sooner than it answers them', () => {
    const server = (targetQps: number) => ({ case: nullCase({ id: 'a', scenario: { name: 'server', targetQps } }).case });
    // 400 requests in 0.4 s: 1000 per second. Of Poisson arrivals as many may take a fifth longer or shorter by chance.
    for (const targetQps of [500, 1000, 1150]) expect(warningsOf(input([sampleRound()], server(targetQps)))).toEqual([]);
    expect(warningsOf(input([sampleRound()], server(1300)))).toEqual([{ kind: 'overloaded', offeredQps: 1300, answeredQps: 1000 }]);
    // More rounds leave less to chance.
    expect(warningsOf(input(Array.from({ length: 20 }, () => sampleRound()), server(1150)))).toEqual([{ kind: 'overloaded', offeredQps: 1150, answeredQps: 1000 }]);
    // The last request's own time is none of the queue's.
    expect(warningsOf(input([sampleRound({ samplesNs: [9e8, 9e8], requests: 2, elapsedNs: 1e9 })], server(20)))).toEqual([{ kind: 'few-samples', samples: 2, percentile: 50 }]);
  });

  test('outliers are counted against their own round', () => {
    const spiky = sampleRound({ samplesNs: Array.from({ length: 400 }, (_, i) => (i % 8 === 0 ? 5e6 : 1e6 + (i % 7))) });
    expect(warningsOf(input([spiky]))).toEqual([{ kind: 'outliers', share: 0.125 }]);
  });
});

describe('completedOutcome', () => {
  test('joins the processes: medians of times, the memory of the one with the median peak', () => {
    const planned = { weightBytes: 1, activationBytes: 2, workspaceBytes: 3, stagingBytes: 4 };
    const sitting = (n: number) => ({
      loaded: { kind: 'loaded', loadMs: n, loadSteps: { uploadMs: n / 2, pipelinesMs: n / 4 }, residentBaselineBytes: n, residentAfterLoadBytes: 10 * n, device: NULL_DEVICE, planned, quantumNs: 0 } as const,
      answered: { kind: 'answered', firstRunMs: 2 * n, outputs: undefined } as const,
      memory: () => ({ kind: 'memory', residentPeakBytes: 100 * n, deviceBytes: n } as const),
    });
    const outcome = completedOutcome({ case: nullCase({ id: 'a' }).case, plannedRounds: 1 }, [sampleRound()], [7, 1, 3].map(sitting));
    expect(outcome).toMatchObject({
      status: 'completed',
      loadMs: 3,
      loadSteps: { uploadMs: 1.5, pipelinesMs: 0.75 },
      firstRunMs: 6,
      memory: { planned, residentBaselineBytes: 3, residentAfterLoadBytes: 30, residentPeakBytes: 300, deviceBytes: 3 },
    });
  });
});
