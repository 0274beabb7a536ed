import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ENTROPY_BINS, ENTROPY_LEVELS, entropyDivergence, entropyThreshold } from '../../../src/quantize/entropy.ts';

/** Migacz's algorithm with P and Q written out; the last bin that is not empty takes the outliers. */
function slideDivergence(counts: readonly number[], kept: number, levels: number): number {
  const outliers = counts.slice(kept).reduce((sum, count) => sum + count, 0);
  const p = counts.slice(0, kept);
  const last = p.findLastIndex((count) => count > 0);
  if (last < 0) return Number.POSITIVE_INFINITY;
  p[last]! += outliers;
  const q = Array.from({ length: kept }, () => 0);
  for (let level = 0; level < levels; level++) {
    const bins = Array.from({ length: kept }, (_, bin) => bin).filter(
      (bin) => bin >= Math.floor((level * kept) / levels) && bin < Math.floor(((level + 1) * kept) / levels),
    );
    const filled = bins.filter((bin) => counts[bin]! > 0);
    const sum = filled.reduce((total, bin) => total + counts[bin]!, 0);
    for (const bin of filled) q[bin] = sum / filled.length;
  }
  const [totalP, totalQ] = [p, q].map((row) => row.reduce((sum, value) => sum + value, 0)) as [number, number];
  return p.reduce((sum, value, bin) => {
    if (value === 0) return sum;
    return sum + (value / totalP) * Math.log(value / totalP / (q[bin]! / totalQ));
  }, 0);
}

const histogram = fc.array(fc.nat({ max: 50 }), { minLength: 4, maxLength: 40 }).filter((counts) => counts.some((count) => count > 0));

describe('entropy calibrator', () => {
  // Counts 8 4 2 2 in 4 bins and 2 levels, by hand:
  //   keep 2: P = 8 8 /16, Q = 8 4 /12                     ½·ln(¾) + ½·ln(3/2)
  //   keep 3: P = 8 4 4 /16, levels {0} {1,2}: Q = 8 3 3 /14   ½·ln(7/8) + ½·ln(7/6)
  //   keep 4: P = 8 4 2 2 /16, levels {0,1} {2,3}: Q = 6 6 2 2 /16   ½·ln(4/3) + ¼·ln(2/3)
  it.each([
    [2, 0.058892],
    [3, 0.01031],
    [4, 0.042475],
  ])('keeping %i of the bins 8 4 2 2 diverges by %f', (kept, expected) => {
    expect(entropyDivergence([8, 4, 2, 2], kept, 2)).toBeCloseTo(expected, 6);
  });

  it('takes the least of the hand-computed table', () => expect(entropyThreshold([8, 4, 2, 2], 2)).toBe(3));

  it('has the slides’ sizes', () => expect([ENTROPY_BINS, ENTROPY_LEVELS]).toEqual([2048, 128]));

  it('agrees with P and Q written out', () => {
    fc.assert(
      fc.property(histogram, fc.integer({ min: 2, max: 6 }), fc.nat({ max: 100 }), (counts, levels, at) => {
        const kept = Math.min(counts.length, levels + (at % counts.length));
        const [found, wanted] = [entropyDivergence(counts, kept, levels), slideDivergence(counts, kept, levels)];
        if (Number.isFinite(wanted)) expect(found).toBeCloseTo(wanted, 9);
        else expect(found).toBe(wanted);
      }),
      { seed: 4, numRuns: 400 },
    );
  });

  it('does not depend on how many values there are', () => {
    fc.assert(
      fc.property(histogram, fc.integer({ min: 2, max: 1000 }), (counts, factor) => {
        const scaled = counts.map((count) => count * factor);
        expect(entropyDivergence(scaled, counts.length, 3)).toBeCloseTo(entropyDivergence(counts, counts.length, 3), 9);
      }),
      { seed: 5 },
    );
  });

  it('a divergence is never negative, and zero where each bin is a level', () => {
    fc.assert(
      fc.property(histogram, (counts) => {
        for (let kept = 2; kept <= counts.length; kept++) expect(entropyDivergence(counts, kept, 2)).toBeGreaterThan(-1e-12);
        expect(entropyDivergence(counts, counts.length, counts.length)).toBeCloseTo(0, 12);
      }),
      { seed: 6 },
    );
  });

  it('clips a lone outlier and keeps a uniform distribution whole', () => {
    const bell = Array.from({ length: 2048 }, (_, bin) => (bin < 400 ? Math.round(1e6 * Math.exp(-((bin / 130) ** 2))) : 0));
    bell[2047] = 1;
    expect(entropyThreshold(bell)).toBeLessThan(420);
    expect(entropyThreshold(new Uint16Array(2048).fill(1000))).toBe(2048);
  });

  it('an empty histogram keeps everything', () => expect(entropyThreshold(new Float64Array(2048))).toBe(128));
});
