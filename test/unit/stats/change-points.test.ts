/** Levels of a history: found where they change, seldom elsewhere. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changePoints } from '../../../src/stats/change-points.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';

const random = createRandom(23);
const level = (count: number, centre: number, noise = 0.02) => Array.from({ length: count }, () => centre + noise * normal(random));

describe('changePoints', () => {
  it('finds steps up and down', () => {
    expect(changePoints([...level(12, 1), ...level(9, 1.2), ...level(14, 1.05)], { seed: 1 })).toEqual([12, 21]);
    expect(changePoints([...level(5, 1, 0.001), ...level(5, 2, 0.001)], { seed: 1 })).toEqual([5]);
  });

  it('takes an outlier for none, and nothing for a level', () => {
    expect(changePoints([...level(10, 1), 9, ...level(10, 1)], { seed: 1 })).toEqual([]);
    for (const series of [[], [1], [1, 2], Array.from({ length: 30 }, () => 4)]) expect(changePoints(series, { seed: 1 })).toEqual([]);
  });

  it('keeps its level on series without a change', () => {
    let cut = 0;
    for (let i = 0; i < 300; i++) if (changePoints(level(20, 1), { seed: i }).length > 0) cut++;
    // At 1 %, nine and more of 300 come about once in 250 tries.
    expect(cut).toBeLessThan(9);
  });

  it('does not depend on the scale, and says the same each time', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 6, maxLength: 16 }), (series) => {
        const cuts = changePoints(series, { seed: 3 });
        expect(changePoints(series.map((value) => value * 7 - 2), { seed: 3 })).toEqual(cuts);
        expect(cuts.every((at, i) => at - (cuts[i - 1] ?? 0) >= 3 && series.length - at >= 3)).toBe(true);
      }),
      { seed: 5, numRuns: 30 },
    );
  });
});
