import { describe, expect, it } from 'vitest';
import { mix32, randomNormal, randomUint32, randomUniform, streamKey } from '../../../src/suite/random.ts';

const key = streamKey(1, 'weights');
const draws = (draw: (key: number, index: number) => number, count = 20_000, from = key) => Array.from({ length: count }, (_, i) => draw(from, i));
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('seeded random numbers', () => {
  it('are the same on every machine', () => {
    expect(mix32(1)).toBe(1753845952);
    expect([randomUint32(key, 0), randomUint32(key, 1)]).toEqual([randomUint32(key, 0), randomUint32(key, 1)]);
    expect(streamKey(1, 'weights')).toBe(key);
  });

  it('differ by seed, by name and by index', () => {
    const keys = [streamKey(1, 'a'), streamKey(2, 'a'), streamKey(1, 'b'), streamKey(1, 'a', 0), streamKey(1, 'a', 1), streamKey(1, 'a1')];
    expect(new Set(keys).size).toBe(keys.length);
    const a = draws(randomUint32, 1000);
    const b = draws(randomUint32, 1000, streamKey(2, 'weights'));
    expect(new Set([...a, ...b]).size).toBeGreaterThan(1990);
  });

  it('are uniform in [0, 1)', () => {
    const values = draws(randomUniform);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    const buckets = Array.from({ length: 10 }, () => 0);
    for (const value of values) buckets[Math.floor(value * 10)]!++;
    // χ² with 9 degrees of freedom is above 27.9 once in a thousand.
    expect(buckets.reduce((sum, count) => sum + (count - 2000) ** 2 / 2000, 0)).toBeLessThan(27.9);
  });

  it('are nearly normal: mean 0, variance 1, no correlation between neighbours', () => {
    const values = draws(randomNormal);
    expect(Math.abs(mean(values))).toBeLessThan(0.03);
    expect(mean(values.map((value) => value ** 2))).toBeCloseTo(1, 1);
    expect(mean(values.map((value) => value ** 4))).toBeGreaterThan(2.5);
    expect(Math.abs(mean(values.slice(1).map((value, i) => value * values[i]!)))).toBeLessThan(0.03);
    expect(Math.max(...values.map(Math.abs))).toBeLessThan(3.47);
  });
});
