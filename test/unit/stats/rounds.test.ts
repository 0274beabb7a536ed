/** Intervals over rounds: their coverage by simulation, against bounds of the binomial error of as many trials. */
import { describe, expect, it } from 'vitest';
import { createRandom, normal, type Random } from '../../../src/stats/random.ts';
import { type RoundsEstimate, quantilesOfRounds, type Rounds } from '../../../src/stats/rounds.ts';
import { quantile, sortSamples } from '../../../src/stats/samples.ts';

const exponential = (random: Random) => -Math.log1p(-random.uniform());

/** Logarithms: the level of a round, and the samples around it. */
interface Noise {
  readonly level: (random: Random) => number;
  readonly within: (random: Random) => () => number;
}

const independent = (deviation: number) => (random: Random) => () => deviation * normal(random);

const NOISES: Readonly<Record<string, Noise>> = {
  'independent samples': { level: () => 0, within: independent(0.1) },
  'rounds with a level': { level: (random) => 0.03 * normal(random), within: independent(0.03) },
  'samples that follow each other': {
    level: (random) => 0.01 * normal(random),
    within(random) {
      let state = normal(random);
      return () => 0.05 * (state = 0.9 * state + Math.sqrt(1 - 0.9 ** 2) * normal(random));
    },
  },
  'a slow round in twelve': { level: (random) => 0.02 * normal(random) + (random.below(12) === 0 ? 0.3 * exponential(random) : 0), within: independent(0.03) },
};

function draw({ level, within }: Noise, rounds: number, samples: number, random: Random): number[][] {
  return Array.from({ length: rounds }, () => {
    const centre = level(random);
    const next = within(random);
    return Array.from({ length: samples }, () => Math.exp(centre + next()));
  });
}

/** The quantiles of what rounds are drawn from. */
function truthOf(noise: Noise, ps: readonly number[]): number[] {
  const samples = sortSamples(draw(noise, 60_000, 1, createRandom(99)).flat());
  return ps.map((p) => quantile(samples, p));
}

/** How many of `trials` runs have an interval, and in how many it holds the truth. */
function count(trials: number, truth: number, interval: () => RoundsEstimate): { readonly given: number; readonly held: number } {
  const given = Array.from({ length: trials }, interval).filter(({ roundsNeeded }) => roundsNeeded === undefined);
  return { given: given.length, held: given.filter(({ low, high }) => low <= truth && truth <= high).length };
}

const TRIALS = 300;

/** What a coverage of 95 % stays above but for one time in a thousand. */
const fewest = (trials: number) => Math.floor(trials * 0.95 - 3.1 * Math.sqrt(trials * 0.95 * 0.05));

const one = (rounds: Rounds, p: number) => quantilesOfRounds(rounds, [p])[0]!;

describe('quantilesOfRounds', () => {
  it.each(Object.keys(NOISES))('%s: the intervals of a median hold it as often as they say', (name) => {
    const noise = NOISES[name]!;
    const [truth] = truthOf(noise, [0.5]);
    for (const [rounds, samples] of [[3, 60], [5, 20], [24, 20]] as const) {
      const random = createRandom(7);
      const { given, held } = count(TRIALS, truth!, () => one(draw(noise, rounds, samples, random), 0.5));
      expect(given).toBe(TRIALS);
      expect(held, `${rounds} rounds of ${samples}`).toBeGreaterThanOrEqual(fewest(TRIALS));
    }
  });

  it('so do those of a median of one value a round, as throughput has', () => {
    const noise = NOISES['a slow round in twelve']!;
    const [truth] = truthOf(noise, [0.5]);
    for (const rounds of [3, 5, 8, 24]) {
      const random = createRandom(8);
      const { given, held } = count(TRIALS, truth!, () => one(draw(noise, rounds, 1, random), 0.5));
      expect(given).toBe(TRIALS);
      expect(held, `${rounds} rounds`).toBeGreaterThanOrEqual(fewest(TRIALS));
    }
  });

  it.each(['independent samples', 'a slow round in twelve'])('%s: so do those of a tail, from the rounds on that it takes', (name) => {
    const [truth] = truthOf(NOISES[name]!, [0.95]);
    const random = createRandom(9);
    const { given, held } = count(150, truth!, () => one(draw(NOISES[name]!, 144, 15, random), 0.95));
    expect(given).toBeGreaterThan(100);
    expect(held).toBeGreaterThanOrEqual(fewest(given));
  });

  it('too few rounds have no interval, and say how many would do', () => {
    const rounds = draw(NOISES['rounds with a level']!, 2, 50, createRandom(3));
    expect(quantilesOfRounds(rounds, [0.5, 0.95, 0.99]).map(({ low, high, roundsNeeded }) => [low, high, roundsNeeded])).toEqual([
      [-Infinity, Infinity, 3],
      [-Infinity, Infinity, 144],
      [-Infinity, Infinity, 736],
    ]);
    expect(one([[1]], 0.5).roundsNeeded).toBe(3);
    expect(() => quantilesOfRounds([], [0.5])).toThrow(RangeError);
    expect(() => quantilesOfRounds([[1], []], [0.5])).toThrow(RangeError);
  });

  it('a tail that the rounds reach too far around takes more of them', () => {
    // A round in twenty is slow as a whole: the share of the samples below its quantile is known to no better than where it lies.
    const rounds = Array.from({ length: 150 }, (_, i) => [1, 2, 3].map((value) => value + (i % 20 === 0 ? 100 + i : 0)));
    const { low, high, roundsNeeded } = one(rounds, 0.96);
    expect([low, high]).toEqual([-Infinity, Infinity]);
    expect(roundsNeeded).toBeGreaterThan(150);
  });

  it('points are those of all samples; rounds that are equal have an interval without width, by a clock that says 0 too', () => {
    const rounds = draw(NOISES['rounds with a level']!, 3, 9, createRandom(1));
    const estimates = quantilesOfRounds(rounds, [0.5, 0.95]);
    expect(estimates.map(({ point }) => point)).toEqual([0.5, 0.95].map((p) => quantile(sortSamples(rounds.flat()), p)));
    for (const value of [4, 0]) {
      expect(one([[value, value], [value], [value]], 0.5)).toEqual({ point: value, low: value, high: value, confidence: 0.95, roundsNeeded: undefined });
    }
    expect(one([[0], [0], [7]], 0.5)).toMatchObject({ point: 0, low: 0 });
  });

  it('does not depend on the unit', () => {
    const rounds = draw(NOISES['a slow round in twelve']!, 5, 20, createRandom(4));
    const scaled = one(rounds.map((round) => round.map((value) => value * 1e6)), 0.5);
    const { low, high } = one(rounds, 0.5);
    expect([scaled.low / low, scaled.high / high].map((ratio) => ratio / 1e6)).toEqual([expect.closeTo(1, 9), expect.closeTo(1, 9)]);
  });

  it('takes milliseconds for thousands of samples', () => {
    const rounds = draw(NOISES['rounds with a level']!, 24, 1000, createRandom(5));
    const start = performance.now();
    quantilesOfRounds(rounds, [0.5, 0.95, 0.99]);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});
