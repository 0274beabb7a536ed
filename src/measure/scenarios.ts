/**
 * How load is offered and timed: MLPerf Inference's four scenarios (Reddi et al., "MLPerf Inference Benchmark", ISCA 2020).
 *
 * - single-stream: one request after another; a sample is a request's latency.
 * - multi-stream: several streams, each one request after another; a sample is a request's latency, waiting for a lane included.
 * - offline: everything is there at the start; a sample is a burst, `executionsPerSample` requests issued at once, and stands
 *   for throughput: its time per request is no latency.
 * - server: requests arrive by a Poisson process at a rate, whether or not earlier ones have ended; latency counts from the
 *   scheduled arrival, so that a stall delays every request behind it as it does for users. A closed loop would omit those
 *   (G. Tene's "coordinated omission"; Schroeder, Wierman and Harchol-Balter, "Open Versus Closed", NSDI 2006).
 *
 * tinybench drives the three closed loops. Samples are taken by our own clock and handed to it (`overriddenDuration`), because it
 * keeps its samples sorted and the order of measurement matters here; it is given no clock to read in vain.
 */
import { Bench } from 'tinybench';
import type { Scenario } from '../results/record.ts';
import { createRandom, exponential } from '../stats/random.ts';
import type { TimeSource } from './clock.ts';
import type { Lanes } from './lanes.ts';

/** How much of a round is spent on samples. */
export interface SamplePolicy {
  /** Time that the samples of one round should take together. */
  readonly sampleMs: number;
  /** Fewest and most samples in a round; they win over the time. */
  readonly minSamples: number;
  readonly maxSamples: number;
}

export interface Load {
  readonly lanes: Lanes;
  readonly clock: TimeSource;
  readonly scenario: Scenario;
  readonly policy: SamplePolicy;
  /** Estimated time of one execution on every lane at once, from the warm-up. */
  readonly executionNs: number;
  /** A sample should last at least this long, or the clock's quantum shows in it. */
  readonly minSampleNs: number;
  /** Of the arrival times. */
  readonly seed: number;
}

/** In measurement order; see Round for the meanings. */
export interface Timings {
  readonly samplesNs: readonly number[];
  readonly executionsPerSample: number;
  readonly requests: number;
  readonly elapsedNs: number;
  /** Where requests are collected. */
  readonly batches?: number;
}

/** A round of offline load is cut into about this many bursts. */
const OFFLINE_BURSTS = 20;

/**
 * Times one round's load, or a part of it: `extent` says how much, `load.policy` how bursts are cut, so that all parts of a round
 * have samples of one size. Errors of the session reject.
 */
export function timeLoad(load: Load, extent: SamplePolicy = load.policy): Promise<Timings> {
  const { name, streams } = load.scenario;
  const repeat = Math.max(1, Math.ceil(load.minSampleNs / Math.max(1, load.executionNs)));
  switch (name) {
    case 'single-stream':
      return timeLoop(load, extent, { streams: 1, repeat, issue: () => load.lanes.request(repeat), requestsPerSample: repeat });
    case 'multi-stream':
      return timeLoop(load, extent, { streams, repeat, issue: () => load.lanes.request(repeat), requestsPerSample: repeat });
    case 'offline':
      return timeOffline(load, extent, repeat);
    case 'server':
      return timeServer(load, extent);
    default:
      return name satisfies never;
  }
}

interface Loop {
  /** Samples under way at once. */
  readonly streams: number;
  /** Executions in a row inside a sample. */
  readonly repeat: number;
  readonly requestsPerSample: number;
  issue(): Promise<unknown>;
}

