/** The contract of a gate's reporter, and what all of them say: the headline, the order of the cases, values with units. */
import { DEFAULT_POLICY } from '../gate/policy.ts';
import { METRICS, type MetricName } from '../gate/metrics.ts';
import type { CaseVerdict, GateReport, MetricVerdict, Verdict } from '../gate/judge.ts';
import { formatBytes, formatChange, formatNumber, formatPercent, plural } from './units.ts';

export interface Display {
  /** Terminal colours wanted. */
  readonly color: boolean;
}

export interface GateReporter {
  /** The name given to `--format`. */
  readonly name: string;
  readonly description: string;
  readonly fileExtension: string;
  render(report: GateReport, display: Display): string;
}

/** `REGRESSED: 1 of 12 cases (2 inconclusive), run … against baseline main, suite resnet50`. */
export function headlineOf(report: GateReport): string {
  const counts = (['regressed', 'inconclusive', 'improved', 'passed'] as const)
    .map((verdict) => ({ verdict, count: report.cases.filter((one) => one.verdict === verdict).length }))
    .filter(({ count }) => count > 0)
    .map(({ verdict, count }) => `${count} ${verdict}`);
  const sides = `${report.candidate} against ${report.baseline}, suite ${report.suite}`;
  return `${report.verdict.toUpperCase()}: ${plural(report.cases.length, 'case')} (${counts.join(', ') || 'none'}), ${sides}`;
}

const ORDER: readonly Verdict[] = ['regressed', 'inconclusive', 'improved', 'passed'];

/** Worst first; else in their own order. */
export function byVerdict(cases: readonly CaseVerdict[]): CaseVerdict[] {
  return [...cases].sort((a, b) => ORDER.indexOf(a.verdict) - ORDER.indexOf(b.verdict));
}

/** A metric's value with its unit. */
export function formatValue(metric: MetricName, value: number): string {
  const { unit } = METRICS[metric];
  switch (unit) {
    case 'bytes':
      return formatBytes(value);
    case '%':
      return formatPercent(value);
    case 'ms':
    case 'items/s':
    case 'dB':
      return `${formatNumber(value)} ${unit}`;
    default:
      return unit satisfies never;
  }
}

/** Cells of one metric: name, baseline, candidate, change with interval. */
export function changeCells({ change }: Pick<MetricVerdict, 'change'>): readonly [string, string, string, string] {
  const { label } = METRICS[change.metric];
  if (change.kind === 'incomparable') return [label, '–', '–', change.reason];
  const values = [formatValue(change.metric, change.baseline), formatValue(change.metric, change.candidate)] as const;
  if (change.kind === 'sampled') {
    const { point, low, high } = change.ratio;
    // What is extrapolated from one or two values has no ends worth printing.
    if (change.rounds < DEFAULT_POLICY.minRounds) return [label, ...values, `${formatChange(point)} (too few ${change.metric === 'build-time' ? 'builds' : 'rounds'} for an interval)`];
    return [label, ...values, `${formatChange(point)} (${formatChange(low)} to ${formatChange(high)})`];
  }
  return [label, ...values, changeOf(change.metric, change.baseline, change.candidate)];
}

/** A change of one value, in percent, or in points and decibels where differences are what counts. */
export function changeOf(metric: MetricName, before: number, after: number): string {
  const { compared, unit } = METRICS[metric];
  if (compared !== 'difference') return formatChange(before === after ? 1 : after / before);
  const difference = after - before;
  return `${difference > 0 ? '+' : difference < 0 ? '−' : ''}${formatNumber(Math.abs(difference))} ${unit === 'dB' ? 'dB' : 'points'}`;
}
