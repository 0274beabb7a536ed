/** The gate's answer for terminals and for pull requests. */
import type { CaseVerdict, GateReport, Verdict } from '../gate/judge.ts';
import { describeNoise } from '../gate/noise.ts';
import { byVerdict, changeCells, headlineOf, type GateReporter } from './gate-reporter.ts';
import { alignedGrid, escapeMarkdown, pipeGrid, type Grid } from './grid.ts';
import { createPaint, type Paint } from './paint.ts';

export const gateTableReporter: GateReporter = {
  name: 'table',
  description: 'a table for the terminal, worst first, with the reasons beneath',
  fileExtension: 'txt',
  render(report, { color }) {
    const paint = createPaint(color);
    const remarks = [
      ...decided(report).map((one) => `${paintVerdict(paint, one.verdict, one.verdict.padEnd(12))} ${one.caseId}: ${one.reason}`),
      ...noiseRemarks(report).map((remark) => `${paint('yellow', 'noise'.padEnd(12))} ${remark}`),
      ...report.notices.map((notice) => `${paint('yellow', 'note'.padEnd(12))} ${notice}`),
    ];
    const parts = [[paintVerdict(paint, report.verdict, headlineOf(report))]];
    if (report.cases.length > 0) parts.push([alignedGrid(gridOf(report, (verdict) => paintVerdict(paint, verdict, verdict)))]);
    if (remarks.length > 0) parts.push(remarks);
    return `${parts.map((part) => part.join('\n')).join('\n\n')}\n`;
  },
};

export const gateMarkdownReporter: GateReporter = {
  name: 'markdown',
  description: 'markdown, for a comment on a pull request or a job summary',
  fileExtension: 'md',
  render(report) {
    const items = [
      ...decided(report).map((one) => `- **${one.verdict}** ${escapeMarkdown(`${one.caseId}: ${one.reason}`)}`),
      ...noiseRemarks(report).map((remark) => `- **noise** ${escapeMarkdown(remark)}`),
      ...report.notices.map((notice) => `- **note** ${escapeMarkdown(notice)}`),
    ];
    const parts = [`### ${escapeMarkdown(headlineOf(report))}`];
    if (report.cases.length > 0) parts.push(pipeGrid(gridOf(report, (verdict) => verdict)));
    if (items.length > 0) parts.push(items.join('\n'));
    return `${parts.join('\n\n')}\n`;
  },
};

function gridOf(report: GateReport, show: (verdict: Verdict) => string): Grid {
  return {
    heads: ['case', 'metric', 'baseline', 'candidate', 'change (interval)', 'verdict'],
    aligns: ['left', 'left', 'right', 'right', 'right', 'left'],
    rows: byVerdict(report.cases).flatMap((one) =>
      one.metrics.length === 0
        ? [[one.caseId, one.state, '–', '–', '–', show(one.verdict)]]
        : one.metrics.map((metric, i) => [i === 0 ? one.caseId : '', ...changeCells(metric), show(metric.verdict)]),
    ),
  };
}

/** Cases with something to say beyond "passed". */
function decided(report: GateReport): CaseVerdict[] {
  return byVerdict(report.cases).filter((one) => one.verdict !== 'passed' || one.state !== 'both');
}

/** What the machine did to the cases that did not pass. */
function noiseRemarks(report: GateReport): string[] {
  return byVerdict(report.cases)
    .filter((one) => one.verdict !== 'passed' && one.warnings.length > 0)
    .map((one) => `${one.caseId}: ${one.warnings.map(describeNoise).join('; ')}`);
}

const STYLES = { regressed: 'red', inconclusive: 'yellow', improved: 'cyan', passed: 'green' } as const satisfies Record<Verdict, string>;

function paintVerdict(paint: Paint, verdict: Verdict, text: string): string {
  return paint(STYLES[verdict], text);
}
