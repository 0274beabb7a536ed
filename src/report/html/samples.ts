/** What each case's numbers rest on: how its samples are distributed, round by round, and how they came. */
import * as Plot from '@observablehq/plot';
import type { Rounds } from '../../stats/rounds.ts';
import { quantile, type SortedSamples, sortSamples } from '../../stats/samples.ts';
import { formatNumber, plural } from '../units.ts';
import { axisOf, BENEATH, chart, scaleFor } from './drawing.ts';
import type { Markup } from './markup.ts';
import { distribution, inTime, type Point } from './thin.ts';

/** Points of all charts of a kind together: what a page of many cases may take. */
const ALL_POINTS = 18_000;
const MOST_POINTS = 600;
const FEWEST_POINTS = 60;

/** Points that one chart may have on a page of so many. */
export function pointsFor(cases: number): number {
  return Math.max(FEWEST_POINTS, Math.min(MOST_POINTS, Math.floor(ALL_POINTS / cases)));
}

/** `name` is the case's, for those who hear the charts. */
export function sampleCharts(markup: Markup, name: string, rounds: Rounds, most: number): HTMLElement[] {
  return [distributionChart(markup, name, rounds, most), timeChart(markup, name, rounds, most)];
}

function distributionChart(markup: Markup, name: string, rounds: Rounds, most: number): HTMLElement {
  const all = rounds.flat();
  const sorted = sortSamples(all);
  const figure = (p: number) => formatNumber(quantile(sorted, p));
  const end = bulkEnd(sorted);
  const cut = sorted.at(-1)! > end;
  const x = scaleFor(all.filter((value) => value <= end));
  const within = (points: readonly Point[]) => points.filter((point) => point.x <= end);
  const each = Math.max(8, Math.floor(most / 2 / rounds.length));
  const steps = { x: 'x', y: 'y', curve: all.length > most / 2 ? 'linear' : 'step-after', stroke: 'currentColor' } as const;
  return chart(markup, {
    title: 'Distribution: share of samples up to a latency',
    alternative: `Distribution of ${name}: least ${figure(0)}, p25 ${figure(0.25)}, p50 ${figure(0.5)}, p75 ${figure(0.75)}, p95 ${figure(0.95)}, p99 ${figure(0.99)}, most ${figure(1)} ms.`,
    caption: cut ? `Without the slowest samples, beyond p99: up to ${figure(1)} ms.` : undefined,
  }, {
    height: 220,
    marginLeft: 44,
    marginBottom: 42,
    x: x.options,
    y: { domain: [0, 1] },
    marks: [
      ...axisOf('x', x, { label: `ms${x.options.type === 'log' ? ' (logarithmic)' : ''}`, ...BENEATH }),
      Plot.gridY(SHARES),
      Plot.axisY(SHARES, { label: null, text: (share: number) => `${share * 100} %` }),
      Plot.line(rounds.length > 1 ? rounds.flatMap((round, index) => within(distribution(round, each)).map((point) => ({ ...point, index }))) : [], { ...steps, z: 'index', strokeWidth: 0.8, strokeOpacity: 0.4 }),
      Plot.line(within(distribution(all, most / 2)), { ...steps, stroke: 'var(--accent)', strokeWidth: 2 }),
    ],
  });
}

const SHARES = [0, 0.25, 0.5, 0.75, 0.9, 1];

/** Where a few outliers would press all others into a corner, p99; they are in the chart beside it. */
function bulkEnd(sorted: SortedSamples): number {
  const [least, p99, most] = [quantile(sorted, 0), quantile(sorted, 0.99), quantile(sorted, 1)];
  return most - least > 2 * (p99 - least) ? p99 : most;
}

function timeChart(markup: Markup, name: string, rounds: Rounds, most: number): HTMLElement {
  const starts = rounds.map((_, index) => rounds.slice(0, index).reduce((sum, round) => sum + round.length, 0));
  const medians = rounds.map((round, index) => ({ x1: starts[index]! - 0.5, x2: starts[index]! + round.length - 0.5, y: quantile(sortSamples(round), 0.5) }));
  const all = rounds.flat();
  const y = scaleFor(all);
  return chart(markup, {
    title: `Samples in order of time, ms${y.options.type === 'log' ? ' (logarithmic)' : ''}`,
    alternative: `Samples of ${name} in order of time. Medians of the ${plural(rounds.length, 'round')}: ${medians.map((median) => formatNumber(median.y)).join(', ')} ms.`,
  }, {
    height: 220,
    marginLeft: 56,
    marginBottom: 42,
    x: { label: 'sample', ...BENEATH, ticks: 5, tickFormat: (place: number) => (Number.isInteger(place) ? String(place) : ''), domain: [-0.5, all.length - 0.5] },
    y: y.options,
    marks: [
      ...axisOf('y', y, { label: null }),
      Plot.ruleX(starts.slice(1), { x: (start: number) => start - 0.5, stroke: 'currentColor', strokeOpacity: 0.2 }),
      Plot.line(inTime(rounds, most), { x: (point: Point) => point.x, y: (point: Point) => point.y, curve: dots, stroke: 'currentColor', strokeWidth: 2.4, strokeOpacity: 0.55 }),
      Plot.ruleY(medians, { x1: 'x1', x2: 'x2', y: 'y', stroke: 'var(--accent)', strokeWidth: 2 }),
    ],
  });
}

/** A "curve" that is a round dot at each point: one path where a circle element each would be several times as long. */
const dots: Plot.CurveFunction = (context: CanvasPath) => ({
  areaStart() {},
  areaEnd() {},
  lineStart() {},
  lineEnd() {},
  point(x: number, y: number) {
    context.moveTo(x, y);
    context.lineTo(x, y);
  },
});
