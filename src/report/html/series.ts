/** How a variant looks in every chart of a page: a colour and a symbol, so that colour alone tells nothing. */
import type { Markup } from './markup.ts';
import { drawing } from './drawing.ts';
import * as Plot from '@observablehq/plot';

export interface Series {
  readonly variant: string;
  readonly color: string;
  readonly symbol: Plot.SymbolType;
}

const SYMBOLS: readonly Plot.SymbolType[] = ['circle', 'square', 'triangle', 'diamond', 'cross', 'star', 'wye'];
/** Colours of the style sheet, `--series-0` and on; no divisor of the symbols' number, so that pairs repeat late. */
const COLORS = 8;

export function seriesOf(variants: readonly string[]): ReadonlyMap<string, Series> {
  return new Map(variants.map((variant, index) => [variant, { variant, color: `var(--series-${index % COLORS})`, symbol: SYMBOLS[index % SYMBOLS.length]! }]));
}

export function legendOfSeries(markup: Markup, series: Iterable<Series>): HTMLElement {
  const { h } = markup;
  const items = [...series].map(({ variant, color, symbol }) => {
    const swatch = drawing(markup, { width: 28, height: 12, margin: 0, axis: null, x: { domain: [0, 2] }, y: { domain: [0, 2] }, marks: [Plot.ruleY([1], { stroke: color, strokeWidth: 2 }), Plot.dot([{ x: 1, y: 1 }], { x: 'x', y: 'y', r: 4, fill: color, symbol })] });
    swatch.setAttribute('aria-hidden', 'true');
    return h('li', {}, swatch, variant);
  });
  return h('ul', { class: 'legend', 'aria-label': 'variants' }, ...items);
}
