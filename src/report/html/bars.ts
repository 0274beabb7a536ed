/** Bars one below the other, each under its name: names of variants are longer than any margin. */
import * as Plot from '@observablehq/plot';
import { axisOf, chart, type ChartText, type Scale } from './drawing.ts';
import type { Markup } from './markup.ts';

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** The interval; as the value where there is none. */
  readonly low: number;
  readonly high: number;
  /** The value as text. */
  readonly figure: string;
  readonly color: string;
}

/** Above grid and rules. */
const LEGIBLE = { fill: 'currentColor', stroke: 'var(--paper)', strokeWidth: 4 } as const;

const LINEAR: Scale = { options: { type: 'linear' }, ticks: 5 };

const ROW = 36;
/** Characters of a name that a chart's width holds. */
const NAME = 58;

export function bars(markup: Markup, text: ChartText, entries: readonly Bar[], reference?: number): HTMLElement {
  const keyed = entries.map((entry, index) => ({ ...entry, row: index, label: shortened(entry.name) }));
  return chart(markup, text, {
    height: entries.length * ROW + 36,
    marginLeft: 4,
    marginRight: 64,
    marginTop: 4,
    x: { ...LINEAR.options, zero: true },
    y: { type: 'band', axis: null, domain: keyed.map(({ row }) => row), padding: 0 },
    marks: [
      ...axisOf('x', LINEAR, { label: null }),
      ...(reference === undefined ? [] : [Plot.ruleX([reference], { strokeDasharray: '4 3' })]),
      Plot.barX(keyed, { y: 'row', x: 'value', fill: 'color', fillOpacity: 0.75, insetTop: 18, insetBottom: 6, title: 'name' }),
      Plot.ruleY(keyed.filter(({ low, high }) => high > low), { y: 'row', x1: 'low', x2: 'high', dy: 6, stroke: 'currentColor', strokeWidth: 2 }),
      Plot.text(keyed, { y: 'row', text: 'label', frameAnchor: 'left', textAnchor: 'start', dy: -9, ...LEGIBLE }),
      Plot.text(keyed, { y: 'row', x: 'high', text: 'figure', textAnchor: 'start', dx: 6, dy: 6, ...LEGIBLE }),
    ],
  });
}

function shortened(name: string): string {
  return name.length <= NAME ? name : `${name.slice(0, 24)}…${name.slice(25 - NAME)}`;
}
