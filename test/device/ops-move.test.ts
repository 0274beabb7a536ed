/** Ops that move elements, on SwiftShader against index arithmetic written here. */
import { describe, expect, it } from 'vitest';
import { type Dims, elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice, runGraph } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';
import { counting, floats, ints, known, type Operand, runOp } from './run-op.ts';

const at = (coordinates: readonly number[], dims: Dims): number => broadcastIndex(coordinates, dims);

/** The values that `from` picks for every coordinate of `dims`, out of 1, 2, 3 … */
function picked(dims: Dims, source: Dims, from: (c: readonly number[]) => readonly number[]): number[] {
  return eachCoordinate(dims).map((c) => at(from(c), source) + 1);
}

/** An image as it lies after a convolution, with channels that do not fill whole vectors. */
const image = (dims: Dims): Operand => floats(dims, counting(dims, 1), { channelsLast: true });

describe.skipIf(noDevice)('ops that move elements (skipped without SwiftShader)', () => {
  const slices: readonly (readonly [Dims, number[], number[], number[], number[], Dims])[] = [
    [[5, 6], [1, 0], [4, 6], [0, 1], [2, 3], [2, 2]],
    [[5, 6], [-1, 4], [-6, 1], [0, 1], [-2, -1], [3, 3]],
    [[4, 8], [0], [2 ** 62], [1], [1], [4, 8]],
    [[3, 4], [3], [-100], [-1], [-3], [3, 2]],
  ];
  it.each(slices)('Slice %j from %j to %j along %j by %j', async (dims, starts, ends, axes, steps, out) => {
    const operands = [floats(dims, counting(dims, 1)), known(...starts), known(...ends), known(...axes), known(...steps)];
    const [y] = await runOp('Slice', {}, operands);
    const begin = dims.map(() => 0);
    const step = dims.map(() => 1);
    for (const [i, axis] of axes.entries()) {
      const a = (axis + dims.length) % dims.length;
      step[a] = steps[i]!;
      begin[a] = starts[i]! < 0 ? starts[i]! + dims[a]! : Math.min(starts[i]!, dims[a]! - 1);
    }
    expect(y!.dims).toEqual(out);
    expect(toNumbers(y!)).toEqual(picked(out, dims, (c) => c.map((p, axis) => begin[axis]! + p * step[axis]!)));
  });

  it.each([1, 2])('slices channels-last images along axis %i', async (axis) => {
    const dims = [2, 7, 5, 3];
    const [y] = await runOp('Slice', {}, [image(dims), known(1), known(4), known(axis)]);
    const out = dims.map((dim, a) => (a === axis ? 3 : dim));
    expect(toNumbers(y!)).toEqual(picked(out, dims, (c) => c.map((p, a) => (a === axis ? p + 1 : p))));
  });

  const joins: readonly (readonly [readonly Dims[], number, boolean])[] = [
    [[[2, 3], [2, 1], [2, 4]], 1, false],
    [[[2, 3], [1, 3]], -2, false],
    [[[1, 4, 3, 2], [1, 8, 3, 2]], 1, true],
    [[[2, 3, 2, 2], [2, 5, 2, 2], [2, 1, 2, 2]], 1, true],
    [[[1, 5, 2, 3], [1, 5, 4, 3]], 2, true],
  ];
  it.each(joins)('Concat %j along %i, channels-last %j', async (shapes, axis, channelsLast) => {
    const parts = shapes.map((dims, i) => counting(dims, 100 * i));
    const [y] = await runOp('Concat', { axis }, shapes.map((dims, i) => floats(dims, parts[i]!, { channelsLast })));
    const along = (axis + shapes[0]!.length) % shapes[0]!.length;
    const expected = eachCoordinate(y!.dims).map((c) => {
      let [part, place] = [0, c[along]!];
      while (place >= shapes[part]![along]!) place -= shapes[part++]![along]!;
      return parts[part]![at(c.map((p, a) => (a === along ? place : p)), shapes[part]!)];
    });
    expect(toNumbers(y!)).toEqual(expected);
  });

  it.each([false, true])('Split into uneven parts, channels-last %j', async (channelsLast) => {
    const dims = [2, 9, 2, 3];
    const parts = await runOp('Split', { axis: 1, num_outputs: undefined }, [floats(dims, counting(dims, 1), { channelsLast }), known(3, 4, 2)], 3);
    let start = 0;
    for (const [i, size] of [3, 4, 2].entries()) {
      const first = start;
      const out = [2, size, 2, 3];
      expect(toNumbers(parts[i]!)).toEqual(picked(out, dims, ([n, c, ...rest]) => [n!, c! + first, ...rest]));
      start += size;
    }
  });

  it('Expand adds and widens axes', async () => {
    const [y] = await runOp('Expand', {}, [floats([3, 1], [1, 2, 3]), known(2, 1, 4)]);
    expect(y!.dims).toEqual([2, 3, 4]);
    expect(toNumbers(y!)).toEqual(picked([2, 3, 4], [3, 1], ([, row]) => [row!, 0]));
  });

  it('Tile repeats every axis', async () => {
    const [y] = await runOp('Tile', {}, [ints([2, 3], counting([2, 3], 1)), known(2, 3)]);
    expect(y!.dims).toEqual([4, 9]);
    expect(toNumbers(y!)).toEqual(picked([4, 9], [2, 3], ([row, column]) => [row! % 2, column! % 3]));
  });

  const blocks = [['DCR', false], ['CRD', false], ['DCR', true], ['CRD', true]] as const;
  it.each(blocks)('DepthToSpace %s, channels-last %j', async (mode, channelsLast) => {
    const dims = [2, 12, 2, 3];
    const [y] = await runOp('DepthToSpace', { blocksize: 2, mode }, [floats(dims, counting(dims, 1), { channelsLast })]);
    expect(y!.dims).toEqual([2, 3, 4, 6]);
    const expected = picked([2, 3, 4, 6], dims, ([n, c, row, column]) => {
      const inner = (row! % 2) * 2 + (column! % 2);
      return [n!, mode === 'DCR' ? inner * 3 + c! : c! * 4 + inner, Math.floor(row! / 2), Math.floor(column! / 2)];
    });
    expect(toNumbers(y!)).toEqual(expected);
  });

  it.each([[3, false], [3, true], [4, true]] as const)('SpaceToDepth of %i channels, channels-last %j', async (channels, channelsLast) => {
    const dims = [1, channels, 4, 6];
    const [y] = await runOp('SpaceToDepth', { blocksize: 2 }, [floats(dims, counting(dims, 1), { channelsLast })]);
    const out = [1, channels * 4, 2, 3];
    expect(y!.dims).toEqual(out);
    const expected = picked(out, dims, ([n, c, row, column]) => {
      const inner = Math.floor(c! / channels);
      return [n!, c! % channels, row! * 2 + Math.floor(inner / 2), column! * 2 + (inner % 2)];
    });
    expect(toNumbers(y!)).toEqual(expected);
  });

  it('keeps padding lanes zero, so that what sums over channels stays right', async () => {
    const dims = [1, 3, 2, 2];
    const graph = newGraphBuilder('lanes');
    graph.input('x', { dtype: 'float32', dims });
    const unit = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
    const w = graph.constant(fromNumbers('float32', [3, 3, 1, 1], [1, 0, 0, 0, 1, 0, 0, 0, 1]));
    const copies = [1, 2, 3].map(() => graph.node('Conv', ['x', w], unit));
    const joined = graph.node('Concat', copies, { axis: 1 });
    const axes = graph.constant(fromNumbers('int64', [1], [1]));
    const y = graph.node('ReduceSum', [joined, axes], { keepdims: 0, noop_with_empty_axes: 0 }, { outputs: ['y'] });
    const x = counting(dims, 1);
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', dims, x) });
    const pixels = [0, 1, 2, 3].map((p) => 3 * (x[p]! + x[4 + p]! + x[8 + p]!));
    expect(toNumbers(outputs['y']!)).toEqual(pixels);
  });

  it('Shape, Size and ConstantOfShape are known at build', async () => {
    const x = floats([2, 3, 4], counting([2, 3, 4]));
    expect(toNumbers((await runOp('Shape', { start: -2, end: undefined }, [x]))[0]!)).toEqual([3, 4]);
    expect(toNumbers((await runOp('Size', {}, [x]))[0]!)).toEqual([24]);
    const [filled] = await runOp('ConstantOfShape', { value: { dtype: 'int32', value: -7 } }, [known(2, 3)]);
    expect(filled!.dims).toEqual([2, 3]);
    expect(toNumbers(filled!)).toEqual([-7, -7, -7, -7, -7, -7]);
    expect(elementCount((await runOp('ConstantOfShape', { value: { dtype: 'float32', value: 0 } }, [known(0, 3)]))[0]!.dims)).toBe(0);
  });

  it('Range, EyeLike and NonZero', async () => {
    const scalar = (value: number): Operand => ({ dtype: 'int64', dims: [], values: [value], constant: true });
    expect(toNumbers((await runOp('Range', {}, [scalar(10), scalar(2), scalar(-3)]))[0]!)).toEqual([10, 7, 4]);
    const [eye] = await runOp('EyeLike', { dtype: 'int32', k: -1 }, [floats([3, 4], counting([3, 4]))]);
    expect(toNumbers(eye!)).toEqual([0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
    const [found] = await runOp('NonZero', {}, [floats([2, 3], [0, 5, 0, 1, 0, 2], { constant: true })]);
    expect(toNumbers(found!)).toEqual([0, 1, 1, 1, 0, 2]);
  });
});
