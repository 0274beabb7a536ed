/**
 * Series whose values follow each other: a neighbour that stays, a clock that keeps its speed, heat. Tests that take values as
 * independent then find shifts that are none, since n values say less than n.
 */
import { changePoints } from './change-points.ts';
import { autocorrelation } from './describe.ts';
import { quantile, sortSamples } from './samples.ts';
import { studentQuantile } from './student.ts';

/** Series shorter than this tell next to nothing of their correlation. */
const FEWEST = 8;

/** What is taken for them. */
export const ASSUMED_CORRELATION = 0.3;

/** Beyond, nothing is known of the level. */
const LARGEST = 0.95;

/**
 * Lag-1 correlation of series of one kind, at least 0: the mean of theirs, each with the bias of a short series taken out,
 * (1 + 3ρ)/n (Kendall, Biometrika 41, 1954). Constant series have none.
 */
export function serialCorrelation(series: readonly (readonly number[])[]): number {
  const estimates = series.map((values) => {
    const { length } = values;
    if (length < FEWEST) return ASSUMED_CORRELATION;
    const raw = autocorrelation(values, 1);
    return raw + (1 + 3 * raw) / length;
  });
  return Math.min(LARGEST, Math.max(0, estimates.reduce((sum, value) => sum + value, 0) / Math.max(1, series.length)));
}

/**
 * How much further than for independent values the difference of two series' levels may be off, at a one-sided level: the
 * standard error times √((1+ρ)/(1−ρ)), as of first-order autoregressive series (Bayley and Hammersley, Suppl. J. R. Stat. Soc.
 * 8, 1946), less the error itself.
 */
export function serialDoubt(before: readonly number[], after: readonly number[], level: number): number {
  const rho = serialCorrelation([before, after]);
  const error = Math.sqrt(squaredError(before) + squaredError(after));
  return error === 0 ? 0 : studentQuantile(Math.min(0.5, level), Infinity) * error * (Math.sqrt((1 + rho) / (1 - rho)) - 1);
}

/**
 * Half of how far apart the levels of a series are, as {@link changePoints} finds them; 0 where it has one. What a machine does within a
 * run (a step, a walk, heat) it does between runs as well, and the correlation of a short series, which is low where it stays on one
 * side and lower still under noise of its own, tells less than half of that. Half: a run as a whole lies between its levels.
 */
export function levelDoubt(series: readonly number[]): number {
  const cuts = [0, ...changePoints(series, { seed: SEED, level: CERTAIN }), series.length];
  const levels = cuts.slice(1).map((end, i) => quantile(sortSamples(series.slice(cuts[i], end)), 0.5));
  return (Math.max(...levels) - Math.min(...levels)) / 2;
}

/** Of the permutations: the same series has the same levels. */
const SEED = 1;

/** A step found where there is none takes power from the test; walks and drifts show beyond doubt in two dozen rounds. */
const CERTAIN = 0.001;

function squaredError(values: readonly number[]): number {
  const { length } = values;
  if (length < 2) return 0;
  const mean = values.reduce((sum, value) => sum + value, 0) / length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (length - 1) / length;
}
