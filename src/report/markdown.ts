/** Markdown, for pull requests and READMEs. */
import { choiceLines } from './choice.ts';
import { columnsOf, headingOf, legendOf } from './columns.ts';
import { escapeMarkdown, pipeGrid } from './grid.ts';
import type { Reporter } from './reporter.ts';
import { buildReport, measuredRows, unmeasuredRows } from './rows.ts';
import { plural } from './units.ts';

export const markdownReporter: Reporter = {
  name: 'markdown',
  description: 'a markdown table, for pull requests and READMEs',
  fileExtension: 'md',
  render(input) {
    const report = buildReport(input);
    const rows = measuredRows(report);
    const columns = columnsOf(report);
    const table = pipeGrid({
      heads: columns.map((column) => column.head),
      aligns: columns.map((column) => column.align),
      rows: rows.map((row) => columns.map((column) => column.cell(row))),
    });
    const unmeasured = unmeasuredRows(report).map(
      (row) => `- **${row.status}** ${escapeMarkdown(`${row.caseId}: ${row.reason}${row.fix === undefined ? '' : ` (fix: ${row.fix})`}`)}`,
    );
    const warnings = report.warnings.map(
      (warning) => `- **${warning.kind === 'note' ? 'note' : 'warning'}** ${escapeMarkdown(`${warning.sentence} (${plural(warning.cases.length, 'case')})`)}`,
    );
    const parts = [`### ${escapeMarkdown(headingOf(report))}`, rows.length > 0 ? table : 'No case was measured.'];
    if (rows.length > 0) parts.push(escapeMarkdown(legendOf(columns).join(' ')));
    const choices = choiceLines(report).map(({ label, text }) => `- **${label}** ${escapeMarkdown(text)}`);
    if (choices.length > 0) parts.push(choices.join('\n'));
    if (unmeasured.length + warnings.length > 0) parts.push([...unmeasured, ...warnings].join('\n'));
    return `${parts.join('\n\n')}\n`;
  },
};
