/** Partition: convex, complete, in order, and with as few segments as there can be, against a search of all orders. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AnyNode, Graph } from '../../../src/ir/graph.ts';
import { partition, segmentGraphs, type Segment } from '../../../src/ir/partition.ts';

type Kind = 'a' | 'b';

interface Drawn {
  readonly kinds: readonly Kind[];
  /** By node, the earlier nodes that it reads; of none, it reads the graph's input. */
  readonly reads: readonly (readonly number[])[];
  readonly sizes: readonly number[];
}

function drawn(maxNodes: number): fc.Arbitrary<Drawn> {
  return fc.integer({ min: 1, max: maxNodes }).chain((count) =>
    fc.record({
      kinds: fc.array(fc.constantFrom<Kind>('a', 'b'), { minLength: count, maxLength: count }),
      reads: fc.tuple(...Array.from({ length: count }, (_, i) => (i === 0 ? fc.constant([]) : fc.uniqueArray(fc.nat(i - 1), { maxLength: 3 })))),
      sizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: count, maxLength: count }),
    }),
  );
}

/** Node i is named `n<i>` and makes `v<i>`; values that nobody reads are outputs. */
function graphOf({ reads, sizes }: Drawn): Graph {
  const read = new Set(reads.flat());
  const nodes = reads.map((from, i): AnyNode => {
    const inputs = [...(from.length === 0 ? ['x'] : from.map((j) => `v${j}`)), 'c'];
    return { op: 'Sum', name: `n${i}`, inputs, outputs: [`v${i}`], attrs: {}, origins: [`n${i}`] };
  });
  const constant = { dtype: 'float32', dims: [1], data: new Uint8Array(4) } as const;
  return {
    name: 'drawn',
    inputs: ['x'],
    outputs: nodes.map((_, i) => i).filter((i) => !read.has(i)).map((i) => `v${i}`),
    types: new Map([['x', { dtype: 'float32', dims: [1] }], ['c', constant], ...sizes.map((size, i) => [`v${i}`, { dtype: 'float32', dims: [size] }] as const)]),
    constants: new Map([['c', constant]]),
    nodes,
  };
}

const cut = (input: Drawn): readonly Segment<Kind>[] => partition(graphOf(input), (node) => input.kinds[Number(node.name.slice(1))]!);

/** Fewest segments of any topological order, by search over the sets of nodes already run. */
function fewestSegments({ kinds, reads }: Drawn): number {
  const all = 2 ** kinds.length - 1;
  let states = new Set([...new Set(kinds)].map((kind) => `${kind} 0`));
  for (let segments = 1; ; segments++) {
    const after = new Set<string>();
    for (const state of states) {
      const [kind, text] = state.split(' ') as [Kind, string];
      // Within a segment, running more never hurts, but here every subset is tried.
      const seen = new Set([Number(text)]);
      for (const done of seen) {
        for (const [i, from] of reads.entries()) {
          if (kinds[i] !== kind || done & (1 << i) || !from.every((j) => done & (1 << j))) continue;
          seen.add(done | (1 << i));
        }
      }
      if (seen.has(all)) return segments;
      for (const done of seen) after.add(`${kind === 'a' ? 'b' : 'a'} ${done}`);
    }
    states = after;
  }
}

const SEED = { seed: 20260701 };

describe('partition', () => {
  it('puts every node in one segment of its kind, in topological order', () => {
    fc.assert(
      fc.property(drawn(40), (input) => {
        const segments = cut(input);
        const place = new Map(segments.flatMap(({ nodes }, at) => nodes.map((node) => [Number(node.name.slice(1)), at] as const)));
        expect(segments.reduce((sum, { nodes }) => sum + nodes.length, 0)).toBe(input.kinds.length);
        expect(place.size).toBe(input.kinds.length);
        for (const [i, at] of place) {
          expect(segments[at]!.kind).toBe(input.kinds[i]);
          for (const j of input.reads[i]!) expect(place.get(j)!).toBeLessThanOrEqual(at);
        }
        for (const [at, { kind, nodes }] of segments.entries()) {
          expect(kind).not.toBe(segments[at - 1]?.kind);
          const order = nodes.map((node) => Number(node.name.slice(1)));
          expect(order).toEqual([...order].sort((a, b) => a - b));
        }
      }),
      { ...SEED, numRuns: 300 },
    );
  });

  it('makes as few segments as there can be', () => {
    fc.assert(
      fc.property(drawn(8), (input) => {
        expect(cut(input)).toHaveLength(fewestSegments(input));
      }),
      { ...SEED, numRuns: 150 },
    );
  });

  it('is convex: no path leaves a segment and comes back', () => {
    fc.assert(
      fc.property(drawn(25), (input) => {
        const segments = cut(input);
        const place = new Map(segments.flatMap(({ nodes }, at) => nodes.map((node) => [Number(node.name.slice(1)), at] as const)));
        // Ancestors of node i that lie on a path through another segment than theirs.
        const throughOthers = input.reads.map(() => new Set<number>());
        for (const [i, from] of input.reads.entries()) {
          for (const j of from) {
            for (const ancestor of throughOthers[j]!) throughOthers[i]!.add(ancestor);
            if (place.get(j) !== place.get(i)) for (let k = 0; k <= j; k++) if (k === j || reaches(input, k, j)) throughOthers[i]!.add(k);
          }
        }
        for (const [i, ancestors] of throughOthers.entries()) for (const j of ancestors) expect(place.get(j)).not.toBe(place.get(i));
      }),
      { ...SEED, numRuns: 100 },
    );
  });

  it('gives segments that feed each other exactly what they need', () => {
    fc.assert(
      fc.property(drawn(25), (input) => {
        const graph = graphOf(input);
        const known = new Set(graph.inputs);
        for (const part of segmentGraphs(graph, cut(input))) {
          for (const id of part.inputs) expect(known).toContain(id);
          const scope = new Set([...part.inputs, ...part.constants.keys()]);
          for (const node of part.nodes) {
            for (const id of node.inputs) expect(scope).toContain(id);
            for (const id of node.outputs) scope.add(id);
          }
          for (const id of scope) expect(part.types.has(id)).toBe(true);
          for (const id of part.outputs) known.add(id);
        }
        for (const id of graph.outputs) expect(known).toContain(id);
      }),
      { ...SEED, numRuns: 150 },
    );
  });

  it('chooses the cut that moves the fewest bytes', () => {
    // b runs at the end either way; n1 turns 1 element into 9, so that it stays beside its reader.
    const input: Drawn = { kinds: ['a', 'b', 'a', 'a'], reads: [[], [0], [0], [1, 2]], sizes: [1, 1, 9, 1] };
    expect(cut(input).map(({ nodes }) => nodes.map((node) => node.name))).toEqual([['n0'], ['n1'], ['n2', 'n3']]);
  });

  it('leaves a graph of one kind whole, and an empty one empty', () => {
    expect(cut({ kinds: ['a', 'a'], reads: [[], [0]], sizes: [1, 1] })).toHaveLength(1);
    expect(partition({ ...graphOf({ kinds: [], reads: [], sizes: [] }), outputs: [] }, () => 'a')).toEqual([]);
  });
});

function reaches({ reads }: Drawn, from: number, to: number): boolean {
  const seen = new Set([to]);
  for (const node of seen) for (const source of reads[node]!) seen.add(source);
  return seen.has(from);
}
