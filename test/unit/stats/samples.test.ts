import fc from 'fast-check';
import { describe as suite, expect, test } from 'vitest';
import { autocorrelation, describe, tukeyOutliers } from '../../../src/stats/describe.ts';
import { quantile, sortSamples } from '../../../src/stats/samples.ts';

const samples = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });
const probability = fc.double({ min: 0, max: 1, noNaN: true });

suite('sortSamples', () => {
  test('sorts a copy', () => {
    const raw = [3, 1, 2];
    expect([...sortSamples(raw)]).toEqual([1, 2, 3]);
    expect(raw).toEqual([3, 1, 2]);
  });

  test.each([[[]], [[1, Number.NaN]], [[Infinity]]])('refuses %j', (raw) => {
    expect(() => sortSamples(raw)).toThrow(RangeError);
  });
});

suite('quantile', () => {
  // From R: quantile(c(15, 20, 35, 40, 50), c(.05, .3, .4, .5, .99), type = 7).
  test.each([[0.05, 16], [0.3, 23], [0.4, 29], [0.5, 35], [0.99, 49.6]])('type 7 at %f is %f', (p, expected) => {
    expect(quantile(sortSamples([50, 15, 40, 20, 35]), p)).toBeCloseTo(expected, 10);
  });

  test('lies between minimum and maximum, grows with p, moves with scale and shift', () => {
    fc.assert(
      fc.property(samples, probability, probability, (raw, p, q) => {
        const sorted = sortSamples(raw);
        const [low, high] = [quantile(sorted, Math.min(p, q)), quantile(sorted, Math.max(p, q))];
        const slack = 1e-9 * (1 + Math.abs(high));
        expect(low).toBeLessThanOrEqual(high + slack);
        expect(low).toBeGreaterThanOrEqual(sorted[0]! - slack);
        expect(high).toBeLessThanOrEqual(sorted.at(-1)! + slack);
        expect(quantile(sortSamples(raw.map((value) => 2 * value + 3)), p)).toBeCloseTo(2 * quantile(sorted, p) + 3, 5);
      }),
      { seed: 3 },
    );
  });

  test('refuses p outside [0, 1]', () => {
    expect(() => quantile(sortSamples([1]), 1.01)).toThrow(RangeError);
    expect(() => quantile(sortSamples([1]), Number.NaN)).toThrow(RangeError);
  });
});

suite('description', () => {
  test('known values', () => {
    const description = describe(sortSamples([2, 4, 4, 4, 5, 5, 7, 9]));
    expect(description).toMatchObject({ count: 8, min: 2, max: 9, mean: 5, median: 4.5, mad: 0.5 });
    expect(description.sd).toBeCloseTo(Math.sqrt(32 / 7), 12);
  });

  test('agrees with the two-pass definition', () => {
    fc.assert(
      fc.property(samples, (raw) => {
        const mean = raw.reduce((sum, value) => sum + value, 0) / raw.length;
        const squares = raw.reduce((sum, value) => sum + (value - mean) ** 2, 0);
        const description = describe(sortSamples(raw));
        expect(description.mean).toBeCloseTo(mean, 4);
        expect(description.sd).toBeCloseTo(raw.length > 1 ? Math.sqrt(squares / (raw.length - 1)) : 0, 4);
      }),
      { seed: 4 },
    );
  });

  test('Tukey outliers count each sample once', () => {
    const sorted = sortSamples([10, 11, 12, 13, 14, 15, 16, 17, 18, 27, 100, -5, -90]);
    expect(tukeyOutliers(sorted)).toEqual({ mildLow: 1, severeLow: 1, mildHigh: 1, severeHigh: 1 });
    expect(tukeyOutliers(sortSamples([1, 1, 1]))).toEqual({ mildLow: 0, severeLow: 0, mildHigh: 0, severeHigh: 0 });
  });

  test('autocorrelation: 1 at lag 0, negative for an alternation, 0 for a constant', () => {
    expect(autocorrelation([1, 5, 2, 8], 0)).toBeCloseTo(1, 12);
    expect(autocorrelation([1, 2, 1, 2, 1, 2, 1, 2], 1)).toBeCloseTo(-7 / 8, 12);
    expect(autocorrelation([4, 4, 4], 1)).toBe(0);
    expect(autocorrelation([1, 2], 5)).toBe(0);
  });
});
