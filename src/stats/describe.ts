/** Descriptions of a sample: location, spread, outliers, serial dependence. */
import { type SortedSamples, quantile, sortSamples } from './samples.ts';

/** In the samples' own unit. */
export interface Description {
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly median: number;
  /** Standard deviation with n−1; 0 for one sample. */
  readonly sd: number;
  /** Median absolute deviation from the median, unscaled; ×1.4826 estimates the sd of a normal sample (Hampel, JASA 69, 1974). */
  readonly mad: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
}

export function describe(samples: SortedSamples): Description {
  const count = samples.length;
  const { mean, sd } = moments(samples);
  const median = quantile(samples, 0.5);
  return {
    count,
    min: samples[0]!,
    max: samples[count - 1]!,
    mean,
    median,
    sd,
    mad: medianAbsoluteDeviation(samples),
    p90: quantile(samples, 0.9),
    p95: quantile(samples, 0.95),
    p99: quantile(samples, 0.99),
  };
}

/** Mean and standard deviation in one pass (Welford, Technometrics 4(3), 1962). */
function moments(samples: ArrayLike<number>): { readonly mean: number; readonly sd: number } {
  let mean = 0;
  let squares = 0;
  for (let i = 0; i < samples.length; i++) {
    const delta = samples[i]! - mean;
    mean += delta / (i + 1);
    squares += delta * (samples[i]! - mean);
  }
  return { mean, sd: samples.length > 1 ? Math.sqrt(squares / (samples.length - 1)) : 0 };
}

/** Median of the absolute deviations from the median, unscaled. */
export function medianAbsoluteDeviation(samples: SortedSamples): number {
  const median = quantile(samples, 0.5);
  return quantile(sortSamples(samples.map((value) => Math.abs(value - median))), 0.5);
}

/** How many samples lie outside Tukey's fences, 1.5 (mild) and 3 (severe) interquartile ranges from the quartiles (Tukey, 1977). */
export interface Outliers {
  readonly mildLow: number;
  readonly mildHigh: number;
  readonly severeLow: number;
  readonly severeHigh: number;
}

/** Tukey's outliers; each sample counts once, as severe where it is severe. */
export function tukeyOutliers(samples: SortedSamples): Outliers {
  const [q1, q3] = [quantile(samples, 0.25), quantile(samples, 0.75)];
  const range = q3 - q1;
  const counts = { mildLow: 0, mildHigh: 0, severeLow: 0, severeHigh: 0 };
  for (const value of samples) {
    if (value < q1 - 3 * range) counts.severeLow++;
    else if (value < q1 - 1.5 * range) counts.mildLow++;
    else if (value > q3 + 3 * range) counts.severeHigh++;
    else if (value > q3 + 1.5 * range) counts.mildHigh++;
  }
  return counts;
}

/**
 * Autocorrelation of a series, in measurement order, at a lag: the biased estimator, whose values stay in [−1, 1] (Box,
 * Jenkins and Reinsel, Time Series Analysis, 2.1.4). 0 for a constant series or one no longer than the lag.
 */
export function autocorrelation(series: ArrayLike<number>, lag: number): number {
  const { mean } = moments(series);
  let variance = 0;
  let covariance = 0;
  for (let i = 0; i < series.length; i++) {
    const here = series[i]! - mean;
    variance += here * here;
    if (i + lag < series.length) covariance += here * (series[i + lag]! - mean);
  }
  return variance === 0 ? 0 : covariance / variance;
}
