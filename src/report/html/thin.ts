/** Fewer points that look the same: a page of many cases is to stay a page. */
import type { Rounds } from '../../stats/rounds.ts';
import { quantile, sortSamples } from '../../stats/samples.ts';

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Samples in the order of time, `x` the place in the whole; beyond `most`, the least and the largest of each stretch, so that outliers stay. */
export function inTime(rounds: Rounds, most: number): Point[] {
  const points = rounds.flat().map((y, x) => ({ x, y }));
  if (points.length <= most) return points;
  const stretch = Math.ceil((2 * points.length) / most);
  return Array.from({ length: Math.ceil(points.length / stretch) }, (_, index) => points.slice(index * stretch, (index + 1) * stretch)).flatMap((part) => {
    const least = part.reduce((a, b) => (b.y < a.y ? b : a));
    const largest = part.reduce((a, b) => (b.y > a.y ? b : a));
    return least.x < largest.x ? [least, largest] : least.x > largest.x ? [largest, least] : [least];
  });
}

/** The empirical distribution, `y` the share of samples up to `x`; beyond `most` samples at as many evenly spaced shares, both ends among them. */
export function distribution(samples: readonly number[], most: number): Point[] {
  const sorted = sortSamples(samples);
  if (sorted.length <= most) return [{ x: sorted[0]!, y: 0 }, ...Array.from(sorted, (x, index) => ({ x, y: (index + 1) / sorted.length }))];
  return Array.from({ length: most }, (_, index) => index / (most - 1)).map((y) => ({ x: quantile(sorted, y), y }));
}
