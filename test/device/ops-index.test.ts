/** Indexed reads and writes on SwiftShader against loops written here. */
import { describe, expect, it } from 'vitest';
import { type Dims, elementCount, toNumbers } from '../../src/ir/tensor.ts';
import { noDevice } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';
import { counting, floats, ints, type Operand, runOp } from './run-op.ts';

const wrap = (index: number, size: number): number => (index < 0 ? index + size : index);

describe.skipIf(noDevice)('indexed reads and writes (skipped without SwiftShader)', () => {
  const gathers: readonly (readonly [Dims, Dims, number[], number])[] = [
    [[5, 3], [2, 2], [0, -1, 4, 2], 0],
    [[5, 3], [], [2], 1],
    [[2, 3, 4], [3], [-4, 3, 0], -1],
  ];
  it.each(gathers)('Gather %j at %j = %j along %i', async (dims, indexDims, indices, axis) => {
    const [y] = await runOp('Gather', { axis }, [floats(dims, counting(dims, 1)), ints(indexDims, indices)]);
    const along = wrap(axis, dims.length);
    const expected = eachCoordinate([...dims.slice(0, along), ...indexDims, ...dims.slice(along + 1)]).map((c) => {
      const index = indices[broadcastIndex(c.slice(along, along + indexDims.length), indexDims)]!;
      return broadcastIndex([...c.slice(0, along), wrap(index, dims[along]!), ...c.slice(along + indexDims.length)], dims) + 1;
    });
    expect(toNumbers(y!)).toEqual(expected);
  });

  it('Gather reads bools and channels-last images', async () => {
    const [bools] = await runOp('Gather', { axis: 0 }, [{ dtype: 'bool', dims: [4], values: [1, 0, 0, 1] }, ints([3], [3, 1, -4])]);
    expect(toNumbers(bools!)).toEqual([1, 0, 1]);
    const dims = [1, 3, 2, 2];
    const [image] = await runOp('Gather', { axis: 1 }, [floats(dims, counting(dims, 1), { channelsLast: true }), ints([2], [2, 0])]);
    expect(toNumbers(image!)).toEqual([9, 10, 11, 12, 1, 2, 3, 4]);
  });

  it('GatherElements', async () => {
    const indices = [0, -1, 2, 1, 1, 0];
    const [y] = await runOp('GatherElements', { axis: 1 }, [floats([2, 3], counting([2, 3], 1)), ints([2, 3], indices)]);
    expect(toNumbers(y!)).toEqual(indices.map((index, i) => Math.floor(i / 3) * 3 + wrap(index, 3) + 1));
  });

  it('GatherND with and without batch axes', async () => {
    const data = floats([2, 3, 4], counting([2, 3, 4]));
    const [plain] = await runOp('GatherND', { batch_dims: 0 }, [data, ints([2, 2], [1, 2, 0, -1])]);
    expect(toNumbers(plain!)).toEqual([20, 21, 22, 23, 8, 9, 10, 11]);
    const [batched] = await runOp('GatherND', { batch_dims: 1 }, [data, ints([2, 1], [2, 0])]);
    expect(toNumbers(batched!)).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);
  });

  it('OneHot: negative indices count from the end, others beyond the depth are cold', async () => {
    const depth: Operand = { dtype: 'int64', dims: [], values: [3], constant: true };
    const [y] = await runOp('OneHot', { axis: 0 }, [ints([4], [0, -1, 3, 1]), depth, floats([2], [5, 9])]);
    expect(y!.dims).toEqual([3, 4]);
    expect(toNumbers(y!)).toEqual([9, 5, 5, 5, 5, 5, 5, 9, 5, 9, 5, 5]);
  });

  it('ReverseSequence', async () => {
    const [y] = await runOp('ReverseSequence', { batch_axis: 0, time_axis: 1 }, [floats([3, 4], counting([3, 4])), ints([3], [1, 3, 4])]);
    expect(toNumbers(y!)).toEqual([0, 1, 2, 3, 6, 5, 4, 7, 11, 10, 9, 8]);
  });

  it.each([[1, 1], [1, -1], [0, 0], [0, 2]] as const)('Trilu upper %i, k %i', async (upper, k) => {
    const dims = [2, 3, 4];
    const [y] = await runOp('Trilu', { upper }, [ints(dims, counting(dims, 1)), { dtype: 'int64', dims: [], values: [k] }]);
    const expected = eachCoordinate(dims).map((c) => {
      const kept = upper ? c[2]! - c[1]! >= k : c[2]! - c[1]! <= k;
      return kept ? broadcastIndex(c, dims) + 1 : 0;
    });
    expect(toNumbers(y!)).toEqual(expected);
  });

  const join = { none: (_: number, b: number) => b, add: (a: number, b: number) => a + b, mul: (a: number, b: number) => a * b, max: Math.max, min: Math.min } as const;
  const reductions = Object.keys(join) as (keyof typeof join)[];

  it.each(reductions)('ScatterElements, reduction %s', async (reduction) => {
    const [dims, indexDims] = [[4, 3], [3, 2]];
    // Without a reduction, indices must not repeat.
    const indices = reduction === 'none' ? [0, 3, 2, 0, -1, 1] : [0, 3, 0, 3, -1, 1];
    const updates = [10, -2, 7, 4, 3, 5];
    const [y] = await runOp('ScatterElements', { axis: 0, reduction }, [floats(dims, counting(dims, 1)), ints(indexDims, indices), floats(indexDims, updates)]);
    const expected = counting(dims, 1);
    for (const [i, index] of indices.entries()) {
      const target = wrap(index, 4) * 3 + (i % 2);
      expected[target] = join[reduction](expected[target]!, updates[i]!);
    }
    expect(toNumbers(y!)).toEqual(expected);
  });

  it.each(reductions)('ScatterND of int64, reduction %s', async (reduction) => {
    const dims = [3, 2, 2];
    const tuples = reduction === 'none' ? [[2, 1], [0, -1]] : [[2, 1], [2, 1], [0, -1]];
    const updates = counting([tuples.length, 2], 2).map((value) => (value % 2 ? -value : value));
    const operands = [ints(dims, counting(dims, 1)), ints([tuples.length, 2], tuples.flat()), ints([tuples.length, 2], updates)];
    const [y] = await runOp('ScatterND', { reduction }, operands);
    const expected = counting(dims, 1);
    for (const [t, [a, b]] of tuples.entries()) {
      for (const inner of [0, 1]) {
        const target = (wrap(a!, 3) * 2 + wrap(b!, 2)) * 2 + inner;
        expected[target] = join[reduction](expected[target]!, updates[t * 2 + inner]!);
      }
    }
    expect(toNumbers(y!)).toEqual(expected);
  });

  it('ScatterElements wraps uint8 sums as C does', async () => {
    const byte = (dims: Dims, values: readonly number[]): Operand => ({ dtype: 'uint8', dims, values });
    const [y] = await runOp('ScatterElements', { axis: 0, reduction: 'add' }, [byte([2], [200, 1]), ints([2], [0, 0]), byte([2], [100, 50])]);
    expect(toNumbers(y!)).toEqual([(200 + 100 + 50) & 255, 1]);
  });

  it('MaxUnpool puts values where MaxPool found them', async () => {
    const window = { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, 0, 0] };
    const [y] = await runOp('MaxUnpool', window, [floats([1, 1, 2, 2], [1, 2, 3, 4]), ints([1, 1, 2, 2], [5, 7, 13, 15])]);
    const expected = Array.from({ length: 16 }, () => 0);
    for (const [i, place] of [5, 7, 13, 15].entries()) expected[place] = i + 1;
    expect(y!.dims).toEqual([1, 1, 4, 4]);
    expect(toNumbers(y!)).toEqual(expected);
  });

  it('gathers nothing from nothing', async () => {
    const [y] = await runOp('Gather', { axis: 0 }, [floats([3, 2], counting([3, 2])), ints([0], [])]);
    expect(elementCount(y!.dims)).toBe(0);
  });
});
