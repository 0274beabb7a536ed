/** Normalized rows that products multiply, with their answers in float64. */
import type { GraphBuilder } from '../../src/ir/build.ts';
import type { Expr } from '../../src/ir/expr.ts';
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { fromNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { createRandom } from '../../src/stats/random.ts';

export interface NormalizedRows {
  readonly op: 'RMSNormalization' | 'LayerNormalization';
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
}

export interface NormalizedNetwork {
  readonly graph: Graph;
  readonly x: Tensor;
  /** By output. */
  readonly expected: Readonly<Record<string, readonly number[]>>;
}

const EPSILON = 1e-5;
const accumulator: Expr = { kind: 'input', index: 0, dtype: 'float32' };

/** y_i = norm(−x)·w_i + c_i. Numbers are such that halves hold weights, gains and rows. */
export function normalizedRows(shape: NormalizedRows, more?: (graph: GraphBuilder, normalized: ValueId) => ValueId): NormalizedNetwork {
  const { op, rows, depth, columns, bits, block = depth, zeros = false, biased = false } = shape;
  const random = createRandom(11);
  const draw = (count: number, low: number, high: number): number[] => Array.from({ length: count }, () => Math.floor(low + (high - low) * random.uniform()));
  const eighths = (count: number, low: number, high: number): number[] => draw(count, 8 * low, 8 * high).map((value) => value / 8);
  const b = newGraphBuilder('normalized');
  const vector = (values: readonly number[]): ValueId => b.constant(fromNumbers('float32', [values.length], values));
  const [x, gains, shifts] = [eighths(rows * depth, -2, 5), eighths(depth, 0, 2), eighths(depth, -1, 1)];
  const centres = op === 'LayerNormalization';
  const source = b.node('Neg', [b.input('x', { dtype: 'float32', dims: [rows, depth] })], {});
  const normalized = b.node(op, [source, vector(gains), ...(centres ? [vector(shifts)] : [])], { axis: -1, epsilon: EPSILON, stash_type: 1 });
  const reference = Array.from({ length: rows }, (_, row) => {
    const own = x.slice(row * depth, (row + 1) * depth).map((value) => -value);
    const mean = centres ? own.reduce((sum, value) => sum + value, 0) / depth : 0;
    const scale = 1 / Math.sqrt(own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / depth + EPSILON);
    return own.map((value, k) => (value - mean) * scale * gains[k]! + (centres ? shifts[k]! : 0));
  });
  const expected: Record<string, number[]> = {};
  for (const [i, count] of columns.entries()) {
    const blocks = Math.ceil(depth / block);
    const integers = draw(depth * count, 0, bits ? 2 ** bits : 16);
    const steps = eighths(blocks * count, 1, 4).map((step) => step / (bits ? 2 ** bits : 16));
    const points = zeros ? draw(blocks * count, 0, 2 ** bits!) : Array.from({ length: blocks * count }, () => 3);
    const at = (k: number, column: number): number => Math.floor(k / block) * count + column;
    const weight = (k: number, column: number): number => (integers[k * count + column]! - points[at(k, column)]!) * steps[at(k, column)]!;
    const bias = biased ? eighths(count, -2, 2) : undefined;
    const name = `y${i}`;
    const c = bias ? vector(bias) : '';
    if (bits) {
      const [w, s] = [b.constant(fromNumbers('uint8', [depth, count], integers)), b.constant(fromNumbers('float32', [blocks, count], steps))];
      const zero = zeros ? b.constant(fromNumbers('uint8', [blocks, count], points)) : '';
      b.node('WeightOnlyMatMul', [normalized, w, s, zero, c], { bits, block_size: block, zeroPoint: 3, alpha: 1, transB: 0, epilogue: accumulator }, { outputs: [name] });
    } else {
      const w = b.constant(fromNumbers('float32', [depth, count], Array.from({ length: depth * count }, (_, n) => weight(Math.floor(n / count), n % count))));
      b.node('FusedMatMul', [normalized, w, c], { alpha: 1, transA: 0, transB: 0, epilogue: accumulator }, { outputs: [name] });
    }
    expected[name] = reference.flatMap((row) => Array.from({ length: count }, (_, column) => row.reduce((sum, value, k) => sum + value * weight(k, column), bias?.[column] ?? 0)));
  }
  const outputs = [...Object.keys(expected), ...(more ? [more(b, normalized)] : [])];
  return { graph: b.finish(outputs), x: fromNumbers('float32', [rows, depth], x), expected };
}
