/** Text tables: boxes for terminals (cli-table3) and pipes for markdown. */
import Table from 'cli-table3';

export interface Grid {
  readonly heads: readonly string[];
  readonly aligns: readonly ('left' | 'right')[];
  readonly rows: readonly (readonly string[])[];
}

/** A boxed table without trailing line feed. Cells may hold colour codes. */
export function boxGrid(grid: Grid): string {
  const table = new Table({
    head: [...grid.heads],
    colAligns: [...grid.aligns],
    style: { head: [], border: [], compact: true },
  });
  table.push(...grid.rows.map((row) => [...row]));
  return table.toString();
}

/** The width of the box that {@link boxGrid} draws, for cells without colour codes. */
export function boxWidth(grid: Grid): number {
  const widths = grid.heads.map((head, i) => Math.max(head.length, ...grid.rows.map((row) => row[i]?.length ?? 0)));
  return widths.reduce((sum, width) => sum + width + 3, 1);
}

/** A markdown table (GitHub's flavour) without trailing line feed. */
export function pipeGrid(grid: Grid): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = grid.aligns.map((align) => (align === 'right' ? '--:' : ':--'));
  return [line(grid.heads.map(escapeMarkdown)), line(rule), ...grid.rows.map((row) => line(row.map(escapeMarkdown)))].join('\n');
}

/** Text in which nothing is markup: a message can hold anything, and must not break a table or become a link. */
export function escapeMarkdown(text: string): string {
  return text
    .replace(/[\\`*_[\]|~]/g, '\\$&')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/@/g, '&#64;')
    .replace(/\s*[\r\n]+\s*/g, ' ');
}
