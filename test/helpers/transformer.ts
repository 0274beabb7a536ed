/** Encoder layers as exporters write them: BERT with a projection per operand, ViT with one for all. */
import type { Graph } from '../../src/ir/graph.ts';
import { sketch, type Sketch } from './rules.ts';

export interface EncoderShape {
  readonly batch: number;
  readonly tokens: number;
  readonly hidden: number;
  readonly heads: number;
}

const dense = ({ b, w, n }: Sketch, x: string, from: number, to: number): string => b.node('Add', [b.node('MatMul', [x, b.node('Mul', [w(from, to), n(1 / Math.sqrt(from))], {})], {}), w(to)], {});

const layerNorm = ({ b, w }: Sketch, x: string, hidden: number): string => b.node('LayerNormalization', [x, w(hidden), w(hidden)], { axis: -1, epsilon: 1e-6, stash_type: 1 });

function gelu({ b, n }: Sketch, x: string): string {
  const gate = b.node('Add', [b.node('Erf', [b.node('Div', [x, n(Math.SQRT2)], {})], {}), n(1)], {});
  return b.node('Mul', [b.node('Mul', [x, gate], {}), n(0.5)], {});
}

/** Post-normalization, three projections, a mask of keys: inputs `x` and `x1` (the mask). */
export function bertLayer({ batch, tokens, hidden, heads }: EncoderShape): Graph {
  return sketch((s) => {
    const { b, n, ints } = s;
    const [x, mask] = [s.x(batch, tokens, hidden), s.x(batch, 1, 1, tokens)];
    const part = (perm: number[]): string => {
      const split = b.node('Reshape', [dense(s, x, hidden, hidden), ints(batch, tokens, heads, hidden / heads)], { allowzero: 0 });
      return b.node('Transpose', [split], { perm });
    };
    const [q, k, v] = [part([0, 2, 1, 3]), part([0, 2, 3, 1]), part([0, 2, 1, 3])];
    const scores = b.node('Div', [b.node('MatMul', [q, k], {}), n(Math.sqrt(hidden / heads))], {});
    const weights = b.node('Softmax', [b.node('Add', [scores, mask], {})], { axis: -1 });
    const mixed = b.node('Transpose', [b.node('MatMul', [weights, v], {})], { perm: [0, 2, 1, 3] });
    const joined = b.node('Reshape', [mixed, ints(batch, tokens, hidden)], { allowzero: 0 });
    const attended = layerNorm(s, b.node('Add', [dense(s, joined, hidden, hidden), x], {}), hidden);
    const inner = gelu(s, dense(s, attended, hidden, 2 * hidden));
    return layerNorm(s, b.node('Add', [dense(s, inner, 2 * hidden, hidden), attended], {}), hidden);
  });
}

/** Pre-normalization, one projection picked apart, √scale on queries and keys; the first token is given out too. */
export function vitBlock({ batch, tokens, hidden, heads }: EncoderShape): Graph {
  return sketch((s) => {
    const { b, n, ints } = s;
    const x = s.x(batch, tokens, hidden);
    const projected = b.node('Reshape', [dense(s, layerNorm(s, x, hidden), hidden, 3 * hidden), ints(batch, tokens, 3, heads, hidden / heads)], { allowzero: 0 });
    const parts = b.node('Transpose', [projected], { perm: [2, 0, 3, 1, 4] });
    const [q, k, v] = [0, 1, 2].map((part) => b.node('Gather', [parts, n(part, 'int64')], { axis: 0 })) as [string, string, string];
    const root = (hidden / heads) ** -0.25;
    const swapped = b.node('Transpose', [k], { perm: [0, 1, 3, 2] });
    const scores = b.node('MatMul', [b.node('Mul', [q, n(root)], {}), b.node('Mul', [swapped, n(root)], {})], {});
    const mixed = b.node('Transpose', [b.node('MatMul', [b.node('Softmax', [scores], { axis: -1 }), v], {})], { perm: [0, 2, 1, 3] });
    const joined = b.node('Reshape', [mixed, ints(batch, tokens, hidden)], { allowzero: 0 });
    const attended = b.node('Add', [x, dense(s, joined, hidden, hidden)], {});
    const inner = gelu(s, dense(s, layerNorm(s, attended, hidden), hidden, 2 * hidden));
    const y = b.node('Add', [attended, dense(s, inner, 2 * hidden, hidden)], {});
    return [y, b.node('Gather', [layerNorm(s, y, hidden), n(0, 'int64')], { axis: 1 })];
  });
}
