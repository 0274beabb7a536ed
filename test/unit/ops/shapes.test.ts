/**
 * Shape rules against brute-force oracles: what NumPy or a window walked by hand would give.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { elementCount } from '../../../src/ir/tensor.ts';
import { ShapeError } from '../../../src/ops/def.ts';
import { parseEinsum } from '../../../src/ops/einsum.ts';
import { matMulDims } from '../../../src/ops/matmul.ts';
import { reshapeDims } from '../../../src/ops/reshape.ts';
import { broadcast, broadcastsTo, broadcastTwo, normalizeAxes, normalizeAxis } from '../../../src/ops/shapes.ts';
import { sliceAxis } from '../../../src/ops/slice.ts';
import { resolveAutoPad, transposedSizes, windowCounts } from '../../../src/ops/window.ts';

const SEED = { seed: 7, numRuns: 300 };
const dims = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });

describe('broadcasting', () => {
  it('is commutative, associative where it holds, and has scalars as its unit', () => {
    fc.assert(
      fc.property(dims, dims, dims, (a, b, c) => {
        expect(broadcastTwo(a, b)).toEqual(broadcastTwo(b, a));
        expect(broadcastTwo(a, [])).toEqual(a);
        const [ab, bc] = [broadcastTwo(a, b), broadcastTwo(b, c)];
        fc.pre(ab !== undefined && bc !== undefined);
        expect(broadcastTwo(ab, c)).toEqual(broadcastTwo(a, bc));
      }),
      SEED,
    );
  });

  it('gives a shape that every operand repeats into, axis by axis', () => {
    fc.assert(
      fc.property(dims, dims, (a, b) => {
        const result = broadcastTwo(a, b);
        const pairs = Array.from({ length: Math.max(a.length, b.length) }, (_, i) => [a.at(-1 - i) ?? 1, b.at(-1 - i) ?? 1] as const);
        const fits = pairs.every(([x, y]) => x === y || x === 1 || y === 1);
        expect(result).toEqual(fits ? pairs.map(([x, y]) => (x === 1 ? y : x)).reverse() : undefined);
        expect(broadcastsTo(a, b)).toBe(fits && result!.join() === b.join());
      }),
      SEED,
    );
  });

  it('names the shapes that do not fit', () => {
    expect(() => broadcast([2, 3], [4], [1])).toThrow('shapes [2,3] and [4] and [1] do not broadcast');
  });
});

describe('axes', () => {
  it('counts negative axes from the end', () => {
    expect(normalizeAxis(-1, 3)).toBe(2);
    expect(normalizeAxes([-1, 0], 3)).toEqual([2, 0]);
  });

  it('refuses what is outside, and an axis named twice', () => {
    expect(() => normalizeAxis(3, 3)).toThrow('axis 3 is outside [-3, 2] for rank 3');
    expect(() => normalizeAxes([-1, 2], 3)).toThrow('axes [-1,2] name an axis twice');
  });
});

/** The result, or undefined where the shapes are refused; any other error is a bug. */
function attempt<T>(fn: () => T): T | undefined {
  try {
    return fn();
  } catch (error) {
    if (error instanceof ShapeError) return undefined;
    throw error;
  }
}

