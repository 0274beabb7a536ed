/** Text tables: aligned columns for terminals (cli-table3) and pipes for markdown. */
import Table from 'cli-table3';

export interface Grid {
  readonly heads: readonly string[];
  readonly aligns: readonly ('left' | 'right')[];
  readonly rows: readonly (readonly string[])[];
}

const GAP = '  ';
const NO_BORDERS = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right', 'left', 'left-mid', 'right', 'right-mid'].map(
    (place) => [place, ''],
  ),
);

/** An aligned table with a rule beneath the heads, without trailing line feed. Cells may hold colour codes. */
export function alignedGrid(grid: Grid): string {
  const table = new Table({
    head: [...grid.heads],
    colAligns: [...grid.aligns],
    chars: { ...NO_BORDERS, mid: '─', 'mid-mid': '─'.repeat(GAP.length), middle: GAP },
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 0 },
  });
  table.push(...grid.rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** The width of what {@link alignedGrid} draws, for cells without colour codes. */
export function gridWidth(grid: Grid): number {
  const widths = grid.heads.map((head, i) => Math.max(head.length, ...grid.rows.map((row) => row[i]?.length ?? 0)));
  return widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1);
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
