/** From records to what every reporter shows: one row per case, with units in the names. */
import { type CaseEstimates, deviceMsOf, estimatesOf, itemsPerBatch, itemsPerRequest, latencyRoundsMs, throughputRounds } from '../results/derive.ts';
import type { AbortedRecord, AccuracyReading, BenchRecord, CompletedRecord, FailedRecord, Scenario } from '../results/record.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import type { ReportInput } from './reporter.ts';
import { formatNumber, formatPercent, plural } from './units.ts';
import { collectWarnings, type ReportWarning } from './warnings.ts';

interface RowBase {
  readonly caseId: string;
  readonly variant: string;
  readonly backend: string;
  readonly precision: string;
  readonly batch: number;
  readonly scenario: string;
  readonly device: string;
}

/** A case that completed, its estimates with intervals; times in milliseconds, sizes in bytes. */
export interface MeasuredRow extends RowBase {
  readonly status: 'completed';
  /** Per request, which holds `batch` items, or one where the scenario collects them. Where the rounds are too few for an interval, its bounds are infinite and `roundsNeeded` says how many would do. */
  readonly latencyMs: CaseEstimates['latencyMs'];
  readonly itemsPerSecond: CaseEstimates['itemsPerSecond'];
  /** Of a scenario that collects requests: how many a batch held on average. */
  readonly itemsPerBatch: number | undefined;
  /** What the device itself takes for one execution, by its own clock; undefined where it does not tell. */
  readonly deviceMs: number | undefined;
  /** Peak resident set of the worker above what it took before the engine was loaded. */
  readonly memoryBytes: number;
  readonly deviceBytes: number | undefined;
  readonly engineBytes: number;
  readonly buildMs: number;
  readonly loadMs: number;
  /** Part of loadMs in which the driver compiled kernels; undefined where the backend does not tell. */
  readonly pipelinesMs: number | undefined;
  /** Of the load before all others, in a process that left; undefined where there was none. */
  readonly loadFirstMs: number | undefined;
  readonly accuracy: AccuracyReading | undefined;
  /** Less accurate than the suite allows. */
  readonly overBudget: boolean;
  /** Against the baseline variant at the same batch and scenario; undefined where that has no row. */
  readonly speedup: number | undefined;
  readonly rounds: number;
  readonly samples: number;
}

/** A case that has no numbers, with the reason and, where there is one, the way out. */
export interface UnmeasuredRow extends RowBase {
  readonly status: 'failed' | 'skipped' | 'aborted';
  readonly reason: string;
  readonly fix: string | undefined;
}

/** One case of a report; `status` tells which. */
export type ReportRow = MeasuredRow | UnmeasuredRow;

/** What every built-in reporter shows, ready to be laid out: rows in the suite's order, devices, models, warnings. */
export interface Report {
  readonly suite: string;
  readonly rows: readonly ReportRow[];
  /** Variant that speed-ups are stated against; undefined where nothing completed. */
  readonly baselineVariant: string | undefined;
  readonly devices: readonly { readonly slug: string; readonly description: string }[];
  readonly models: readonly string[];
  readonly runIds: readonly string[];
  readonly warnings: readonly ReportWarning[];
}

/** Everything the built-in reporters show. */
export function buildReport(input: ReportInput): Report {
  const rows = inTableOrder(input.records.map(rowOf));
  const baselineVariant = findBaseline(input.records, input.baselineVariant);
  const environments = input.records.map((record) => record.provenance.environment.device);
  return {
    suite: input.suite,
    rows: rows.map((row) => withSpeedup(row, rows, baselineVariant)),
    baselineVariant,
    devices: [...new Map(environments.map((device) => [device.slug, { slug: device.slug, description: device.description }])).values()],
    models: [...new Set(input.records.map(({ provenance: { model } }) => `${model.name} (${model.sha256.slice(0, 12)})`))],
    runIds: [...new Set(input.records.map((record) => record.provenance.runId))],
    warnings: collectWarnings(input.records),
  };
}

export function measuredRows(report: Report): MeasuredRow[] {
  return report.rows.filter((row) => row.status === 'completed');
}

export function unmeasuredRows(report: Report): UnmeasuredRow[] {
  return report.rows.filter((row) => row.status !== 'completed');
}

/** Cases without numbers; those that ended alike stand together. */
export function unmeasuredGroups(report: Report): readonly (readonly [UnmeasuredRow, ...UnmeasuredRow[]])[] {
  const groups = new Map<string, [UnmeasuredRow, ...UnmeasuredRow[]]>();
  for (const row of unmeasuredRows(report)) {
    const key = JSON.stringify([row.status, row.reason, row.fix]);
    const group = groups.get(key);
    if (group) group.push(row);
    else groups.set(key, [row]);
  }
  return [...groups.values()];
}

/** Top-1 against the labels; a dash where there are none. */
export function describeTop1(accuracy: AccuracyReading | undefined): string {
  return accuracy?.top1Percent === undefined ? '–' : formatPercent(accuracy.top1Percent);
}

/** Agreement with the fp32 reference: the share of equal first classes, or else the signal-to-noise ratio. */
export function describeAgreement(accuracy: AccuracyReading | undefined): string {
  if (!accuracy) return '–';
  if (accuracy.agreementPercent !== undefined) return formatPercent(accuracy.agreementPercent);
  return accuracy.snrDb === undefined ? 'identical' : `${formatNumber(accuracy.snrDb)} dB`;
}

/** The figure that {@link describeAgreement} shows; infinite decibels where the outputs are identical, undefined where nothing was compared. */
export function agreementOf(accuracy: AccuracyReading | undefined): number | undefined {
  return accuracy && (accuracy.agreementPercent ?? accuracy.snrDb ?? Number.POSITIVE_INFINITY);
}

