/** Comma-separated values (RFC 4180): one line per case, every number at full precision, units in the heads. */
import type { Reporter } from './reporter.ts';
import { buildReport, type ReportRow } from './rows.ts';

type Cell = string | number | undefined;

const COLUMNS: readonly (readonly [head: string, cell: (row: ReportRow) => Cell])[] = [
  ['case', (row) => row.caseId],
  ['status', (row) => row.status],
  ['variant', (row) => row.variant],
  ['backend', (row) => row.backend],
  ['precision', (row) => row.precision],
  ['batch', (row) => row.batch],
  ['scenario', (row) => row.scenario],
  ['device', (row) => row.device],
  ['latency_p50_ms', (row) => measured(row)?.latencyMs.p50.point],
  ['latency_p50_low_ms', (row) => bounded(measured(row)?.latencyMs.p50.low)],
  ['latency_p50_high_ms', (row) => bounded(measured(row)?.latencyMs.p50.high)],
  ['latency_p95_ms', (row) => measured(row)?.latencyMs.p95.point],
  ['latency_p99_ms', (row) => measured(row)?.latencyMs.p99.point],
  ['device_ms', (row) => measured(row)?.deviceMs],
  ['items_per_second', (row) => measured(row)?.itemsPerSecond.point],
  ['items_per_batch', (row) => measured(row)?.itemsPerBatch],
  ['memory_bytes', (row) => measured(row)?.memoryBytes],
  ['device_bytes', (row) => measured(row)?.deviceBytes],
  ['engine_bytes', (row) => measured(row)?.engineBytes],
  ['build_ms', (row) => measured(row)?.buildMs],
  ['load_ms', (row) => measured(row)?.loadMs],
  ['load_pipelines_ms', (row) => measured(row)?.pipelinesMs],
  ['load_first_ms', (row) => measured(row)?.loadFirstMs],
  ['top1_percent', (row) => measured(row)?.accuracy?.top1Percent],
  ['top5_percent', (row) => measured(row)?.accuracy?.top5Percent],
  ['agreement_percent', (row) => measured(row)?.accuracy?.agreementPercent],
  ['snr_db', (row) => measured(row)?.accuracy?.snrDb],
  ['cosine_min', (row) => measured(row)?.accuracy?.cosineMin],
  ['max_abs_error', (row) => measured(row)?.accuracy?.maxAbsError],
  ['speedup', (row) => measured(row)?.speedup],
  ['rounds', (row) => measured(row)?.rounds],
  ['samples', (row) => measured(row)?.samples],
  ['reason', (row) => (row.status === 'completed' ? undefined : row.reason)],
];

export const csvReporter = {
  name: 'csv',
  description: 'comma-separated values, one line per case',
  fileExtension: 'csv',
  render(input) {
    const { rows } = buildReport(input);
    const lines = [COLUMNS.map(([head]) => head), ...rows.map((row) => COLUMNS.map(([, cell]) => csvCell(cell(row))))];
    return lines.map((cells) => `${cells.join(',')}\r\n`).join('');
  },
} satisfies Reporter;

/** An empty cell where the rounds are too few for an interval. */
function bounded(bound: number | undefined): Cell {
  return Number.isFinite(bound) ? bound : undefined;
}

function measured(row: ReportRow) {
  return row.status === 'completed' ? row : undefined;
}

/** Quotes what RFC 4180 says must be, and keeps spreadsheets from taking a message for a formula. */
export function csvCell(value: Cell): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
