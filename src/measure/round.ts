/** One round of one case, inside the worker: warm-up until steady, then the scenario's samples. */
import type { Session, TensorMap } from '../backends/backend.ts';
import type { Scenario } from '../results/record.ts';
import type { TimeSource } from './clock.ts';
import { openLanes } from './lanes.ts';
import { readClockMhz, watchCpuLoad } from './machine.ts';
import type { RoundReading, TimingPolicy } from './messages.ts';
import { timeLoad } from './scenarios.ts';
import { warmUp, warmupPolicy } from './warmup.ts';

/** A sample is at least this many quanta of the clock, so that the quantum is at most 0.1 % of it. */
const QUANTA_PER_SAMPLE = 1000;

/** The loop around a sample takes two to four microseconds, the more the colder its code is; of this it is below 1 %. */
const SHORTEST_SAMPLE_NS = 500_000;

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
  /** Of arrival times. */
  readonly seed: number;
  /** The warm-up is over. */
  onSampling(): void;
}

export async function measureRound(options: RoundOptions): Promise<RoundReading> {
  const { session, clock, scenario, timing, seed, onSampling } = options;
  const startedAt = new Date().toISOString();
  const minSampleNs = shortestSampleNs(options.quantumNs);
  const streams = scenario.name === 'single-stream' ? 1 : scenario.streams;
  const lanes = await openLanes(session, options.inputs, streams, scenario.transfers);
  try {
    const step = async (repeat: number): Promise<void> => {
      await Promise.all(Array.from({ length: lanes.count }, () => lanes.request(repeat)));
    };
    const policy = warmupPolicy(session.device.kind, timing.maxWarmupMs);
    collectGarbage();
    const warmup = await warmUp(step, clock, policy, minSampleNs);
    // After the warm-up: a device that idled would show its resting clock here and not what the samples will see.
    const yardstickNs = await session.yardstick?.();
    onSampling();
    const cpuLoad = watchCpuLoad();
    const startMs = performance.now();
    const timings = await timeLoad({ lanes, clock, scenario, policy: timing, executionNs: warmup.executionNs, minSampleNs, seed });
    return {
      ...timings,
      ...(session.clock?.source === 'program' && { wallElapsedNs: (performance.now() - startMs) * 1e6 }),
      startedAt,
      warmup: warmup.reading,
      yardstick: yardstickNs === undefined ? [] : [{ workload: 'gpu', durationNs: yardstickNs }],
      cpuLoad: cpuLoad(),
      clockMhz: readClockMhz(),
    };
  } finally {
    await lanes.dispose();
  }
}

/** Garbage of loading should not be collected in a sample. Workers are started with --expose-gc; elsewhere nothing happens. */
export function collectGarbage(): void {
  globalThis.gc?.();
}
