/** Modes and trends: found where they are, seldom where they are not. */
import { describe, expect, it } from 'vitest';
import { robustDeviation, trendOf, twoModes } from '../../../src/stats/modes.ts';
import { createRandom, exponential, normal } from '../../../src/stats/random.ts';
import { sortSamples } from '../../../src/stats/samples.ts';

const random = createRandom(11);
const series = (count: number, draw: (i: number) => number) => Array.from({ length: count }, (_, i) => draw(i));
const share = (runs: number, holds: () => boolean) => series(runs, () => (holds() ? 1 : 0)).reduce((sum, one) => sum + one, 0) / runs;

describe('twoModes', () => {
  it('names the groups', () => {
    const found = twoModes(sortSamples([1, 1.01, 0.99, 1.02, 1, 0.98, 2, 2.01, 1.99, 2.02]));
    expect(found?.low).toBeCloseTo(1, 12);
    expect(found?.high).toBeCloseTo(2.005, 12);
    expect(found?.upperShare).toBe(0.4);
  });

  it.each([8, 16, 60])('sees %i values of two processes, and none in one', (count) => {
    expect(share(400, () => twoModes(sortSamples(series(count, (i) => (i % 3 === 0 ? 1 : 0) + 0.08 * normal(random)))) !== undefined)).toBeGreaterThan(0.97);
    for (const draw of [() => normal(random), () => random.uniform(), () => exponential(1, random)]) {
      expect(share(400, () => twoModes(sortSamples(series(count, draw))) !== undefined)).toBeLessThan(0.08);
    }
  });

  it('takes two outliers for no mode, equal values for one, and a handful for nothing', () => {
    expect(twoModes(sortSamples([...series(20, (i) => 1 + i / 1000), 5, 6]))).toBeUndefined();
    expect(twoModes(sortSamples(series(10, () => 3)))).toBeUndefined();
    expect(twoModes(sortSamples([1, 1, 1, 2, 2, 2]))).toBeUndefined();
    expect(twoModes(sortSamples([1, 1, 1, 1, 2, 2, 2, 2]))).toEqual({ low: 1, high: 2, upperShare: 0.5 });
  });
});

describe('trendOf', () => {
  it('measures a slope through outliers', () => {
    const rising = series(20, (i) => i * 0.01 + (i === 7 ? 5 : 0));
    expect(trendOf(rising)?.change).toBeCloseTo(0.19, 6);
    expect(trendOf(rising)?.p).toBeLessThan(1e-4);
    expect(trendOf(rising.map((value) => -value))?.change).toBeCloseTo(-0.19, 6);
  });

  it('keeps its level on noise', () => {
    expect(share(2000, () => trendOf(series(12, () => normal(random)))!.p < 0.05)).toBeLessThan(0.065);
    expect(trendOf(series(9, () => 1))).toEqual({ change: 0, p: 1 });
    expect(trendOf([1, 2, 3])).toBeUndefined();
  });
});

it('robustDeviation estimates the bulk', () => {
  expect(robustDeviation([...series(2000, () => 3 * normal(random)), 1e6])).toBeCloseTo(3, 0);
});
