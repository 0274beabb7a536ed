/**
 * How much one series of round values differs from another: a shift with its interval and one-sided p values, at a level that
 * is known beforehand.
 *
 * Where the values are enough for the exact rank test (ranks.ts) to reach the level, it decides alone. Where they are too few,
 * no distribution-free test can decide. Then Student's t may (Welch's, Biometrika 34, 1947, for unpaired values), under two
 * conditions that keep it honest on the distribution that deceives it most, that of two modes, whose spread a handful of
 * values need not show: every value must lie on the same side, and the chance that two modes do that to sides which are the
 * same must itself be within the level; see {@link chanceOfModes}. Values that are fewer still can show a gross change alone,
 * one that no modes explain.
 *
 * The rank test of unpaired values takes both sides to scatter alike. A few rounds of a restless day against many of a quiet one all
 * lie on one side far more often than their ranks say (Behrens and Fisher's problem): where the sides scatter unlike each other, the
 * trimmed means must differ as well, by Yuen's test, which allows for that and for outliers (Biometrika 61(1), 1974).
 */
import { robustDeviation } from './modes.ts';
import { rankSumShift, signedRankShift } from './ranks.ts';
import { sortSamples } from './samples.ts';
import { studentQuantile, studentTail } from './student.ts';

/** Round values of the two sides, on an additive scale. `paired`: the same rounds, in the same order. */
export interface Sides {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly paired: boolean;
}

export interface Shift {
  /** Hodges–Lehmann estimate of after − before. */
  readonly point: number;
  /**
   * One-sided p of "it rose by no more than `margin`", for decisions at the given level. `whole` is the level over all looks
   * at growing data, where this is one of several; default: the only one.
   */
  pAbove(margin: number, level: number, whole?: number): number;
  /** One-sided p of "it fell by no more than `margin`"; see {@link Shift.pAbove}. */
  pBelow(margin: number, level: number, whole?: number): number;
  /** Each end is wrong with probability at most `tail`; infinite where the values tell nothing. */
  interval(tail: number): { readonly low: number; readonly high: number };
}

/**
 * The chance that sides which are the same, on timings of two modes, differ by the gap of the modes in every value. Paired: the
 * two may always be in different modes (the first of each pair fast, say), which is a coin for each pair. Unpaired: all of one
 * side in one mode and all of the other in the other, at most one half to the power of all values.
 */
export function chanceOfModes({ before, after, paired }: Sides): number {
  return 0.5 ** (paired ? before.length : before.length + after.length);
}

/** The fewest values a side from which {@link shiftBetween} decides at the level, without a gross change. */
export function valuesNeeded(level: number, paired: boolean): number {
  return Math.max(1, Math.ceil(Math.log2(1 / level) / (paired ? 1 : 2)));
}

/**
 * The shift between two series; `gross` is a shift beyond any modes, where there is such a thing. Throws RangeError on an empty
 * side, or on paired sides that differ in length.
 */
export function shiftBetween(sides: Sides, gross = Infinity): Shift {
  const { before, after, paired } = sides;
  if (paired && before.length !== after.length) throw new RangeError(`${before.length} values can't be paired with ${after.length}`);
  const differences = paired ? after.map((value, i) => value - before[i]!) : [];
  const ranks = paired ? signedRankShift(differences) : rankSumShift(before, after);
  const moments = paired ? momentsOf(differences) : welch(momentsOf(before), momentsOf(after));
  const trimmed = !paired && scatterUnlike(before, after) ? welch(trimmedMoments(before), trimmedMoments(after)) : undefined;
  const chance = chanceOfModes(sides);
  const p = (exact: number, sign: 1 | -1, margin: number, level: number, whole: number): number => {
    if (ranks.attainable <= level) return trimmed ? Math.max(exact, tail(trimmed, sign * trimmed.mean - margin)) : exact;
    if (exact > ranks.attainable) return exact;
    return tail(moments, sign * moments.mean - margin - (chance <= whole ? 0 : gross));
  };
  return {
    point: ranks.point,
    pAbove: (margin, level, whole = level) => p(ranks.pAbove(margin), 1, margin, level, whole),
    pBelow: (margin, level, whole = level) => p(ranks.pBelow(-margin), -1, margin, level, whole),
    interval(share) {
      if (ranks.attainable > share) return studentInterval(moments, ranks.point, share);
      const [exact, allowed] = [ranks.interval(share), trimmed && studentInterval(trimmed, trimmed.mean, share)];
      return allowed ? { low: Math.min(exact.low, allowed.low), high: Math.max(exact.high, allowed.high) } : exact;
    },
  };
}

