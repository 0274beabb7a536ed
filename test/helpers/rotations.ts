/** Rotary embeddings in the forms that exporters write, of queries and keys in one graph. */
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { sketch, type Sketch } from './rules.ts';

const part = ({ b, ints }: Sketch, x: ValueId, start: number, end: number, step = 1): ValueId => b.node('Slice', [x, ints(start), ints(end), ints(3), ints(step)], {});
const mul = ({ b }: Sketch, ...factors: [ValueId, ValueId]): ValueId => b.node('Mul', factors, {});
const join = ({ b }: Sketch, ...parts: readonly ValueId[]): ValueId => b.node('Concat', parts, { axis: -1 });

/** Elements of either in turn, as [batch, heads, rows, 2 · size]. */
function inTurn(s: Sketch, dims: readonly number[], pair: readonly ValueId[]): ValueId {
  const columns = pair.map((id) => s.b.node('Unsqueeze', [id, s.ints(-1)], {}));
  return s.b.node('Reshape', [join(s, ...columns), s.ints(...dims)], { allowzero: 0 });
}

/** x·cos + half(x)·sin, where half(x) is (−x₂, x₁) of two halves. */
function halves(s: Sketch, x: ValueId, size: number, cos: ValueId, sin: ValueId): ValueId {
  const turned = join(s, s.b.node('Neg', [part(s, x, size / 2, size)], {}), part(s, x, 0, size / 2));
  return s.b.node('Add', [mul(s, x, cos), mul(s, turned, sin)], {});
}

/** x·cos + pairs(x)·sin, where pairs(x) is (−x₁, x₀, −x₃, x₂, …). */
function pairs(s: Sketch, x: ValueId, dims: readonly number[], cos: ValueId, sin: ValueId): ValueId {
  const turned = inTurn(s, dims, [s.b.node('Neg', [part(s, x, 1, 2 ** 31, 2)], {}), part(s, x, 0, 2 ** 31, 2)]);
  return s.b.node('Add', [mul(s, x, cos), mul(s, turned, sin)], {});
}

/** x₁·cos − x₂·sin and x₁·sin + x₂·cos, with a cosine and a sine for each pair. */
function written(s: Sketch, [first, second]: readonly [ValueId, ValueId], cos: ValueId, sin: ValueId): readonly [ValueId, ValueId] {
  return [s.b.node('Sub', [mul(s, first, cos), mul(s, second, sin)], {}), s.b.node('Add', [mul(s, first, sin), mul(s, second, cos)], {})];
}

export const FORMS = ['halves', 'pairs', 'halves written out', 'pairs written out', 'a part of each head', 'a part of each head in pairs'] as const;

type Form = (typeof FORMS)[number];

/** Of heads of 16 elements, with the same angles for all. */
function rotator(s: Sketch, form: Form, batch: number, rows: number): (heads: number) => ValueId {
  const size = form.startsWith('a part') ? 8 : 16;
  const [cos, sin] = [0, 1].map(() => s.x(batch, 1, rows, form.endsWith('out') ? 8 : size)) as [ValueId, ValueId];
  return (heads) => {
    const x = s.x(batch, heads, rows, 16);
    const dims = [batch, heads, rows, size];
    switch (form) {
      case 'halves': return halves(s, x, 16, cos, sin);
      case 'pairs': return pairs(s, x, dims, cos, sin);
      case 'halves written out': return join(s, ...written(s, [part(s, x, 0, 8), part(s, x, 8, 16)], cos, sin));
      case 'pairs written out': return inTurn(s, dims, written(s, [part(s, x, 0, 16, 2), part(s, x, 1, 16, 2)], cos, sin));
      case 'a part of each head': return join(s, halves(s, part(s, x, 0, 8), 8, cos, sin), part(s, x, 8, 16));
      case 'a part of each head in pairs': return join(s, pairs(s, part(s, x, 0, 8), dims, cos, sin), part(s, x, 8, 16));
      default: return form satisfies never;
    }
  };
}

/** Rotations of 4 heads and of 2, of 16 elements, over 3 rows; both results are scaled by constants. */
export function rotations(form: Form, batch = 1): Graph {
  return sketch((s) => {
    const turn = rotator(s, form, batch, 3);
    return [4, 2].map((heads) => mul(s, turn(heads), s.n(0.5)));
  });
}

/** A token's rotations, and its keys and values selected into caches of 8 rows, each sample's at a row of its own, with zeros behind. */
export function cacheWrites(form: Form, batch = 1): Graph {
  return sketch((s) => {
    const turn = rotator(s, form, batch, 1);
    const heads = s.b.node('Reshape', [turn(2), s.ints(batch, 2, 1, 16)], { allowzero: 0 });
    const place = s.x(batch, 1, 8, 1);
    const [isBefore, isNow] = [s.b.node('Less', [place, s.n(-0.2)], {}), s.b.node('Less', [place, s.n(0.2)], {})];
    const write = (row: ValueId): ValueId => s.b.node('Where', [isBefore, s.x(batch, 2, 8, 16), s.b.node('Where', [isNow, row, s.n(0)], {})], {});
    return [mul(s, turn(4), s.n(0.5)), write(heads), write(s.x(batch, 2, 1, 16))];
  });
}
