/** Correlated series: the estimate against series of known correlation, and the doubt against simulated levels. */
import { describe, expect, it } from 'vitest';
import { createRandom, normal, type Random } from '../../../src/stats/random.ts';
import { rankSumShift } from '../../../src/stats/ranks.ts';
import { levelDoubt, serialCorrelation, serialDoubt } from '../../../src/stats/serial.ts';

/** First-order autoregressive, variance 1. */
function series(rho: number, count: number, random: Random): number[] {
  let state = normal(random);
  return Array.from({ length: count }, () => (state = rho * state + Math.sqrt(1 - rho * rho) * normal(random)));
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('serialCorrelation', () => {
  it.each([0.3, 0.6, 0.8])('of a series of %f is found, on average and nearly without bias', (rho) => {
    const random = createRandom(1);
    const found = mean(Array.from({ length: 400 }, () => serialCorrelation([series(rho, 40, random), series(rho, 40, random)])));
    expect(Math.abs(found - rho)).toBeLessThan(0.05);
  });

  it('is never negative, and assumed where it can’t be seen', () => {
    expect(serialCorrelation([Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? 1 : -1))])).toBe(0);
    expect(serialCorrelation([[1, 2, 3]])).toBe(0.3);
    expect(serialCorrelation([Array.from({ length: 200 }, (_, i) => i)])).toBe(0.95);
  });
});

describe('serialDoubt', () => {
  it.each([0, 0.5, 0.8])('with it, levels of correlation %f differ beyond the level as rarely as asked', (rho) => {
    const random = createRandom(2);
    const [runs, count, level] = [3000, 24, 0.01];
    let beyond = 0;
    let plain = 0;
    for (let run = 0; run < runs; run++) {
      const [before, after] = [series(rho, count, random), series(rho, count, random)];
      const error = Math.sqrt(2 / count);
      if (mean(after) - mean(before) > 2.326 * error) plain++;
      if (mean(after) - mean(before) > 2.326 * error + serialDoubt(before, after, level)) beyond++;
    }
    // The estimate from 24 values is rough, and low where the series happens to lie on one side: three times the level is borne.
    expect(beyond / runs).toBeLessThan(3 * level + 0.006);
    expect(plain / runs).toBeGreaterThan(rho === 0 ? 0 : 0.08);
  });

  it('is nothing for equal values', () => {
    expect(serialDoubt([1, 1, 1], [2, 2, 2], 0.01)).toBe(0);
  });
});

describe('levelDoubt', () => {
  it('is half of how far a run stepped, and nothing where only rounds scatter', () => {
    const random = createRandom(3);
    const steady = Array.from({ length: 24 }, () => 0.01 * normal(random));
    expect(levelDoubt(steady)).toBe(0);
    expect(levelDoubt(steady.map((value, i) => (i < 9 ? value : value + 0.08)))).toBeCloseTo(0.04, 2);
    expect(levelDoubt([0.1, 0.2, 5])).toBe(0);
    expect(levelDoubt(Array.from({ length: 24 }, () => 1))).toBe(0);
  });

  it('with it, levels that walk during both runs are seldom taken for a change', () => {
    const random = createRandom(4);
    const walk = () => {
      let level = 0;
      return Array.from({ length: 24 }, () => (level += 0.005 * normal(random)) + 0.003 * normal(random));
    };
    const [runs, level, known] = [400, 0.005 / 30, 0.008];
    // What the yardsticks leave of another day is known besides.
    let [correlated, apart] = [0, 0];
    for (let run = 0; run < runs; run++) {
      const [before, after] = [walk(), walk()];
      const shift = rankSumShift(before, after);
      const doubt = serialDoubt(before, after, level);
      if (shift.pAbove(known + doubt) <= level) correlated++;
      if (shift.pAbove(known + doubt + Math.max(levelDoubt(before), levelDoubt(after))) <= level) apart++;
    }
    expect(correlated / runs).toBeGreaterThan(0.02);
    expect(apart).toBeLessThan(correlated / 2);
  });
});
