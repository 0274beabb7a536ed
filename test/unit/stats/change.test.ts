/** Shifts between series of few values: the exact tests against enumeration, t against its tables, and coverage by simulation. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chanceOfModes, shiftBetween } from '../../../src/stats/change.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { rankSumShift, signedRankShift } from '../../../src/stats/ranks.ts';
import { spendEvenly, spendLate } from '../../../src/stats/spending.ts';
import { normalTail, studentQuantile, studentTail } from '../../../src/stats/student.ts';

describe('Student and normal tails', () => {
  it.each([
    // Printed tables (Abramowitz and Stegun, 26.10; R's qt).
    { degrees: 1, tail: 0.025, t: 12.7062047364 },
    { degrees: 2, tail: 0.005, t: 9.9248432009 },
    { degrees: 5, tail: 0.0005, t: 6.8688266259 },
    { degrees: 10, tail: 0.025, t: 2.2281388520 },
    { degrees: 30, tail: 0.0005, t: 3.6459586347 },
    { degrees: 120, tail: 0.05, t: 1.6576508993 },
    { degrees: Infinity, tail: 0.025, t: 1.9599639845 },
  ])('t($degrees) at $tail', ({ degrees, tail, t }) => {
    expect(studentQuantile(tail, degrees)).toBeCloseTo(t, 7);
    expect(studentTail(t, degrees)).toBeCloseTo(tail, 10);
    expect(studentTail(-t, degrees)).toBeCloseTo(1 - tail, 10);
  });

  it('follows the closed forms of one and two degrees', () => {
    for (const t of [0, 0.3, 1, 4, 50, 1e4]) {
      expect(studentTail(t, 1)).toBeCloseTo(0.5 - Math.atan(t) / Math.PI, 12);
      expect(studentTail(t, 2)).toBeCloseTo(0.5 - t / (2 * Math.sqrt(2 + t * t)), 12);
    }
    expect(studentTail(Infinity, 3)).toBe(0);
  });

  it('knows the normal tail, far out too', () => {
    expect(normalTail(0)).toBe(0.5);
    expect(normalTail(1.9999999)).toBeCloseTo(0.0227501319, 7);
    expect(normalTail(2)).toBeCloseTo(0.0227501319, 10);
    expect(normalTail(6) / 9.865876450e-10).toBeCloseTo(1, 8);
  });

  it('refuses what is no tail and no degrees', () => {
    expect(() => studentTail(1, 0)).toThrow(RangeError);
    expect(() => studentQuantile(0.6, 3)).toThrow(RangeError);
  });
});

/** P(at least as many positive Walsh averages) over all signs. */
function enumeratedSignedRank(differences: readonly number[]): number {
  const positive = (values: readonly number[]) => values.flatMap((a, i) => values.slice(i).map((b) => a + b)).filter((sum) => sum > 0).length;
  const observed = positive(differences);
  const sizes = differences.map(Math.abs);
  let reached = 0;
  for (let signs = 0; signs < 2 ** sizes.length; signs++) {
    if (positive(sizes.map((size, i) => (signs & (1 << i) ? -size : size))) >= observed) reached++;
  }
  return reached / 2 ** sizes.length;
}

/** P(at least as many pairs in which `after` is larger) over all choices of who is `after`. */
function enumeratedRankSum(before: readonly number[], after: readonly number[]): number {
  const all = [...before, ...after];
  const larger = (chosen: number) => {
    let count = 0;
    for (const [i, a] of all.entries()) for (const [j, b] of all.entries()) if (chosen & (1 << i) && !(chosen & (1 << j)) && a > b) count++;
    return count;
  };
  const size = (mask: number) => all.filter((_, i) => mask & (1 << i)).length;
  const masks = Array.from({ length: 2 ** all.length }, (_, mask) => mask).filter((mask) => size(mask) === after.length);
  const observed = larger(((1 << after.length) - 1) << before.length);
  return masks.filter((mask) => larger(mask) >= observed).length / masks.length;
}

const SEED = { seed: 7, numRuns: 60 };
const distinct = (length: { readonly minLength: number; readonly maxLength: number }) =>
  fc.uniqueArray(fc.integer({ min: -10_000, max: 10_000 }).filter((value) => value !== 0), { ...length, comparator: (a, b) => Math.abs(a) === Math.abs(b) });

