/**
 * Exact rank tests of a shift, and the intervals that they invert to: right for any distribution, however few the values, and
 * hardly moved by an outlier.
 *
 * Paired: Wilcoxon's signed-rank test (Biometrics Bulletin 1(6), 1945). It needs differences that are symmetric about the
 * shift, which a random order within each pair gives by design. Unpaired: Mann and Whitney's test (Ann. Math. Statist. 18(1),
 * 1947). The point estimates are Hodges and Lehmann's (Ann. Math. Statist. 34(2), 1963), the intervals Moses' order statistics
 * of the pairwise averages and differences (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 2014, §3.3, §4.3).
 * The normal distribution loses 4.5 % of its efficiency this way; long tails gain.
 */
import { quantile, sortSamples, type SortedSamples } from './samples.ts';

/** What a rank test knows of a shift. */
export interface RankShift {
  /** Hodges–Lehmann. */
  readonly point: number;
  /** Smallest p that these counts of values can give on one side. */
  readonly attainable: number;
  /** One-sided p of "the shift is at most `margin`"; ties count for it, so that p is never too small. */
  pAbove(margin: number): number;
  /** One-sided p of "the shift is at least `margin`". */
  pBelow(margin: number): number;
  /** Ends that the shift lies beyond with at most `tail` each; infinite where `tail` < `attainable`. */
  interval(tail: number): { readonly low: number; readonly high: number };
}

/** The shift of paired differences. Throws RangeError on none. */
export function signedRankShift(differences: readonly number[]): RankShift {
  const count = differences.length;
  const averages = new Float64Array((count * (count + 1)) / 2);
  let place = 0;
  for (let i = 0; i < count; i++) for (let j = i; j < count; j++) averages[place++] = (differences[i]! + differences[j]!) / 2;
  return rankShift(sortSamples(averages), signedRankTails(count));
}

/** The shift from `before` to `after`, independent of each other. Throws RangeError where either is empty. */
export function rankSumShift(before: readonly number[], after: readonly number[]): RankShift {
  const differences = new Float64Array(before.length * after.length);
  let place = 0;
  for (const value of after) for (const other of before) differences[place++] = value - other;
  return rankShift(sortSamples(differences), rankSumTails(before.length, after.length));
}

/** `tails[k]` is P(statistic ≤ k) under no shift; the statistic, symmetric, counts the sorted contrasts above zero. */
function rankShift(contrasts: SortedSamples, tails: Float64Array): RankShift {
  return {
    point: quantile(contrasts, 0.5),
    attainable: tails[0]!,
    pAbove: (margin) => tails[countBelow(contrasts, margin, true)]!,
    pBelow: (margin) => tails[contrasts.length - countBelow(contrasts, margin, false)]!,
    interval(tail) {
      const cut = tails.findIndex((p) => p > tail);
      return cut <= 0 ? { low: -Infinity, high: Infinity } : { low: contrasts[cut - 1]!, high: contrasts[contrasts.length - cut]! };
    },
  };
}

/** How many lie below `value`, or at it where `inclusive`. */
function countBelow(sorted: SortedSamples, value: number, inclusive: boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const below = inclusive ? sorted[middle]! <= value : sorted[middle]! < value;
    if (below) low = middle + 1;
    else high = middle;
  }
  return low;
}

const known = new Map<string, Float64Array>();

function remember(key: string, compute: () => Float64Array): Float64Array {
  const tails = known.get(key) ?? cumulate(compute());
  known.set(key, tails);
  return tails;
}

function cumulate(masses: Float64Array): Float64Array {
  let sum = 0;
  return masses.map((mass) => Math.min(1, (sum += mass)));
}

/** Each rank 1…n carries a fair sign. */
function signedRankTails(count: number): Float64Array {
  return remember(`${count}`, () => {
    let masses = Float64Array.of(1);
    for (let rank = 1; rank <= count; rank++) {
      const next = new Float64Array(masses.length + rank);
      for (const [sum, mass] of masses.entries()) {
        next[sum]! += mass / 2;
        next[sum + rank]! += mass / 2;
      }
      masses = next;
    }
    return masses;
  });
}

/**
 * The Gaussian binomial coefficients, whose generating function Π (1 − q^(n+i)) / (1 − q^i) is built factor by factor (Harding,
 * Applied Statistics 33(1), 1984), as probabilities: in the order of m·n·min(m, n), where Mann and Whitney's recursion needs the
 * square of m·n, minutes for two hundred rounds. Only the lower half is computed, since the upper mirrors it; its terms grow, so that
 * what the differences lose is small beside each of them.
 */
function rankSumTails(before: number, after: number): Float64Array {
  const [few, many] = [Math.min(before, after), Math.max(before, after)];
  return remember(`${few},${many}`, () => {
    const pairs = few * many;
    const half = Math.floor(pairs / 2);
    const masses = new Float64Array(pairs + 1);
    masses[0] = 1;
    for (let i = 1; i <= few; i++) {
      for (let u = half; u >= many + i; u--) masses[u]! -= masses[u - many - i]!;
      for (let u = i; u <= half; u++) masses[u]! += masses[u - i]!;
      for (let u = 0; u <= half; u++) masses[u]! *= i / (many + i);
    }
    for (let u = 0; u < pairs - half; u++) masses[pairs - u] = masses[u]!;
    return masses;
  });
}
