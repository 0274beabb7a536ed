import { describe, expect, test } from 'vitest';
import { quantileInterval, samplesNeeded } from '../../../src/stats/interval.ts';
import { type Random, createRandom, normal } from '../../../src/stats/random.ts';
import { sortSamples } from '../../../src/stats/samples.ts';
import { blocksAgree } from '../../../src/stats/steady.ts';

const TRIALS = 300;

/** Share of simulated experiments whose interval holds the truth. */
function coverage(truth: number, interval: (random: Random) => { readonly low: number; readonly high: number }): number {
  const random = createRandom(2024);
  let covered = 0;
  for (let trial = 0; trial < TRIALS; trial++) {
    const { low, high } = interval(random);
    if (low <= truth && truth <= high) covered++;
  }
  return covered / TRIALS;
}

describe('quantileInterval', () => {
  test('known ranks: the median of 10 lies between the 2nd and the 9th', () => {
    const interval = quantileInterval(sortSamples([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 0.5);
    expect(interval).toEqual({ point: 5.5, low: 2, high: 9, confidence: 0.95 });
  });

  test('is open where the samples cannot bound the quantile, and closed from samplesNeeded on', () => {
    const ramp = (count: number): ReturnType<typeof sortSamples> => sortSamples(Array.from({ length: count }, (_, i) => i));
    expect(samplesNeeded(0.99)).toBe(368);
    expect(quantileInterval(ramp(367), 0.99).high).toBe(Infinity);
    expect(quantileInterval(ramp(368), 0.99).high).toBe(367);
    expect(quantileInterval(ramp(368), 0.01).low).toBe(0);
    expect(quantileInterval(ramp(367), 0.01).low).toBe(-Infinity);
    expect(() => quantileInterval(ramp(3), 1)).toThrow(RangeError);
  });

  test.each([0.5, 0.9, 0.95])('covers the true quantile at p = %f at least as often as it says', (p) => {
    const truth = -Math.log(1 - p);
    const share = coverage(truth, (random) => {
      const samples = Array.from({ length: 100 }, () => -Math.log1p(-random.uniform()));
      return quantileInterval(sortSamples(samples), p);
    });
    expect(share).toBeGreaterThanOrEqual(0.93);
  });
});

describe('blocksAgree', () => {
  test('a ramp does not agree, its end does', () => {
    expect(blocksAgree([[50, 50], [40, 40], [30, 30]], 0.05)).toBe(false);
    expect(blocksAgree([[30, 30], [30.5, 30.5], [29.9, 29.9]], 0.05)).toBe(true);
  });

  test('one block is never steady', () => {
    expect(blocksAgree([[1, 1, 1]], 0.5)).toBe(false);
    expect(blocksAgree([], 0.5)).toBe(false);
  });

  test('noise is not taken for a trend', () => {
    const random = createRandom(6);
    const block = (): number[] => Array.from({ length: 20 }, () => 100 + 20 * normal(random));
    const agreed = Array.from({ length: 200 }, () => blocksAgree([block(), block(), block()], 0.001)).filter(Boolean).length;
    expect(agreed).toBeGreaterThan(160);
    expect(blocksAgree([block(), block().map((value) => value / 2)], 0.001)).toBe(false);
  });
});