describe('exact rank tests', () => {
  it('rank sums of many rounds are exact and take no time', () => {
    const before = Array.from({ length: 200 }, (_, i) => i);
    const after = before.map((value) => value + 0.5);
    const shift = rankSumShift(before, after);
    // Two series that interlace: scipy.stats.mannwhitneyu(after, before, alternative, method='exact').
    expect(shift.pAbove(0)).toBeCloseTo(0.4657470000080466, 12);
    expect(shift.pBelow(0)).toBeCloseTo(0.5345963932119494, 12);
    expect(rankSumShift(before.slice(0, 5), Array.from({ length: 7 }, (_, i) => i + 100)).attainable * 792).toBeCloseTo(1, 12);
  });

  it('signed ranks give the p of all sign flips', () => {
    fc.assert(
      fc.property(distinct({ minLength: 1, maxLength: 9 }), (differences) => {
        expect(signedRankShift(differences).pAbove(0)).toBeCloseTo(enumeratedSignedRank(differences), 12);
        expect(signedRankShift(differences).pBelow(0)).toBeCloseTo(enumeratedSignedRank(differences.map((value) => -value)), 12);
      }),
      SEED,
    );
  });

  it('rank sums give the p of all permutations', () => {
    fc.assert(
      fc.property(distinct({ minLength: 2, maxLength: 9 }), fc.integer({ min: 1, max: 8 }), (values, cut) => {
        const [before, after] = [values.slice(0, Math.min(cut, values.length - 1)), values.slice(Math.min(cut, values.length - 1))];
        expect(rankSumShift(before, after).pAbove(0)).toBeCloseTo(enumeratedRankSum(before, after), 12);
        expect(rankSumShift(before, after).pBelow(0)).toBeCloseTo(enumeratedRankSum(before.map((v) => -v), after.map((v) => -v)), 12);
      }),
      SEED,
    );
  });

  it('the interval holds exactly the shifts that the test does not reject', () => {
    fc.assert(
      fc.property(distinct({ minLength: 7, maxLength: 14 }), fc.constantFrom(0.01, 0.025, 0.1), (differences, tail) => {
        const shift = signedRankShift(differences);
        const { low, high } = shift.interval(tail);
        expect(shift.pAbove(low - 1e-6)).toBeLessThanOrEqual(tail);
        expect(shift.pAbove(low + 1e-6)).toBeGreaterThan(tail);
        expect(shift.pBelow(high + 1e-6)).toBeLessThanOrEqual(tail);
        expect(shift.pBelow(high - 1e-6)).toBeGreaterThan(tail);
      }),
      SEED,
    );
  });

  it('ties never make a p smaller', () => {
    expect(signedRankShift([0, 0, 0, 0, 0]).pAbove(0)).toBe(1);
    expect(rankSumShift([1, 1, 1], [1, 1, 1]).pAbove(0)).toBe(1);
    expect(rankSumShift([1, 1, 1], [1, 1, 1]).pBelow(0)).toBe(1);
    expect(signedRankShift([1, 1, 1, 0]).pAbove(0)).toBeGreaterThanOrEqual(enumeratedSignedRank([1, 1, 1, 0]));
  });

  it('five paired values can give no p below 1/32, so no interval at 99 %', () => {
    expect(signedRankShift([1, 2, 3, 4, 5])).toMatchObject({ attainable: 1 / 32, point: 3 });
    expect(signedRankShift([1, 2, 3, 4, 5]).interval(0.005)).toEqual({ low: -Infinity, high: Infinity });
    expect(rankSumShift([1, 2, 3], [4, 5, 6]).attainable).toBeCloseTo(1 / 20, 12);
  });
});

