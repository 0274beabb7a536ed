/** What the rounds of a case say against trusting them: derived from the readings, nothing measured again. */
import type { Case, RecordWarning, Round, YardstickReading } from '../results/record.ts';
import { tukeyOutliers } from '../stats/describe.ts';
import { samplesNeeded } from '../stats/interval.ts';
import { quantile, sortSamples } from '../stats/samples.ts';

/** Share of the machine's cores that others may keep busy. */
const BUSY_SHARE = 0.15;

/** Ratio of a yardstick's slowest to its fastest round from which on the machine has drifted. */
const DRIFT_RATIO = 1.1;

/** Share of outliers in a round that is more than a machine's usual interruptions. */
const OUTLIER_SHARE = 0.1;

/** Of a request's time, what the device works at least where the host keeps up with it. */
const DEVICE_SHARE = 0.75;

/** Percentiles that reports show; the lowest that the samples can't bound is named. */
const REPORTED_PERCENTILES = [50, 95, 99];

export interface WarningInput {
  readonly case: Case;
  readonly rounds: readonly Round[];
  readonly plannedRounds: number;
  /** Of the clock. */
  readonly quantumNs: number;
  readonly cores: number;
}

/** In a fixed order, each kind at most once per cause. */
export function warningsOf(input: WarningInput): readonly RecordWarning[] {
  return [
    ...notSteady(input),
    ...busyMachine(input),
    ...clockQuantum(input),
    ...fewSamples(input),
    ...drift(input),
    ...outliers(input),
    ...hostBound(input),
    ...overloaded(input),
    ...fewerRounds(input),
  ];
}

function notSteady({ rounds }: WarningInput): RecordWarning[] {
  const unsteady = rounds.filter(({ warmup }) => !warmup.steady).length;
  return unsteady > 0 ? [{ kind: 'not-steady', rounds: unsteady }] : [];
}

function busyMachine({ rounds, cores }: WarningInput): RecordWarning[] {
  const loadAverage = quantile(sortSamples(rounds.map(({ cpuLoad }) => cpuLoad)), 0.5);
  return loadAverage > BUSY_SHARE * cores ? [{ kind: 'busy-machine', loadAverage, cores }] : [];
}

/** Offline samples hold many requests by design. */
function clockQuantum({ case: { scenario }, rounds, quantumNs }: WarningInput): RecordWarning[] {
  const executionsPerSample = Math.max(...rounds.map((round) => round.executionsPerSample));
  if (scenario.name === 'offline' || executionsPerSample === 1) return [];
  return [{ kind: 'clock-quantum', quantumNs, executionsPerSample }];
}

/** Offline samples stand for throughput and have no percentiles worth the name. */
function fewSamples({ case: { scenario }, rounds }: WarningInput): RecordWarning[] {
  const samples = rounds.reduce((sum, { samplesNs }) => sum + samplesNs.length, 0);
  const percentile = REPORTED_PERCENTILES.find((percentile) => samples < samplesNeeded(percentile / 100));
  return percentile === undefined || scenario.name === 'offline' ? [] : [{ kind: 'few-samples', samples, percentile }];
}

function drift({ rounds }: WarningInput): RecordWarning[] {
  const byWorkload = new Map<YardstickReading['workload'], number[]>();
  for (const { workload, durationNs } of rounds.flatMap(({ yardstick }) => yardstick)) {
    byWorkload.set(workload, [...(byWorkload.get(workload) ?? []), durationNs]);
  }
  return [...byWorkload].flatMap(([yardstick, durations]): RecordWarning[] => {
    const ratio = Math.max(...durations) / Math.min(...durations);
    return ratio > DRIFT_RATIO ? [{ kind: 'drift', yardstick, ratio }] : [];
  });
}

/** Counted inside each round, against its own quartiles: a shift between rounds is no outlier. */
function outliers({ rounds }: WarningInput): RecordWarning[] {
  let outside = 0;
  let total = 0;
  for (const { samplesNs } of rounds) {
    const { mildLow, mildHigh, severeLow, severeHigh } = tukeyOutliers(sortSamples(samplesNs));
    outside += mildLow + mildHigh + severeLow + severeHigh;
    total += samplesNs.length;
  }
  const share = outside / total;
  return share > OUTLIER_SHARE ? [{ kind: 'outliers', share }] : [];
}

/** Requests one at a time, without transfers, wait for the device alone where the host keeps up. */
function hostBound({ case: { scenario }, rounds }: WarningInput): RecordWarning[] {
  const ofDevice = rounds.flatMap(({ deviceNs }) => deviceNs ?? []);
  if (scenario.name !== 'single-stream' || scenario.transfers || ofDevice.length === 0) return [];
  const latencyNs = quantile(sortSamples(rounds.flatMap(({ samplesNs, executionsPerSample }) => samplesNs.map((ns) => ns / executionsPerSample))), 0.5);
  const deviceNs = quantile(sortSamples(ofDevice), 0.5);
  return deviceNs < DEVICE_SHARE * latencyNs ? [{ kind: 'host-bound', latencyNs, deviceNs }] : [];
}

/** Standard deviations of Poisson arrivals that a burst of them is allowed. */
const BURST = 4;

/**
 * Whether requests came sooner than they were served: the queue then grows for as long as they come, and what latency is says how long that was. Rounds
 * that took longer than the arrivals did, and one request after the last of them.
 */
function overloaded({ case: { scenario }, rounds }: WarningInput): RecordWarning[] {
  const { targetQps } = scenario;
  if (targetQps === undefined) return [];
  const requests = rounds.reduce((sum, round) => sum + round.requests, 0);
  const elapsedS = rounds.reduce((sum, { elapsedNs }) => sum + elapsedNs, 0) / 1e9;
  const servedS = rounds.reduce((sum, { samplesNs }) => sum + quantile(sortSamples(samplesNs), 0.5), 0) / 1e9;
  const arrivalsS = (requests + BURST * Math.sqrt(requests)) / targetQps;
  return elapsedS - servedS > arrivalsS ? [{ kind: 'overloaded', offeredQps: targetQps, answeredQps: requests / elapsedS }] : [];
}

function fewerRounds({ rounds, plannedRounds }: WarningInput): RecordWarning[] {
  if (rounds.length === plannedRounds) return [];
  return [{ kind: 'notice', text: `the time budget ended after ${rounds.length} of ${plannedRounds} rounds` }];
}
