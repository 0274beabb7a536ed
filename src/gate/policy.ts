/** What counts as worse: thresholds, confidence, and what to do where there is nothing to compare. */
import { TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { METRIC_NAMES, METRICS, type MetricName } from './metrics.ts';

export interface GatePolicy {
  /** Of each interval: a case passes only where the interval excludes a worsening beyond the threshold. */
  readonly confidence: number;
  /**
   * Share of gates over identical engines in which any timed metric of any case may be called regressed. The same again for
   * improved.
   */
  readonly falseAlarms: number;
  /**
   * The metrics that decide, with the worsening that must not pass unseen: percent for times, throughput and bytes; points for
   * top-1 and agreement; decibels for SNR.
   */
  readonly thresholds: { readonly [K in MetricName]?: number | undefined };
  /**
   * Metrics that are judged as well where `thresholds` does not name them: a regression beyond the threshold here counts, but
   * that one can't be excluded does not make a case inconclusive. For what is measured a few times only.
   */
  readonly watched: { readonly [K in MetricName]?: number };
  /** Fewest rounds on either side from which a timed metric is judged at all. */
  readonly minRounds: number;
  /** A case that the baseline has and the candidate never ran. */
  readonly missing: 'inconclusive' | 'ignored';
}

/** In force where no suite says otherwise. */
export const DEFAULT_POLICY: GatePolicy = {
  confidence: 0.95,
  // Half of the one in a hundred that is promised, so that what is seen over a few hundred gates keeps the promise as well.
  falseAlarms: 0.005,
  thresholds: { 'latency-p50': 5, throughput: 5, 'memory-peak': 5, top1: 0.5, agreement: 0.5 },
  // A process loads once and each load is at the mercy of the file cache: only what is large can be told.
  watched: { 'build-time': 50, 'load-time': 25, 'first-inference': 25 },
  minRounds: 3,
  missing: 'inconclusive',
};

/** The threshold of a metric; undefined where it is not judged. */
export function thresholdOf(policy: GatePolicy, metric: MetricName): number | undefined {
  if (isWatched(policy, metric)) return policy.watched[metric];
  return policy.thresholds[metric] ?? (metric === 'memory-device' ? policy.thresholds['memory-peak'] : undefined);
}

/** Whether a metric counts where it regressed, but not where it can't be told; see {@link GatePolicy.watched}. */
export function isWatched({ thresholds, watched }: GatePolicy, metric: MetricName): boolean {
  return watched[metric] !== undefined && !Object.hasOwn(thresholds, metric);
}

/**
 * Thresholds as typed, `latency-p50=5` or `latency-p50=5%`; `off` takes a metric out of the policy.
 * Throws USAGE for anything else, with the nearest known metric.
 */
export function parseThresholds(words: readonly string[]): GatePolicy['thresholds'] {
  const thresholds: { [K in MetricName]?: number | undefined } = {};
  for (const word of words) {
    const [, name = word, text] = /^([^=]*)=(off|\d+(?:\.\d+)?)\s*%?$/.exec(word) ?? [];
    const metric = METRIC_NAMES.find((known) => known === name);
    if (metric === undefined || text === undefined) {
      const guess = nearest(name.split('=')[0] ?? name, METRIC_NAMES);
      throw new TsrtError('USAGE', `'${word}' is not a threshold${guess && guess !== name.split('=')[0] ? `; did you mean '${guess}'?` : ''}`, {
        fix: `write METRIC=NUMBER or METRIC=off, with one of ${METRIC_NAMES.join(', ')}`,
      });
    }
    thresholds[metric] = text === 'off' ? undefined : Number(text);
  }
  return thresholds;
}

/** In which a metric's threshold is stated. */
export function thresholdUnit(metric: MetricName): '%' | 'points' | 'dB' {
  const { compared, unit } = METRICS[metric];
  return compared !== 'difference' ? '%' : unit === 'dB' ? 'dB' : 'points';
}

/** `0.99` or `99%` as a share; undefined stays undefined. Throws USAGE outside (0.5, 1). */
export function parseConfidence(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const share = text.trim().endsWith('%') ? Number(text.trim().slice(0, -1)) / 100 : Number(text);
  if (share > 0.5 && share < 1) return share;
  throw new TsrtError('USAGE', `'${text}' is not a confidence`, { fix: 'give a number between 0.5 and 1, such as 0.95' });
}
