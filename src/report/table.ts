/** The table for terminals: what was measured, what was not and why, and what to beware of. */
import { choiceLines } from './choice.ts';
import { columnsOf, headingOf, legendOf, type Column } from './columns.ts';
import { alignedGrid, gridWidth, type Grid } from './grid.ts';
import { createPaint, type Paint } from './paint.ts';
import type { Reporter } from './reporter.ts';
import { buildReport, measuredRows, unmeasuredGroups, type MeasuredRow, type Report, type UnmeasuredRow } from './rows.ts';
import { foldWords, plural } from './units.ts';
import type { ReportWarning } from './warnings.ts';

export const tableReporter = {
  name: 'table',
  description: 'a table for the terminal, with reasons, warnings and the variants to take beneath',
  fileExtension: 'txt',
  render(input) {
    const report = buildReport(input);
    const paint = createPaint(input.color);
    const rows = measuredRows(report);
    const results = rows.length > 0 ? resultLines(report, rows, input.width, paint) : [paint('yellow', 'No case was measured.')];
    const remarks = [
      ...unmeasuredGroups(report).flatMap((rows) => unmeasuredLines(rows, input.width, paint)),
      ...report.warnings.flatMap((warning) => warningLines(warning, input.width, paint)),
    ];
    const heading = foldWords(headingOf(report), input.width).map((line) => paint('bold', line));
    const choices = choiceLines(report).flatMap(({ label, text }) => remark(label.padEnd(8), text, input.width));
    const parts = [[...heading, ...results], remarks, choices].filter((part) => part.length > 0);
    return `${parts.map((part) => part.join('\n')).join('\n\n')}\n`;
  },
} satisfies Reporter;

function resultLines(report: Report, rows: readonly MeasuredRow[], width: number, paint: Paint): string[] {
  const { columns, hidden } = fitColumns(columnsOf(report), rows, width);
  const sentences = legendOf(columns);
  if (hidden.length > 0) sentences.push(`Hidden at this width: ${hidden.join(', ')}; they are in --format csv.`);
  return ['', alignedGrid(paintHeads(gridOf(columns, rows), paint)), '', ...wrap(sentences, width).flatMap((line) => foldWords(line, width)).map((line) => paint('dim', line))];
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

/** Sentences in lines of at most `width`; one that is longer has its lines to itself. */
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

function unmeasuredLines(rows: readonly [UnmeasuredRow, ...UnmeasuredRow[]], width: number, paint: Paint): string[] {
  const [{ status, reason, fix, caseId }] = rows;
  const where = rows.length === 1 ? caseId : plural(rows.length, 'case');
  return [
    ...remark(paint(status === 'failed' ? 'red' : 'yellow', status.padEnd(8)), `${where}: ${reason}`, width),
    ...(fix === undefined ? [] : remark(' '.repeat(8), `fix: ${fix}`, width)),
    ...(rows.length === 1 ? [] : rows.map((row) => `${INDENT}${row.caseId}`)),
  ];
}

function warningLines(warning: ReportWarning, width: number, paint: Paint): string[] {
  const where = warning.cases.length === 1 ? (warning.cases[0] ?? '') : plural(warning.cases.length, 'case');
  return [
    ...remark(warning.kind === 'note' ? 'note    ' : paint('yellow', 'warning '), `${warning.sentence} (${where})`, width),
    ...(warning.advice === undefined ? [] : remark(' '.repeat(8), warning.advice, width)),
  ];
}

/** Remarks stand beside their label, which takes eight characters. */
const INDENT = ' '.repeat(9);

function remark(label: string, text: string, width: number): string[] {
  const [first = '', ...rest] = foldWords(text, width - INDENT.length);
  return [`${label} ${first}`, ...rest.map((line) => INDENT + line)];
}
