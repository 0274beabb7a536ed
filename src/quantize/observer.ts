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
  add(values: Float32Array): void;
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
    add(all) {
      const seen = extremesOf(all);
      const values = seen === undefined ? all.filter(Number.isFinite) : all;
      const extremes = seen ?? extremesOf(values)!;
      state.nonFinite += all.length - values.length;
      state.count += values.length;
      if (values.length === 0) return;
      state.min = Math.min(state.min, extremes.min);
      state.max = Math.max(state.max, extremes.max);
      grow(extremes);
      state.zeros += state.limit > 0 ? countInto(values, sides.positive, sides.negative, bins, bins / state.limit) : values.length;
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
}

/** Patterns of the bits of a positive infinity; those of NaN lie above. */
const INFINITY_BITS = 0x7f800000;

/** Undefined where a value is NaN or infinite. Compares bits, whose order as integers, once negative ones are turned round, is that of the numbers. */
function extremesOf(values: Float32Array): Extremes | undefined {
  const bits = bitsOf(values);
  let min = 0x7fffffff;
  let max = -0x80000000;
  for (let i = 0; i < bits.length; i++) {
    const key = orderOf(bits[i]!);
    if (key < min) min = key;
    if (key > max) max = key;
  }
  if (bits.length === 0) return { min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY };
  if (max >= INFINITY_BITS || min <= ~INFINITY_BITS) return undefined;
  const [low = 0, high = 0] = new Float32Array(Int32Array.of(orderOf(min), orderOf(max)).buffer);
  return { min: low, max: high };
}

/** Its own inverse. */
function orderOf(bits: number): number {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

function bitsOf({ buffer, byteOffset, length }: Float32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length);
}

/** The smallest power of two that is greater than a positive number. */
function powerOfTwoAbove(value: number): number {
  const power = 2 ** Math.floor(Math.log2(value));
  return power > value ? power : power * 2 > value ? power * 2 : power * 4;
}

/**
 * Counts finite values into the bins of their signs, and returns how many were zero. There is no branch in the loop: signs of activations are
 * as good as random, a wrong guess costs more than the rest, and a calibration comes here for 10⁹ values.
 */
function countInto(values: Float32Array, positive: Float64Array, negative: Float64Array, bins: number, perUnit: number): number {
  const counts = new Int32Array(2 * bins);
  const bits = bitsOf(values);
  let zeros = 0;
  let negativeZeros = 0;
  for (let i = 0; i < values.length; i++) {
    const sign = bits[i]! >>> 31;
    // 1 where all bits but the sign are 0.
    const zero = ((bits[i]! & 0x7fffffff) - 1) >>> 31;
    zeros += zero;
    negativeZeros += zero & sign;
    counts[sign * bins + ((Math.abs(values[i]!) * perUnit) | 0)]!++;
  }
  counts[0]! -= zeros - negativeZeros;
  counts[bins]! -= negativeZeros;
  for (let bin = 0; bin < positive.length; bin++) positive[bin]! += counts[bin]!;
  for (let bin = 0; bin < negative.length; bin++) negative[bin]! += counts[bins + bin]!;
  return zeros;
}

function mergePairs(counts: Float64Array): void {
  const half = counts.length / 2;
  for (let i = 0; i < half; i++) counts[i] = counts[2 * i]! + counts[2 * i + 1]!;
  counts.fill(0, half);
}
