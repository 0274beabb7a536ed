/** Charts as static SVG: Observable Plot draws into the page's document, the style sheet colours. */
import * as Plot from '@observablehq/plot';
import type { Markup } from './markup.ts';

/** More decimals of a pixel than one are of no use. */
const DIGITS = /(\d+\.\d)\d+/g;
/** A line to where it starts: a dot. */
const DOT = /M([^LM]+)L\1(?=M|$)/g;

/** A chart without a frame around it. What Plot would repeat in every chart's own style sheet is in the page's. */
export function drawing({ document }: Pick<Markup, 'document'>, options: Plot.PlotOptions): Element {
  const svg = Plot.plot({ ...options, document });
  svg.querySelector('style')?.remove();
  for (const path of svg.querySelectorAll('path')) path.setAttribute('d', (path.getAttribute('d') ?? '').replace(DIGITS, '$1').replace(DOT, 'M$1h0'));
  return svg;
}

export interface ChartText {
  readonly title: string;
  /** What the chart shows, in words, for those who do not see it. */
  readonly alternative: string;
  readonly caption?: string | undefined;
}

/** A chart with its title, its text alternative and, beneath it, what is to be said. */
export function chart(markup: Markup, { title, alternative, caption }: ChartText, options: Plot.PlotOptions): HTMLElement {
  const { h } = markup;
  const svg = drawing(markup, { width: WIDTH, height: 260, ...options });
  svg.setAttribute('font-size', '12');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', alternative);
  return h('figure', {}, h('figcaption', {}, title), svg, caption !== undefined && h('p', { class: 'caption' }, caption));
}

/** Charts are drawn for the width of a phone, and stand side by side where there is more. */
export const WIDTH = 420;

export interface Scale {
  readonly options: Plot.ScaleOptions & { readonly type: 'log' | 'linear' };
  /** How many, or which. */
  readonly ticks: number | number[];
}

/** Logarithmic where the values span more than a linear axis could show. */
export function scaleFor(values: readonly number[]): Scale {
  const least = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const largest = values.reduce((a, b) => Math.max(a, b), 0);
  if (!(least > 0 && largest > 8 * least)) return { options: { type: 'linear', nice: true }, ticks: 5 };
  const domain = [least / 1.15, largest * 1.15] as const;
  return { options: { type: 'log', domain: [...domain] }, ticks: logTicks(...domain) };
}

/** The scale's axis with its grid. Plot would label a part of a logarithmic axis' ticks only. */
export function axisOf(side: 'x' | 'y', { ticks }: Scale, options: Plot.AxisXOptions & Plot.AxisYOptions): Plot.Markish[] {
  const labelled = { ticks, text: formatTick, ...options };
  return side === 'x' ? [Plot.gridX({ ticks }), Plot.axisX(labelled)] : [Plot.gridY({ ticks }), Plot.axisY(labelled)];
}

/** A label beneath the ticks, in the middle. */
export const BENEATH = { labelAnchor: 'center', labelArrow: 'none', labelOffset: 38 } as const;

/** 1, 2 and 5 of each decade; of many decades the powers of ten alone. */
function logTicks(least: number, largest: number): number[] {
  const decades = Array.from({ length: Math.ceil(Math.log10(largest)) - Math.floor(Math.log10(least)) + 1 }, (_, index) => Math.floor(Math.log10(least)) + index);
  const ticks = decades.flatMap((decade) => [1, 2, 5].map((digit) => Number(`${digit}e${decade}`))).filter((tick) => tick >= least && tick <= largest);
  return ticks.length > 8 ? ticks.filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6)) : ticks;
}

function formatTick(value: number): string {
  return value >= 1e4 ? `${Number((value / 1000).toPrecision(4))}k` : String(Number(value.toPrecision(6)));
}
