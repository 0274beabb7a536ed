/**
 * Compares two sets of records case by case: what each metric was, what it is, and how sure the difference is. States facts;
 * the verdict is judge.ts's.
 */
import { deviceMsOf } from '../results/derive.ts';
import type { AccuracyReading, CompletedRecord } from '../results/record.ts';
import { METRIC_NAMES, type MetricName } from './metrics.ts';
import type { CasePair, Pairing } from './pair.ts';
import { effectiveFamily, isTimed } from './series.ts';
import { compareTimed, type Design, type Levels, type TimedChange } from './timed.ts';

/** One metric on both sides, in the metric's own unit. */
export type MetricChange =
  | TimedChange
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
  /** Of all timed metrics of all cases together. */
  readonly falseAlarms: number;
  /** Default: all that both sides have. */
  readonly metrics?: readonly MetricName[];
  /** Default: stored. */
  readonly design?: Design;
  /** Where this is one of several looks at growing data; default: the only one. */
  readonly look?: Pick<Levels, 'doubtShare' | 'alarmShare' | 'family'>;
}

/** Identical outputs have no noise at all; they count as this, which rounding to float32 alone comes near. */
const IDENTICAL_SNR_DB = 150;

/** Compares every pair; see {@link MetricChange} for what is stated. */
export function comparePairs(pairing: Pairing, labels: { readonly baseline: string; readonly candidate: string }, options: CompareOptions): Comparison {
  const { design = 'stored', metrics = metricsOf(pairing), confidence, falseAlarms } = options;
  const look = options.look ?? { doubtShare: 1, alarmShare: 1, family: familySize(pairing.pairs.filter((pair) => pair.state === 'both').length, metrics) };
  const cases = pairing.pairs.map((pair): CaseComparison => {
    if (pair.state !== 'both') return { pair, changes: [] };
    const levelsOf = (metric: MetricName): Levels => {
      return { confidence, falseAlarms, ...look, family: isTimed(metric) ? effectiveFamily(metric, look.family, metrics) : look.family };
    };
    return { pair, changes: metrics.flatMap((metric) => compareMetric(metric, pair.baseline, pair.candidate, design, levelsOf(metric))) };
  });
  return { suite: pairing.suite, ...labels, cases, notices: pairing.notices };
}

/** All metrics; what a device's own clock says only where both sides of a case have it. */
function metricsOf({ pairs }: Pairing): readonly MetricName[] {
  const told = pairs.some((pair) => pair.state === 'both' && tells(pair.baseline) && tells(pair.candidate));
  return told ? METRIC_NAMES : METRIC_NAMES.filter((metric) => metric !== 'device-time');
}

const tells = ({ rounds }: CompletedRecord): boolean => deviceMsOf(rounds) !== undefined;

/** How many timed metrics of so many cases are tested together; at least 1. */
export function familySize(cases: number, metrics: readonly MetricName[]): number {
  return Math.max(1, cases * metrics.filter(isTimed).length);
}

function compareMetric(metric: MetricName, baseline: CompletedRecord, candidate: CompletedRecord, design: Design, levels: Levels): MetricChange[] {
  switch (metric) {
    case 'latency-p50':
    case 'latency-p95':
    case 'latency-p99':
    case 'throughput':
    case 'build-time':
    case 'load-time':
    case 'first-inference':
      return [compareTimed(metric, baseline, candidate, design, levels)];
    case 'device-time':
      return tells(baseline) || tells(candidate) ? [compareTimed(metric, baseline, candidate, design, levels)] : [];
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

/** Where neither side has the value there is nothing to say; where one has it, that is said. */
function compareExact(metric: MetricName, baseline: number | undefined, candidate: number | undefined): MetricChange[] {
  if (baseline === undefined && candidate === undefined) return [];
  if (baseline === undefined || candidate === undefined) {
    return [{ kind: 'incomparable', metric, reason: `only the ${baseline === undefined ? 'candidate' : 'baseline'} measured it` }];
  }
  return [{ kind: 'exact', metric, baseline, candidate }];
}

/** A reading's signal-to-noise ratio as it is compared: a number in any case; undefined where nothing was assessed. */
export function snrOf(accuracy: AccuracyReading | undefined): number | undefined {
  return accuracy && finiteSnr(accuracy.snrDb);
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
      return compareExact(metric, snrOf(before), snrOf(after));
    default:
      return metric satisfies never;
  }
}

/** A NaN or −Infinity (outputs that are no numbers) counts as no signal at all. */
function finiteSnr(snrDb: number | undefined): number {
  if (snrDb === undefined || snrDb === Infinity) return IDENTICAL_SNR_DB;
  return Number.isFinite(snrDb) ? Math.min(snrDb, IDENTICAL_SNR_DB) : -IDENTICAL_SNR_DB;
}
