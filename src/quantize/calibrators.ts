/**
 * Calibrators: from the distribution of a tensor's values to the range that its grid should cover.
 */
import { ENTROPY_BINS, entropyThreshold } from './entropy.ts';
import type { Gate } from './gates.ts';
import type { Distribution } from './observer.ts';
import { fakeQuantize, paramsOf, type Range, type Scheme } from './params.ts';

export const CALIBRATION_METHODS = ['entropy', 'minmax', 'percentile', 'mse'] as const;
export type CalibrationMethod = (typeof CALIBRATION_METHODS)[number];

export function isCalibrationMethod(name: string): name is CalibrationMethod {
  return (CALIBRATION_METHODS as readonly string[]).includes(name);
}

export interface CalibratorOptions {
  /** One of the methods here, or the name of what `custom` is. */
  readonly method: string;
  /** A plugin's method. */
  readonly custom?: (distribution: Distribution, options: { readonly scheme: Scheme }) => Range;
  readonly scheme: Scheme;
  /** Share of values inside the range, percent; read by `percentile` alone. */
  readonly percentile: number;
}

export const DEFAULT_PERCENTILE = 99.99;

/** The range for a distribution: zero lies in it, and it lies within the values seen. `mse` takes the error behind a gate, where one alone reads the values. */
export function calibrateRange(distribution: Distribution, options: CalibratorOptions, gate?: Gate): Range {
  const whole: Range = { low: Math.min(0, distribution.min), high: Math.max(0, distribution.max) };
  const { method, custom } = options;
  if (custom) return checkedRange(custom(distribution, { scheme: options.scheme }), whole, method);
  if (!isCalibrationMethod(method)) throw new RangeError(`no calibrator is called '${method}'`);
  switch (method) {
    case 'minmax':
      return whole;
    case 'entropy':
      return clip(whole, entropyMagnitude(distribution));
    case 'percentile':
      return percentileRange(distribution, whole, options);
    case 'mse':
      return mseRange(distribution, whole, options.scheme, gate);
    default:
      return method satisfies never;
  }
}

/** What a plugin gives, brought within the values seen. */
function checkedRange({ low, high }: Range, whole: Range, method: string): Range {
  if (!(low <= 0 && high >= 0)) throw new RangeError(`the calibrator ${method} gives the range ${low} to ${high}, in which zero does not lie`);
  return { low: Math.max(low, whole.low), high: Math.min(high, whole.high) };
}

function clip({ low, high }: Range, magnitude: number): Range {
  return { low: Math.max(low, -magnitude), high: Math.min(high, magnitude) };
}

function entropyMagnitude(distribution: Distribution): number {
  const largest = Math.max(-distribution.min, distribution.max);
  if (largest <= 0) return 0;
  const counts = magnitudeHistogram(distribution, largest, ENTROPY_BINS);
  return (entropyThreshold(counts) * largest) / ENTROPY_BINS;
}

/** Counts of |x| in equal bins over [0, largest]; an observer's bin that two of them share is split by length. */
export function magnitudeHistogram(distribution: Distribution, largest: number, bins: number): Float64Array {
  const result = new Float64Array(bins);
  for (const side of [distribution.positive, distribution.negative]) {
    const ratio = (distribution.limit / side.length) * (bins / largest);
    for (let i = 0; i < side.length; i++) {
      const count = side[i]!;
      if (count === 0) continue;
      const start = Math.min(i * ratio, bins);
      // The part beyond the largest value is empty, so that its bin's count belongs before it.
      const end = Math.min((i + 1) * ratio, bins);
      spread(result, start, end, count);
    }
  }
  return result;
}

/** Adds `count`, spread evenly over [start, end) in units of bins. */
function spread(bins: Float64Array, start: number, end: number, count: number): void {
  const first = Math.min(Math.floor(start), bins.length - 1);
  if (end <= first + 1) {
    bins[first]! += count;
    return;
  }
  for (let bin = first; bin < end; bin++) {
    bins[bin]! += (count * (Math.min(bin + 1, end) - Math.max(bin, start))) / (end - start);
  }
}

