import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findKept, rankNodes, type Evaluation } from '../../../src/quantize/sensitivity.ts';

const verdict = (withinBudget: boolean): Evaluation => ({ snrDb: withinBudget ? 40 : 10, withinBudget });

describe('ranking', () => {
  it('puts the costliest first, and asks only for what is not known', async () => {
    const asked: string[] = [];
    const told: string[] = [];
    const ranking = await rankNodes(
      ['a', 'b', 'c', 'd'],
      new Map([['b', { snrDb: 5, withinBudget: false }]]),
      async (node) => {
        asked.push(node);
        return { snrDb: { a: 30, c: 10, d: Number.POSITIVE_INFINITY }[node]!, withinBudget: true };
      },
      async ({ node }, done) => void told.push(`${node}${done}`),
    );
    expect(ranking.map(({ node }) => node)).toEqual(['b', 'c', 'a', 'd']);
    expect(asked).toEqual(['a', 'c', 'd']);
    expect(told).toEqual(['a1', 'c3', 'd4']);
  });
});

describe('search', () => {
  const nodes = Array.from({ length: 20 }, (_, i) => `n${i}`);

  it('finds the set that is needed, wherever in the ranking it lies', async () => {
    await fc.assert(
      fc.asyncProperty(fc.subarray(nodes), async (needed) => {
        const found = await findKept(nodes, async (keep) => verdict(needed.every((node) => keep.includes(node))));
        expect(found?.keep).toEqual(needed);
        expect(found?.evaluation.withinBudget).toBe(true);
        expect(found!.tried).toBeLessThan(35);
      }),
      { seed: 12 },
    );
  });

  it('keeps nothing where int8 throughout meets the budget, and asks once', async () => {
    expect(await findKept(nodes, async () => verdict(true))).toEqual({ keep: [], evaluation: verdict(true), tried: 1 });
  });

  it('says so where nothing helps', async () => {
    expect(await findKept(nodes, async () => verdict(false))).toBeUndefined();
    expect(await findKept([], async () => verdict(false))).toBeUndefined();
  });
});
