/** Attention whose heads of queries share keys and values, as PyTorch's exporters write transformers' decoders; and a whole layer around it. */
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import type { DType } from '../../src/ir/tensor.ts';
import { sketch, type Sketch } from './rules.ts';

export interface SharedShape {
  readonly batch: number;
  /** Of queries, and of keys and values. */
  readonly heads: number;
  readonly own: number;
  /** New positions, and those of the cache. */
  readonly rows: number;
  readonly past: number;
  readonly size: number;
}

type Operands = readonly [query: ValueId, key: ValueId, value: ValueId];

/** How attention is written over q [batch, heads, rows, size], and over k and v [batch, own, past + rows, size]. */
type Form = (s: Sketch, operands: Operands, mask: ValueId, shape: SharedShape) => ValueId;

const node = ({ b }: Sketch, op: 'Add' | 'Div' | 'MatMul' | 'Mul', ...inputs: ValueId[]): ValueId => b.node(op, inputs, {});
const transpose = ({ b }: Sketch, id: ValueId, ...perm: number[]): ValueId => b.node('Transpose', [id], { perm });
const reshape = ({ b, ints }: Sketch, id: ValueId, ...dims: number[]): ValueId => b.node('Reshape', [id, ints(...dims)], { allowzero: 0 });
const softmax = ({ b }: Sketch, id: ValueId): ValueId => b.node('Softmax', [id], { axis: -1 });

/** repeat_kv: `axis` is that of the heads. */
function repeat(s: Sketch, id: ValueId, { heads, own }: SharedShape, axis = 1): ValueId {
  const { dims } = s.b.type(id);
  const column = s.b.node('Unsqueeze', [id, s.ints(axis + 1)], {});
  const repeated = s.b.node('Expand', [column, s.ints(...dims.toSpliced(axis, 1, own, heads / own))], {});
  return reshape(s, repeated, ...dims.with(axis, heads));
}

/** softmax(q·k/√d + mask)·v with k given as columns. */
function eager(s: Sketch, query: ValueId, columns: ValueId, value: ValueId, mask: ValueId, size: number): ValueId {
  const scores = node(s, 'Div', node(s, 'MatMul', query, columns), s.n(Math.sqrt(size), s.b.type(query).dtype));
  return node(s, 'MatMul', softmax(s, node(s, 'Add', scores, mask)), value);
}

/** With √scale on both operands, and zeros where a query sees no key. */
function scaledDotProduct(s: Sketch, query: ValueId, columns: ValueId, value: ValueId, mask: ValueId, size: number): ValueId {
  const root = s.n(size ** -0.25, s.b.type(query).dtype);
  const weights = softmax(s, node(s, 'Add', node(s, 'MatMul', node(s, 'Mul', query, root), node(s, 'Mul', columns, root)), mask));
  const zero = s.n(0, s.b.type(query).dtype);
  return node(s, 'MatMul', s.b.node('Where', [s.b.node('IsNaN', [weights], {}), zero, weights], {}), value);
}

/** Forms in which heads are repeated. */
export const REPEATING: Readonly<Record<string, Form>> = {
  'matmul, softmax, matmul': (s, [q, k, v], mask, shape) => eager(s, q, transpose(s, repeat(s, k, shape), 0, 1, 3, 2), repeat(s, v, shape), mask, shape.size),
  'scaled_dot_product_attention of traces': (s, [q, k, v], mask, shape) => scaledDotProduct(s, q, transpose(s, repeat(s, k, shape), 0, 1, 3, 2), repeat(s, v, shape), mask, shape.size),
  'scaled_dot_product_attention of graphs': (s, [q, k, v], mask, shape) => {
    const [repeated, { batch, heads, size }] = [repeat(s, k, shape), shape];
    const { dims } = s.b.type(repeated);
    const flat = transpose(s, reshape(s, repeated, -1, dims[2]!, size), 0, 2, 1);
    return scaledDotProduct(s, q, reshape(s, flat, batch, heads, size, dims[2]!), repeat(s, v, shape), mask, size);
  },
  'keys transposed before they are repeated': (s, [q, k, v], mask, shape) => eager(s, q, repeat(s, transpose(s, k, 0, 1, 3, 2), shape), repeat(s, v, shape), mask, shape.size),
  'repeated before heads come to the front': (s, [q, k, v], mask, shape) => {
    const [keys, values] = [k, v].map((id) => repeat(s, transpose(s, id, 0, 2, 1, 3), shape, 2)) as [ValueId, ValueId];
    return eager(s, q, transpose(s, keys, 0, 2, 3, 1), transpose(s, values, 0, 2, 1, 3), mask, shape.size);
  },
  'batch and heads in one axis': (s, [q, k, v], mask, shape) => {
    const { batch, heads, rows, size } = shape;
    const length = s.b.type(k).dims[2]!;
    const [queries, keys, values] = [reshape(s, q, batch * heads, rows, size), ...[k, v].map((id) => reshape(s, repeat(s, id, shape), batch * heads, length, size))] as [ValueId, ValueId, ValueId];
    const broadcast = s.b.node('Expand', [mask, s.ints(batch, heads, rows, length)], {});
    const mixed = eager(s, queries, transpose(s, keys, 0, 2, 1), values, reshape(s, broadcast, batch * heads, rows, length), size);
    return reshape(s, mixed, batch, heads, rows, size);
  },
  'scores bent by a cap': (s, [q, k, v], mask, shape) => {
    const dtype = s.b.type(q).dtype;
    const scores = node(s, 'Mul', node(s, 'MatMul', q, transpose(s, repeat(s, k, shape), 0, 1, 3, 2)), s.n(shape.size ** -0.5, dtype));
    const bent = node(s, 'Mul', s.b.node('Tanh', [node(s, 'Div', scores, s.n(1.5, dtype))], {}), s.n(1.5, dtype));
    return node(s, 'MatMul', softmax(s, node(s, 'Add', bent, mask)), repeat(s, v, shape));
  },
};

