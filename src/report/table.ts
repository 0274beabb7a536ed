/** The table for terminals: what was measured, what was not and why, and what to beware of. */
import { columnsOf, headingOf, legendOf, type Column } from './columns.ts';
import { alignedGrid, gridWidth, type Grid } from './grid.ts';
import { createPaint, type Paint } from './paint.ts';
import type { Reporter } from './reporter.ts';
import { buildReport, measuredRows, unmeasuredRows, type MeasuredRow, type Report, type UnmeasuredRow } from './rows.ts';
import { plural } from './units.ts';
import type { ReportWarning } from './warnings.ts';

export const tableReporter: Reporter = {
  name: 'table',
  description: 'a table for the terminal, with reasons and warnings beneath',
  fileExtension: 'txt',
  render(input) {
    const report = buildReport(input);
    const paint = createPaint(input.color);
    const rows = measuredRows(report);
    const results = rows.length > 0 ? resultLines(report, rows, input.width, paint) : [paint('yellow', 'No case was measured.')];
    const remarks = [
      ...unmeasuredRows(report).flatMap((row) => unmeasuredLines(row, paint)),
      ...report.warnings.flatMap((warning) => warningLines(warning, paint)),
    ];
    return `${[paint('bold', headingOf(report)), ...results, ...(remarks.length > 0 ? ['', ...remarks] : [])].join('\n')}\n`;
  },
};

function resultLines(report: Report, rows: readonly MeasuredRow[], width: number, paint: Paint): string[] {
  const { columns, hidden } = fitColumns(columnsOf(report), rows, width);
  const sentences = legendOf(columns);
  if (hidden.length > 0) sentences.push(`Hidden at this width: ${hidden.join(', ')}; they are in --format csv.`);
  return ['', alignedGrid(paintHeads(gridOf(columns, rows), paint)), '', ...wrap(sentences, width).map((line) => paint('dim', line))];
}

/** Leaves out the most expendable columns until the table fits; those that must stay may still be too wide. */
function fitColumns(columns: readonly Column[], rows: readonly MeasuredRow[], width: number): { readonly columns: Column[]; readonly hidden: string[] } {
  let kept = [...columns];
  const hidden: string[] = [];
  while (gridWidth(gridOf(kept, rows)) > width) {
    const most = Math.max(...kept.map((column) => column.expendable));
    if (most === 0) break;
    const gone = kept.find((column) => column.expendable === most);
    kept = kept.filter((column) => column !== gone);
    if (gone) hidden.push(gone.head);
  }
  return { columns: kept, hidden };
}

/** Sentences in lines of at most `width`; a sentence is never split. */
function wrap(sentences: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const sentence of sentences) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + sentence.length <= width) lines[lines.length - 1] = `${last} ${sentence}`;
    else lines.push(sentence);
  }
  return lines;
}

function gridOf(columns: readonly Column[], rows: readonly MeasuredRow[]): Grid {
  return {
    heads: columns.map((column) => column.head),
    aligns: columns.map((column) => column.align),
    rows: rows.map((row) => columns.map((column) => column.cell(row))),
  };
}

function paintHeads(grid: Grid, paint: Paint): Grid {
  return { ...grid, heads: grid.heads.map((head) => paint('bold', head)) };
}

function unmeasuredLines(row: UnmeasuredRow, paint: Paint): string[] {
  const label = paint(row.status === 'failed' ? 'red' : 'yellow', row.status.padEnd(8));
  const lines = [`${label} ${row.caseId}: ${row.reason}`];
  if (row.fix !== undefined) lines.push(`${' '.repeat(9)}fix: ${row.fix}`);
  return lines;
}

function warningLines(warning: ReportWarning, paint: Paint): string[] {
  const where = warning.cases.length === 1 ? (warning.cases[0] ?? '') : plural(warning.cases.length, 'case');
  const lines = [`${paint('yellow', 'warning ')} ${warning.sentence} (${where})`];
  if (warning.advice !== undefined) lines.push(`${' '.repeat(9)}${warning.advice}`);
  return lines;
}
