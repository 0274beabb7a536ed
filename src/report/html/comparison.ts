/** The result table, as in every format, with heads that sort. */
import { columnsOf, legendOf, type Column } from '../columns.ts';
import type { MeasuredRow, Report } from '../rows.ts';
import { breakable, scrollable, type Markup } from './markup.ts';

/** `anchorOf` is the part of the page that a case has to itself. */
export function comparison(markup: Markup, report: Report, rows: readonly MeasuredRow[], anchorOf: (row: MeasuredRow) => string): HTMLElement[] {
  const { h } = markup;
  const columns = columnsOf(report);
  const cell = (row: MeasuredRow, { align, cell: text, order }: Column, index: number): HTMLElement => {
    const shown = text(row);
    if (index === 0) return h('th', { scope: 'row' }, h('a', { href: `#${anchorOf(row)}` }, breakable(markup, shown)));
    return h('td', { class: align === 'right' ? 'number' : undefined, 'data-order': order?.(row) }, shown);
  };
  const table = h('table', { class: 'sortable' },
    h('caption', {}, 'Results'),
    h('thead', {}, h('tr', {}, ...columns.map(({ head, align }) => h('th', { scope: 'col', class: align === 'right' ? 'number' : undefined }, head)))),
    h('tbody', {}, ...rows.map((row) => h('tr', { class: row.variant === report.baselineVariant ? 'baseline' : undefined }, ...columns.map((column, index) => cell(row, column, index))))),
  );
  return [scrollable(markup, 'Results', table), h('p', { class: 'caption' }, legendOf(columns).join(' '))];
}
