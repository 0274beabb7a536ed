import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { calibrateRange, magnitudeHistogram, type CalibrationMethod } from '../../../src/quantize/calibrators.ts';
import { bulkOf, shareOutside } from '../../../src/quantize/collect.ts';
import { createObserver, type Distribution } from '../../../src/quantize/observer.ts';
import { SCHEMES } from '../../../src/quantize/params.ts';
import { seededRandom } from '../../helpers/random.ts';

const SEED = { seed: 7 } as const;
const float = fc.float({ noNaN: true, noDefaultInfinity: true });

function observe(batches: readonly (readonly number[])[], bins = 64): Distribution {
  const observer = createObserver(bins);
  for (const batch of batches) observer.add(Float32Array.from(batch));
  return observer.distribution();
}

/** Roughly normal numbers. */
function bell(count: number, deviation: number, seed: number): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => Math.fround(deviation * (random() + random() + random() + random() - 2) * Math.sqrt(3)));
}

describe('observer', () => {
  it('counts every value once, zeros and broken ones apart', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(float, fc.constantFrom(0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY))), (values) => {
        const found = observe([values]);
        const finite = Array.from(Float32Array.from(values)).filter((value) => Number.isFinite(value));
        const total = [...found.positive, ...found.negative].reduce((sum, count) => sum + count, found.zeros);
        expect(total).toBe(finite.length);
        expect(found).toMatchObject({ count: finite.length, nonFinite: values.length - finite.length, zeros: finite.filter((value) => value === 0).length });
        if (finite.length > 0) expect([found.min, found.max]).toEqual([Math.min(...finite) + 0, Math.max(...finite) + 0]);
      }),
      SEED,
    );
  });

  it('re-binning is exact: order and batches do not matter', () => {
    fc.assert(
      fc.property(fc.array(fc.array(float, { maxLength: 20 }), { minLength: 1, maxLength: 5 }), (batches) => {
        const found = observe(batches);
        expect(observe(batches.toReversed())).toEqual(found);
        expect(observe([batches.flat()])).toEqual(found);
      }),
      SEED,
    );
  });

  it('puts each value in the bin of its magnitude, and uses the upper half of them', () => {
    fc.assert(
      fc.property(float.filter((value) => value !== 0), (value) => {
        const { limit, positive, negative } = observe([[value]]);
        const side = value > 0 ? positive : negative;
        const bin = side.findIndex((count) => count === 1);
        expect(Math.abs(value)).toBeGreaterThanOrEqual((bin * limit) / 64);
        expect(Math.abs(value)).toBeLessThan(((bin + 1) * limit) / 64);
        expect(bin).toBeGreaterThanOrEqual(32);
      }),
      SEED,
    );
  });

  it('holds the same memory however much it has seen', () => {
    const observer = createObserver(64);
    for (let i = 0; i < 100; i++) observer.add(Float32Array.from([2 ** i, -(2 ** i)]));
    expect(observer.distribution()).toMatchObject({ count: 200, limit: 2 ** 100 });
    expect(observer.distribution().positive).toHaveLength(64);
  });
});

describe('histogram of magnitudes', () => {
  it('keeps every count', () => {
    fc.assert(
      fc.property(fc.array(float.filter((value) => value !== 0), { minLength: 1 }), (values) => {
        const found = observe([values]);
        const bins = magnitudeHistogram(found, Math.max(-found.min, found.max), 16);
        expect(bins.reduce((sum, count) => sum + count, 0)).toBeCloseTo(values.length, 6);
      }),
      SEED,
    );
  });
});

describe('calibrators', () => {
  const methods: readonly CalibrationMethod[] = ['entropy', 'minmax', 'percentile', 'mse'];

  it.each(methods)('%s: zero is inside, the range within what was seen', (method) => {
    fc.assert(
      fc.property(fc.array(float, { minLength: 1, maxLength: 60 }), fc.constantFrom(...SCHEMES), (values, scheme) => {
        const found = observe([values], 512);
        const { low, high } = calibrateRange(found, { method, scheme, percentile: 90 });
        expect(low).toBeLessThanOrEqual(0);
        expect(high).toBeGreaterThanOrEqual(0);
        expect(low).toBeGreaterThanOrEqual(Math.min(0, found.min));
        expect(high).toBeLessThanOrEqual(Math.max(0, found.max));
      }),
      { ...SEED, numRuns: 50 },
    );
  });

  it('minmax covers everything', () => {
    const found = observe([[-3, 5, 0.25]]);
    expect(calibrateRange(found, { method: 'minmax', scheme: 'affine', percentile: 99 })).toEqual({ low: -3, high: 5 });
  });

  it('percentile leaves out at most its share, and a bin less would leave out more', () => {
    const values = bell(20_000, 1, 3);
    const found = observe([values], 4096);
    for (const percentile of [90, 99, 99.9, 100]) {
      const { low, high } = calibrateRange(found, { method: 'percentile', scheme: 'affine', percentile });
      const outside = values.filter((value) => value < low || value > high).length / values.length;
      expect(outside).toBeLessThanOrEqual(1 - percentile / 100 + 1e-12);
      expect(outside).toBeGreaterThan(0.8 * (1 - percentile / 100) - 1e-3);
    }
  });

  it('percentile of values of one sign leaves out of one tail', () => {
    const found = observe([Array.from({ length: 1000 }, (_, i) => i + 1)], 4096);
    const { low, high } = calibrateRange(found, { method: 'percentile', scheme: 'affine', percentile: 90 });
    expect(low).toBe(0);
    expect(Math.abs(high - 900)).toBeLessThanOrEqual(1);
  });

  it('one outlier in 20,000 moves minmax, not the clipping ones', () => {
    const found = observe([[...bell(20_000, 1, 4), 60]], 8192);
    const high = (method: CalibrationMethod) => calibrateRange(found, { method, scheme: 'affine', percentile: 99.99 }).high;
    expect(high('minmax')).toBe(60);
    for (const method of ['entropy', 'percentile'] as const) expect(high(method)).toBeLessThan(4);
  });

  it('mse is no worse than minmax on the values themselves', () => {
    const values = [...bell(5000, 1, 5), 12];
    const found = observe([values], 8192);
    const error = (method: CalibrationMethod): number => {
      const { low, high } = calibrateRange(found, { method, scheme: 'affine', percentile: 99.99 });
      const step = (high - low) / 255;
      return values.reduce((sum, value) => sum + (value - Math.min(high, Math.max(low, Math.round(value / step) * step))) ** 2, 0);
    };
    expect(error('mse')).toBeLessThan(error('minmax'));
  });

  it('nothing but zeros gives an empty range', () => {
    for (const method of methods) expect(calibrateRange(observe([[0, 0]]), { method, scheme: 'affine', percentile: 99 })).toEqual({ low: 0, high: 0 });
  });
});

describe('what lies outside a range', () => {
  it('counts clipped values, bound included', () => {
    const found = observe([[0, 1, 2, 3, -1, -4]], 1024);
    expect(shareOutside(found, { low: -4, high: 3 })).toBeCloseTo(0, 12);
    expect(shareOutside(found, { low: -2, high: 2.5 })).toBeCloseTo(2 / 6, 12);
    expect(shareOutside(found, { low: 0, high: 0 })).toBeCloseTo(5 / 6, 12);
  });

  it('the bulk leaves out the extremes', () => {
    const { low, high } = bulkOf(observe([[...bell(50_000, 1, 6), 100, -100]], 8192));
    expect(high).toBeLessThan(5);
    expect(low).toBeGreaterThan(-5);
  });
});
