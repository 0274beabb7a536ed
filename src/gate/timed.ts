/**
 * How a timed metric changed, from round values (series.ts). Ratios are differences of logarithms, which make a slowdown by a
 * tenth and a speedup by a tenth of the same size. The statistics are stats/change.ts's; this file says what they are applied to.
 */
import type { CompletedRecord } from '../results/record.ts';
import { countSamples } from '../results/derive.ts';
import { shiftBetween, valuesNeeded } from '../stats/change.ts';
import type { Estimate } from '../stats/interval.ts';
import { sortSamples } from '../stats/samples.ts';
import { levelDoubt, serialDoubt } from '../stats/serial.ts';
import { METRICS } from './metrics.ts';
import { logsOf, pairedLogs, quantileOf, type RoundLogs, sharedRounds, type TimedMetric, valuesOf } from './series.ts';
import { contention, NO_SESSION_EFFECT, ranOnCores, sessionEffect, type SessionEffect, startupEffect } from './session.ts';

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
  /** Of the side that has fewer; builds for build time. */
  readonly rounds: number;
  /** Rounds from which a change that is not gross can be told from what modes of the machine do; see stats/change.ts. */
  readonly roundsNeeded: number;
  readonly samples: number;
  readonly design: Design;
  readonly session: SessionEffect;
  /**
   * The same of the rounds as a whole, where `ratio` is what their slices say: a median over slices does not show what stalls one in
   * ten of them, however long.
   */
  readonly whole?: WholeRounds;
}

export type WholeRounds = Pick<TimedChange, 'ratio' | 'rise' | 'fall'>;

export type TimedResult = TimedChange | { readonly kind: 'incomparable'; readonly metric: TimedMetric; readonly reason: string };

/** Compares one metric of one case. */
export function compareTimed(metric: TimedMetric, baseline: CompletedRecord, candidate: CompletedRecord, asked: Design, levels: Levels): TimedResult {
  // The builds of one side come before those of the other, whatever becomes of the rounds.
  const design = metric === 'build-time' ? 'stored' : asked;
  const rounds = design === 'interleaved' ? sharedRounds(metric, baseline.rounds, candidate.rounds) : ([baseline.rounds, candidate.rounds] as const);
  const [before, after] = [valuesOf(metric, baseline, rounds[0]), valuesOf(metric, candidate, rounds[1])];
  if (before.length === 0 || after.length === 0) return { kind: 'incomparable', metric, reason: nothingOf(metric) };
  const [sortedBefore, sortedAfter] = [sortSamples(before.flat()), sortSamples(after.flat())];
  if (sortedBefore[0]! <= 0 || sortedAfter[0]! <= 0) return { kind: 'incomparable', metric, reason: 'a sample is zero, below what the clock can tell' };
  const session = design === 'interleaved' ? NO_SESSION_EFFECT : effectOn(metric, anotherDay(baseline, candidate));
  const logs = design === 'interleaved' ? pairedLogs(metric, [baseline, candidate], rounds) : { before: logsOf(metric, before), after: logsOf(metric, after) };
  const stalls = metric === 'throughput' && design === 'interleaved' && rounds[0].some(({ slices }) => slices) ? wholeRounds({ before: logsOf(metric, before), after: logsOf(metric, after) }, levels) : undefined;
  const inferred = stalls ? ofSlices : inferRatio;
  return {
    kind: 'sampled',
    metric,
    baseline: quantileOf(metric, sortedBefore),
    candidate: quantileOf(metric, sortedAfter),
    ...inferred(logs, design, session, levels),
    ...(stalls && { whole: stalls }),
    rounds: Math.min(before.length, after.length),
    samples: Math.min(countSamples(before), countSamples(after)),
    design,
    session,
  };
}

/** Share of a throughput's false alarms that its rounds as a whole may raise; the rest is its slices'. */
const WHOLE_SHARE = 0.2;

function wholeRounds(logs: RoundLogs, levels: Levels): WholeRounds {
  const { ratio, rise, fall } = inferRatio(logs, 'interleaved', NO_SESSION_EFFECT, { ...levels, family: levels.family / WHOLE_SHARE });
  return { ratio, rise, fall };
}

const ofSlices: typeof inferRatio = (logs, design, session, levels) => inferRatio(logs, design, session, { ...levels, family: levels.family / (1 - WHOLE_SHARE) });

/**
 * A change beyond what modes of a process, turbo clocks and the order of two processes do: half as much again, or a third less.
 * So much can be shown by rounds that are too few for anything else.
 */
const GROSS = Math.log(1.5);

/** The statistics alone: round values of both sides as logarithms. */
export function inferRatio(
  logs: RoundLogs,
  design: Design,
  { shift, allowance: known }: SessionEffect,
  { confidence, doubtShare, falseAlarms, alarmShare, family }: Levels,
): Pick<TimedChange, 'ratio' | 'rise' | 'fall' | 'roundsNeeded'> {
  const change = shiftBetween({ ...logs, paired: design === 'interleaved' }, GROSS);
  const { low, high } = change.interval(((1 - confidence) / 2) * doubtShare);
  const [level, whole] = [(falseAlarms * alarmShare) / family, falseAlarms / family];
  // Rounds that were measured together share what lasts; those of two days do not.
  const allowance = known + (design === 'interleaved' ? 0 : serialDoubt(logs.before, logs.after, whole) + Math.max(levelDoubt(logs.before), levelDoubt(logs.after)));
  const corrected = (p: number): number => Math.min(1, (p * family) / alarmShare);
  return {
    ratio: { point: Math.exp(change.point - shift), low: Math.exp(low - shift - allowance), high: Math.exp(high - shift + allowance), confidence },
    rise: corrected(change.pAbove(shift + allowance, level, whole)),
    fall: corrected(change.pBelow(allowance - shift, level, whole)),
    roundsNeeded: valuesNeeded(whole, design === 'interleaved'),
  };
}

function anotherDay(baseline: CompletedRecord, candidate: CompletedRecord): SessionEffect {
  const effect = sessionEffect(baseline.rounds, candidate.rounds);
  if (!ranOnCores(candidate.rounds)) return effect;
  const sides = [baseline, candidate].map(({ rounds, provenance }) => ({ rounds, cores: provenance.environment.cpu.cores }));
  return { ...effect, allowance: effect.allowance + contention(sides) };
}

function nothingOf(metric: TimedMetric): string {
  switch (metric) {
    case 'build-time':
      return 'an engine was not built in this run';
    case 'device-time':
      return 'a side does not tell what its device takes';
    case 'load-time':
    case 'first-inference':
      return 'a side has no starts of processes on record';
    default:
      return 'a side has no samples';
  }
}

/** What makes times longer makes throughput smaller; loading and building hardly follow the yardsticks at all. */
function effectOn(metric: TimedMetric, effect: SessionEffect): SessionEffect {
  if (METRICS[metric].startup) return startupEffect(effect);
  return metric === 'throughput' ? { ...effect, shift: -effect.shift } : effect;
}
