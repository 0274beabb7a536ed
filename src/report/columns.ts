/** The columns of the result table, as text, for terminals, markdown and HTML. */
import { agreementOf, describeAgreement, describeTop1, type MeasuredRow, measuredRows, type Report } from './rows.ts';
import { formatMib, formatNumber, formatSpeedup } from './units.ts';

export interface Column {
  readonly head: string;
  readonly align: 'left' | 'right';
  /** Where room is short, columns of a higher number go first; 0 always stays. */
  readonly expendable: number;
  readonly cell: (row: MeasuredRow) => string;
  /** What a number's rows are sorted by; undefined where there is none. */
  readonly order?: (row: MeasuredRow) => number | undefined;
  readonly legend: string | undefined;
}

/** The columns that say something about these rows: scenario, device and accuracy only where there is something to tell. */
export function columnsOf(report: Report): Column[] {
  const rows = measuredRows(report);
  const scenarios = new Set(rows.map((row) => row.scenario));
  const columns: (Column | false)[] = [
    rows.some((row) => row.overBudget)
      ? { ...text('variant', (row) => (row.overBudget ? `${row.variant} !` : row.variant)), legend: '! marks variants over the accuracy budget.' }
      : text('variant', (row) => row.variant),
    report.devices.length > 1 && text('device', (row) => row.device),
    number('batch', (row) => row.batch, String),
    (scenarios.size > 1 || !scenarios.has('single-stream')) && text('scenario', (row) => row.scenario),
    number('p50 ms', (row) => row.latencyMs.p50.point, formatNumber, 0, 'Latency is per request.'),
    number('±', halfWidthPercent, (percent) => `${percent.toFixed(1)} %`, 5, halfWidthLegend(rows)),
    number('p95 ms', (row) => row.latencyMs.p95.point, formatNumber, 3),
    number('p99 ms', (row) => row.latencyMs.p99.point, formatNumber, 4),
    rows.some((row) => row.deviceMs !== undefined) &&
      number('device ms', (row) => row.deviceMs, formatNumber, 1, 'Device ms is the time of one execution on the device, by its own clock.'),
    number('QPS', (row) => row.itemsPerSecond.point, formatNumber, 0, qpsLegend(rows)),
    rows.some((row) => row.itemsPerBatch !== undefined) &&
      number('per batch', (row) => row.itemsPerBatch, formatNumber, 1, 'Per batch is the average number of requests collected into one batch.'),
    number('memory', (row) => row.memoryBytes, formatMib, 1, "Memory is in MiB: the worker's peak resident set above what it held before the engine was loaded."),
    rows.some((row) => row.deviceBytes !== undefined) &&
      number('device MiB', (row) => row.deviceBytes, formatMib, 1),
    rows.some((row) => row.pipelinesMs !== undefined) &&
      number('load ms', (row) => row.loadMs, describeLoad, 6, loadLegend(rows)),
    rows.some((row) => row.accuracy?.top1Percent !== undefined) && number('top-1', (row) => row.accuracy?.top1Percent, (_, row) => describeTop1(row.accuracy), 2),
    rows.some((row) => row.accuracy !== undefined) &&
      number('vs fp32', (row) => agreementOf(row.accuracy), (_, row) => describeAgreement(row.accuracy), 0, 'vs fp32 is the share of inputs that get the same first class, or else the signal-to-noise ratio.'),
    number('speed-up', (row) => row.speedup, formatSpeedup, 0, speedupLegend(report)),
  ];
  return columns.filter((column) => column !== false);
}

/** `310 + 1240`: the load without the driver's compilation of kernels, and that. */
function describeLoad(loadMs: number, { pipelinesMs }: MeasuredRow): string {
  return pipelinesMs === undefined ? formatNumber(loadMs) : `${formatNumber(loadMs - pipelinesMs)} + ${formatNumber(pipelinesMs)}`;
}

/** Says whether the driver had the kernels: a first load may take ten times as long. */
function loadLegend(rows: readonly MeasuredRow[]): string {
  const load = 'Load is from the engine file to a ready session; after the + is the part in which the driver compiles kernels';
  const firstMs = rows.flatMap((row) => row.loadFirstMs ?? []);
  if (firstMs.length === 0) return `${load}.`;
  const [least, most] = [Math.min(...firstMs), Math.max(...firstMs)].map(formatNumber);
  const range = least === most ? least : `${least} to ${most}`;
  return `${load}, or reuses those that it kept from a first load, which took ${range} ms.`;
}

/** What a reader must know to read these columns, as sentences. */
export function legendOf(columns: readonly Column[]): string[] {
  return columns.flatMap((column) => column.legend ?? []);
}

function qpsLegend(rows: readonly MeasuredRow[]): string {
  const collected = rows.filter((row) => row.itemsPerBatch !== undefined).length;
  if (collected === 0) return 'QPS counts items: requests × batch.';
  return collected === rows.length ? 'QPS counts requests of one item.' : 'QPS counts items: requests × batch, or requests of one item where these were collected into batches.';
}

function speedupLegend({ baselineVariant }: Report): string | undefined {
  return baselineVariant === undefined ? undefined : `Speed-up is relative to ${baselineVariant} at the same batch and scenario.`;
}

/** `suite resnet50 · model … · device …`, the first line of every table. */
export function headingOf(report: Report): string {
  const devices = report.devices.map((device) => `${device.slug} (${device.description})`).join(', ');
  // Of a run that ended before any case did, only the suite is known.
  const known = report.models.length > 0 ? ` · model ${report.models.join(', ')} · device ${devices}` : '';
  return `suite ${report.suite}${known}`;
}

/** Undefined where the rounds are too few for an interval. */
function halfWidthPercent({ latencyMs: { p50 } }: MeasuredRow): number | undefined {
  if (p50.roundsNeeded !== undefined) return undefined;
  const percent = p50.high === p50.low ? 0 : ((p50.high - p50.low) / 2 / p50.point) * 100;
  return Number.isFinite(percent) ? percent : undefined;
}

function halfWidthLegend(rows: readonly MeasuredRow[]): string {
  const needed = rows.flatMap((row) => row.latencyMs.p50.roundsNeeded ?? []);
  return `± is half the 95 % interval of p50${needed.length > 0 ? `, which needs ${Math.max(...needed)} rounds` : ''}.`;
}

function text(head: string, cell: Column['cell']): Column {
  return { head, align: 'left', expendable: 0, cell, legend: undefined };
}

/** A dash where there is no number. */
function number(head: string, order: NonNullable<Column['order']>, format: (value: number, row: MeasuredRow) => string, expendable = 0, legend?: string): Column {
  const cell = (row: MeasuredRow): string => {
    const value = order(row);
    return value === undefined ? '–' : format(value, row);
  };
  return { head, align: 'right', expendable, cell, order, legend };
}
