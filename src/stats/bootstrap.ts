/**
 * Bootstrap intervals, for samples that are independent and for samples that come in rounds.
 *
 * Samples of one round share a process, its memory layout and its moment, so they are not independent: resampling them as one
 * pool gives intervals that are far too narrow. The hierarchical bootstrap draws rounds first and samples inside each drawn
 * round second (Davison and Hinkley, Bootstrap Methods and their Application, 1997, §3.8; for benchmarks: Kalibera and Jones,
 * "Rigorous Benchmarking in Reasonable Time", ISMM 2013). Intervals are percentile intervals (Efron, 1979).
 */
import type { Estimate } from './interval.ts';
import type { Random } from './random.ts';
import { quantile, quantileRank, sortSamples } from './samples.ts';

/** Samples of each round, in any order; rounds may differ in length, none is empty. */
export type Rounds = readonly (readonly number[])[];

export interface BootstrapOptions {
  readonly random: Random;
  /** Default 1000: the percentile interval's ends are then good to about a twentieth of its width. */
  readonly resamples?: number;
  /** Default 0.95. */
  readonly confidence?: number;
}

/** Percentile bootstrap of any statistic of independent items. */
export function bootstrap<T>(items: readonly T[], statistic: (items: readonly T[]) => number, options: BootstrapOptions): Estimate {
  const { random, resamples = 1000 } = options;
  const draws = Array.from({ length: resamples }, () => statistic(items.map(() => items[random.below(items.length)]!)));
  return percentileInterval(statistic(items), draws, options);
}

/** Quantiles of the pooled samples of all rounds, with hierarchical bootstrap intervals; one estimate per entry of `ps`. */
export function quantilesOfRounds(rounds: Rounds, ps: readonly number[], options: BootstrapOptions): readonly Estimate[] {
  const pool = createPool(rounds);
  const draws = drawQuantiles(pool, ps, options);
  return ps.map((p, i) => percentileInterval(quantile(pool.sorted, p), draws[i]!, options));
}

interface Pool {
  readonly sorted: ReturnType<typeof sortSamples>;
  /** For each round, where its samples lie in `sorted`. */
  readonly places: readonly Uint32Array[];
}

function createPool(rounds: Rounds): Pool {
  if (rounds.length === 0 || rounds.some((round) => round.length === 0)) throw new RangeError('every round needs a sample');
  const tagged = rounds.flatMap((round, index) => round.map((value) => ({ value, index })));
  tagged.sort((a, b) => a.value - b.value);
  const places = rounds.map(() => [] as number[]);
  for (const [place, { index }] of tagged.entries()) places[index]!.push(place);
  return { sorted: sortSamples(tagged.map(({ value }) => value)), places: places.map((list) => Uint32Array.from(list)) };
}

/**
 * Quantiles of `resamples` hierarchical resamples: `[quantile][resample]`. A resample is held as how often each sorted sample
 * was drawn, so that no resample is ever sorted and the cost is linear in the samples.
 */
function drawQuantiles(pool: Pool, ps: readonly number[], { random, resamples = 1000 }: BootstrapOptions): number[][] {
  const counts = new Uint32Array(pool.sorted.length);
  const draws = ps.map(() => [] as number[]);
  for (let resample = 0; resample < resamples; resample++) {
    counts.fill(0);
    let total = 0;
    for (let drawn = 0; drawn < pool.places.length; drawn++) {
      const round = pool.places[random.below(pool.places.length)]!;
      for (let i = 0; i < round.length; i++) counts[round[random.below(round.length)]!]!++;
      total += round.length;
    }
    for (const [i, p] of ps.entries()) draws[i]!.push(countedQuantile(pool.sorted, counts, total, p));
  }
  return draws;
}

/** Type-7 quantile of the multiset that holds `sorted[i]` `counts[i]` times. */
function countedQuantile(sorted: ArrayLike<number>, counts: Uint32Array, total: number, p: number): number {
  const { rank, weight } = quantileRank(total, p);
  let place = 0;
  let seen = counts[0]!;
  while (seen <= rank) seen += counts[++place]!;
  const low = sorted[place]!;
  if (weight === 0 || seen > rank + 1) return low;
  do place++;
  while (counts[place] === 0);
  return low + weight * (sorted[place]! - low);
}

function percentileInterval(point: number, draws: readonly number[], { confidence = 0.95 }: BootstrapOptions): Estimate {
  const sorted = sortSamples(draws);
  const tail = (1 - confidence) / 2;
  return { point, low: quantile(sorted, tail), high: quantile(sorted, 1 - tail), confidence };
}
