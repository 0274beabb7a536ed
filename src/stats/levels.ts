/**
 * Levels of a series whose values may follow each other, as runs of one machine do: change points beyond what its correlation brings
 * about by itself.
 *
 * Two steps. The change points of independent values come first; none of them, no change. What varies within the levels between
 * them then tells how values follow each other, and only change points that a series of that correlation seldom has are kept. A
 * correlation that was estimated with the change left in would be that of the change, and hide it.
 */
import { changePoints, type ChangePointOptions, ranksOf } from './change-points.ts';
import { autocorrelation } from './describe.ts';
import { quantile, sortSamples } from './samples.ts';

/** Beyond, nothing is known of a level. */
const LARGEST = 0.95;

/**
 * Of what a cut takes from the estimate, over what any fitted level takes: it lies where it fits best. By simulation of series without
 * a change (docs/methodology.md).
 */
const CUT_WEIGHT = 3;

/** Indexes at which a new level begins, ascending. */
export function levelChanges(series: readonly number[], options: Omit<ChangePointOptions, 'correlation'>): readonly number[] {
  const candidates = changePoints(series, options);
  if (candidates.length === 0) return candidates;
  const correlation = correlationWithin(series, candidates);
  return correlation === 0 ? candidates : changePoints(series, { ...options, correlation });
}

/**
 * Lag-1 correlation of what is left when each level's median is taken off, at least 0: of ranks, which single outliers do not decide, and
 * with the bias of short series taken out, (1 + 3ρ)/n for each level that was fitted (Kendall, Biometrika 41, 1954).
 */
function correlationWithin(series: readonly number[], cuts: readonly number[]): number {
  const starts = [0, ...cuts];
  const rest = starts.flatMap((start, i) => {
    const level = series.slice(start, starts[i + 1]);
    const median = quantile(sortSamples(level), 0.5);
    return level.map((value) => value - median);
  });
  const raw = autocorrelation(ranksOf(rest), 1);
  return Math.min(LARGEST, Math.max(0, raw + ((CUT_WEIGHT * cuts.length + 1) * (1 + 3 * raw)) / series.length));
}
