/**
 * The timed metrics, and the one number that each round gives for them: the quantile of its samples, its throughput, what the
 * device's own clock says, or what the start of its fresh process took. Samples inside a round share a process and a moment and are
 * not independent, so that a round counts once (Kalibera and Jones, ISMM 2013). Build times come from the builds of a run, outside of
 * its rounds.
 */
import { itemsPerRequest, latencyRoundsMs, throughputRounds } from '../results/derive.ts';
import type { CompletedRecord, Round } from '../results/record.ts';
import type { Rounds } from '../stats/rounds.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { METRICS, type MetricName } from './metrics.ts';
import { isSliced, shiftOfSlices } from './slices.ts';

export const TIMED_METRICS = ['latency-p50', 'latency-p95', 'latency-p99', 'throughput', 'device-time', 'build-time', 'load-time', 'first-inference'] as const satisfies readonly MetricName[];
export type TimedMetric = (typeof TIMED_METRICS)[number];

const QUANTILES = {
  'latency-p50': 0.5,
  'latency-p95': 0.95,
  'latency-p99': 0.99,
  throughput: 0.5,
  'device-time': 0.5,
  'build-time': 0.5,
  'load-time': 0.5,
  'first-inference': 0.5,
} as const satisfies { readonly [K in TimedMetric]: number };

export function isTimed(metric: MetricName): metric is TimedMetric {
  return TIMED_METRICS.some((one) => one === metric);
}

/** Rounds that both sides have, in the same order, with samples, and with what the metric is read from. */
export function sharedRounds(metric: TimedMetric, baseline: readonly Round[], candidate: readonly Round[]): readonly [readonly Round[], readonly Round[]] {
  const usable = (round: Round): boolean => round.samplesNs.length > 0 && round.elapsedNs > 0 && (metric !== 'device-time' || round.deviceNs !== undefined);
  const others = new Map(candidate.filter(usable).map((round) => [round.index, round]));
  const pairs = baseline.filter(usable).flatMap((round) => {
    const other = others.get(round.index);
    return other ? [[round, other] as const] : [];
  });
  return [pairs.map(([before]) => before), pairs.map(([, after]) => after)];
}

/** Values of a metric by round, in its unit; one list for each round that has any. Builds count as rounds of build time. */
export function valuesOf(metric: TimedMetric, record: CompletedRecord, rounds: readonly Round[]): Rounds {
  switch (metric) {
    case 'latency-p50':
    case 'latency-p95':
    case 'latency-p99':
      return latencyRoundsMs(rounds);
    case 'throughput':
      return throughputRounds(rounds, itemsPerRequest(record.case));
    case 'device-time':
      return rounds.flatMap(({ deviceNs }) => (deviceNs === undefined ? [] : [[deviceNs / 1e6]]));
    case 'build-time':
      return (record.build.buildsMs ?? []).map((ms) => [ms]);
    case 'load-time':
      return rounds.flatMap(({ start }) => (start ? [[start.loadMs]] : []));
    case 'first-inference':
      return rounds.flatMap(({ start }) => (start ? [[start.firstRunMs]] : []));
    default:
      return metric satisfies never;
  }
}

/** The metric of some values, pooled. */
export function quantileOf(metric: TimedMetric, sorted: ReturnType<typeof sortSamples>): number {
  return quantile(sorted, QUANTILES[metric]);
}

/** One logarithm for each round. */
export function logsOf(metric: TimedMetric, rounds: Rounds): readonly number[] {
  return rounds.map((round) => Math.log(quantileOf(metric, sortSamples(round))));
}

/** Round values of two sides, one logarithm for each round. */
export interface RoundLogs {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/**
 * Logarithms of the round values of sides that were measured in the same rounds (`rounds`, as {@link sharedRounds} gives them). Where
 * the processes of a round took turns, `after` differs from `before` by what their slices say.
 */
export function pairedLogs(metric: TimedMetric, [baseline, candidate]: readonly [CompletedRecord, CompletedRecord], [first, second]: ReturnType<typeof sharedRounds>): RoundLogs {
  const [before, after] = [logsOf(metric, valuesOf(metric, baseline, first)), logsOf(metric, valuesOf(metric, candidate, second))];
  if (!isSliced(metric) || before.length !== first.length) return { before, after };
  // Slices count requests, which may hold more items on one side.
  const items = metric === 'throughput' ? Math.log(itemsPerRequest(candidate.case) / itemsPerRequest(baseline.case)) : 0;
  return {
    before,
    after: after.map((value, i) => {
      const shift = shiftOfSlices(metric, first[i]!, second[i]!);
      return shift === undefined ? value : before[i]! + shift + items;
    }),
  };
}

/** The same of all rounds that both sides have; undefined where a value is zero or there is none. */
export function roundLogs(metric: TimedMetric, baseline: CompletedRecord, candidate: CompletedRecord): RoundLogs | undefined {
  const { before, after } = pairedLogs(metric, [baseline, candidate], sharedRounds(metric, baseline.rounds, candidate.rounds));
  return before.length > 0 && before.length === after.length && [...before, ...after].every(Number.isFinite) ? { before, after } : undefined;
}

/**
 * Shares of the false alarms: what a process's start gives is wilder and matters less, and must not take the power that finds a
 * slower execution (weighted Bonferroni: Rosenthal and Rubin, Educational and Psychological Measurement 43, 1983).
 */
const STARTUP_SHARE = 0.2;

/**
 * Among how many metrics of cases one is counted in effect, so that the rate that all of them share is held: `family` metrics
 * are tested together, `metrics` of each case.
 */
export function effectiveFamily(metric: TimedMetric, family: number, metrics: readonly MetricName[]): number {
  const timed = metrics.filter(isTimed);
  const startup = timed.filter((one) => METRICS[one].startup).length;
  if (startup === 0 || startup === timed.length) return family;
  const [count, share] = METRICS[metric].startup ? [startup, STARTUP_SHARE] : [timed.length - startup, 1 - STARTUP_SHARE];
  return Math.max(1, ((family / timed.length) * count) / share);
}
