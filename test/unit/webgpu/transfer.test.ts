import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutTo } from '../../../src/backends/webgpu/transfer.ts';
import { elementCount, fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';

describe('cutTo', () => {
  it('keeps the first entries along any axis', () => {
    const shape = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(shape, fc.nat(), fc.integer({ min: -2, max: 7 }), fc.constantFrom('int64', 'float32', 'uint8'), (dims, some, length, dtype) => {
        const axis = some % dims.length;
        const all = Array.from({ length: elementCount(dims) }, (_, i) => i % 251);
        const kept = Math.max(0, Math.min(length, dims[axis]!));
        const inner = elementCount(dims.slice(axis + 1));
        const expected = all.filter((_, i) => Math.floor(i / inner) % dims[axis]! < kept);
        const cut = cutTo(fromNumbers(dtype, dims, all), axis, length);
        expect(cut.dims).toEqual(dims.with(axis, kept));
        expect(toNumbers(cut)).toEqual(expected);
      }),
    );
  });
});