/** What is left out is split between the two tails, or lies in the one that there is. */
function percentileRange(distribution: Distribution, whole: Range, { percentile, scheme }: CalibratorOptions): Range {
  if (!(percentile > 0 && percentile <= 100)) throw new RangeError(`a percentile is above 0 and at most 100, not ${percentile}`);
  const outside = ((100 - percentile) * distribution.count) / 100;
  const { positive, negative, limit } = distribution;
  if (scheme === 'symmetric') {
    const both = Float64Array.from({ length: Math.max(positive.length, negative.length) }, (_, i) => (positive[i] ?? 0) + (negative[i] ?? 0));
    return clip(whole, magnitudeAbove(both, limit, outside));
  }
  const perTail = negative.length > 0 && positive.length > 0 ? outside / 2 : outside;
  return {
    low: Math.max(whole.low, -magnitudeAbove(negative, limit, perTail)),
    high: Math.min(whole.high, magnitudeAbove(positive, limit, perTail)),
  };
}

/** The magnitude that at most `outside` of the counted values exceed, to a bin's upper edge. */
function magnitudeAbove(counts: Float64Array, limit: number, outside: number): number {
  let beyond = 0;
  let bin = counts.length;
  while (bin > 0 && beyond + counts[bin - 1]! <= outside) beyond += counts[--bin]!;
  return counts.length === 0 ? 0 : (bin * limit) / counts.length;
}

/** Each end of the range is tried at these shares of the extreme value. */
const MSE_STEPS = 100;

/** The range of least mean squared error over the histogram: both ends together, then each alone while that still helps. */
function mseRange(distribution: Distribution, whole: Range, scheme: Scheme, gate: Gate | undefined): Range {
  const points = occupiedBins(distribution);
  const exact = gate ? points.values.map(gate) : points.values;
  const cost = (range: Range) => squaredError(points, exact, range, scheme, gate);
  let best = { range: whole, error: cost(whole) };
  const consider = (range: Range): void => {
    const error = cost(range);
    if (error < best.error) best = { range, error };
  };
  for (let step = 1; step < MSE_STEPS; step++) {
    consider({ low: (whole.low * step) / MSE_STEPS, high: (whole.high * step) / MSE_STEPS });
  }
  if (scheme === 'affine' && whole.low < 0 && whole.high > 0) {
    for (let step = 1; step <= MSE_STEPS; step++) consider({ low: best.range.low, high: (whole.high * step) / MSE_STEPS });
    for (let step = 1; step <= MSE_STEPS; step++) consider({ low: (whole.low * step) / MSE_STEPS, high: best.range.high });
  }
  return best.range;
}

interface Points {
  readonly values: readonly number[];
  readonly counts: readonly number[];
}

/** Bins that hold something, by their centres. Coarser than the observer's: the search visits them hundreds of times. */
function occupiedBins({ positive, negative, limit }: Distribution): Points {
  const values: number[] = [];
  const counts: number[] = [];
  const perPoint = 4;
  for (const [side, sign] of [[positive, 1], [negative, -1]] as const) {
    for (let bin = 0; bin < side.length; bin += perPoint) {
      let count = 0;
      let moment = 0;
      for (let i = bin; i < Math.min(bin + perPoint, side.length); i++) {
        count += side[i]!;
        moment += side[i]! * (i + 0.5);
      }
      if (count === 0) continue;
      values.push((sign * (moment / count) * limit) / side.length);
      counts.push(count);
    }
  }
  return { values, counts };
}

/** Of what the quantized values become; `exact` is what the values themselves become. */
function squaredError({ values, counts }: Points, exact: readonly number[], range: Range, scheme: Scheme, gate: Gate | undefined): number {
  const params = paramsOf(range, scheme);
  let error = 0;
  for (let i = 0; i < values.length; i++) {
    const rounded = fakeQuantize(values[i]!, params);
    error += counts[i]! * (exact[i]! - (gate ? gate(rounded) : rounded)) ** 2;
  }
  return error;
}
