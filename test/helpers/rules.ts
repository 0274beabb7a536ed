/**
 * Rows of a rewrite-rule test: a graph, and the ops that a pass leaves of it.
 */
import { expect, it } from 'vitest';
import type { GraphBuilder } from '../../src/ir/build.ts';
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { fromNumbers, type DType, type TensorType } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import type { Pass } from '../../src/passes/pass.ts';
import { applyPass } from './passes.ts';
import { seededRandom } from './random.ts';

export const F32 = (...dims: number[]): TensorType => ({ dtype: 'float32', dims });

/** A builder with the short forms that rows use. */
export interface Sketch {
  readonly b: GraphBuilder;
  /** A float32 input. */
  x(...dims: number[]): ValueId;
  /** A scalar constant. */
  n(value: number, dtype?: DType): ValueId;
  /** A constant of this shape with seeded values in [-1, 1). */
  w(...dims: number[]): ValueId;
  /** A constant with seeded values in [0.5, 1.5), fit for variances. */
  positive(...dims: number[]): ValueId;
  /** An int64 vector. */
  ints(...values: number[]): ValueId;
}

/** A graph made by `draw`, which gives its outputs. */
export function sketch(draw: (s: Sketch) => ValueId | readonly ValueId[]): Graph {
  const b = newGraphBuilder('g');
  const random = seededRandom(5);
  let inputs = 0;
  const values = (dims: readonly number[], low: number, high: number): ValueId => {
    const count = dims.reduce((a, d) => a * d, 1);
    return b.constant(fromNumbers('float32', dims, Array.from({ length: count }, () => low + (high - low) * random())));
  };
  const outputs = draw({
    b,
    x: (...dims) => b.input(`x${inputs++ || ''}`, F32(...dims)),
    n: (value, dtype = 'float32') => b.constant(fromNumbers(dtype, [], [value])),
    w: (...dims) => values(dims, -1, 1),
    positive: (...dims) => values(dims, 0.5, 1.5),
    ints: (...list) => b.constant(fromNumbers('int64', [list.length], list)),
  });
  return b.finish(typeof outputs === 'string' ? [outputs] : outputs);
}

/** `[what, graph, ops left, in order]` */
export type Row = readonly [what: string, draw: (s: Sketch) => ValueId | readonly ValueId[], left: string];

/** One test a row: the pass leaves these ops, and the graph computes what it did (onnxruntime says). */
export function testRows(pass: Pass, rows: readonly Row[], target: 'onnx' | 'webgpu' = 'webgpu'): void {
  it.each(rows)('%s', async (_, draw, left) => {
    const { graph } = await applyPass(pass, sketch(draw), target);
    expect(graph.nodes.map((node) => node.op).join(' ')).toBe(left);
  });
}

export const CONV = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
export const POOL = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [2, 2], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
