/** The columns of the result table, as text, for terminals and markdown. */
import { describeAccuracy, type MeasuredRow, measuredRows, type Report } from './rows.ts';
import { formatMib, formatNumber, formatSpeedup } from './units.ts';

export interface Column {
  readonly head: string;
  readonly align: 'left' | 'right';
  /** Where room is short, columns of a higher number go first; 0 always stays. */
  readonly expendable: number;
  readonly cell: (row: MeasuredRow) => string;
}

/** The columns that say something about these rows: scenario and device only where there is more than the usual one. */
export function columnsOf(report: Report): Column[] {
  const rows = measuredRows(report);
  const scenarios = new Set(rows.map((row) => row.scenario));
  const columns: (Column | false)[] = [
    text('variant', (row) => row.variant),
    report.devices.length > 1 && text('device', (row) => row.device),
    number('batch', (row) => String(row.batch)),
    (scenarios.size > 1 || !scenarios.has('single-stream')) && text('scenario', (row) => row.scenario),
    number('p50 ms', (row) => formatNumber(row.latencyMs.p50.point)),
    number('±', (row) => `${formatNumber(halfWidthPercent(row))} %`, 4),
    number('p95 ms', (row) => formatNumber(row.latencyMs.p95.point), 2),
    number('p99 ms', (row) => formatNumber(row.latencyMs.p99.point), 3),
    number('QPS', (row) => formatNumber(row.itemsPerSecond.point)),
    number('memory MiB', (row) => formatMib(row.memoryBytes), 1),
    rows.some((row) => row.deviceBytes !== undefined) &&
      number('device MiB', (row) => (row.deviceBytes === undefined ? '–' : formatMib(row.deviceBytes)), 1),
    rows.some((row) => row.accuracy !== undefined) && text('accuracy vs fp32', (row) => describeAccuracy(row.accuracy)),
    number('speed-up', (row) => (row.speedup === undefined ? '–' : formatSpeedup(row.speedup))),
  ];
  return columns.filter((column) => column !== false);
}

/** What a reader must know to read the columns. */
export function legendOf(report: Report): string[] {
  const lines = ['Latency is per request; ± is half the 95 % interval of p50; QPS counts items (requests × batch).'];
  lines.push("Memory is the worker's peak resident set above what it held before the engine was loaded.");
  if (report.baselineVariant !== undefined) lines.push(`Speed-up is against ${report.baselineVariant} at the same batch and scenario.`);
  return lines;
}

/** `suite resnet50 · model … · device …`, the first line of every table. */
export function headingOf(report: Report): string {
  const devices = report.devices.map((device) => `${device.slug} (${device.description})`).join(', ');
  return `suite ${report.suite} · model ${report.models.join(', ')} · device ${devices}`;
}

function halfWidthPercent({ latencyMs: { p50 } }: MeasuredRow): number {
  return p50.point === 0 ? 0 : ((p50.high - p50.low) / 2 / p50.point) * 100;
}

function text(head: string, cell: Column['cell'], expendable = 0): Column {
  return { head, align: 'left', expendable, cell };
}

function number(head: string, cell: Column['cell'], expendable = 0): Column {
  return { head, align: 'right', expendable, cell };
}