/** `single-stream`, `multi-stream ×4`, `server at 100 QPS`, `server at 100 QPS, batching ≤ 2 ms`; says so where transfers are left out. */
export function describeScenario(scenario: Scenario): string {
  const streams = scenario.streams > 1 ? ` ×${scenario.streams}` : '';
  const rate = scenario.targetQps === undefined ? '' : ` at ${scenario.targetQps} QPS`;
  const collected = scenario.maxQueueDelayMs === undefined ? '' : `, batching ≤ ${scenario.maxQueueDelayMs} ms`;
  return `${scenario.name}${streams}${rate}${collected}${scenario.transfers ? '' : ', no transfers'}`;
}

/** Variants in the order in which they first appear, the batches of each ascending: records stand in the order in which they ended. */
function inTableOrder(rows: readonly ReportRow[]): ReportRow[] {
  const variants = [...new Set(rows.map((row) => row.variant))];
  return [...rows].sort((a, b) => variants.indexOf(a.variant) - variants.indexOf(b.variant) || a.batch - b.batch);
}

function rowOf(record: BenchRecord): ReportRow {
  const base: RowBase = {
    caseId: record.case.id,
    variant: record.case.variant.id,
    backend: record.case.variant.options.backend,
    precision: record.case.variant.options.precision,
    batch: record.case.variant.options.batch,
    scenario: describeScenario(record.case.scenario),
    device: record.provenance.environment.device.slug,
  };
  switch (record.status) {
    case 'completed':
      return measuredRow(record, base);
    case 'failed':
      return { ...base, status: 'failed', reason: `${record.cause} at ${record.stage}: ${record.error.message}${particulars(record.error)}`, fix: record.error.fix };
    case 'skipped':
      return { ...base, status: 'skipped', reason: record.reason, fix: record.fix };
    case 'aborted':
      return { ...base, status: 'aborted', reason: `cut off after ${plural(record.rounds.length, 'round')}${soFar(record)}`, fix: 'continue with `tsrt-bench run --resume`' };
    default:
      return record satisfies never;
  }
}

/** Details that one line has room for: which option, which model, which node. */
const DETAILS_SHOWN = 3;

function particulars({ details = [] }: FailedRecord['error']): string {
  if (details.length === 0) return '';
  const more = details.length > DETAILS_SHOWN ? `; and ${details.length - DETAILS_SHOWN} more` : '';
  return ` (${details.slice(0, DETAILS_SHOWN).join('; ')}${more})`;
}

/** What there is of a case that was cut off: no result, and not to be lost either. */
function soFar({ rounds, case: measured }: AbortedRecord): string {
  const samples = latencyRoundsMs(rounds).flat();
  if (samples.length === 0) return '';
  const rates = throughputRounds(rounds, itemsPerRequest(measured)).flat();
  const throughput = rates.length === 0 ? '' : `, ${formatNumber(quantile(sortSamples(rates), 0.5))} QPS`;
  return `; so far p50 ${formatNumber(quantile(sortSamples(samples), 0.5))} ms${throughput} (${plural(samples.length, 'sample')})`;
}

function measuredRow(record: CompletedRecord, base: RowBase): ReportRow {
  const estimates = estimatesOf(record);
  if (!estimates) return { ...base, status: 'failed', reason: 'the record holds no samples', fix: 'measure the case again' };
  const { memory } = record;
  return {
    ...base,
    status: 'completed',
    latencyMs: estimates.latencyMs,
    itemsPerSecond: estimates.itemsPerSecond,
    itemsPerBatch: itemsPerBatch(record.rounds),
    deviceMs: deviceMsOf(record.rounds),
    memoryBytes: Math.max(0, memory.residentPeakBytes - memory.residentBaselineBytes),
    deviceBytes: memory.deviceBytes,
    engineBytes: record.build.engineBytes,
    buildMs: record.build.buildMs,
    loadMs: record.build.loadMs,
    pipelinesMs: record.build.loadSteps?.pipelinesMs,
    loadFirstMs: record.build.loadFirstMs,
    accuracy: record.accuracy,
    overBudget: record.warnings.some(({ kind }) => kind === 'over-budget'),
    speedup: undefined,
    rounds: record.rounds.length,
    samples: estimates.samples,
  };
}

/** The variant named by its id or by the start of one; by default the suite's, or that of the first completed case. */
export function findBaseline(records: readonly BenchRecord[], wanted: string | undefined): string | undefined {
  const completed = records.filter((record) => record.status === 'completed');
  if (wanted === undefined) return (completed.find(({ inSuite }) => inSuite?.baseline) ?? completed[0])?.case.variant.id;
  const variants = completed.map((record) => record.case.variant.id);
  return (
    variants.find((id) => id === wanted) ??
    variants.find((id) => id.startsWith(`${wanted}/`) || wanted.startsWith(`${id}/`)) ??
    variants.find((id) => id.startsWith(wanted))
  );
}

/** How many times as fast: by latency where one request is served at a time or load is offered, by throughput else. */
function withSpeedup(row: ReportRow, rows: readonly ReportRow[], variant: string | undefined): ReportRow {
  const bases = rows.filter((other) => other.variant === variant && other.batch === row.batch && other.scenario === row.scenario);
  // Of a variant that was measured on several devices, the row's own counts.
  const base = bases.find((other) => other.device === row.device) ?? bases[0];
  if (row.status !== 'completed' || base?.status !== 'completed') return row;
  const byThroughput = row.scenario.startsWith('offline') || row.scenario.startsWith('multi-stream');
  const speedup = byThroughput ? row.itemsPerSecond.point / base.itemsPerSecond.point : base.latencyMs.p50.point / row.latencyMs.p50.point;
  return { ...row, speedup: Number.isFinite(speedup) ? speedup : undefined };
}
