/** Warnings of records as sentences with advice that fits what the user already did. */
import type { Precision } from '../engine/engine.ts';
import type { BenchRecord, RecordWarning } from '../results/record.ts';
import { formatNumber, formatPercent } from './units.ts';

/** What makes a number doubtful, and in which cases. */
export interface ReportWarning {
  readonly kind: RecordWarning['kind'];
  readonly sentence: string;
  readonly advice: string | undefined;
  /** Ids of the cases that raised it. */
  readonly cases: readonly string[];
}

/** Each kind once, with the cases it concerns and the sentence of its worst instance; notices stay apart by their text. Notes, which ask for nothing, come last. */
export function collectWarnings(records: readonly BenchRecord[]): ReportWarning[] {
  const groups = new Map<string, { worst: RecordWarning; record: BenchRecord; cases: string[] }>();
  for (const record of records) {
    for (const warning of record.warnings) {
      const key = keyOf(warning);
      const group = groups.get(key) ?? { worst: warning, record, cases: [] };
      if (severity(warning) > severity(group.worst)) Object.assign(group, { worst: warning, record });
      if (!group.cases.includes(record.case.id)) group.cases.push(record.case.id);
      groups.set(key, group);
    }
  }
  const isNote = ({ worst }: { readonly worst: RecordWarning }) => worst.kind === 'note';
  const all = [...groups.values()];
  return [...all.filter((group) => !isNote(group)), ...all.filter(isNote)].map(({ worst, record, cases }) => {
    const { sentence, advice } = describeWarning(worst, record);
    return { kind: worst.kind, sentence, advice, cases };
  });
}

function keyOf(warning: RecordWarning): string {
  switch (warning.kind) {
    case 'notice':
    case 'note':
    case 'over-budget':
      return warning.text;
    case 'drift':
      return `drift ${warning.yardstick}`;
    default:
      return warning.kind;
  }
}

const BUDGET_ADVICE: Readonly<Record<Precision, string>> = {
  fp32: 'see where it goes wrong with tsrt-bench debug layers',
  fp16: 'see where it goes wrong with tsrt-bench debug layers --precision fp16, or take a variant within the budget',
  int8: 'find the few nodes to keep with tsrt-bench debug precision and run in mixed, calibrate otherwise (quantization in the suite), or take a variant within the budget',
  mixed: 'keep more nodes with tsrt-bench debug precision and as many --samples as the run uses, or take a variant within the budget',
};

/** One warning of one record, as a sentence without a full stop and an advice. */
export function describeWarning(warning: RecordWarning, record: BenchRecord): { readonly sentence: string; readonly advice: string | undefined } {
  switch (warning.kind) {
    case 'not-steady':
      return {
        sentence: `timings were still changing when the warm-up ended, in ${warning.rounds} of ${roundsOf(record)} rounds`,
        advice: 'close other programs, or raise --time so that the part that changes weighs less',
      };
    case 'busy-machine':
      return {
        sentence: `the machine was busy: other programs kept ${formatNumber(warning.loadAverage)} of ${warning.cores} cores`,
        advice: 'close other programs and run again',
      };
    case 'clock-quantum':
      return {
        sentence: `one execution is too short for the clock (${formatNumber(warning.quantumNs)} ns), so ${warning.executionsPerSample} are timed together`,
        advice: 'read the percentiles as those of groups; with a larger batch, executions are timed singly',
      };
    case 'few-samples':
      return {
        sentence: `p${warning.percentile} rests on ${warning.samples} samples, too few to bound it`,
        advice: roundsOf(record) < 10 ? 'raise --rounds or --time' : 'raise --time: there are enough rounds',
      };
    case 'drift':
      return {
        sentence: `the machine drifted during the run: the slowest round's ${warning.yardstick} yardstick took ${formatNumber(warning.ratio)}× the fastest's`,
        advice: 'look for heat, a power limit or neighbours; compare variants of one run only',
      };
    case 'outliers':
      return { sentence: `${formatPercent(warning.share * 100)} of the samples are outliers`, advice: 'look at p99; other programs may be interfering' };
    case 'host-bound':
      return {
        sentence: `the host limits the latency: of ${formatNumber(warning.latencyNs / 1e6)} ms per request, the device works ${formatNumber(warning.deviceNs / 1e6)} ms`,
        advice: 'compare engines by device time (device ms); a quieter processor, a larger batch or several streams keep the device busy',
      };
    case 'overloaded':
      return {
        sentence: `${formatNumber(warning.offeredQps)} requests per second arrived but only ${formatNumber(warning.answeredQps)} were answered: the queue grew, and latency with it, for as long as they arrived`,
        advice: 'lower targetQps, or serve more: a larger batch with maxQueueDelayMs, more streams, a faster variant',
      };
    case 'untrained-weights':
      return {
        sentence: 'the weights are seeded, not trained: accuracy only compares variants with each other',
        advice: 'give real weights with --model FILE',
      };
    case 'over-budget':
      return { sentence: `over the accuracy budget: ${warning.text}`, advice: BUDGET_ADVICE[record.case.variant.options.precision] };
    case 'notice':
    case 'note':
      return { sentence: warning.text, advice: undefined };
    default:
      return warning satisfies never;
  }
}

function severity(warning: RecordWarning): number {
  switch (warning.kind) {
    case 'not-steady':
      return warning.rounds;
    case 'busy-machine':
      return warning.loadAverage;
    case 'clock-quantum':
      return warning.executionsPerSample;
    case 'few-samples':
      return -warning.samples;
    case 'drift':
      return warning.ratio;
    case 'outliers':
      return warning.share;
    case 'host-bound':
      return warning.latencyNs / warning.deviceNs;
    case 'overloaded':
      return warning.offeredQps / warning.answeredQps;
    case 'untrained-weights':
    case 'over-budget':
    case 'notice':
    case 'note':
      return 0;
    default:
      return warning satisfies never;
  }
}

function roundsOf(record: BenchRecord): number {
  return 'rounds' in record ? record.rounds.length : 0;
}
