/**
 * Quantiles of samples that come in rounds, with intervals that hold for the whole they were drawn from: other rounds, not only
 * these again.
 *
 * Samples of one round share a process, its memory layout and its moment: what is independent is the round (Kalibera and Jones,
 * "Rigorous Benchmarking in Reasonable Time", ISMM 2013). So the interval comes from how the rounds differ, by one of two ways:
 *
 * - Woodruff's (JASA 47, 1952), where rounds are as many as independent samples would have to be: the share of each round's samples
 *   that lie at or below the quantile has a standard error; the quantiles at so many errors to either side are the bounds. It asks
 *   nothing of the distribution.
 * - Student's t on the logarithms of the rounds' own quantiles, around that of all samples, for a median of few rounds. A percentile
 *   of the tail has no such way out: a round is no evidence of what slower rounds do that did not occur.
 *
 * Both allow for rounds that follow each other, by √((1+ρ)/(1−ρ)) (Bayley and Hammersley, 1946). Resampling the rounds (the
 * percentile bootstrap) needs no such choice and covers far too seldom: three rounds can't show how far rounds go.
 */
import { type Estimate, samplesNeeded } from './interval.ts';
import { type SortedSamples, quantile, sortSamples } from './samples.ts';
import { ASSUMED_CORRELATION, serialCorrelation } from './serial.ts';
import { studentQuantile } from './student.ts';

/** Samples of each round, in any order, none negative; rounds may differ in length, none is empty. */
export type Rounds = readonly (readonly number[])[];

/** A quantile of what rounds are drawn from, with an interval where they are enough for one. */
export interface RoundsEstimate extends Estimate {
  /** How many rounds an interval would take, where these are too few for one and `low` and `high` are infinite. */
  readonly roundsNeeded: number | undefined;
}

/** Fewer tell nothing of how rounds scatter that is worth a number. */
const FEWEST_ROUNDS = 3;

/** Of a tail: with as many rounds as independent samples would take, a single slow one would decide the interval, and have occurred or not. */
const TAIL_ROUNDS = 2;

/** Quantiles of all samples, with intervals; one estimate per entry of `ps`. */
export function quantilesOfRounds(rounds: Rounds, ps: readonly number[], confidence = 0.95): readonly RoundsEstimate[] {
  if (rounds.length === 0) throw new RangeError('no rounds');
  const sorted = rounds.map(sortSamples);
  const pool = sortSamples(rounds.flat());
  return ps.map((p) => {
    const point = quantile(pool, p);
    const interval = intervalOf(sorted, pool, p, confidence);
    return typeof interval === 'number'
      ? { point, low: -Infinity, high: Infinity, confidence, roundsNeeded: interval }
      : { point, ...interval, confidence, roundsNeeded: undefined };
  });
}

interface Bounds {
  readonly low: number;
  readonly high: number;
}

/** Bounds, or how many rounds they would take. */
function intervalOf(rounds: readonly SortedSamples[], pool: SortedSamples, p: number, confidence: number): Bounds | number {
  const isMedian = p === 0.5;
  const independent = samplesNeeded(p, confidence);
  const needed = isMedian ? FEWEST_ROUNDS : TAIL_ROUNDS * independent;
  if (rounds.length < needed) return needed;
  const levels = rounds.map((round) => quantile(round, p));
  const errors = errorsOf(levels, confidence);
  const reach = errors * standardErrorOfShare(rounds, pool, p);
  const edge = Math.min(p, 1 - p) - 0.5 / rounds.length;
  if (rounds.length >= independent && reach <= edge) return { low: quantile(pool, p - reach), high: quantile(pool, p + reach) };
  return isMedian ? studentBounds(levels, quantile(pool, p), errors) : Math.ceil(rounds.length * (reach / edge) ** 2);
}

/**
 * How many standard errors of independent rounds the interval reaches. A correlation is known to a standard error of 1/√n: what so few
 * rounds can't tell from none is taken to be there, up to what is taken where nothing is known.
 */
function errorsOf(levels: readonly number[], confidence: number): number {
  const rho = Math.max(serialCorrelation([levels]), Math.min(ASSUMED_CORRELATION, 1 / Math.sqrt(levels.length)));
  return studentQuantile((1 - confidence) / 2, levels.length - 1) * Math.sqrt((1 + rho) / (1 - rho));
}

/** Of the share of samples at or below a quantile: rounds as clusters (a ratio estimate, as rounds differ in length), at least that of independent samples. */
function standardErrorOfShare(rounds: readonly SortedSamples[], pool: SortedSamples, p: number): number {
  const at = quantile(pool, p);
  const counts = rounds.map((round) => countUpTo(round, at));
  const share = counts.reduce((sum, count) => sum + count, 0) / pool.length;
  const squares = rounds.reduce((sum, round, i) => sum + (counts[i]! - share * round.length) ** 2, 0);
  const clustered = (squares * rounds.length) / (rounds.length - 1) / pool.length ** 2;
  return Math.sqrt(Math.max(clustered, (p * (1 - p)) / pool.length));
}

function countUpTo(samples: SortedSamples, bound: number): number {
  let [low, high] = [0, samples.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle]! <= bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

function studentBounds(levels: readonly number[], centre: number, errors: number): Bounds {
  // A clock may say 0, of which there is no logarithm: equal rounds have equal bounds all the same.
  const logs = levels.map((level) => Math.log(Math.max(level, Number.MIN_VALUE)));
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1);
  const factor = Math.min(Math.exp(errors * Math.sqrt(variance / logs.length)), Number.MAX_VALUE);
  return { low: centre / factor, high: centre * factor };
}
