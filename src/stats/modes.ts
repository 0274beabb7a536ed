/** Two modes in a sample, and a trend along a series: what a single interval would hide. */
import { medianAbsoluteDeviation } from './describe.ts';
import { normalTail } from './student.ts';
import { type SortedSamples, quantile, sortSamples } from './samples.ts';

/** A sample that falls into a lower and an upper group. */
export interface TwoModes {
  readonly low: number;
  readonly high: number;
  /** Share of the values in the upper group. */
  readonly upperShare: number;
}

/** A group smaller than this share is a handful of outliers, not a mode. */
const SMALLEST_SHARE = 0.15;

/**
 * Distance of the groups' means in their common standard deviations, from which on there are two modes: Ashman's D (Ashman,
 * Bird and Zepf, Astronomical Journal 108, 1994) is clean above 2 for groups that are known; the best of all cuts through a
 * single normal sample reaches 2.7, through a uniform one 3.5. A few values split further by chance, so that they must lie
 * further apart: at this, fewer than 8 % of normal, uniform or exponential samples of any size are taken for two modes.
 */
const separation = (count: number): number => 5 * (1 + 6 / count);

/** Fewest values that show modes. */
const FEWEST = 8;

/** The groups of the cut with the least variance within (Otsu, IEEE Trans. SMC 9(1), 1979); undefined where it separates nothing. */
export function twoModes(samples: SortedSamples): TwoModes | undefined {
  const count = samples.length;
  if (count < FEWEST) return undefined;
  const total = samples.reduce((sum, value) => sum + value, 0);
  let [below, best, cut] = [0, -1, 0];
  for (let size = 1; size < count; size++) {
    below += samples[size - 1]!;
    const gap = (total - below) / (count - size) - below / size;
    const between = size * (count - size) * gap * gap;
    if (between > best) [best, cut] = [between, size];
  }
  const [lower, upper] = [spread(samples.subarray(0, cut)), spread(samples.subarray(cut))];
  const within = Math.sqrt((lower.variance + upper.variance) / 2);
  const small = Math.min(cut, count - cut) / count < SMALLEST_SHARE;
  if (small || !(upper.mean - lower.mean > separation(count) * within)) return undefined;
  return { low: lower.mean, high: upper.mean, upperShare: (count - cut) / count };
}

function spread(values: Float64Array): { readonly mean: number; readonly variance: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, variance: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length };
}

/** A steady rise or fall along a series. */
export interface Trend {
  /** Change from the first value to the last, along Theil and Sen's line (Sen, JASA 63, 1968). */
  readonly change: number;
  /** Two-sided p of Mann and Kendall's test, by its normal approximation (Kendall, Rank Correlation Methods, 1975). */
  readonly p: number;
}

/** The trend of a series in measurement order; undefined for fewer than eight values, where the approximation is poor. */
export function trendOf(series: readonly number[]): Trend | undefined {
  const count = series.length;
  if (count < FEWEST) return undefined;
  let score = 0;
  const slopes: number[] = [];
  for (let i = 0; i < count; i++) {
    for (let j = i + 1; j < count; j++) {
      score += Math.sign(series[j]! - series[i]!);
      slopes.push((series[j]! - series[i]!) / (j - i));
    }
  }
  const deviation = Math.sqrt((count * (count - 1) * (2 * count + 5)) / 18);
  const p = Math.min(1, 2 * normalTail(Math.max(0, Math.abs(score) - 1) / deviation));
  return { change: quantile(sortSamples(slopes), 0.5) * (count - 1), p };
}

/** Standard deviation of the bulk of a series, by the median absolute deviation (Hampel, JASA 69, 1974). */
export function robustDeviation(series: readonly number[]): number {
  return 1.4826 * medianAbsoluteDeviation(sortSamples(series));
}