/** Forms in which one head serves all. */
export const ONE_FOR_ALL: Readonly<Record<string, Form>> = {
  'broadcast by the products': (s, [q, k, v], mask, { size }) => eager(s, q, transpose(s, k, 0, 1, 3, 2), v, mask, size),
  'expanded, and nothing else': (s, [q, k, v], mask, { batch, heads, size }) => {
    const [keys, values] = [k, v].map((id) => s.b.node('Expand', [id, s.ints(batch, heads, 1, size)], {})) as [ValueId, ValueId];
    return eager(s, q, transpose(s, keys, 0, 1, 3, 2), values, mask, size);
  },
  ...REPEATING,
};

/**
 * The attention of a layer: projections of rows [batch, rows, heads·size] come by head, keys and values behind those of the cache, which is given out;
 * results leave as rows, through an op that a kernel of attention does not take in. The mask is another for each sample and position.
 */
export function sharedAttention(form: Form, shape: SharedShape, dtype: DType = 'float32'): Graph {
  const { batch, heads, own, rows, past, size } = shape;
  return sketch((s) => {
    const input = (name: string, ...dims: number[]): ValueId => s.b.input(name, { dtype, dims });
    const byHead = (name: string, count: number): ValueId => transpose(s, reshape(s, input(name, batch, rows, count * size), batch, rows, count, size), 0, 2, 1, 3);
    const behind = (name: string, id: ValueId): ValueId => (past === 0 ? id : s.b.node('Concat', [input(name, batch, own, past, size), id], { axis: 2 }));
    const [q, k, v] = [byHead('q', heads), behind('past_k', byHead('k', own)), behind('past_v', byHead('v', own))];
    const mixed = form(s, [q, k, v], input('mask', batch, 1, rows, past + rows), shape);
    const y = s.b.node('Relu', [reshape(s, transpose(s, mixed, 0, 2, 1, 3), batch, rows, heads * size)], {});
    return [y, k, v];
  });
}

/** x·cos + [−x₂, x₁]·sin, over [batch, heads, rows, size]. */
function rotated(s: Sketch, id: ValueId, cos: ValueId, sin: ValueId): ValueId {
  const size = s.b.type(id).dims.at(-1)!;
  const half = (from: number, to: number): ValueId => s.b.node('Slice', [id, s.ints(from), s.ints(to), s.ints(3)], {});
  const turned = s.b.node('Concat', [s.b.node('Neg', [half(size / 2, size)], {}), half(0, size / 2)], { axis: -1 });
  return node(s, 'Add', node(s, 'Mul', id, cos), node(s, 'Mul', turned, sin));
}

/** Falcon's attention of a layer: heads of queries, one of keys and one of values are parts of one projection; heads come to the front before they are rotated. */
export function falconAttention({ batch, heads, rows, past, size }: Omit<SharedShape, 'own'>): Graph {
  return sketch((s) => {
    const width = (heads + 2) * size;
    const projected = node(s, 'MatMul', s.x(batch, rows, 16), s.w(16, width));
    const parts = reshape(s, projected, batch, rows, heads + 2, size);
    const picked = (index: number): ValueId => s.b.node('Gather', [parts, s.ints(index)], { axis: 2 });
    const toFront = (id: ValueId): ValueId => transpose(s, id, 0, 2, 1, 3);
    const [q, k, v] = [s.b.node('Slice', [parts, s.ints(0), s.ints(-2), s.ints(2)], {}), picked(-2), picked(-1)].map(toFront) as [ValueId, ValueId, ValueId];
    const [cos, sin] = [s.x(batch, 1, rows, size), s.x(batch, 1, rows, size)];
    const behind = (id: ValueId): ValueId => s.b.node('Concat', [s.x(batch, 1, past, size), id], { axis: 2 });
    const [keys, values] = [behind(rotated(s, k, cos, sin)), behind(v)];
    const mixed = eager(s, rotated(s, q, cos, sin), transpose(s, keys, 0, 1, 3, 2), values, s.x(batch, 1, rows, past + rows), size);
    const y = s.b.node('Relu', [reshape(s, transpose(s, mixed, 0, 2, 1, 3), batch, rows, heads * size)], {});
    return [y, keys, values];
  });
}
