/** Random networks of rows, as transformers are made of: products, normalizations, sums, picks and concatenations, in any order. */
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { type Dims, elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { seededRandom } from './random.ts';

interface Value {
  readonly id: ValueId;
  readonly dims: Dims;
}

const WIDTHS = [8, 12, 16, 16, 24];

/** A graph of `size` steps that the seed and the widths decide; its outputs are the values that nobody reads, and one that is read. */
export function randomRowGraph(seed: number, size: number, widths: readonly number[] = WIDTHS): Graph {
  const random = seededRandom(Math.imul(seed + 1, 0x9e3779b1));
  for (let i = 0; i < 8; i++) random();
  const below = (limit: number): number => Math.floor(random() * limit);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const builder = newGraphBuilder('rows');
  const read = new Set<ValueId>();
  const constant = (dims: Dims, scale: number, shift = 0): ValueId =>
    builder.constant(fromNumbers('float32', dims, Array.from({ length: elementCount(dims) }, () => (random() * 2 - 1) * scale + shift)));
  const rank = 2 + below(2);
  const first = [...(rank === 3 ? [1 + below(3)] : []), 3 + below(8), pick(widths)];
  const values: Value[] = [{ id: builder.input('x', { dtype: 'float32', dims: first }), dims: first }];
  const node = (op: Parameters<typeof builder.node>[0], inputs: readonly (Value | ValueId)[], attrs: object, dims: Dims): Value => {
    const ids = inputs.map((input) => (typeof input === 'string' ? input : input.id));
    for (const id of ids) read.add(id);
    const value = { id: builder.node(op, ids, attrs as never), dims };
    values.push(value);
    return value;
  };
  const steps: readonly ((x: Value) => void)[] = [
    (x) => {
      const [from, to] = [x.dims.at(-1)!, pick(widths)];
      const dims = [...x.dims.slice(0, -1), to];
      const product = node('MatMul', [x, constant([from, to], 1 / Math.sqrt(from))], {}, dims);
      if (below(3) > 0) node('Add', [product, constant([to], 1)], {}, dims);
    },
    (x) => {
      if (x.dims.length !== 2) return;
      const [from, to] = [x.dims[1]!, pick(widths)];
      node('Gemm', [x, constant([to, from], 1 / Math.sqrt(from)), ...(below(2) ? [constant([to], 1)] : [])], { alpha: pick([1, 0.5]), beta: pick([1, 2]), transA: 0, transB: 1 }, [x.dims[0]!, to]);
    },
    (x) => {
      const width = x.dims.at(-1)!;
      const attrs = { axis: pick([-1, x.dims.length - 1]), epsilon: 1e-3, stash_type: 1 };
      if (below(4) === 0) node('RMSNormalization', [x, constant([width], 0.5, 1)], attrs, x.dims);
      else node('LayerNormalization', [x, constant([width], 0.5, 1), ...(below(3) > 0 ? [constant([width], 0.5)] : [])], attrs, x.dims);
    },
    (x) => void node('Add', [x, pick(values.filter(({ dims }) => dims.join() === x.dims.join()))], {}, x.dims),
    (x) => void node(pick(['Relu', 'Tanh']), [x], {}, x.dims),
    (x) => {
      if (x.dims.length !== 3) return;
      node('Gather', [x, builder.constant(fromNumbers('int64', [], [below(x.dims[1]!)]))], { axis: 1 }, [x.dims[0]!, x.dims[2]!]);
    },
    // Rows below others, which may be constants, and rows made longer.
    (x) => {
      const axis = x.dims.length - 1 - below(2);
      const others = values.filter(({ dims }) => dims.length === x.dims.length && dims.every((dim, at) => at === axis || dim === x.dims[at]));
      const other = below(3) === 0 ? { id: constant(x.dims.with(axis, pick([1, 8])), 1), dims: x.dims.with(axis, 0) } : pick(others);
      const dims = x.dims.with(axis, x.dims[axis]! + builder.type(other.id).dims[axis]!);
      if (elementCount(dims) > 600) return;
      const joined = node('Concat', below(2) ? [x, other] : [other, x], { axis }, dims);
      if (below(2) === 0) node('Add', [joined, constant([1, ...dims.slice(1)], 1)], {}, dims);
    },
  ];
  // Normalizations in front of products are what this is for, and sums with what was normalized.
  const block = (x: Value): void => {
    steps[2]!(x);
    const normalized = values.at(-1)!;
    for (let i = below(3); i >= 0; i--) steps[pick([0, 0, 1])]!(normalized);
    if (below(2) === 0 && values.at(-1)!.dims.join() === normalized.dims.join()) node('Add', [values.at(-1)!, normalized], {}, normalized.dims);
  };
  const often = [0, 0, 1, 2, 3, 3, 4, 5, 6, 6];
  for (let i = 0; i < size; i++) {
    if (below(3) === 0) block(pick(values.slice(-2)));
    else steps[pick(often)]!(pick(values.slice(-5)));
  }
  const made = values.slice(1).map(({ id }) => id);
  const outputs = [...new Set([...made.filter((id) => !read.has(id)), ...(made.length > 0 ? [pick(made)] : [])])];
  if (outputs.length === 0) outputs.push(node('Relu', [values[0]!], {}, first).id);
  return builder.finish(outputs);
}
