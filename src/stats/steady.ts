/**
 * Steady state: when a series of timings has stopped changing systematically.
 *
 * Georges, Buytaert and Eeckhout ("Statistically Rigorous Java Performance Evaluation", OOPSLA 2007) wait until the spread of
 * the last runs falls under a threshold; that never happens on a noisy machine. Here consecutive blocks must agree: their
 * medians differ by no more than a tolerance, or by no more than their own noise explains.
 */
import { medianAbsoluteDeviation } from './describe.ts';
import { quantile, sortSamples } from './samples.ts';

/** Standard error of a median, in scaled MADs over √n: √(π/2) × 1.4826 (large-sample, normal samples). */
const MEDIAN_ERROR = Math.sqrt(Math.PI / 2) * 1.4826;

/**
 * Whether every block agrees with the first: |difference of medians| ≤ tolerance × the smaller median, or ≤ two standard errors
 * of the difference. Fewer than two blocks are never steady.
 */
export function blocksAgree(blocks: readonly (readonly number[])[], tolerance: number): boolean {
  const centres = blocks.map(centreOf);
  const [first, ...rest] = centres;
  if (!first || rest.length === 0) return false;
  return rest.every((block) => {
    const difference = Math.abs(block.median - first.median);
    const noise = 2 * Math.hypot(block.error, first.error);
    return difference <= Math.max(tolerance * Math.min(block.median, first.median), noise);
  });
}

function centreOf(block: readonly number[]): { readonly median: number; readonly error: number } {
  const samples = sortSamples(block);
  return { median: quantile(samples, 0.5), error: (MEDIAN_ERROR * medianAbsoluteDeviation(samples)) / Math.sqrt(samples.length) };
}
