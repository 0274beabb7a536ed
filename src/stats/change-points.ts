/**
 * Where a series of measurements changed its level: divisive segmentation, a part being cut where a permutation test of ranks
 * says that its level is not one, at the split whose two medians leave the least absolute deviation (Matteson and James, JASA 109, 2014; for performance histories: Daly et al., "The
 * Use of Change Point Detection to Identify Software Performance Regressions", ICPE 2020; the rank statistic is Pettitt's,
 * Applied Statistics 28(2), 1979). Single outliers are no change.
 */
import { createRandom, normal, shuffle, type Random } from './random.ts';
import { quantile, sortSamples } from './samples.ts';

export interface ChangePointOptions {
  readonly seed: number;
  /** Chance that a series without a change gets a cut; default 0.01. */
  readonly level?: number;
  /** Fewest values of a level; default 3. */
  readonly shortest?: number;
  /**
   * Of values that follow each other, to which a series without a change is compared; default 0, independent values. In [0, 1).
   */
  readonly correlation?: number;
}

/** Permutations, or drawn series, per test; enough for the default level. */
const PERMUTATIONS = 999;

/** Indexes at which a new level begins, ascending. */
export function changePoints(series: readonly number[], { seed, level = 0.01, shortest = 3, correlation = 0 }: ChangePointOptions): readonly number[] {
  const random = createRandom(seed);
  const cuts: number[] = [];
  const divide = (from: number, to: number): void => {
    const part = series.slice(from, to);
    if (part.length < 2 * shortest || !isChanged(ranksOf(part), { shortest, level, correlation, random })) return;
    const cut = from + bestCut(part, shortest);
    divide(from, cut);
    cuts.push(cut);
    divide(cut, to);
  };
  divide(0, series.length);
  return cuts;
}

/** Of all splits, the largest |z| of the rank sum of the part before. */
function largestScore(ranks: readonly number[], shortest: number): number {
  const count = ranks.length;
  let [largest, sum] = [0, 0];
  for (let at = 1; at <= count - shortest; at++) {
    sum += ranks[at - 1]!;
    if (at < shortest) continue;
    const score = Math.abs(sum - (at * (count + 1)) / 2) / Math.sqrt((at * (count - at) * (count + 1)) / 12);
    if (score > largest) largest = score;
  }
  return largest;
}

interface TestOptions {
  readonly shortest: number;
  readonly level: number;
  readonly correlation: number;
  readonly random: Random;
}

/**
 * Whether the largest score is beyond the level, by Phipson and Smyth's p, which is never zero (Stat. Appl. Genet. Mol. Biol. 9(1),
 * 2010). Ends as soon as the draws that are left can't change the answer: most series have one level, and are told soon.
 */
function isChanged(ranks: readonly number[], { shortest, level, correlation, random }: TestOptions): boolean {
  const score = largestScore(ranks, shortest);
  const most = level * (PERMUTATIONS + 1) + 1e-9;
  const unchanged = (): readonly number[] => (correlation === 0 ? shuffle(ranks, random) : ranksOf(autoregressive(ranks.length, correlation, random)));
  let reached = 1;
  for (let i = 0; i < PERMUTATIONS && reached <= most; i++) if (largestScore(unchanged(), shortest) >= score - 1e-9) reached++;
  return reached <= most;
}

/** A stationary series of first order; its scale is nothing to ranks. */
function autoregressive(count: number, correlation: number, random: Random): number[] {
  const own = Math.sqrt(1 - correlation ** 2);
  let state = normal(random);
  return Array.from({ length: count }, () => (state = correlation * state + own * normal(random)));
}

function bestCut(part: readonly number[], shortest: number): number {
  let [best, least] = [shortest, Infinity];
  for (let at = shortest; at <= part.length - shortest; at++) {
    const left = deviation(part.slice(0, at)) + deviation(part.slice(at));
    if (left < least) [best, least] = [at, left];
  }
  return best;
}

/** Sum of the absolute deviations from the median. */
function deviation(values: readonly number[]): number {
  const median = quantile(sortSamples(values), 0.5);
  return values.reduce((sum, value) => sum + Math.abs(value - median), 0);
}

/** Ranks from 1; ties share their mean. */
export function ranksOf(values: readonly number[]): number[] {
  const order = values.map((value, index) => ({ value, index })).sort((a, b) => a.value - b.value);
  const ranks = values.map(() => 0);
  for (let start = 0; start < order.length; ) {
    let end = start;
    while (end < order.length && order[end]!.value === order[start]!.value) end++;
    for (let i = start; i < end; i++) ranks[order[i]!.index] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}
