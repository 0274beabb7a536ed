/**
 * How a timed metric changed, from round values: one number for each round, since the samples inside a round share a process
 * and a moment and are not independent. Ratios are differences of logarithms, which make a slowdown by a tenth and a speedup
 * by a tenth of the same size. The statistics are stats/change.ts's; this file says what they are applied to.
 */
import type { CompletedRecord, Round } from '../results/record.ts';
import { countSamples, latencyRoundsMs, throughputRounds } from '../results/derive.ts';
import type { Rounds } from '../stats/bootstrap.ts';
import { shiftBetween } from '../stats/change.ts';
import type { Estimate } from '../stats/interval.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { NO_SESSION_EFFECT, sessionEffect, type SessionEffect } from './session.ts';

export const TIMED_METRICS = ['latency-p50', 'latency-p95', 'latency-p99', 'throughput'] as const;
export type TimedMetric = (typeof TIMED_METRICS)[number];

/**
 * How the two sides were measured. `interleaved`: in the same rounds, so that what the machine did falls on both; round k of
 * one is paired with round k of the other. `stored`: at different times.
 */
export type Design = 'interleaved' | 'stored';

/** At which error rates a metric is tested; see stats/spending.ts where the data are looked at more than once. */
export interface Levels {
  /** Of the interval: the rate at which one of its two ends is wrong, over all looks. */
  readonly confidence: number;
  /** Share of the interval's error that this look may spend. */
  readonly doubtShare: number;
  /** Family-wise rate of false alarms on each side, over all looks. */
  readonly falseAlarms: number;
  /** Share of the false alarms that this look may spend. */
  readonly alarmShare: number;
  /** How many metrics of cases are tested together. */
  readonly family: number;
}

export interface TimedChange {
  readonly kind: 'sampled';
  readonly metric: TimedMetric;
  /** Quantile of all samples of a side, in the metric's unit; of the rounds' for throughput. */
  readonly baseline: number;
  readonly candidate: number;
  /** candidate / baseline, normalized where `session` says so. */
  readonly ratio: Estimate;
  /** p of "it did not rise" and "it did not fall", corrected for the family and the looks (Bonferroni; Dunn, JASA 56, 1961). */
  readonly rise: number;
  readonly fall: number;
  /** Of the side that has fewer. */
  readonly rounds: number;
  readonly samples: number;
  readonly design: Design;
  readonly session: SessionEffect;
}

export type TimedResult = TimedChange | { readonly kind: 'incomparable'; readonly metric: TimedMetric; readonly reason: string };

const QUANTILES = { 'latency-p50': 0.5, 'latency-p95': 0.95, 'latency-p99': 0.99, throughput: 0.5 } as const satisfies { readonly [K in TimedMetric]: number };

/** Compares one metric of one case. */
export function compareTimed(metric: TimedMetric, baseline: CompletedRecord, candidate: CompletedRecord, design: Design, levels: Levels): TimedResult {
  const rounds = design === 'interleaved' ? sharedRounds(baseline.rounds, candidate.rounds) : [baseline.rounds, candidate.rounds];
  const [before, after] = [valuesOf(metric, baseline, rounds[0]!), valuesOf(metric, candidate, rounds[1]!)];
  if (before.length === 0 || after.length === 0) return { kind: 'incomparable', metric, reason: 'a side has no samples' };
  const p = QUANTILES[metric];
  const [sortedBefore, sortedAfter] = [sortSamples(before.flat()), sortSamples(after.flat())];
  if (sortedBefore[0]! <= 0 || sortedAfter[0]! <= 0) return { kind: 'incomparable', metric, reason: 'a sample is zero, below what the clock can tell' };
  const session = design === 'interleaved' ? NO_SESSION_EFFECT : signed(metric, sessionEffect(baseline.rounds, candidate.rounds));
  return {
    kind: 'sampled',
    metric,
    baseline: quantile(sortedBefore, p),
    candidate: quantile(sortedAfter, p),
    ...inferRatio({ before: logsOf(metric, before), after: logsOf(metric, after) }, design, session, levels),
    rounds: Math.min(before.length, after.length),
    samples: Math.min(countSamples(before), countSamples(after)),
    design,
    session,
  };
}

/** Logarithms of the round values of sides that were measured together; undefined where a sample is zero or there is none. */
export function roundLogs(metric: TimedMetric, baseline: CompletedRecord, candidate: CompletedRecord): { readonly before: readonly number[]; readonly after: readonly number[] } | undefined {
  const [first, second] = sharedRounds(baseline.rounds, candidate.rounds);
  const [before, after] = [logsOf(metric, valuesOf(metric, baseline, first)), logsOf(metric, valuesOf(metric, candidate, second))];
  return before.length > 0 && [...before, ...after].every(Number.isFinite) ? { before, after } : undefined;
}

/** The statistics alone: round values of both sides as logarithms. */
export function inferRatio(
  logs: { readonly before: readonly number[]; readonly after: readonly number[] },
  design: Design,
  { shift, allowance }: SessionEffect,
  { confidence, doubtShare, falseAlarms, alarmShare, family }: Levels,
): Pick<TimedChange, 'ratio' | 'rise' | 'fall'> {
  const change = shiftBetween({ ...logs, paired: design === 'interleaved' });
  const { low, high } = change.interval(((1 - confidence) / 2) * doubtShare);
  const level = (falseAlarms * alarmShare) / family;
  const corrected = (p: number): number => Math.min(1, (p * family) / alarmShare);
  return {
    ratio: { point: Math.exp(change.point - shift), low: Math.exp(low - shift - allowance), high: Math.exp(high - shift + allowance), confidence },
    rise: corrected(change.pAbove(shift + allowance, level)),
    fall: corrected(change.pBelow(allowance - shift, level)),
  };
}

function valuesOf(metric: TimedMetric, record: CompletedRecord, rounds: readonly Round[]): Rounds {
  return metric === 'throughput' ? throughputRounds(rounds, record.case.variant.options.batch) : latencyRoundsMs(rounds);
}

function logsOf(metric: TimedMetric, rounds: Rounds): readonly number[] {
  return rounds.map((round) => Math.log(quantile(sortSamples(round), QUANTILES[metric])));
}

/** What makes times longer makes throughput smaller. */
function signed(metric: TimedMetric, effect: SessionEffect): SessionEffect {
  return metric === 'throughput' ? { ...effect, shift: -effect.shift } : effect;
}

/** Rounds that both sides have, in the same order, with samples. */
function sharedRounds(baseline: readonly Round[], candidate: readonly Round[]): readonly [readonly Round[], readonly Round[]] {
  const usable = (round: Round): boolean => round.samplesNs.length > 0 && round.elapsedNs > 0;
  const others = new Map(candidate.filter(usable).map((round) => [round.index, round]));
  const pairs = baseline.filter(usable).flatMap((round) => {
    const other = others.get(round.index);
    return other ? [[round, other] as const] : [];
  });
  return [pairs.map(([before]) => before), pairs.map(([, after]) => after)];
}
