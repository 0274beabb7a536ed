/** Levels of a history whose runs follow each other: few that are none, and steps that are there are found. */
import { describe, expect, it } from 'vitest';
import { changePoints } from '../../../src/stats/change-points.ts';
import { levelChanges } from '../../../src/stats/levels.ts';
import { createRandom, normal, type Random } from '../../../src/stats/random.ts';

/** First-order autoregressive, variance 1. */
function series(rho: number, count: number, random: Random): number[] {
  let state = normal(random);
  return Array.from({ length: count }, () => (state = rho * state + Math.sqrt(1 - rho * rho) * normal(random)));
}

const TRIALS = 300;

function shareOf(trial: (seed: number, random: Random) => boolean, trials = TRIALS): number {
  const random = createRandom(11);
  return Array.from({ length: trials }, (_, seed) => trial(seed, random)).filter(Boolean).length / trials;
}

/** What a share stays below but for one time in a thousand. */
const most = (share: number) => share + 3.1 * Math.sqrt((share * (1 - share)) / TRIALS);

describe('levelChanges', () => {
  it.each([
    [0, 0.01],
    [0.3, 0.03],
    [0.5, 0.06],
  ])('runs of correlation %f and one level have a change in a share of %f at most', (rho, share) => {
    for (const count of [20, 40]) {
      expect(shareOf((seed, random) => levelChanges(series(rho, count, random), { seed }).length > 0), `${count} runs`).toBeLessThanOrEqual(most(share));
    }
  });

  it('independent values of the same correlation were a change three times as often', () => {
    expect(shareOf((seed, random) => changePoints(series(0.5, 40, random), { seed }).length > 0)).toBeGreaterThan(0.15);
  });

  it('finds +5 % after 20 runs that scatter by 2 %, ten runs later, and where it was', () => {
    const found = shareOf((seed, random) => {
      const values = series(0, 30, random).map((value, i) => (i < 20 ? 1 : 1.05) * Math.exp(0.02 * value));
      return levelChanges(values, { seed }).some((at) => Math.abs(at - 20) <= 2);
    }, 60);
    expect(found).toBeGreaterThan(0.8);
  });

  it('finds several steps: what lies between them is not taken for correlation', () => {
    const found = shareOf((seed, random) => levelChanges(series(0, 40, random).map((value, i) => value + 4 * Math.floor(i / 10)), { seed }).length >= 3, 30);
    expect(found).toBeGreaterThan(0.9);
  });

  it('says the same each time, and nothing of constant runs', () => {
    const values = series(0.5, 60, createRandom(2)).map((value, i) => value + (i < 30 ? 0 : 4));
    expect(levelChanges(values, { seed: 1 })).toEqual(levelChanges(values, { seed: 1 }));
    expect(levelChanges(values, { seed: 1 })).toHaveLength(1);
    for (const constant of [[], [1], Array.from({ length: 30 }, () => 4)]) expect(levelChanges(constant, { seed: 1 })).toEqual([]);
  });
});
