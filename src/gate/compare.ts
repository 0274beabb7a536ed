/**
 * Compares two sets of records case by case: what each metric was, what it is, and how sure the difference is. States facts;
 * the verdict is judge.ts's.
 */
import type { CompletedRecord } from '../results/record.ts';
import { countSamples, latencyRoundsMs, resamplesFor, throughputRounds } from '../results/derive.ts';
import { ratioOfQuantiles, type Rounds } from '../stats/bootstrap.ts';
import type { Estimate } from '../stats/interval.ts';
import { createRandom, deriveSeed, type Random } from '../stats/random.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { METRIC_NAMES, type MetricName } from './metrics.ts';
import type { CasePair, Pairing } from './pair.ts';

/** One metric on both sides, in the metric's own unit. */
export type MetricChange =
  | {
      readonly kind: 'sampled';
      readonly metric: MetricName;
      readonly baseline: number;
      readonly candidate: number;
      /** candidate / baseline, with its interval. */
      readonly ratio: Estimate;
      /** Of the side that has fewer. */
      readonly rounds: number;
      readonly samples: number;
    }
  | { readonly kind: 'exact'; readonly metric: MetricName; readonly baseline: number; readonly candidate: number }
  | { readonly kind: 'incomparable'; readonly metric: MetricName; readonly reason: string };

export interface CaseComparison {
  readonly pair: CasePair;
  /** Empty unless both sides completed. */
  readonly changes: readonly MetricChange[];
}

export interface Comparison {
  readonly suite: string;
  readonly baseline: string;
  readonly candidate: string;
  readonly cases: readonly CaseComparison[];
  readonly notices: readonly string[];
}

export interface CompareOptions {
  readonly confidence: number;
  /** Seed of the bootstrap: the same records and seed give the same intervals. */
  readonly seed: number;
  /** Default: all that both sides have. */
  readonly metrics?: readonly MetricName[];
}

const LATENCY_QUANTILES = { 'latency-p50': 0.5, 'latency-p95': 0.95, 'latency-p99': 0.99 } as const;

/** Draws of the bootstrap per metric of a case; half a second's worth. */
const GATE_DRAWS = 20e6;

/** Identical outputs have no noise at all; they count as this, which rounding to float32 alone comes near. */
const IDENTICAL_SNR_DB = 150;

/** Compares every pair; see {@link MetricChange} for what is stated. */
export function comparePairs(pairing: Pairing, labels: { readonly baseline: string; readonly candidate: string }, options: CompareOptions): Comparison {
  const cases = pairing.pairs.map((pair, index): CaseComparison => {
    if (pair.state !== 'both') return { pair, changes: [] };
    const random = createRandom(deriveSeed(options.seed, index));
    const changes = (options.metrics ?? METRIC_NAMES).flatMap((metric) => compareMetric(metric, pair.baseline, pair.candidate, options, random));
    return { pair, changes };
  });
  return { suite: pairing.suite, ...labels, cases, notices: pairing.notices };
}

function compareMetric(
  metric: MetricName,
  baseline: CompletedRecord,
  candidate: CompletedRecord,
  { confidence }: CompareOptions,
  random: Random,
): MetricChange[] {
  switch (metric) {
    case 'latency-p50':
    case 'latency-p95':
    case 'latency-p99': {
      const p = LATENCY_QUANTILES[metric];
      return compareSampled(metric, latencyRoundsMs(baseline.rounds), latencyRoundsMs(candidate.rounds), { p, confidence, random });
    }
    case 'throughput': {
      const [before, after] = [baseline, candidate].map((record) => throughputRounds(record.rounds, record.case.variant.options.batch));
      return compareSampled(metric, before ?? [], after ?? [], { p: 0.5, confidence, random });
    }
    case 'memory-peak':
      return [{ kind: 'exact', metric, baseline: baseline.memory.residentPeakBytes, candidate: candidate.memory.residentPeakBytes }];
    case 'memory-device':
      return compareExact(metric, baseline.memory.deviceBytes, candidate.memory.deviceBytes);
    case 'engine-bytes':
      return [{ kind: 'exact', metric, baseline: baseline.build.engineBytes, candidate: candidate.build.engineBytes }];
    case 'top1':
    case 'agreement':
    case 'snr':
      return compareAccuracy(metric, baseline, candidate);
    default:
      return metric satisfies never;
  }
}

function compareSampled(
  metric: MetricName,
  baseline: Rounds,
  candidate: Rounds,
  { p, confidence, random }: { readonly p: number; readonly confidence: number; readonly random: Random },
): MetricChange[] {
  if (baseline.length === 0 || candidate.length === 0) return [{ kind: 'incomparable', metric, reason: 'a side has no samples' }];
  const [before, after] = [sortSamples(baseline.flat()), sortSamples(candidate.flat())];
  if (before[0]! <= 0 || after[0]! <= 0) return [{ kind: 'incomparable', metric, reason: 'a sample is zero, below what the clock can tell' }];
  const samples = Math.min(countSamples(baseline), countSamples(candidate));
  const resamples = resamplesFor(countSamples(baseline) + countSamples(candidate), GATE_DRAWS);
  return [
    {
      kind: 'sampled',
      metric,
      baseline: quantile(before, p),
      candidate: quantile(after, p),
      ratio: ratioOfQuantiles(candidate, baseline, { p, confidence, random, resamples }),
      rounds: Math.min(baseline.length, candidate.length),
      samples,
    },
  ];
}

/** Where neither side has the value there is nothing to say; where one has it, that is said. */
function compareExact(metric: MetricName, baseline: number | undefined, candidate: number | undefined): MetricChange[] {
  if (baseline === undefined && candidate === undefined) return [];
  if (baseline === undefined || candidate === undefined) {
    return [{ kind: 'incomparable', metric, reason: `only the ${baseline === undefined ? 'candidate' : 'baseline'} measured it` }];
  }
  return [{ kind: 'exact', metric, baseline, candidate }];
}

function compareAccuracy(metric: 'top1' | 'agreement' | 'snr', baseline: CompletedRecord, candidate: CompletedRecord): MetricChange[] {
  const [before, after] = [baseline.accuracy, candidate.accuracy];
  if (before && after && (before.inputs !== after.inputs || before.samples !== after.samples)) {
    return [{ kind: 'incomparable', metric, reason: `measured on other inputs: ${before.inputs} (${before.samples}) and ${after.inputs} (${after.samples})` }];
  }
  switch (metric) {
    case 'top1':
      return compareExact(metric, before?.top1Percent, after?.top1Percent);
    case 'agreement':
      return compareExact(metric, before?.agreementPercent, after?.agreementPercent);
    case 'snr':
      return compareExact(metric, before && finiteSnr(before.snrDb), after && finiteSnr(after.snrDb));
    default:
      return metric satisfies never;
  }
}

/** A NaN or −Infinity (outputs that are no numbers) counts as no signal at all. */
function finiteSnr(snrDb: number | undefined): number {
  if (snrDb === undefined || snrDb === Infinity) return IDENTICAL_SNR_DB;
  return Number.isFinite(snrDb) ? Math.min(snrDb, IDENTICAL_SNR_DB) : -IDENTICAL_SNR_DB;
}