describe('Reshape', () => {
  it('keeps the number of elements whatever the target', () => {
    const target = fc.array(fc.integer({ min: -1, max: 6 }), { maxLength: 4 });
    fc.assert(
      fc.property(dims, target, fc.boolean(), (from, to, allowzero) => {
        const result = attempt(() => reshapeDims(from, to, allowzero));
        fc.pre(result !== undefined);
        expect(elementCount(result)).toBe(elementCount(from));
        expect(to.map((dim, axis) => (dim > 0 ? dim : result[axis]))).toEqual(result);
      }),
      SEED,
    );
  });

  it.each([
    [[2, 3, 4], [0, -1], false, [2, 12]],
    [[2, 3, 4], [-1], false, [24]],
    [[0, 3], [3, 0], true, [3, 0]],
    [[0, 3], [0, -1], false, [0, 0]],
    [[], [1, 1], false, [1, 1]],
  ])('%j to %j with allowzero %s is %j', (from, to, allowzero, expected) => {
    expect(reshapeDims(from, to, allowzero)).toEqual(expected);
  });

  it.each([
    [[2, 3], [4, -1], 'cannot reshape [2,3] to [4,-1]: 6 elements do not fit'],
    [[2, 3], [-1, -1], 'cannot reshape [2,3] to [-1,-1]: more than one -1'],
    [[2, 3], [2, 3, 0], 'cannot reshape [2,3] to [2,3,0]: 0 copies axis 2, which the input lacks'],
    [[2, 3], [-2], 'cannot reshape [2,3] to [-2]: -2 is not a dimension'],
  ])('%j to %j fails', (from, to, message) => {
    expect(() => reshapeDims(from, to, false)).toThrow(message);
  });
});

/**
 * Indices that a slice visits, walked one by one. ONNX differs from NumPy in one corner: a backward slice that starts
 * before the first element starts at it.
 */
function walkSlice(size: number, start: number, end: number, step: number): number[] {
  const wrap = (index: number): number => (index < 0 ? index + size : index);
  const [from, to] = [Math.max(0, wrap(start)), wrap(end)];
  const visited: number[] = [];
  if (step > 0) for (let i = from; i < Math.min(size, to); i += step) visited.push(i);
  else for (let i = Math.min(size - 1, from); i > Math.max(-1, to); i += step) visited.push(i);
  return visited;
}

it('Slice visits what a walk visits', () => {
  const bound = fc.integer({ min: -8, max: 8 });
  const step = fc.integer({ min: -4, max: 4 }).filter((n) => n !== 0);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 6 }), bound, bound, step, (size, start, end, by) => {
      const slice = sliceAxis(size, start, end, by);
      const visited = Array.from({ length: slice.count }, (_, i) => slice.start + i * slice.step);
      expect(visited).toEqual(walkSlice(size, start, end, by));
    }),
    { seed: 7, numRuns: 1000 },
  );
});

/**
 * Windows found by a walk over the padded input: all that fit, and with ceil one more where elements are left over; the
 * last one does not count with ceil if it starts in the end padding.
 */
function walkWindows(size: number, kernel: number, stride: number, begin: number, end: number, ceil: boolean): number {
  const padded = size + begin + end;
  const starts: number[] = [];
  for (let start = 0; start + kernel <= padded; start += stride) starts.push(start);
  if (!ceil) return starts.length;
  const last = starts.at(-1)!;
  if (last + kernel < padded) starts.push(last + stride);
  return starts.at(-1)! >= size + begin ? starts.length - 1 : starts.length;
}

