/** Keys and values that heads of queries share are read by attention as they were before exporters repeated them. */
import { describe, expect, it } from 'vitest';
import { type Graph, typeOf } from '../../../src/ir/graph.ts';
import { ONE_FOR_ALL, REPEATING, sharedAttention, type SharedShape } from '../../helpers/decoder.ts';
import { countOps, expectSame, optimize } from '../../helpers/passes.ts';

const SHAPE: SharedShape = { batch: 2, heads: 6, own: 2, rows: 3, past: 4, size: 8 };

/** Heads of the keys and values that attention reads. */
function ownHeads(graph: Graph): number[] {
  const attention = graph.nodes.find(({ op }) => op === 'FusedAttention')!;
  return attention.inputs.slice(1, 3).map((id) => typeOf(graph, id).dims[1]!);
}

const FORMS = [
  ...Object.entries(REPEATING).map(([name, form]) => [name, form, SHAPE] as const),
  ...Object.entries(ONE_FOR_ALL).map(([name, form]) => [`one head for all, ${name}`, form, { ...SHAPE, own: 1 }] as const),
];

describe('attention of heads that share keys and values', () => {
  it.each(FORMS)('%s', async (name, form, shape) => {
    for (const times of [{}, { rows: 1 }, { past: 0 }]) {
      const before = sharedAttention(form, { ...shape, ...times });
      const { graph } = await optimize(before, 'webgpu');
      const { FusedAttention, MatMul = 0, Softmax = 0 } = countOps(graph);
      expect({ FusedAttention, MatMul, Softmax }).toEqual({ FusedAttention: 1, MatMul: 0, Softmax: 0 });
      expect(ownHeads(graph).map((heads) => heads * (name.endsWith('one axis') ? 1 : shape.batch))).toEqual([shape.own * shape.batch, shape.own * shape.batch]);
      await expectSame(before, graph);
    }
  });

  it('of a model in halves, whose softmax is in floats', async () => {
    const halves = sharedAttention((s, [q, k, v], mask, { size }) => {
      const columns = s.b.node('Transpose', [k], { perm: [0, 1, 3, 2] });
      const scores = s.b.node('Add', [s.b.node('Mul', [s.b.node('MatMul', [q, columns], {}), s.n(size ** -0.5, 'float16')], {}), mask], {});
      const weights = s.b.node('Softmax', [s.b.node('Cast', [scores], { to: 'float32', saturate: 1 })], { axis: -1 });
      return s.b.node('MatMul', [s.b.node('Cast', [weights], { to: 'float16', saturate: 1 }), v], {});
    }, { ...SHAPE, own: 1 }, 'float16');
    const { graph } = await optimize(halves, 'webgpu');
    expect(countOps(graph)).toMatchObject({ FusedAttention: 1 });
    expect(ownHeads(graph)).toEqual([1, 1]);
    await expectSame(halves, graph, 4e-3);
  });
});
