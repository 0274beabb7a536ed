/** Rows, normalized or not, that products multiply, with their answers in float64. */
import type { GraphBuilder } from '../../src/ir/build.ts';
import type { Expr } from '../../src/ir/expr.ts';
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { fromNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { createRandom } from '../../src/stats/random.ts';

export interface NormalizedRows {
  readonly op: 'RMSNormalization' | 'LayerNormalization' | 'none';
  readonly rows: number;
  readonly depth: number;
  /** Columns of each product. */
  readonly columns: readonly number[];
  /** Of the weights; undefined: they are floats. */
  readonly bits?: 2 | 4 | 8;
  readonly block?: number;
  readonly zeros?: boolean;
  /** Every product adds a vector. */
  readonly biased?: boolean;
  /** Of two products, the first has silu(its value) ∘ |the second's| · z for a second input z: what remains is y0. */
  readonly gated?: boolean;
}

export interface NormalizedNetwork {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** By output. */
  readonly expected: Readonly<Record<string, readonly number[]>>;
}

const EPSILON = 1e-5;
const operand = (index: number): Expr => ({ kind: 'input', index, dtype: 'float32' });
const accumulator = operand(0);
const binary = (fn: 'add' | 'mul', a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });
const unary = (fn: 'abs' | 'exp' | 'neg' | 'reciprocal', x: Expr): Expr => ({ kind: 'unary', fn, x });
/** silu(x0) · x1 · x2. */
const GATE = binary('mul', binary('mul', accumulator, unary('reciprocal', binary('add', unary('exp', unary('neg', accumulator)), { kind: 'const', value: 1, dtype: 'float32' }))), binary('mul', operand(1), operand(2)));

/** y_i = norm(−x)·w_i + c_i. Numbers are such that halves hold weights, gains and rows. `more` makes another output of the normalized rows, or of the second product where two are gated. */
export function normalizedRows(shape: NormalizedRows, more?: (graph: GraphBuilder, normalized: ValueId) => ValueId): NormalizedNetwork {
  const { op, rows, depth, columns, bits, block = depth, zeros = false, biased = false, gated = false } = shape;
  const random = createRandom(11);
  const draw = (count: number, low: number, high: number): number[] => Array.from({ length: count }, () => Math.floor(low + (high - low) * random.uniform()));
  const eighths = (count: number, low: number, high: number): number[] => draw(count, 8 * low, 8 * high).map((value) => value / 8);
  const b = newGraphBuilder('normalized');
  const vector = (values: readonly number[]): ValueId => b.constant(fromNumbers('float32', [values.length], values));
  // Without a normalization, sums must be such that a gate is neither open nor shut.
  const size = op === 'none' ? 1 / 64 : 1;
  const [x, gains, shifts] = [eighths(rows * depth, -2, 5).map((value) => value * size), eighths(depth, 0, 2), eighths(depth, -1, 1)];
  const centres = op === 'LayerNormalization';
  const source = b.node('Neg', [b.input('x', { dtype: 'float32', dims: [rows, depth] })], {});
  const normalized = op === 'none' ? source : b.node(op, [source, vector(gains), ...(centres ? [vector(shifts)] : [])], { axis: -1, epsilon: EPSILON, stash_type: 1 });
  const reference = Array.from({ length: rows }, (_, row) => {
    const own = x.slice(row * depth, (row + 1) * depth).map((value) => -value);
    if (op === 'none') return own;
    const mean = centres ? own.reduce((sum, value) => sum + value, 0) / depth : 0;
    const scale = 1 / Math.sqrt(own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / depth + EPSILON);
    return own.map((value, k) => (value - mean) * scale * gains[k]! + (centres ? shifts[k]! : 0));
  });
  const products = columns.map((count, i) => {
    const blocks = Math.ceil(depth / block);
    const integers = draw(depth * count, 0, bits ? 2 ** bits : 16);
    const steps = eighths(blocks * count, 1, 4).map((step) => step / (bits ? 2 ** bits : 16));
    // Of two matrices with zero points, one has the same for all.
    const own = zeros && i === 0;
    const points = own ? draw(blocks * count, 0, 2 ** bits!) : Array.from({ length: blocks * count }, () => 3);
    const at = (k: number, column: number): number => Math.floor(k / block) * count + column;
    const weight = (k: number, column: number): number => (integers[k * count + column]! - points[at(k, column)]!) * steps[at(k, column)]!;
    const bias = biased ? eighths(count, -2, 2) : undefined;
    const put = (name: string, epilogue: Expr = accumulator, ...extras: readonly ValueId[]): ValueId => {
      const c = bias ? vector(bias) : '';
      if (!bits) {
        const w = b.constant(fromNumbers('float32', [depth, count], Array.from({ length: depth * count }, (_, n) => weight(Math.floor(n / count), n % count))));
        return b.node('FusedMatMul', [normalized, w, c, ...extras], { alpha: 1, transA: 0, transB: 0, epilogue }, { outputs: [name] });
      }
      const [w, s] = [b.constant(fromNumbers('uint8', [depth, count], integers)), b.constant(fromNumbers('float32', [blocks, count], steps))];
      const zero = own ? b.constant(fromNumbers('uint8', [blocks, count], points)) : '';
      return b.node('WeightOnlyMatMul', [normalized, w, s, zero, c, ...extras], { bits, block_size: block, zeroPoint: 3, alpha: 1, transB: 0, epilogue }, { outputs: [name] });
    };
    const values = reference.flatMap((row) => Array.from({ length: count }, (_, column) => row.reduce((sum, value, k) => sum + value * weight(k, column), bias?.[column] ?? 0)));
    return { name: `y${i}`, put, values };
  });
  const [first, second] = products as [(typeof products)[number], (typeof products)[number]];
  const inputs: Record<string, Tensor> = { x: fromNumbers('float32', [rows, depth], x) };
  if (gated) {
    const z = eighths(rows * columns[0]!, -1, 1);
    inputs['z'] = fromNumbers('float32', [rows, columns[0]!], z);
    first.put('y0', GATE, second.put('y1', unary('abs', accumulator)), b.input('z', { dtype: 'float32', dims: [rows, columns[0]!] }));
    const expected = { y0: first.values.map((value, i) => (value / (1 + Math.exp(-value))) * Math.abs(second.values[i]!) * z[i]!) };
    return { graph: b.finish(['y0', ...(more ? [more(b, 'y1')] : [])]), inputs, expected };
  }
  for (const { name, put } of products) put(name);
  const expected = Object.fromEntries(products.map(({ name, values }) => [name, values]));
  return { graph: b.finish([...Object.keys(expected), ...(more ? [more(b, normalized)] : [])]), inputs, expected };
}
