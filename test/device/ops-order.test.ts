/** Ops that compare or add up along an axis, and reductions in their general form, on SwiftShader against loops written here. */
import { describe, expect, it } from 'vitest';
import { type Dims, elementCount, toNumbers } from '../../src/ir/tensor.ts';
import { distance, noDevice, noise } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';
import { counting, floats, ints, known, type Operand, oracle, runOp } from './run-op.ts';

/** The values along an axis, for every coordinate of the other axes. */
function rowsAlong(values: ArrayLike<number>, dims: Dims, axis: number): number[][] {
  const others = dims.map((dim, a) => (a === axis ? 1 : dim));
  return eachCoordinate(others).map((c) =>
    Array.from({ length: dims[axis]! }, (_, k) => values[broadcastIndex(c.map((p, a) => (a === axis ? k : p)), dims)]!),
  );
}

const TIES = [3, 1, 3, 0, 1, -1, 2, 2, 2, 5, -5, 5];

describe.skipIf(noDevice)('ops along an axis (skipped without SwiftShader)', () => {
  const choices = [['ArgMax', 1, 0], ['ArgMax', 0, 1], ['ArgMin', 1, 1], ['ArgMin', 0, 0]] as const;
  it.each(choices)('%s keepdims %i, last among equals %i', async (op, keepdims, last) => {
    const dims = [3, 4];
    const [y] = await runOp(op, { axis: -1, keepdims, select_last_index: last }, [floats(dims, TIES)]);
    const expected = rowsAlong(TIES, dims, 1).map((row) => {
      const best = op === 'ArgMax' ? Math.max(...row) : Math.min(...row);
      return last ? row.lastIndexOf(best) : row.indexOf(best);
    });
    expect(y!.dims).toEqual(keepdims ? [3, 1] : [3]);
    expect(toNumbers(y!)).toEqual(expected);
  });

  it('ArgMax over the channels of a channels-last image', async () => {
    const dims = [1, 5, 2, 3];
    const x = noise(30, 4);
    const [y] = await runOp('ArgMax', { axis: 1, keepdims: 0, select_last_index: 0 }, [floats(dims, x, { channelsLast: true })]);
    expect(toNumbers(y!)).toEqual(rowsAlong(x, dims, 1).map((row) => row.indexOf(Math.max(...row))));
  });

  it('Hardmax marks the first of the largest', async () => {
    const [y] = await runOp('Hardmax', { axis: 0 }, [floats([3, 4], TIES)]);
    const columns = rowsAlong(TIES, [3, 4], 0).map((column) => column.indexOf(Math.max(...column)));
    expect(toNumbers(y!)).toEqual(eachCoordinate([3, 4]).map(([row, column]) => (columns[column!] === row ? 1 : 0)));
  });

  it.each([[1, 0], [1, 1], [0, 1]] as const)('TopK largest %i along axis %i: in order, first among equals first', async (largest, axis) => {
    const dims = [3, 4];
    const [values, indices] = await runOp('TopK', { axis, largest, sorted: 1 }, [floats(dims, TIES), known(2)], 2);
    const ranked = rowsAlong(TIES, dims, axis).map((row) =>
      row.map((value, index) => ({ value, index })).sort((a, b) => (largest ? b.value - a.value : a.value - b.value) || a.index - b.index),
    );
    const out = dims.map((dim, a) => (a === axis ? 2 : dim));
    const picked = eachCoordinate(out).map((c) => ranked[c[1 - axis]!]![c[axis]!]!);
    expect(values!.dims).toEqual(out);
    expect(toNumbers(values!)).toEqual(picked.map(({ value }) => value));
    expect(toNumbers(indices!)).toEqual(picked.map(({ index }) => index));
  });

  it.each([[1, 1, 3], [0, 0, 3], [1, 1, 200]] as const)('TopK largest %i along axis %i of a long one: %i of it, in passes', async (largest, axis, k) => {
    const dims = axis === 1 ? [2, 2600] : [2600, 2];
    // Few values, so that equals lie within a chunk and across chunks; the last chunk has fewer than are kept.
    const x = Array.from(noise(5200, 11), (v) => Math.trunc(v * 40) / 8);
    const [values, indices] = await runOp('TopK', { axis, largest, sorted: 1 }, [floats(dims, x), known(k)], 2);
    const ranked = rowsAlong(x, dims, axis).map((row) =>
      row.map((value, index) => ({ value: value + 0, index })).sort((a, b) => (largest ? b.value - a.value : a.value - b.value) || a.index - b.index),
    );
    const out = dims.map((dim, a) => (a === axis ? k : dim));
    const picked = eachCoordinate(out).map((c) => ranked[c[1 - axis]!]![c[axis]!]!);
    expect(toNumbers(indices!)).toEqual(picked.map(({ index }) => index));
    expect(toNumbers(values!).map((value) => value + 0)).toEqual(picked.map(({ value }) => value));
  });

  it('TopK puts infinities where they belong and takes −0 for 0', async () => {
    const x = [0, Number.NEGATIVE_INFINITY, -0, Number.POSITIVE_INFINITY, -1];
    const [, indices] = await runOp('TopK', { axis: 0, largest: 1, sorted: 1 }, [floats([5], x), known(5)], 2);
    expect(toNumbers(indices!)).toEqual([3, 0, 2, 4, 1]);
  });

  const sums = [[0, 0, true], [1, 0, true], [0, 1, false], [1, 1, false]] as const;
  it.each(sums)('CumSum exclusive %i, reverse %i, axis known at build %j', async (exclusive, reverse, constant) => {
    const dims = [2, 4, 3];
    const x = counting(dims, -5);
    const axis: Operand = { dtype: 'int32', dims: [], values: [-2], constant };
    const [y] = await runOp('CumSum', { exclusive, reverse }, [ints(dims, x), axis]);
    const expected = eachCoordinate(dims).map((c) => {
      const inside = (k: number): boolean => (reverse ? k > c[1]! : k < c[1]!) || (k === c[1] && !exclusive);
      return [0, 1, 2, 3].filter(inside).reduce((sum, k) => sum + x[broadcastIndex([c[0]!, k, c[2]!], dims)]!, 0);
    });
    expect(toNumbers(y!)).toEqual(expected);
  });

  it.each([[0, 0], [1, 0], [0, 1], [1, 1]] as const)('CumSum along an axis of more elements than chunks, exclusive %i, reverse %i', async (exclusive, reverse) => {
    const dims = [2, 1003];
    const x = Array.from(noise(2006, 9), (v) => Math.trunc(v * 1000));
    const [y] = await runOp('CumSum', { exclusive, reverse }, [ints(dims, x), { dtype: 'int64', dims: [], values: [1], constant: true }]);
    const expected = rowsAlong(x, dims, 1).flatMap((row) => {
      const order = reverse ? row.toReversed() : row;
      let total = 0;
      const sums = order.map((value) => (exclusive ? (total += value) - value : (total += value)));
      return reverse ? sums.toReversed() : sums;
    });
    expect(toNumbers(y!)).toEqual(expected.map((value) => value + 0));
  });

  it('reduces bools and narrow integers, wrapping as C does', async () => {
    const bools: Operand = { dtype: 'bool', dims: [2, 3], values: [1, 0, 1, 1, 1, 1] };
    const attrs = { keepdims: 0, noop_with_empty_axes: 0 } as const;
    expect(toNumbers((await runOp('ReduceMin', attrs, [bools, known(1)]))[0]!)).toEqual([0, 1]);
    expect(toNumbers((await runOp('ReduceMax', attrs, [bools, known(0)]))[0]!)).toEqual([1, 1, 1]);
    const bytes: Operand = { dtype: 'int8', dims: [3], values: [100, 27, 3] };
    expect(toNumbers((await runOp('ReduceSum', { ...attrs, keepdims: 1 }, [bytes]))[0]!)).toEqual([130 - 256]);
  });

  it.each(['ReduceL1', 'ReduceSumSquare', 'ReduceMean', 'ReduceLogSumExp'] as const)('%s over no axes takes every element for itself', async (op) => {
    const attrs = { keepdims: 1, noop_with_empty_axes: 1 } as const;
    const x = floats([1, 3, 2, 2], noise(12, 3), { channelsLast: true });
    const [expected] = await oracle(op, attrs, [x]);
    expect(distance((await runOp(op, attrs, [x]))[0]!, expected!)).toBeLessThan(1);
  });

  it('reduces nothing to the neutral element', async () => {
    const empty = floats([2, 0], []);
    const attrs = { keepdims: 0, noop_with_empty_axes: 0 } as const;
    expect(toNumbers((await runOp('ReduceSum', attrs, [empty, known(1)]))[0]!)).toEqual([0, 0]);
    expect(toNumbers((await runOp('ReduceProd', attrs, [empty, known(1)]))[0]!)).toEqual([1, 1]);
    expect(toNumbers((await runOp('ReduceMax', attrs, [empty, known(1)]))[0]!)).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  });

  // ONNX: infinities, or the least and largest value of a type that has none.
  it.each([['bool', 0, 1], ['int8', -128, 127], ['uint8', 0, 255], ['int32', -(2 ** 31), 2 ** 31 - 1]] as const)('reduces no %s to the least or largest', async (dtype, least, largest) => {
    const attrs = { keepdims: 0, noop_with_empty_axes: 0 } as const;
    const empty: Operand = { dtype, dims: [2, 0], values: [] };
    expect(toNumbers((await runOp('ReduceMax', attrs, [empty, known(1)]))[0]!)).toEqual([least, least]);
    expect(toNumbers((await runOp('ReduceMin', attrs, [empty, known(1)]))[0]!)).toEqual([largest, largest]);
  });

  it.each([0, 1] as const)('MaxPool with indices, storage order %i', async (order) => {
    const dims = [1, 2, 4, 5];
    const x = noise(elementCount(dims), 8);
    const attrs = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [2, 3], pads: [1, 0, 0, 1], strides: [2, 1], storage_order: order } as const;
    const [values, indices] = await runOp('MaxPool', attrs, [floats(dims, x)], 2);
    const [wantedValues, wantedIndices] = await oracle('MaxPool', attrs, [floats(dims, x)], 2);
    expect(toNumbers(values!)).toEqual(wantedValues);
    expect(toNumbers(indices!)).toEqual(wantedIndices);
  });

  it('MaxPool of uint8', async () => {
    const attrs = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1], kernel_shape: [2], pads: [1, 0], strides: [1], storage_order: 0 } as const;
    const [y] = await runOp('MaxPool', attrs, [{ dtype: 'uint8', dims: [1, 1, 4], values: [7, 255, 0, 3] }]);
    expect(toNumbers(y!)).toEqual([7, 255, 255, 3]);
  });

  it('LayerNormalization gives mean and inverse deviation too', async () => {
    const dims = [3, 8];
    const x = noise(24, 5);
    const operands = [floats(dims, x), floats([8], noise(8, 6)), floats([8], noise(8, 7))];
    const outputs = await runOp('LayerNormalization', { axis: -1, epsilon: 1e-5, stash_type: 1 }, operands, 3);
    const rows = rowsAlong(x, dims, 1);
    const means = rows.map((row) => row.reduce((a, b) => a + b) / 8);
    const inverses = rows.map((row, i) => 1 / Math.sqrt(row.reduce((sum, v) => sum + (v - means[i]!) ** 2, 0) / 8 + 1e-5));
    const y = eachCoordinate(dims).map(([row, k]) => (rows[row!]![k!]! - means[row!]!) * inverses[row!]! * operands[1]!.values[k!]! + operands[2]!.values[k!]!);
    for (const [i, expected] of [y, means, inverses].entries()) expect(distance(outputs[i]!, expected)).toBeLessThan(1);
  });
});