describe('shiftBetween', () => {
  it('few values that all agree are decided by t where modes don’t explain them, others are not decided', () => {
    const level = 0.01;
    const agree = shiftBetween({ before: [10, 11, 10, 11], after: [20, 21, 20.1, 21.1], paired: false });
    // Welch's t is far beyond; the exact test alone could reach 1/70 only, and modes do this with a chance of 1/256.
    expect(agree.pAbove(0, level)).toBeLessThan(1e-4);
    expect(agree.pBelow(0, level)).toBeCloseTo(1, 12);
    expect(agree.pAbove(11, level)).toBeGreaterThan(0.5);
    expect(agree.pAbove(0, 1e-3)).toBeCloseTo(1, 12);
    expect(agree.pAbove(0, 1e-3, level)).toBeLessThan(1e-4);
    const mixed = shiftBetween({ before: [10, 10, 10, 10], after: [20, 20, 20, 9], paired: true });
    expect(mixed.pAbove(0, level)).toBeCloseTo(enumeratedSignedRank([10, 10.001, 10.002, -1]), 12);
  });

  it('a change of every value by the gap of two modes is no change unless there are enough values, or it is gross', () => {
    const sides = (count: number, gap: number) => ({ before: Array.from({ length: count }, (_, i) => i * 1e-6), after: Array.from({ length: count }, (_, i) => gap + i * 2e-6), paired: true });
    const level = 1e-3;
    expect(chanceOfModes(sides(6, 0.3))).toBe(1 / 64);
    expect(chanceOfModes({ ...sides(6, 0.3), paired: false })).toBe(1 / 4096);
    expect(shiftBetween(sides(6, 0.3), 0.4).pAbove(0, level)).toBeGreaterThan(0.5);
    expect(shiftBetween(sides(6, 0.5), 0.4).pAbove(0, level)).toBeLessThan(1e-6);
    expect(shiftBetween(sides(6, 0.5)).pAbove(0, level)).toBe(1);
    expect(shiftBetween(sides(10, 0.3), 0.4).pAbove(0, level)).toBe(1 / 1024);
  });

  it('few rounds of two modes raise no more alarms than asked for', () => {
    const random = createRandom(5);
    for (const rounds of [3, 4, 5, 6, 8]) {
      for (const paired of [true, false]) {
        let alarms = 0;
        for (let run = 0; run < 4000; run++) {
          // Paired: one of the two is always slower, whichever. Unpaired: each process has its mode.
          const modes = Array.from({ length: rounds }, () => random.below(2));
          const side = (at: (round: number) => number) => modes.map((_, round) => 0.3 * at(round) + 0.001 * normal(random));
          const before = side((round) => (paired ? modes[round]! : random.below(2)));
          const after = side((round) => (paired ? 1 - modes[round]! : random.below(2)));
          if (shiftBetween({ before, after, paired }, Math.log(1.5)).pAbove(0, 0.01) <= 0.01) alarms++;
        }
        expect(alarms / 4000).toBeLessThan(0.01 + 0.0047);
      }
    }
  });

  it('agrees with Welch’s t by hand', () => {
    // Means 2 and 12, variances 1 and 4, three and five values: t = 10 / √(1/3 + 4/5), degrees 5.98 (Satterthwaite).
    const shift = shiftBetween({ before: [1, 2, 3], after: [12 - Math.sqrt(8), 12, 12, 12, 12 + Math.sqrt(8)], paired: false });
    // Modes do that with a chance of 1/256, which a level of 0.01 bears; the exact test could reach 1/56.
    const variance = 1 / 3 + 4 / 5;
    const degrees = variance ** 2 / ((1 / 3) ** 2 / 2 + (4 / 5) ** 2 / 4);
    expect(shift.pAbove(0, 0.01)).toBeCloseTo(studentTail(10 / Math.sqrt(variance), degrees), 12);
  });

  it('single values tell nothing, equal ones leave no doubt', () => {
    const single = shiftBetween({ before: [1], after: [2], paired: false });
    expect([single.pAbove(0, 1e-3), single.interval(0.025)]).toEqual([1, { low: -Infinity, high: Infinity }]);
    const exact = shiftBetween({ before: [1, 1, 1], after: [2, 2, 2], paired: true }, 0.4);
    expect([exact.point, exact.pAbove(0.5, 1e-3), exact.pAbove(1, 1e-3), exact.interval(0.025)]).toEqual([1, 0, 1, { low: 1, high: 1 }]);
    expect(() => shiftBetween({ before: [1, 2], after: [1], paired: true })).toThrow(RangeError);
    expect(() => shiftBetween({ before: [], after: [1], paired: false })).toThrow(RangeError);
  });

  it.each([
    { name: 'normal', draw: normal },
    { name: 'two modes', draw: (random: ReturnType<typeof createRandom>) => random.below(2) + 0.05 * normal(random) },
    { name: 'long tails', draw: (random: ReturnType<typeof createRandom>) => normal(random) / Math.max(0.05, random.uniform()) },
  ])('covers and keeps its level: $name', ({ draw }) => {
    const random = createRandom(3);
    const runs = 2000;
    for (const { rounds, paired } of [{ rounds: 5, paired: true }, { rounds: 5, paired: false }, { rounds: 12, paired: true }, { rounds: 12, paired: false }]) {
      let missed = 0;
      let alarms = 0;
      for (let run = 0; run < runs; run++) {
        const [before, after] = [0, 0].map(() => Array.from({ length: rounds }, () => draw(random)));
        const shift = shiftBetween({ before: before!, after: after!, paired });
        const { low, high } = shift.interval(0.025);
        if (low > 0 || high < 0) missed++;
        if (shift.pAbove(0, 0.01) <= 0.01) alarms++;
      }
      // Three standard errors of a share over 2,000 runs: 1.05 points at 5 %, 0.67 at 1 %. Five values of two modes are what t bears worst.
      expect(missed / runs).toBeLessThan(0.05 + 0.0146);
      expect(alarms / runs).toBeLessThan(0.01 + 0.0067);
    }
  });
});