/** A closed loop: each stream issues its next sample when its last has ended. */
async function timeLoop({ clock, executionNs, lanes }: Load, extent: SamplePolicy, loop: Loop): Promise<Timings> {
  const wanted = ((extent.sampleMs * 1e6) / Math.max(1, executionNs * loop.repeat)) * Math.min(loop.streams, lanes.count);
  const count = clampCount(wanted, extent);
  const samplesNs: number[] = [];
  let firstNs = Infinity;
  let lastNs = 0;
  const sample = async (): Promise<{ readonly overriddenDuration: number }> => {
    const startNs = clock.nowNs();
    await loop.issue();
    const endNs = clock.nowNs();
    if (startNs < firstNs) firstNs = startNs;
    lastNs = endNs;
    samplesNs.push(endNs - startNs);
    return { overriddenDuration: (endNs - startNs) / 1e6 };
  };
  const concurrency = loop.streams > 1 ? ({ concurrency: 'task', threshold: loop.streams } as const) : {};
  const bench = new Bench({ ...concurrency, iterations: count, time: 0, warmup: false, throws: true, now: () => 0 });
  await bench.add('samples', sample, { async: true }).run().catch(throwFirst);
  return {
    samplesNs,
    executionsPerSample: loop.requestsPerSample,
    requests: samplesNs.length * loop.requestsPerSample,
    elapsedNs: lastNs - firstNs,
  };
}

/** Streams that fail together come as one AggregateError; the first of them is the cause. */
function throwFirst(error: unknown): never {
  throw error instanceof AggregateError ? error.errors[0] : error;
}

/** Bursts, one after another; a burst keeps every lane busy and holds at least as many requests as the scenario has streams. */
function timeOffline(load: Load, extent: SamplePolicy, minRepeat: number): Promise<Timings> {
  const { lanes, scenario, policy } = load;
  const fill = Math.floor((policy.sampleMs * 1e6) / OFFLINE_BURSTS / Math.max(1, load.executionNs));
  const repeat = Math.max(minRepeat, Math.ceil(scenario.streams / lanes.count), fill);
  const issue = (): Promise<unknown> => Promise.all(Array.from({ length: lanes.count }, () => lanes.request(repeat)));
  return timeLoop(load, extent, { streams: 1, repeat, issue, requestsPerSample: repeat * lanes.count });
}

/** An open loop: arrivals are scheduled beforehand and nothing that happens moves them. */
async function timeServer({ clock, lanes, scenario, seed }: Load, extent: SamplePolicy): Promise<Timings> {
  const ratePerSecond = scenario.targetQps;
  if (ratePerSecond === undefined) throw new Error('a server scenario has a target rate');
  const random = createRandom(seed);
  const count = clampCount((ratePerSecond * extent.sampleMs) / 1e3, extent);
  const samplesNs: number[] = Array.from({ length: count }, () => 0);
  const underWay = new Set<Promise<void>>();
  const startNs = clock.nowNs();
  let endNs = startNs;
  const failures: unknown[] = [];
  const serve = async (index: number, scheduledNs: number): Promise<void> => {
    try {
      await lanes.request(1);
      endNs = clock.nowNs();
      samplesNs[index] = endNs - scheduledNs;
    } catch (error) {
      failures.push(error);
      throw error;
    }
  };
  const batchesBefore = lanes.batches?.() ?? 0;
  let arrivalNs = startNs;
  for (let i = 0; i < count && failures.length === 0; i++) {
    arrivalNs += exponential(ratePerSecond, random) * 1e9;
    await clock.waitUntil(arrivalNs, () => Promise.allSettled(underWay));
    const request = serve(i, arrivalNs);
    underWay.add(request);
    // A failed request stays in the set, for the last line to reject with.
    request.then(() => underWay.delete(request)).catch(() => false);
  }
  await Promise.all(underWay);
  return { samplesNs, executionsPerSample: 1, requests: count, elapsedNs: endNs - startNs, ...(lanes.batches && { batches: lanes.batches() - batchesBefore }) };
}

function clampCount(wanted: number, { minSamples, maxSamples }: SamplePolicy): number {
  return Math.max(minSamples, Math.min(maxSamples, Math.ceil(wanted)));
}
