/** Latency and throughput of each variant over the batch, with intervals where there are any. */
import * as Plot from '@observablehq/plot';
import type { RoundsEstimate } from '../../stats/rounds.ts';
import type { MeasuredRow } from '../rows.ts';
import { formatNumber } from '../units.ts';
import { axisOf, BENEATH, chart, scaleFor } from './drawing.ts';
import { titled, type Group } from './groups.ts';
import { bars } from './bars.ts';
import type { Markup } from './markup.ts';
import type { Series } from './series.ts';

interface Metric {
  readonly title: string;
  readonly unit: string;
  readonly of: (row: MeasuredRow) => RoundsEstimate;
}

const METRICS: readonly Metric[] = [
  { title: 'Latency p50', unit: 'ms', of: ({ latencyMs }) => latencyMs.p50 },
  { title: 'Throughput', unit: 'items/s', of: ({ itemsPerSecond }) => itemsPerSecond },
];

/** Of one batch there is no line to draw: its variants stand one below the other. */
export function byBatch(markup: Markup, group: Group, series: ReadonlyMap<string, Series>): HTMLElement[] {
  return METRICS.map((metric) => (group.batches.length > 1 ? lines(markup, metric, group, series) : ranking(markup, metric, group, series)));
}

function lines(markup: Markup, metric: Metric, group: Group, series: ReadonlyMap<string, Series>): HTMLElement {
  const { title, unit, of } = metric;
  const points = group.rows.map((row) => ({ ...boundsOf(of(row)), batch: row.batch, variant: row.variant, text: describe(metric, row) }));
  const scale = scaleFor(points.flatMap(({ low, high }) => [low, high]));
  const marks = group.variants.flatMap((variant) => {
    const { color, symbol } = series.get(variant)!;
    const own = points.filter((point) => point.variant === variant);
    return [
      Plot.ruleX(own.filter(({ low, high }) => high > low), { x: 'batch', y1: 'low', y2: 'high', stroke: color, strokeWidth: 2.5, strokeOpacity: 0.6 }),
      Plot.lineY(own, { x: 'batch', y: 'point', stroke: color, strokeWidth: 1.5 }),
      Plot.dot(own, { x: 'batch', y: 'point', fill: color, symbol, r: 4, title: 'text' }),
    ];
  });
  return chart(markup, {
    title: titled(`${title} by batch, ${unit}`, group),
    alternative: `${title} in ${unit} by batch. ${points.map(({ text }) => text).join('; ')}.`,
    ...(scale.options.type === 'log' && { caption: 'The vertical axis is logarithmic.' }),
  }, {
    marginLeft: 56,
    marginBottom: 42,
    x: { type: 'point', domain: [...group.batches], label: 'batch', tickFormat: String, ...BENEATH },
    y: { ...scale.options, ...(scale.options.type === 'linear' && { zero: true }) },
    marks: [...axisOf('y', scale, { label: null }), ...marks],
  });
}

function ranking(markup: Markup, metric: Metric, group: Group, series: ReadonlyMap<string, Series>): HTMLElement {
  const { title, unit, of } = metric;
  const entries = group.rows.map((row) => {
    const { point, low, high } = boundsOf(of(row));
    return { name: row.variant, value: point, low, high, figure: formatNumber(point), ...series.get(row.variant)! };
  });
  return bars(markup, {
    title: titled(`${title} at batch ${group.batches[0]}, ${unit}`, group),
    alternative: `${title} in ${unit}. ${group.rows.map((row) => describe(metric, row)).join('; ')}.`,
  }, entries);
}

/** Without an interval the bounds are the point. */
function boundsOf({ point, low, high }: RoundsEstimate): { readonly point: number; readonly low: number; readonly high: number } {
  return Number.isFinite(low) && Number.isFinite(high) ? { point, low, high } : { point, low: point, high: point };
}

function describe({ unit, of }: Metric, row: MeasuredRow): string {
  const { point, low, high, roundsNeeded } = of(row);
  const interval = roundsNeeded === undefined && Number.isFinite(high - low) ? ` (${formatNumber(low)} to ${formatNumber(high)})` : '';
  return `${row.variant}, batch ${row.batch}: ${formatNumber(point)} ${unit}${interval}`;
}
