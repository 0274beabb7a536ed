/**
 * The report as one HTML file: nothing is fetched, nothing but the page's own script runs (its hash is all that the content security
 * policy lets through), and every chart is SVG.
 */
import { createHash } from 'node:crypto';
import { countSamples, latencyRoundsMs } from '../../results/derive.ts';
import type { BenchRecord } from '../../results/record.ts';
import type { ReportInput } from '../reporter.ts';
import { buildReport, measuredRows, unmeasuredGroups, type Report, type ReportRow } from '../rows.ts';
import { formatNumber, plural } from '../units.ts';
import { escapeXml } from '../xml.ts';
import { byBatch } from './by-batch.ts';
import { comparison } from './comparison.ts';
import { conditions, identity } from './conditions.ts';
import { engines } from './engines.ts';
import { groupsOf } from './groups.ts';
import { breakable, createMarkup, type Markup } from './markup.ts';
import { unmeasuredList, warningList } from './remarks.ts';
import { pointsFor, sampleCharts } from './samples.ts';
import { SCRIPT } from './script.ts';
import { legendOfSeries, seriesOf } from './series.ts';
import { speedups } from './speedups.ts';
import { STYLE } from './style.ts';
import { tradeOffs } from './trade-off.ts';

interface Section {
  readonly id: string;
  readonly title: string;
  readonly content: readonly (Node | string)[];
}

/** Ends with a line feed. */
export function renderPage(input: ReportInput): string {
  const markup = createMarkup();
  const report = buildReport(input);
  const { document, h } = markup;
  fillHead(markup, `${report.suite} – tsrt-bench`);
  const sections = sectionsOf(markup, report, input.records).filter(({ content }) => content.length > 0);
  const links = h('nav', { 'aria-label': 'Sections' }, h('ul', {}, ...sections.map(({ id, title }) => h('li', {}, h('a', { href: `#${id}` }, title)))));
  document.body.append(
    h('header', {}, h('h1', {}, `Suite ${report.suite}`), h('p', { class: 'lead' }, leadOf(report)), identity(markup, report, input.records), links),
    h('main', {}, ...sections.map(({ id, title, content }) => h('section', { 'aria-labelledby': id }, h('h2', { id }, title), ...content))),
    h('script', {}, SCRIPT),
  );
  return `${document.toString()}\n`;
}

