/** Windows: their addresses against index arithmetic, and what layouts promise of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DeviceTensor, type Layout, paddedChannels, storedBytes, storedElements, stridesOf, viewOf } from '../../../src/backends/webgpu/lower/tensor.ts';
import { alongAxis, isAt, joined, pickedRange, reshaped, reshapedStrides, viewedAs, windowOf } from '../../../src/backends/webgpu/lower/windows.ts';
import { type Dims, elementCount, fromNumbers } from '../../../src/ir/tensor.ts';
import { eachCoordinate } from '../../device/references.ts';

function tensor(dims: Dims, layout: Layout = 'linear', storage: DeviceTensor['storage'] = 'f32'): DeviceTensor {
  return { id: 7, dtype: 'float32', dims, storage, layout };
}

/** Where every element lies, in row-major order. */
function walk(of: DeviceTensor): number[] {
  const { offset, strides } = viewOf(of);
  return eachCoordinate(of.dims).map((c) => c.reduce((sum, at, axis) => sum + at * strides[axis]!, offset));
}

const shapes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 });

describe('pickedRange', () => {
  it.each([
    [[], [2], { start: 2, step: 1, extent: 1 }],
    [[], [-1], { start: 4, step: 1, extent: 1 }],
    [[], [9], { start: 4, step: 1, extent: 1 }],
    [[1], [-2], { start: 3, step: 1, extent: 1 }],
    [[3], [1, 2, 3], { start: 1, step: 1, extent: 3 }],
    [[2], [-2, 4], { start: 3, step: 1, extent: 2 }],
    [[2], [2, 1], undefined],
    [[2], [1, 3], undefined],
    [[0], [], undefined],
    [[1, 2], [1, 2], undefined],
  ] as const)('of indices %j %j among five', (dims, indices, range) => {
    expect(pickedRange(fromNumbers('int64', dims, indices), 5)).toEqual(range);
  });
});

describe('windowOf', () => {
  it('is where the elements of the slice lie', () => {
    const layouts = fc.constantFrom<Layout>('linear', 'channels-last');
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 3, maxLength: 4 }), layouts, fc.infiniteStream(fc.nat(100)), (dims, layout, random) => {
        const draw = (limit: number): number => (random.next().value as number) % limit;
        const ranges = dims.map((extent) => {
          const start = draw(extent);
          const step = 1 + draw(3);
          return { start, step, extent: 1 + draw(Math.ceil((extent - start) / step)) };
        });
        const whole = tensor(dims, layout);
        const window = windowOf(whole, ranges);
        if (!window) {
          expect(layout).toBe('channels-last');
          return;
        }
        const { strides } = viewOf(whole);
        const expected = eachCoordinate(window.dims).map((c) => c.reduce((sum, at, axis) => sum + (ranges[axis]!.start + at * ranges[axis]!.step) * strides[axis]!, 0));
        expect(walk(window)).toEqual(expected);
        expect(storedBytes(window)).toBe(storedBytes(whole));
        // Whole vectors of a channels-last window, padding lanes included, lie inside of it or in the whole's own padding.
        if (layout === 'channels-last') {
          expect(viewOf(window).offset % 4).toBe(0);
          expect(ranges[1]!.start + paddedChannels(window.dims, 'f32')).toBeLessThanOrEqual(paddedChannels(dims, 'f32'));
        }
      }),
      { seed: 1, numRuns: 500 },
    );
  });

  it('keeps what channels-last promises: whole vectors of the storage, and padding lanes only at the end', () => {
    const channels = (c: number, start: number, extent: number, storage: DeviceTensor['storage'] = 'f32'): DeviceTensor | undefined =>
      windowOf(tensor([1, c, 2, 2], 'channels-last', storage), alongAxis([1, c, 2, 2], 1, { start, step: 1, extent }));
    expect(channels(10, 4, 6)).toBeDefined();
    expect(channels(10, 4, 4)).toBeDefined();
    expect(channels(10, 4, 3)).toBeUndefined();
    expect(channels(10, 5, 5)).toBeUndefined();
    expect(channels(16, 4, 4, 'f16')).toBeUndefined();
    expect(channels(16, 8, 8, 'f16')).toBeDefined();
    expect(windowOf(tensor([1, 8, 2, 2], 'channels-last'), alongAxis([1, 8, 2, 2], 1, { start: 0, step: 2, extent: 4 }))).toBeUndefined();
  });

  it('refuses to walk backwards, and what is empty', () => {
    expect(windowOf(tensor([4]), [{ start: 3, step: -1, extent: 4 }])).toBeUndefined();
    expect(windowOf(tensor([4]), [{ start: 0, step: 1, extent: 0 }])).toBeUndefined();
  });

  it('has no strides of its own to take for a whole tensor', () => {
    const window = windowOf(tensor([4, 4]), alongAxis([4, 4], 1, { start: 1, step: 1, extent: 2 }))!;
    expect(() => stridesOf(window)).toThrow(/viewOf/);
  });
});

