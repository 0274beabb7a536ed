/** One round of one case, inside the worker: warm-up until steady, then the scenario's samples. */
import type { Session, TensorMap } from '../backends/backend.ts';
import type { Scenario } from '../results/record.ts';
import type { TimeSource } from './clock.ts';
import { openBatchedLanes, openLanes } from './lanes.ts';
import { readClockMhz, watchCpuLoad } from './machine.ts';
import type { RoundReading, RoundReply, SliceOrder, TimingPolicy } from './messages.ts';
import { timeLoad, type Timings } from './scenarios.ts';
import { warmupPolicy, type WarmUps } from './warmup.ts';

/** A sample is at least this many quanta of the clock, so that the quantum is at most 0.1 % of it. */
const QUANTA_PER_SAMPLE = 1000;

/**
 * The loop around a sample takes two to four microseconds, the more the colder its code is; of this it is below 2 %. It is no longer than
 * that needs, because executions timed together are queued together: on a GPU that hides a part of what each takes by itself.
 */
const SHORTEST_SAMPLE_NS = 200_000;

/** How long a sample must last by a clock of this quantum; a simulated clock (quantum 0) is exact for any. */
export function shortestSampleNs(quantumNs: number): number {
  return quantumNs === 0 ? 0 : Math.max(QUANTA_PER_SAMPLE * quantumNs, SHORTEST_SAMPLE_NS);
}

export interface RoundOptions {
  readonly session: Session;
  readonly inputs: TensorMap;
  readonly clock: TimeSource;
  /** Of the clock. */
  readonly quantumNs: number;
  readonly scenario: Scenario;
  readonly timing: TimingPolicy;
  /** Of this process. */
  readonly warmUps: WarmUps;
  /** Of arrival times. */
  readonly seed: number;
  /** The warm-up is over. */
  onSampling(): void;
}

/** What a round gave, and what the worker itself took of the machine meanwhile. */
export type ClosedRound = Pick<RoundReply, 'reading' | 'ownLoad'>;

/** A round on its way: warmed up, its samples taken in parts. After an error it is over. */
export interface OpenRound {
  /** Of one execution, at the end of the warm-up. */
  readonly executionNs: number;
  slice(order: SliceOrder): Promise<void>;
  close(): Promise<ClosedRound>;
}

/** A round in one go. */
export async function measureRound(options: RoundOptions): Promise<ClosedRound> {
  const round = await openRound(options);
  await round.slice({ extent: options.timing, executionNs: round.executionNs });
  return round.close();
}

/** Warms up until steady. */
export async function openRound(options: RoundOptions): Promise<OpenRound> {
  const { session, clock, scenario, timing, seed, onSampling } = options;
  const startedAt = new Date().toISOString();
  const minSampleNs = shortestSampleNs(options.quantumNs);
  const streams = scenario.name === 'single-stream' ? 1 : scenario.streams;
  const lanes = await openLanes(session, options.inputs, streams, scenario.transfers);
  const orDispose = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      await lanes.dispose();
      throw error;
    }
  };
  const step = async (repeat: number): Promise<void> => {
    await Promise.all(Array.from({ length: lanes.count }, () => lanes.request(repeat)));
  };
  const { yardstick, ...warmup } = await orDispose(() => {
    collectGarbage();
    // The yardstick comes at its end: a device that idled would show its resting clock before and not what the samples will see.
    const load = { step, clock, minStepNs: minSampleNs, yardstick: session.yardstick && (() => session.yardstick!()) };
    return options.warmUps.run(load, warmupPolicy(session.device.kind, timing.maxWarmupMs));
  });
  // The device is warmed up by whole batches either way.
  const offered = await orDispose(async () => (scenario.maxQueueDelayMs === undefined ? lanes : openBatchedLanes(session, options.inputs, streams, scenario.maxQueueDelayMs)));
  onSampling();
  const parts: Part[] = [];
  let cpuLoad: ReturnType<typeof watchCpuLoad> | undefined;
  let load = { others: 0, own: 0 };
  return {
    executionNs: warmup.executionNs,
    slice: ({ extent, executionNs }) =>
      orDispose(async () => {
        cpuLoad ??= watchCpuLoad();
        const startMs = performance.now();
        const timings = await timeLoad({ lanes: offered, clock, scenario, policy: timing, executionNs, minSampleNs, seed }, extent);
        parts.push({ ...timings, wallElapsedNs: (performance.now() - startMs) * 1e6 });
        // Until the last slice: what comes after the samples is no load on them.
        load = cpuLoad();
      }),
    async close() {
      const { wallElapsedNs, ...timings } = joinParts(parts);
      const deviceNs = await orDispose(async () => session.deviceTime?.());
      if (offered !== lanes) await offered.dispose();
      await lanes.dispose();
      const reading: RoundReading = {
        ...timings,
        ...(session.clock?.source === 'program' && { wallElapsedNs }),
        ...(deviceNs !== undefined && isTime(deviceNs) && { deviceNs }),
        startedAt,
        warmup: warmup.reading,
        yardstick: yardstick && isTime(yardstick.durationNs) ? [{ workload: yardstick.clock === 'device' ? 'gpu-clock' : 'gpu', durationNs: yardstick.durationNs }] : [],
        cpuLoad: load.others,
        clockMhz: readClockMhz(),
      };
      return { reading, ownLoad: load.own };
    },
  };
}

/** What a device's clock says is taken for a time where it can be one. */
function isTime(ns: number): boolean {
  return Number.isFinite(ns) && ns > 0;
}

type Part = Timings & { readonly wallElapsedNs: number };

/** The parts of a round as one, in the order in which they were taken. */
function joinParts(parts: readonly Part[]): Part & Pick<RoundReading, 'slices'> {
  const sum = (of: (part: Part) => number): number => parts.reduce((total, part) => total + of(part), 0);
  return {
    samplesNs: parts.flatMap(({ samplesNs }) => samplesNs),
    executionsPerSample: parts[0]?.executionsPerSample ?? 1,
    requests: sum(({ requests }) => requests),
    elapsedNs: sum(({ elapsedNs }) => elapsedNs),
    ...(parts[0]?.batches !== undefined && { batches: sum(({ batches = 0 }) => batches) }),
    wallElapsedNs: sum(({ wallElapsedNs }) => wallElapsedNs),
    ...(parts.length > 1 && { slices: parts.map(({ samplesNs, elapsedNs }) => ({ samples: samplesNs.length, elapsedNs })) }),
  };
}

/** Garbage of loading should not be collected in a sample. Workers are started with --expose-gc; elsewhere nothing happens. */
export function collectGarbage(): void {
  globalThis.gc?.();
}