describe('spending an error rate over looks', () => {
  const fractions = [0.4, 0.6, 0.8, 1];

  it('spends all of it and no more', () => {
    for (const shares of [spendLate(fractions), spendEvenly(fractions)]) {
      expect(shares).toHaveLength(4);
      expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    }
    expect(spendEvenly([1])).toEqual([1]);
    expect(spendLate([1])).toEqual([1]);
  });

  it('late spending follows the square of the information', () => {
    expect(spendLate([0.25, 0.5, 1])).toEqual([1 / 16, 3 / 16, 3 / 4]);
  });

  it('refuses looks that gain nothing', () => {
    expect(() => spendEvenly([0.5, 0.5, 1])).toThrow(RangeError);
    expect(() => spendEvenly([0.5])).toThrow(RangeError);
  });
});

describe('sides that scatter unlike each other', () => {
  it.each([
    { after: 4, scatter: 10 },
    { after: 8, scatter: 10 },
    { after: 24, scatter: 10 },
  ])('$after rounds that scatter $scatter times as much as 24 raise few alarms', ({ after: count, scatter }) => {
    const random = createRandom(11);
    const [runs, level] = [4000, 0.005];
    let [ranks, alarms] = [0, 0];
    for (let run = 0; run < runs; run++) {
      const before = Array.from({ length: 24 }, () => normal(random));
      const after = Array.from({ length: count }, () => scatter * normal(random));
      if (rankSumShift(before, after).pAbove(0) <= level) ranks++;
      if (shiftBetween({ before, after, paired: false }).pAbove(0, level) <= level) alarms++;
    }
    // Over a few thousand runs chance adds half a percent; Yuen's test itself keeps its level within a factor of two.
    expect(ranks / runs).toBeGreaterThan(0.014);
    expect(alarms / runs).toBeLessThan(0.011);
  });

  it('the interval allows for it', () => {
    const random = createRandom(12);
    let [ranks, covered] = [0, 0];
    for (let run = 0; run < 2000; run++) {
      const before = Array.from({ length: 24 }, () => normal(random));
      const after = Array.from({ length: 8 }, () => 10 * normal(random));
      const holds = ({ low, high }: { readonly low: number; readonly high: number }) => low <= 0 && high >= 0;
      if (holds(rankSumShift(before, after).interval(0.025))) ranks++;
      if (holds(shiftBetween({ before, after, paired: false }).interval(0.025))) covered++;
    }
    expect(ranks / 2000).toBeLessThan(0.9);
    expect(covered / 2000).toBeGreaterThan(0.94);
  });

  it('what differs plainly is found all the same', () => {
    const random = createRandom(13);
    const before = Array.from({ length: 24 }, () => 0.01 * normal(random));
    const after = Array.from({ length: 24 }, () => 0.2 + 0.05 * normal(random));
    expect(shiftBetween({ before, after, paired: false }).pAbove(0.05, 1e-4)).toBeLessThan(1e-4);
    expect(shiftBetween({ before: after, after: before, paired: false }).pBelow(0.05, 1e-4)).toBeLessThan(1e-4);
  });
});