describe('reshapes', () => {
  /** Some other dims of the same number of elements. */
  const regrouped = (dims: Dims, cuts: readonly number[]): number[] => {
    const factors = dims.flatMap((dim) => (dim === 4 ? [2, 2] : dim === 6 ? [2, 3] : [dim]));
    const result: number[] = [];
    for (const [i, factor] of factors.entries()) {
      if (result.length > 0 && (cuts[i] ?? 0) % 2 === 0) result.push(result.pop()! * factor);
      else result.push(factor);
    }
    return result;
  };

  it('walk the same elements in the same order, wherever strides can', () => {
    fc.assert(
      fc.property(shapes, fc.array(fc.nat(9), { minLength: 8, maxLength: 8 }), fc.array(fc.nat(3), { minLength: 4, maxLength: 4 }), (dims, cuts, gaps) => {
        // A part of something larger: rows with gaps between them.
        const full = dims.map((dim, axis) => dim + gaps[axis]!);
        const whole = windowOf(tensor(full), dims.map((extent, axis) => ({ start: Math.min(1, gaps[axis]!), step: 1, extent })))!;
        const wanted = regrouped(dims, cuts);
        const view = reshaped(whole, wanted);
        if (view) expect(walk(view)).toEqual(walk(whole));
        // Dense tensors can take every shape.
        expect(reshapedStrides(dims, stridesOf(tensor(dims)), wanted)).toBeDefined();
        expect(view !== undefined || gaps.some((gap) => gap > 0)).toBe(true);
      }),
      { seed: 2, numRuns: 500 },
    );
  });

  it('take the channels of a channels-last image apart and together again without a copy', () => {
    const image = tensor([2, 8, 3, 5], 'channels-last');
    const parts = reshaped(image, [2, 2, 4, 3, 5])!;
    expect(walk(parts)).toEqual(walk(image));
    expect(reshaped(parts, [2, 8, 3, 5])).toEqual(image);
    const rows = reshaped(image, [2, 8, 15])!;
    expect(rows).toMatchObject({ layout: 'channels-last' });
    expect(rows.window).toBeUndefined();
    // Channels inside of pixels are not pixels inside of channels.
    expect(reshaped(image, [2, 120])).toBeUndefined();
  });

  it('see what lies row-major for what it is', () => {
    const image = tensor([1, 8, 3, 5], 'channels-last');
    const { strides } = viewOf(image);
    const moved = viewedAs(image, [1, 3, 5, 8], { offset: 0, strides: [0, 2, 3, 1].map((axis) => strides[axis]!) });
    expect(moved).toEqual(tensor([1, 3, 5, 8]));
    expect(storedElements(moved)).toBe(elementCount(moved.dims));
  });
});

describe('joined', () => {
  const parts = (sizes: readonly number[], layout: Layout): DeviceTensor[] => {
    const whole = tensor([2, 24, 3], layout);
    let start = 4;
    return sizes.map((extent) => windowOf(whole, alongAxis(whole.dims, 1, { start: (start += extent) - extent, step: 1, extent }))!);
  };

  it.each(['linear', 'channels-last'] as const)('gives back the part that neighbours make, %s', (layout) => {
    const all = joined(parts([4, 8, 4], layout), 1, [2, 16, 3])!;
    expect(all).toEqual(parts([16], layout)[0]);
    expect(isAt(all, tensor([2, 24, 3], layout), viewOf(all))).toBe(true);
  });

  it('refuses other orders, gaps and tensors', () => {
    const [a, b, c] = parts([4, 8, 4], 'linear') as [DeviceTensor, DeviceTensor, DeviceTensor];
    expect(joined([b, a], 1, [2, 12, 3])).toBeUndefined();
    expect(joined([a, c], 1, [2, 8, 3])).toBeUndefined();
    expect(joined([a, { ...b, id: 8 }], 1, [2, 12, 3])).toBeUndefined();
    expect(joined([tensor([2, 4, 3]), a], 1, [2, 8, 3])).toBeUndefined();
  });
});
