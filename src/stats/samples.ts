/**
 * Sorted samples and their quantiles.
 *
 * Quantiles follow Hyndman and Fan's type 7 ("Sample Quantiles in Statistical Packages", The American Statistician 50(4),
 * 1996): linear interpolation between the order statistics at h = (n−1)p. It is the default of R, NumPy and Julia, so that a
 * reader can check any percentile with the tool at hand.
 */

declare const sorted: unique symbol;

/** Finite numbers in ascending order, at least one. Comes only from {@link sortSamples}. */
export type SortedSamples = Float64Array & { readonly [sorted]: true };

/** A sorted copy. Throws RangeError on no samples and on a value that is not finite. */
export function sortSamples(samples: ArrayLike<number>): SortedSamples {
  if (samples.length === 0) throw new RangeError('no samples');
  const copy = Float64Array.from(samples);
  const wrong = copy.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) throw new RangeError(`sample ${wrong} is ${copy[wrong]}`);
  return copy.sort() as SortedSamples;
}

/** The quantile at `p` in [0, 1], type 7. */
export function quantile(samples: SortedSamples, p: number): number {
  const { rank, weight } = quantileRank(samples.length, p);
  const low = samples[rank]!;
  return weight === 0 ? low : low + weight * (samples[rank + 1]! - low);
}

/** Where type 7 finds a quantile among `count` values: between order statistics `rank` and `rank + 1` (from 0), by `weight`. */
export function quantileRank(count: number, p: number): { readonly rank: number; readonly weight: number } {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`a quantile's p is in [0, 1], not ${p}`);
  const h = (count - 1) * p;
  const rank = Math.floor(h);
  return { rank, weight: h - rank };
}
