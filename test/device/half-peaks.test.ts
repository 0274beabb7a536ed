/** Builds in halves find peaks as builds in f32 do: a maximum equals the element that it is, on SwiftShader against float64. */
import { describe, expect, it } from 'vitest';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { ValueId } from '../../src/ir/graph.ts';
import { elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice, noise, runGraph } from './helpers.ts';
import { eachCoordinate } from './references.ts';

type Builder = ReturnType<typeof newGraphBuilder>;

const dims = [1, 8, 6, 7] as const;
const pool = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [3, 3], pads: [1, 1, 1, 1], storage_order: 0, strides: [1, 1] } as const;
const all = elementCount(dims);
// Neighbours in no order, so far apart that no two are one half.
const x = Array.from({ length: all }, (_, i) => ((i * 37) % all) / 100 + noise(all)[i]! / 1000);
const near = ([, , h, w]: readonly number[], [, , y, z]: readonly number[]): boolean => Math.abs(h! - y!) <= 1 && Math.abs(w! - z!) <= 1;
const KINDS: readonly (readonly [string, (graph: Builder, scores: ValueId) => ValueId, (at: readonly number[], other: readonly number[]) => boolean])[] = [
  ['MaxPool', (graph, scores) => graph.node('MaxPool', [scores], pool), (at, other) => at[1] === other[1] && near(at, other)],
  ['GlobalMaxPool', (graph, scores) => graph.node('GlobalMaxPool', [scores], {}), (at, other) => at[1] === other[1]],
  ['ReduceMax', (graph, scores) => graph.node('ReduceMax', [scores, graph.constant(fromNumbers('int64', [1], [1]))], { keepdims: 1, noop_with_empty_axes: 0 }), (at, other) => at[2] === other[2] && at[3] === other[3]],
];

describe.skipIf(noDevice)('peaks in halves (skipped without SwiftShader)', () => {
  it.each(KINDS)('%s', async (_, maximum, together) => {
    const graph = newGraphBuilder('peaks');
    graph.input('x', { dtype: 'float32', dims });
    // A pool of one pixel leaves the scores in f32, channels last.
    const scores = graph.node('MaxPool', [graph.node('Sigmoid', ['x'], {})], { ...pool, kernel_shape: [1, 1], pads: [0, 0, 0, 0] });
    const peaks = graph.node('Equal', [maximum(graph, scores), scores], {});
    const y = graph.node('Cast', [peaks], { to: 'float32', saturate: 1 }, { outputs: ['y'] });
    const { y: actual } = await runGraph(graph.finish([y]), { x: fromNumbers('float32', dims, x) }, PORTABLE_PROFILE, { half: true });
    const places = eachCoordinate(dims);
    const expected = places.map((at, i) => Number(places.every((other, j) => !together(at, other) || x[j]! <= x[i]!)));
    expect(toNumbers(actual!)).toEqual(expected);
  });
});