/** Ratio of the sides' deviations from which on they are not taken to scatter alike. */
const UNLIKE = 1.5;

/** Fewer values than this are told by either deviation. */
const FEW = 8;

/**
 * By the deviation of all values and by that of their bulk, which outliers and modes move one by one; of a few values either may be
 * small by chance.
 */
function scatterUnlike(before: readonly number[], after: readonly number[]): boolean {
  const unlike = (deviation: (values: readonly number[]) => number): boolean => {
    const [one, other] = [deviation(before), deviation(after)];
    return Math.max(one, other) > UNLIKE * Math.min(one, other);
  };
  const [all, bulk] = [unlike((values) => momentsOf(values).error * Math.sqrt(values.length)), unlike(robustDeviation)];
  return Math.min(before.length, after.length) < FEW ? all || bulk : all && bulk;
}

interface Moments {
  readonly mean: number;
  /** Standard error of the mean; 0 for values that are all equal. */
  readonly error: number;
  /** 0: one value only. */
  readonly degrees: number;
}

function momentsOf(values: readonly number[]): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const degrees = values.length - 1;
  return { mean, degrees, error: degrees === 0 ? Infinity : Math.sqrt(squares / degrees / values.length) };
}

/** Of a side's values that Yuen's test cuts off at each end. */
const TRIMMED = 0.2;

/** Mean of the values that are left, its error from those cut off drawn in to them. */
function trimmedMoments(values: readonly number[]): Moments {
  const sorted = sortSamples(values);
  const cut = Math.floor(TRIMMED * sorted.length);
  const kept = sorted.subarray(cut, sorted.length - cut);
  const mean = kept.reduce((sum, value) => sum + value, 0) / kept.length;
  const drawnIn = momentsOf([...sorted].map((value) => Math.min(kept.at(-1)!, Math.max(kept[0]!, value))));
  const degrees = kept.length - 1;
  // From the sum of squares over n·(n − 1) to that over h·(h − 1).
  return { mean, degrees, error: degrees === 0 ? Infinity : drawnIn.error * Math.sqrt((sorted.length * (sorted.length - 1)) / (kept.length * degrees)) };
}

/** Welch's t, with Satterthwaite's degrees of freedom (Biometrics Bulletin 2(6), 1946). */
function welch(before: Moments, after: Moments): Moments {
  const mean = after.mean - before.mean;
  if (before.degrees === 0 || after.degrees === 0) return { mean, error: Infinity, degrees: 0 };
  const [a, b] = [before.error ** 2, after.error ** 2];
  const scale = (a + b) ** 2;
  const degrees = scale === 0 ? before.degrees + after.degrees : scale / (a ** 2 / before.degrees + b ** 2 / after.degrees);
  return { mean, error: Math.sqrt(a + b), degrees };
}

function tail({ error, degrees }: Moments, excess: number): number {
  if (degrees === 0) return 1;
  if (error === 0) return excess > 0 ? 0 : 1;
  return studentTail(excess / error, degrees);
}

/** Around the robust point, as wide as t makes it. */
function studentInterval({ error, degrees }: Moments, point: number, share: number): { readonly low: number; readonly high: number } {
  if (degrees === 0) return { low: -Infinity, high: Infinity };
  const reach = error === 0 ? 0 : error * studentQuantile(Math.min(0.5, share), degrees);
  return { low: point - reach, high: point + reach };
}
