import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareByNode, renderNodeComparison } from '../../../src/report/by-node.ts';

type Layers = readonly (readonly [kind: string, durationNs: number, ...origins: string[]])[];

function profiled(title: string, layers: Layers, wallNs = 0) {
  const rows = layers.map(([kind, durationNs, ...origins]) => ({ kind, precision: 'float32' as const, durationNs, origins }));
  const kernelNs = rows.reduce((sum, row) => sum + row.durationNs, 0);
  return { title, roofline: { rows, kernelNs, wallNs, residualNs: wallNs - kernelNs } };
}

describe('compareByNode', () => {
  it('joins what either engine fuses, in the order of the first, and puts layers of no node last', () => {
    const before = profiled('a', [['Reformat', 5], ['Conv', 10, 'c1'], ['Relu', 4, 'r1'], ['Conv', 20, 'c2'], ['Gemm', 7, 'g']]);
    const after = profiled('b', [['FusedConv', 6, 'c1', 'r1'], ['Gemm', 3, 'g'], ['Conv', 8, 'c2']]);
    expect(compareByNode(before, after).rows.map(({ nodes, before: x, after: y }) => [nodes.join('+'), x.durationNs, x.kernels.length, y.durationNs])).toEqual([
      ['c1+r1', 14, 2, 6],
      ['c2', 20, 1, 8],
      ['g', 7, 1, 3],
      ['', 5, 1, 0],
    ]);
  });

  it('joins chains: a with b here, b with c there', () => {
    const { rows } = compareByNode(profiled('a', [['X', 1, 'a', 'b'], ['Y', 2, 'c']]), profiled('b', [['X', 3, 'a'], ['Y', 4, 'b', 'c']]));
    expect(rows).toMatchObject([{ nodes: ['a', 'b', 'c'], before: { durationNs: 3 }, after: { durationNs: 7 } }]);
  });

  it('adds up to the whole, each node in one row', () => {
    const node = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
    const layers = fc.array(fc.tuple(fc.integer({ min: 0, max: 1000 }), fc.uniqueArray(node, { maxLength: 3 })), { maxLength: 12 });
    fc.assert(fc.property(layers, layers, (x, y) => {
      const of = (list: typeof x): Layers => list.map(([ns, nodes]) => ['K', ns, ...nodes] as const);
      const { rows, totals } = compareByNode(profiled('a', of(x)), profiled('b', of(y)));
      expect(rows.reduce((sum, row) => sum + row.before.durationNs, 0)).toBe(totals.before.kernelNs);
      expect(rows.reduce((sum, row) => sum + row.after.durationNs, 0)).toBe(totals.after.kernelNs);
      const all = rows.flatMap(({ nodes }) => nodes);
      expect(new Set(all).size).toBe(all.length);
    }));
  });

  it('states what the layers leave of the wall clock', () => {
    const text = renderNodeComparison(compareByNode(profiled('a.engine', [['Conv', 8000, 'c']], 10_000), profiled('b.engine', [['Conv', 2000, 'c']], 5000)), 'table');
    expect(text).toMatch(/^before {3}a\.engine\nafter {4}b\.engine/);
    expect(text).toMatch(/c +8(\.0*)? +2(\.0*)? +4(\.0*)?×/);
    expect(text).toMatch(/rest of the wall clock +2(\.0*)? +3(\.0*)?/);
  });
});
