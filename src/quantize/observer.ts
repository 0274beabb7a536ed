/**
 * Observers: what a tensor's values were over a calibration set, in bounded memory and one pass.
 *
 * A histogram of magnitudes, one side per sign, over [0, limit) with `limit` a power of two. A value beyond it doubles the
 * limit and merges neighbouring bins, which is exact; so the result does not depend on the order of the values. Zeros are
 * counted apart: every grid holds them exactly, and after a ReLU they would drown all else.
 */

/** Bins per sign. The largest magnitude lies in the upper half, so that at least half of them resolve it. */
export const OBSERVER_BINS = 8192;

/** What was seen of one tensor's values over all calibration samples: counts, extremes, and a histogram of magnitudes by sign. */
export interface Distribution {
  /** Finite values seen, zeros included. */
  readonly count: number;
  readonly zeros: number;
  /** NaN and infinities, which enter nothing else. */
  readonly nonFinite: number;
  /** Smallest and largest finite value; both 0 where there was none. */
  readonly min: number;
  readonly max: number;
  /** Every magnitude is less; bin i of a side holds [i, i + 1) · limit / bins. 0 where nothing but zeros was seen. */
  readonly limit: number;
  /** Counts by magnitude; empty where no value has the sign. */
  readonly positive: Float64Array;
  readonly negative: Float64Array;
}

export interface Observer {
  add(values: ArrayLike<number>): void;
  distribution(): Distribution;
}

export function createObserver(bins = OBSERVER_BINS): Observer {
  if (bins % 2 !== 0) throw new RangeError('the number of bins must be even');
  const state = { count: 0, zeros: 0, nonFinite: 0, min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY, limit: 0 };
  const sides: { positive: Float64Array; negative: Float64Array } = { positive: new Float64Array(0), negative: new Float64Array(0) };

  const grow = (extremes: Extremes): void => {
    const largest = Math.max(-extremes.min, extremes.max);
    const needed = largest > 0 ? powerOfTwoAbove(largest) : 0;
    if (state.limit === 0) state.limit = needed;
    for (let doublings = Math.log2(needed / state.limit); doublings > 0; doublings--) {
      mergePairs(sides.positive);
      mergePairs(sides.negative);
    }
    state.limit = Math.max(state.limit, needed);
    if (extremes.max > 0 && sides.positive.length === 0) sides.positive = new Float64Array(bins);
    if (extremes.min < 0 && sides.negative.length === 0) sides.negative = new Float64Array(bins);
  };

  return {
    add(values) {
      const extremes = extremesOf(values);
      state.nonFinite += extremes.nonFinite;
      state.zeros += extremes.zeros;
      state.count += values.length - extremes.nonFinite;
      if (values.length === extremes.nonFinite) return;
      state.min = Math.min(state.min, extremes.min);
      state.max = Math.max(state.max, extremes.max);
      grow(extremes);
      if (state.limit > 0) countInto(values, sides.positive, sides.negative, bins / state.limit);
    },
    distribution: () => ({
      ...state,
      // Adding zero turns −0 into 0.
      min: state.count === 0 ? 0 : state.min + 0,
      max: state.count === 0 ? 0 : state.max + 0,
      positive: sides.positive.slice(),
      negative: sides.negative.slice(),
    }),
  };
}

interface Extremes {
  readonly min: number;
  readonly max: number;
  readonly zeros: number;
  readonly nonFinite: number;
}

function extremesOf(values: ArrayLike<number>): Extremes {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let zeros = 0;
  let nonFinite = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    // The difference of a number with itself is NaN for infinities and NaN alone.
    if (value - value !== 0) {
      nonFinite++;
      continue;
    }
    if (value < min) min = value;
    if (value > max) max = value;
    if (value === 0) zeros++;
  }
  return { min, max, zeros, nonFinite };
}

/** The smallest power of two that is greater than a positive number. */
function powerOfTwoAbove(value: number): number {
  const power = 2 ** Math.floor(Math.log2(value));
  return power > value ? power : power * 2 > value ? power * 2 : power * 4;
}

function countInto(values: ArrayLike<number>, positive: Float64Array, negative: Float64Array, perUnit: number): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value > 0) {
      if (value !== Number.POSITIVE_INFINITY) positive[Math.floor(value * perUnit)]!++;
    } else if (value < 0 && value !== Number.NEGATIVE_INFINITY) negative[Math.floor(-value * perUnit)]!++;
  }
}

function mergePairs(counts: Float64Array): void {
  const half = counts.length / 2;
  for (let i = 0; i < half; i++) counts[i] = counts[2 * i]! + counts[2 * i + 1]!;
  counts.fill(0, half);
}