function fillHead({ document, h }: Markup, title: string): void {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  document.head.append(
    h('meta', { charset: 'utf-8' }),
    h('meta', { 'http-equiv': 'Content-Security-Policy', content: `default-src 'none'; style-src ${hash(STYLE)}; script-src ${hash(SCRIPT)}` }),
    h('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }),
    // linkedom writes a title's text as it is.
    h('title', {}, escapeXml(title)),
    h('style', {}, STYLE),
  );
}

function leadOf(report: Report): string {
  const counts = (['completed', 'failed', 'skipped', 'aborted'] as const).flatMap((status) => {
    const count = report.rows.filter((row) => row.status === status).length;
    return count > 0 ? [`${count} ${status}`] : [];
  });
  const baseline = report.baselineVariant === undefined ? '' : `; speed-ups are against ${report.baselineVariant}`;
  return `${plural(report.rows.length, 'case')}${counts.length > 0 ? ` (${counts.join(', ')})` : ''} on ${report.devices.map(({ slug }) => slug).join(', ') || 'no device'}${baseline}`;
}

function sectionsOf(markup: Markup, report: Report, records: readonly BenchRecord[]): Section[] {
  const { h } = markup;
  const rows = measuredRows(report);
  const recordOf = finder(records);
  const completed = rows.flatMap((row) => recordOf(row)).filter((record) => record.status === 'completed');
  const series = seriesOf([...new Set(rows.map(({ variant }) => variant))]);
  const legend = () => legendOfSeries(markup, series.values());
  const groups = groupsOf(rows);
  const grid = (figures: readonly HTMLElement[]) => (figures.length === 0 ? [] : [h('div', { class: 'charts' }, ...figures)]);
  const keyed = (figures: readonly HTMLElement[]) => (figures.length === 0 ? [] : [legend(), ...grid(figures)]);
  const sampled = report.rows.filter((row) => samplesOf(recordOf(row)) > 0);
  const anchorOf = (row: ReportRow) => `case-${sampled.indexOf(row) + 1}`;
  const { baselineVariant } = report;
  return [
    { id: 'results', title: 'Results', content: rows.length > 0 ? comparison(markup, report, rows, anchorOf) : [h('p', {}, 'No case was measured.')] },
    { id: 'not-measured', title: 'Not measured', content: lists(unmeasuredGroups(report), (some) => unmeasuredList(markup, some)) },
    { id: 'warnings', title: 'Warnings', content: lists(report.warnings, (some) => warningList(markup, some)) },
    { id: 'batch', title: 'Latency and throughput', content: keyed(groups.flatMap((group) => byBatch(markup, group, series))) },
    { id: 'trade-off', title: 'What speed costs', content: keyed(groups.flatMap((group) => tradeOffs(markup, group, series))) },
    { id: 'speed-up', title: 'Speed-up', content: baselineVariant === undefined ? [] : grid(groups.flatMap((group) => speedups(markup, group, baselineVariant, series))) },
    { id: 'engines', title: 'Engines', content: completed.length > 0 ? [engines(markup, completed)] : [] },
    { id: 'samples', title: 'Samples', content: caseSections(markup, sampled, recordOf, anchorOf) },
    { id: 'conditions', title: 'Conditions', content: records.length > 0 ? [conditions(markup, records)] : [] },
  ];
}

function lists<T>(items: readonly T[], render: (items: readonly T[]) => HTMLElement): HTMLElement[] {
  return items.length === 0 ? [] : [render(items)];
}

type Finder = (row: ReportRow) => BenchRecord;

/** Ids are unique on one device. */
function finder(records: readonly BenchRecord[]): Finder {
  const key = (device: string, id: string) => JSON.stringify([device, id]);
  const byKey = new Map(records.map((record) => [key(record.provenance.environment.device.slug, record.case.id), record]));
  return ({ device, caseId }) => byKey.get(key(device, caseId))!;
}

function samplesOf(record: BenchRecord): number {
  return 'rounds' in record ? countSamples(latencyRoundsMs(record.rounds)) : 0;
}

/** Cases beyond so many are folded. */
const OPEN_CASES = 6;

function caseSections(markup: Markup, rows: readonly ReportRow[], recordOf: Finder, anchorOf: (row: ReportRow) => string): HTMLElement[] {
  if (rows.length === 0) return [];
  const { h } = markup;
  const most = pointsFor(rows.length);
  const several = new Set(rows.map(({ device }) => device)).size > 1;
  const sections = rows.map((row, index) => {
    const record = recordOf(row) as Exclude<BenchRecord, { status: 'skipped' }>;
    const name = several ? `${row.caseId} on ${row.device}` : row.caseId;
    return h('details', { class: 'case', id: anchorOf(row), open: index < OPEN_CASES ? true : undefined },
      h('summary', {}, h('strong', {}, breakable(markup, name)), ` ${summaryOf(row, samplesOf(record))}`),
      h('div', { class: 'charts' }, ...sampleCharts(markup, name, latencyRoundsMs(record.rounds), most)),
    );
  });
  const legend = `In a distribution, thin lines are the rounds and the bold line is all of them; in order of time, vertical lines separate the rounds and the bold steps are their medians. A chart has at most ${most} points of each kind: if there are more samples, the distribution is drawn from evenly spaced quantiles, and in order of time each stretch keeps its smallest and largest sample, so that outliers stay.`;
  return [h('p', { class: 'caption' }, legend), ...sections];
}

function summaryOf(row: ReportRow, samples: number): string {
  if (row.status !== 'completed') return `${row.status}, ${plural(samples, 'sample')}`;
  const { p50, p95, p99 } = row.latencyMs;
  const interval = p50.roundsNeeded === undefined && Number.isFinite(p50.high - p50.low) ? ` (${formatNumber(p50.low)} to ${formatNumber(p50.high)})` : '';
  return `p50 ${formatNumber(p50.point)} ms${interval}, p95 ${formatNumber(p95.point)}, p99 ${formatNumber(p99.point)}; ${plural(samples, 'sample')} in ${plural(row.rounds, 'round')}`;
}