describe('windows', () => {
  const window = fc.record({
    size: fc.integer({ min: 1, max: 14 }),
    kernel: fc.integer({ min: 1, max: 4 }),
    dilation: fc.integer({ min: 1, max: 3 }),
    stride: fc.integer({ min: 1, max: 5 }),
    begin: fc.integer({ min: 0, max: 3 }),
    end: fc.integer({ min: 0, max: 3 }),
    ceil: fc.boolean(),
  });

  it('are as many as a walk finds', () => {
    fc.assert(
      fc.property(window, ({ size, kernel, dilation, stride, begin, end, ceil }) => {
        const extent = (kernel - 1) * dilation + 1;
        fc.pre(size + begin + end >= extent);
        const counts = windowCounts([size], { kernel_shape: [kernel], dilations: [dilation], strides: [stride], pads: [begin, end] }, ceil);
        expect(counts).toEqual([walkWindows(size, extent, stride, begin, end, ceil)]);
      }),
      { seed: 7, numRuns: 1000 },
    );
  });

  it('SAME makes ⌈size / stride⌉ of them, with pads that differ by one at most', () => {
    fc.assert(
      fc.property(window, fc.constantFrom('SAME_UPPER', 'SAME_LOWER'), ({ size, kernel, dilation, stride }, mode) => {
        const spec = { kernel_shape: [kernel], dilations: [dilation], strides: [stride] };
        const pads = resolveAutoPad(mode, [size], spec, []);
        expect(windowCounts([size], { ...spec, pads }, false)).toEqual([Math.ceil(size / stride)]);
        const more = pads[1]! - pads[0]!;
        expect(mode === 'SAME_UPPER' ? [0, 1] : [0, -1]).toContain(more + 0);
      }),
      SEED,
    );
  });

  it('transposed sizes undo window counts', () => {
    fc.assert(
      fc.property(window, ({ size, kernel, dilation, stride, begin, end }) => {
        const spec = { kernel_shape: [kernel], dilations: [dilation], strides: [stride], pads: [begin, end] };
        const extent = (kernel - 1) * dilation + 1;
        fc.pre(stride * (size - 1) + extent > begin + end);
        const [out] = transposedSizes([size], spec, [0]);
        expect(windowCounts([out!], spec, false)).toEqual([size]);
      }),
      SEED,
    );
  });

  it('refuses a window larger than its input', () => {
    const spec = { kernel_shape: [7], dilations: [1], strides: [1], pads: [1, 1] };
    expect(() => windowCounts([3], spec, false)).toThrow('a window of 7 is larger than the padded input of 5 along spatial axis 0');
  });
});

describe('MatMul', () => {
  it.each([
    [[2, 3], [3, 4], [2, 4]],
    [[3], [3, 4], [4]],
    [[2, 3], [3], [2]],
    [[3], [3], []],
    [[5, 1, 2, 3], [7, 3, 4], [5, 7, 2, 4]],
    [[0, 3], [3, 4], [0, 4]],
  ])('%j × %j is %j', (a, b, expected) => {
    expect(matMulDims(a, b)).toEqual(expected);
  });

  it('refuses inner dimensions that differ', () => {
    expect(() => matMulDims([2, 3], [4, 5])).toThrow('matrices [2,3] and [4,5] must agree in their inner dimension, found 3 and 4');
  });
});

describe('Einsum', () => {
  it.each([
    ['ij,jk->ik', [[2, 3], [3, 4]], [2, 4]],
    ['ij,jk', [[2, 3], [3, 4]], [2, 4]],
    ['ii', [[3, 3]], []],
    ['ba', [[2, 3]], [3, 2]],
    ['...ij, ...jk -> ...ik', [[5, 2, 3], [1, 3, 4]], [5, 2, 4]],
    ['...i->...', [[5, 2, 3]], [5, 2]],
    ['i...,...->i...', [[2, 3, 4], [4]], [2, 3, 4]],
    ['->', [[]], []],
    ['bhqd,bhkd->bhqk', [[1, 2, 3, 4], [1, 2, 5, 4]], [1, 2, 3, 5]],
  ])('%s', (equation, shapes, expected) => {
    const { output, sizes } = parseEinsum(equation, shapes);
    expect(output.map((label) => sizes.get(label))).toEqual(expected);
  });

  it.each([
    ['ij->ik', [[2, 3]], "output label 'k' is not among the operands' labels"],
    ['ij,jk', [[2, 3]], "attribute 'equation' names 2 operands, the node has 1"],
    ['i', [[2, 3]], "input 0 must have rank 1 to match term 'i', found [2,3]"],
    ['i.j', [[2, 3]], "attribute 'equation' has a malformed term 'i.j'"],
    ['ij,jk->ik', [[2, 3], [4, 5]], 'shapes [3] and [4] do not broadcast'],
    ['ij->ii', [[2, 3]], "attribute 'equation' repeats an output label: 'ij->ii'"],
    ['i->i->i', [[2]], "attribute 'equation' has more than one '->': 'i->i->i'"],
  ])('%s fails', (equation, shapes, message) => {
    expect(() => parseEinsum(equation, shapes)).toThrow(message);
  });
});
