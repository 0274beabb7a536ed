/** Confidence intervals: the shape they all have, and the exact one for a quantile of independent samples. */
import type { SortedSamples } from './samples.ts';
import { quantile } from './samples.ts';

/** A point estimate and the interval that holds the true value with `confidence`, in the samples' own unit. */
export interface Estimate {
  readonly point: number;
  /** −Infinity where the samples are too few to bound it. */
  readonly low: number;
  /** Infinity where the samples are too few to bound it. */
  readonly high: number;
  /** In (0, 1). */
  readonly confidence: number;
}

/**
 * Distribution-free interval of a quantile from two order statistics: B, the number of samples below the true quantile, is
 * Binomial(n, p), so [x(l), x(u)] covers with P(l ≤ B < u) (David and Nagaraja, Order Statistics, 2003, §7.1). Conservative,
 * and for independent samples only.
 */
export function quantileInterval(samples: SortedSamples, p: number, confidence = 0.95): Estimate {
  const tail = (1 - confidence) / 2;
  const count = samples.length;
  const mass = binomialMasses(count, p);
  let lowRank = 0;
  for (let below = mass[0]!; below <= tail && lowRank < count; below += mass[lowRank]!) lowRank++;
  let highRank = count + 1;
  for (let above = mass[count]!; above <= tail && highRank > 1; above += mass[highRank - 1]!) highRank--;
  return {
    point: quantile(samples, p),
    low: lowRank === 0 ? -Infinity : samples[lowRank - 1]!,
    high: highRank === count + 1 ? Infinity : samples[highRank - 1]!,
    confidence,
  };
}

/** Fewest independent samples from which {@link quantileInterval} can bound the quantile on both sides. */
export function samplesNeeded(p: number, confidence = 0.95): number {
  const tail = (1 - confidence) / 2;
  return Math.ceil(Math.log(tail) / Math.log(Math.max(p, 1 - p)));
}

/** P(B = k) for k = 0…count, computed outwards from the mode, where nothing underflows. */
function binomialMasses(count: number, p: number): Float64Array {
  if (!(p > 0 && p < 1)) throw new RangeError(`an interval needs p in (0, 1), not ${p}`);
  const mass = new Float64Array(count + 1);
  const mode = Math.min(count, Math.floor((count + 1) * p));
  mass[mode] = 1;
  for (let k = mode; k < count; k++) mass[k + 1] = mass[k]! * ((count - k) / (k + 1)) * (p / (1 - p));
  for (let k = mode; k > 0; k--) mass[k - 1] = mass[k]! * (k / (count - k + 1)) * ((1 - p) / p);
  let total = 0;
  for (const value of mass) total += value;
  return mass.map((value) => value / total);
}

/**
 * Exact interval of a share, from `hits` in `count` independent tries (Clopper and Pearson, Biometrika 26(4), 1934), by
 * bisection on the binomial's tails. `count` 0 bounds nothing: [0, 1].
 */
export function binomialInterval(hits: number, count: number, confidence = 0.95): Estimate {
  const tail = (1 - confidence) / 2;
  const atLeast = (p: number): number => sum(binomialMasses(count, p).subarray(hits));
  const atMost = (p: number): number => sum(binomialMasses(count, p).subarray(0, hits + 1));
  return {
    point: count === 0 ? 0 : hits / count,
    low: hits === 0 ? 0 : crossing((p) => atLeast(p) > tail),
    high: hits === count ? 1 : crossing((p) => atMost(p) < tail),
    confidence,
  };
}

/** Where a condition that is false near 0 and true near 1 becomes true. */
function crossing(holds: (p: number) => boolean): number {
  let [low, high] = [0, 1];
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (holds(middle)) high = middle;
    else low = middle;
  }
  return (low + high) / 2;
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
