/** What speed costs: latency against accuracy, or against memory where all are equally accurate, with the front that nothing beats in both. */
import * as Plot from '@observablehq/plot';
import type { MeasuredRow } from '../rows.ts';
import { formatMib, formatNumber, formatPercent } from '../units.ts';
import { axisOf, BENEATH, chart, type Scale, scaleFor } from './drawing.ts';
import { titled, type Group } from './groups.ts';
import type { Markup } from './markup.ts';
import type { Series } from './series.ts';

interface Axis {
  readonly title: string;
  readonly label: string;
  readonly of: (row: MeasuredRow) => number | undefined;
  readonly format: (value: number) => string;
  /** Whether more of it is better. */
  readonly more: boolean;
}

const MIB = 1024 * 1024;

const ACCURACY: readonly Axis[] = [
  { title: 'top-1', label: 'top-1, %', of: ({ accuracy }) => accuracy?.top1Percent, format: formatPercent, more: true },
  { title: 'agreement with fp32', label: 'same first class as fp32, %', of: ({ accuracy }) => accuracy?.agreementPercent, format: formatPercent, more: true },
  { title: 'signal to noise against fp32', label: 'signal to noise, dB', of: ({ accuracy }) => accuracy?.snrDb, format: (value) => `${formatNumber(value)} dB`, more: true },
];
const MEMORY: readonly Axis[] = [
  { title: 'device memory', label: 'device memory, MiB', of: ({ deviceBytes }) => deviceBytes && deviceBytes / MIB, format: (value) => `${formatMib(value * MIB)} MiB`, more: false },
  { title: 'memory', label: 'peak memory, MiB', of: ({ memoryBytes }) => memoryBytes / MIB, format: (value) => `${formatMib(value * MIB)} MiB`, more: false },
];

/** One chart per batch; none where its variants do not differ, or are one. */
export function tradeOffs(markup: Markup, group: Group, series: ReadonlyMap<string, Series>): HTMLElement[] {
  return group.batches.flatMap((batch) => {
    const rows = group.rows.filter((row) => row.batch === batch);
    const axis = [...ACCURACY, ...MEMORY].find(({ of }) => new Set(rows.map(of).filter((value) => value !== undefined)).size > 1);
    return axis ? [scatter(markup, axis, titled(`Latency and ${axis.title} at batch ${batch}`, group), rows, series)] : [];
  });
}

interface Spot {
  readonly x: number;
  readonly y: number;
  readonly row: MeasuredRow;
  readonly text: string;
}

function scatter(markup: Markup, axis: Axis, title: string, rows: readonly MeasuredRow[], series: ReadonlyMap<string, Series>): HTMLElement {
  const spots = rows.flatMap((row): Spot[] => {
    const y = axis.of(row);
    const x = row.latencyMs.p50.point;
    return y === undefined ? [] : [{ x, y, row, text: `${row.variant}: ${formatNumber(x)} ms, ${axis.format(y)}` }];
  });
  const front = frontOf(spots, axis.more);
  const x = scaleFor(spots.map((spot) => spot.x));
  const y: Scale = { options: { type: 'linear', nice: true }, ticks: 5 };
  const missing = rows.length - spots.length;
  return chart(markup, {
    title,
    alternative: `${title}. ${spots.map(({ text }) => text).join('; ')}.`,
    caption: [
      `Pareto front (dashed; filled marks), fastest first: ${front.map(({ text }) => text).join('; ')}.`,
      ...(missing > 0 ? [`Without a figure for it, or identical to fp32: ${rows.filter((row) => axis.of(row) === undefined).map(({ variant }) => variant).join(', ')}.`] : []),
    ].join(' '),
  }, {
    marginLeft: 56,
    marginTop: 28,
    marginBottom: 44,
    x: { ...x.options, inset: 12 },
    y: { ...y.options, inset: 12 },
    marks: [
      ...axisOf('x', x, { label: `latency p50, ms${x.options.type === 'log' ? ' (logarithmic)' : ''}`, ...BENEATH }),
      ...axisOf('y', y, { label: axis.label, labelArrow: axis.more ? 'up' : 'none' }),
      Plot.line(front, { x: 'x', y: 'y', curve: 'step-after', stroke: 'currentColor', strokeOpacity: 0.6, strokeDasharray: '4 3' }),
      ...spots.map((spot) => {
        const { color, symbol } = series.get(spot.row.variant)!;
        const best = front.includes(spot);
        return Plot.dot([spot], { x: 'x', y: 'y', symbol, r: 5, stroke: color, strokeWidth: 1.8, fill: best ? color : 'none', title: 'text' });
      }),
    ],
  });
}

/** Fastest first: what nothing beats in one without being worse in the other (Pareto, 1896). */
function frontOf(spots: readonly Spot[], more: boolean): Spot[] {
  const worth = ({ y }: Spot) => (more ? y : -y);
  const sorted = spots.toSorted((a, b) => a.x - b.x || worth(b) - worth(a));
  return sorted.filter((spot, index) => sorted.slice(0, index).every((faster) => worth(faster) < worth(spot)));
}
