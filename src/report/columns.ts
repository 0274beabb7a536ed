/** The columns of the result table, as text, for terminals and markdown. */
import { describeAgreement, describeTop1, type MeasuredRow, measuredRows, type Report } from './rows.ts';
import { formatMib, formatNumber, formatSpeedup } from './units.ts';

export interface Column {
  readonly head: string;
  readonly align: 'left' | 'right';
  /** Where room is short, columns of a higher number go first; 0 always stays. */
  readonly expendable: number;
  readonly cell: (row: MeasuredRow) => string;
  readonly legend: string | undefined;
}

/** The columns that say something about these rows: scenario, device and accuracy only where there is something to tell. */
export function columnsOf(report: Report): Column[] {
  const rows = measuredRows(report);
  const scenarios = new Set(rows.map((row) => row.scenario));
  const columns: (Column | false)[] = [
    rows.some((row) => row.overBudget)
      ? { ...text('variant', (row) => (row.overBudget ? `${row.variant} !` : row.variant)), legend: '! is over the accuracy budget.' }
      : text('variant', (row) => row.variant),
    report.devices.length > 1 && text('device', (row) => row.device),
    number('batch', (row) => String(row.batch)),
    (scenarios.size > 1 || !scenarios.has('single-stream')) && text('scenario', (row) => row.scenario),
    number('p50 ms', (row) => formatNumber(row.latencyMs.p50.point), 0, 'Latency is per request.'),
    number('±', describeHalfWidth, 5, halfWidthLegend(rows)),
    number('p95 ms', (row) => formatNumber(row.latencyMs.p95.point), 3),
    number('p99 ms', (row) => formatNumber(row.latencyMs.p99.point), 4),
    rows.some((row) => row.deviceMs !== undefined) &&
      number('device ms', (row) => (row.deviceMs === undefined ? '–' : formatNumber(row.deviceMs)), 1, 'Device ms is what the device itself takes for one execution, by its own clock.'),
    number('QPS', (row) => formatNumber(row.itemsPerSecond.point), 0, 'QPS counts items: requests × batch.'),
    number('memory', (row) => formatMib(row.memoryBytes), 1, "Memory is in MiB: the worker's peak resident set above what it held before the engine was loaded."),
    rows.some((row) => row.deviceBytes !== undefined) &&
      number('device MiB', (row) => (row.deviceBytes === undefined ? '–' : formatMib(row.deviceBytes)), 1),
    rows.some((row) => row.pipelinesMs !== undefined) &&
      number('load ms', describeLoad, 6, 'Load is from the engine file to a session that is ready; after the +, the part in which the driver compiles kernels.'),
    rows.some((row) => row.accuracy?.top1Percent !== undefined) && number('top-1', (row) => describeTop1(row.accuracy), 2),
    rows.some((row) => row.accuracy !== undefined) &&
      number('vs fp32', (row) => describeAgreement(row.accuracy), 0, 'vs fp32 is the share of inputs that get the same first class, or else the signal-to-noise ratio.'),
    number('speed-up', (row) => (row.speedup === undefined ? '–' : formatSpeedup(row.speedup)), 0, speedupLegend(report)),
  ];
  return columns.filter((column) => column !== false);
}

/** `310 + 1240`: the load without the driver's compilation of kernels, and that. */
function describeLoad({ loadMs, pipelinesMs }: MeasuredRow): string {
  return pipelinesMs === undefined ? formatNumber(loadMs) : `${formatNumber(loadMs - pipelinesMs)} + ${formatNumber(pipelinesMs)}`;
}

/** What a reader must know to read these columns, as sentences. */
export function legendOf(columns: readonly Column[]): string[] {
  return columns.flatMap((column) => column.legend ?? []);
}

function speedupLegend({ baselineVariant }: Report): string | undefined {
  return baselineVariant === undefined ? undefined : `Speed-up is against ${baselineVariant} at the same batch and scenario.`;
}

/** `suite resnet50 · model … · device …`, the first line of every table. */
export function headingOf(report: Report): string {
  const devices = report.devices.map((device) => `${device.slug} (${device.description})`).join(', ');
  // Of a run that ended before any case did, only the suite is known.
  const known = report.models.length > 0 ? ` · model ${report.models.join(', ')} · device ${devices}` : '';
  return `suite ${report.suite}${known}`;
}

/** A dash where the rounds are too few for an interval. */
function describeHalfWidth({ latencyMs: { p50 } }: MeasuredRow): string {
  if (p50.roundsNeeded !== undefined) return '–';
  const percent = p50.high === p50.low ? 0 : ((p50.high - p50.low) / 2 / p50.point) * 100;
  return Number.isFinite(percent) ? `${percent.toFixed(1)} %` : '–';
}

function halfWidthLegend(rows: readonly MeasuredRow[]): string {
  const needed = rows.flatMap((row) => row.latencyMs.p50.roundsNeeded ?? []);
  return `± is half the 95 % interval of p50${needed.length > 0 ? `, which takes ${Math.max(...needed)} rounds` : ''}.`;
}

function text(head: string, cell: Column['cell']): Column {
  return { head, align: 'left', expendable: 0, cell, legend: undefined };
}

function number(head: string, cell: Column['cell'], expendable = 0, legend?: string): Column {
  return { head, align: 'right', expendable, cell, legend };
}
