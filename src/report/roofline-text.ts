/** A roofline as text: a table, markdown, or comma-separated values. */
import type { DevicePeaks } from '../backends/backend.ts';
import { alignedGrid, escapeMarkdown, type Grid, pipeGrid } from './grid.ts';
import { csvCell } from './csv.ts';
import { BOUNDS, ordered, type Roofline, type RooflineFormat, type RooflineOrder, type RooflineRow } from './roofline.ts';
import { formatNumber, formatPercent } from './units.ts';

export interface RooflineView {
  readonly format: RooflineFormat;
  readonly sort: RooflineOrder;
  readonly top: number | undefined;
}

/** What was profiled, with what is known of its device. */
export interface RooflineSubject {
  readonly title: string;
  readonly device: string;
  readonly peaks: DevicePeaks | undefined;
  readonly roofline: Roofline;
}

export function renderRoofline(subject: RooflineSubject, { format, sort, top }: RooflineView): string {
  const rows = ordered(subject.roofline, sort, top);
  if (format === 'csv') return csv(rows);
  const lines = summaryLines(subject);
  const cut = rows.length < subject.roofline.rows.length ? [`${rows.length} of ${subject.roofline.rows.length} layers are shown.`] : [];
  if (format === 'table') return [`${subject.title} on ${subject.device}`, '', alignedGrid(gridOf(rows)), ...cut, '', ...lines].join('\n');
  return [`### ${escapeMarkdown(`${subject.title} on ${subject.device}`)}`, '', pipeGrid(gridOf(rows)), '', ...[...cut, ...lines].map((line) => `- ${escapeMarkdown(line)}`)].join('\n');
}

const us = (ns: number): string => formatNumber(ns / 1000);

function gridOf(rows: readonly RooflineRow[]): Grid {
  const cells = (row: RooflineRow): string[] => [
    row.name,
    row.kind,
    row.precision,
    row.tactic ?? '–',
    us(row.durationNs),
    formatPercent(100 * row.timeShare),
    formatNumber(row.flops / 1e6),
    formatNumber(row.bytes / 1e6),
    ...(row.floor ? [us(row.floor.ns), formatPercent(100 * row.floor.share), row.floor.bound] : ['–', '–', '–']),
  ];
  return {
    heads: ['layer', 'kind', 'precision', 'tactic', 'µs', 'of all', 'MFLOP', 'MB', 'floor µs', 'reached', 'bound by'],
    aligns: ['left', 'left', 'left', 'left', 'right', 'right', 'right', 'right', 'right', 'right', 'left'],
    rows: rows.map(cells),
  };
}

/** Sums and what they mean: layers against wall, time by bound, and the roofs. */
export function summaryLines({ roofline, peaks }: Pick<RooflineSubject, 'roofline' | 'peaks'>): string[] {
  const { kernelNs, wallNs, residualNs, floorNs, boundNs } = roofline;
  const percent = (part: number): string => formatPercent((100 * part) / Math.max(kernelNs, Number.MIN_VALUE));
  const lines = [
    `layers   ${us(kernelNs)} µs together; one execution ${us(wallNs)} µs by the wall clock: ${residualNs >= 0 ? `${us(residualNs)} µs are between and around them` : `timing each by itself cost ${us(-residualNs)} µs more than running them together`}`,
  ];
  if (floorNs !== undefined && boundNs) {
    lines.push(`floor    ${us(floorNs)} µs, ${percent(floorNs)} of the layers' time`);
    lines.push(`bound    ${BOUNDS.map((bound) => `${bound} ${percent(boundNs[bound])}`).join(', ')} of the layers' time`);
  }
  if (peaks) lines.push(`device   ${describePeaks(peaks)}`);
  return lines;
}

function describePeaks({ bytesPerSecond, operationsPerSecond, launchNs, quantumNs }: DevicePeaks): string {
  const rates = Object.entries(operationsPerSecond).map(([type, rate]) => `${type} ${formatNumber(rate / 1e9)} Gop/s`);
  return `measured: copies ${formatNumber(bytesPerSecond / 1e9)} GB/s, ${rates.join(', ')}, an empty kernel ${us(launchNs)} µs; the clock steps by ${formatNumber(quantumNs)} ns`;
}

const COLUMNS: readonly (readonly [head: string, cell: (row: RooflineRow) => string | number | undefined])[] = [
  ['layer', (row) => row.name],
  ['kind', (row) => row.kind],
  ['precision', (row) => row.precision],
  ['tactic', (row) => row.tactic],
  ['duration_ns', (row) => row.durationNs],
  ['time_share', (row) => row.timeShare],
  ['flops', (row) => row.flops],
  ['bytes', (row) => row.bytes],
  ['floor_ns', (row) => row.floor?.ns],
  ['floor_share', (row) => row.floor?.share],
  ['bound', (row) => row.floor?.bound],
];

function csv(rows: readonly RooflineRow[]): string {
  return [COLUMNS.map(([head]) => head), ...rows.map((row) => COLUMNS.map(([, cell]) => csvCell(cell(row))))].map((cells) => cells.join(',')).join('\r\n');
}
