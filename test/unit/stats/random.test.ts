import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom, deriveSeed, exponential, normal, shuffle } from '../../../src/stats/random.ts';
import { autocorrelation } from '../../../src/stats/describe.ts';

const seeds = fc.maxSafeInteger();

describe('createRandom', () => {
  test('the same seed gives the same stream, another seed another', () => {
    fc.assert(
      fc.property(fc.uniqueArray(seeds, { minLength: 2, maxLength: 2 }), ([one, two]) => {
        const stream = (seed: number): number[] => {
          const random = createRandom(seed);
          return Array.from({ length: 8 }, () => random.uint32());
        };
        expect(stream(one!)).toEqual(stream(one!));
        expect(stream(one!)).not.toEqual(stream(two!));
      }),
      { seed: 1 },
    );
  });

  test('uniform variates are in [0, 1), spread evenly, without serial correlation', () => {
    const random = createRandom(7);
    const values = Array.from({ length: 20_000 }, () => random.uniform());
    const bins = Array.from({ length: 20 }, () => 0);
    for (const value of values) {
      expect(value).toBeGreaterThanOrEqual(0);
      expect(value).toBeLessThan(1);
      bins[Math.floor(value * 20)]!++;
    }
    // Chi-square with 19 degrees of freedom: 43.8 is its 99.9 % point.
    const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(chiSquare).toBeLessThan(43.8);
    expect(Math.abs(autocorrelation(values, 1))).toBeLessThan(0.02);
  });

  test('below reaches every value and none beyond', () => {
    const random = createRandom(3);
    const seen = new Set(Array.from({ length: 500 }, () => random.below(7)));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(() => random.below(0)).toThrow(RangeError);
    expect(() => createRandom(0.5)).toThrow(/safe integer/);
  });

  test('derived seeds differ from part to part', () => {
    const derived = new Set(Array.from({ length: 1000 }, (_, part) => deriveSeed(42, part)));
    expect(derived.size).toBe(1000);
  });
});

describe('variates', () => {
  test('shuffle keeps the items and leaves the original alone', () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), seeds, (items, seed) => {
        const before = [...items];
        const shuffled = shuffle(items, createRandom(seed));
        expect(items).toEqual(before);
        expect([...shuffled].sort()).toEqual([...items].sort());
      }),
      { seed: 2 },
    );
  });

  test('shuffle gives every order about equally often', () => {
    const random = createRandom(11);
    const tally = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = shuffle(['a', 'b', 'c'], random).join('');
      tally.set(order, (tally.get(order) ?? 0) + 1);
    }
    expect(tally.size).toBe(6);
    for (const count of tally.values()) expect(Math.abs(count - 1000)).toBeLessThan(120);
  });

  test('exponential and normal variates have their moments', () => {
    const random = createRandom(5);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(Array.from({ length: 20_000 }, () => exponential(4, random)))).toBeCloseTo(0.25, 2);
    const normals = Array.from({ length: 20_000 }, () => normal(random));
    expect(Math.abs(mean(normals))).toBeLessThan(0.03);
    expect(Math.abs(mean(normals.map((value) => value ** 2)) - 1)).toBeLessThan(0.04);
  });
});
