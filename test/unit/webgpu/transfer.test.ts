import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PlanBinding, Storage } from '../../../src/engine/plan.ts';
import { cutTo, fromDevice, storedBytes, toDevice } from '../../../src/backends/webgpu/transfer.ts';
import { type DType, elementCount, fromNumbers, type Tensor, toNumbers } from '../../../src/ir/tensor.ts';

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

/** How bindings of each type are stored, and numbers that are the same in the type and on the device. */
const STORED: readonly (readonly [DType, Storage, readonly number[]])[] = [
  ['float32', 'f32', [0.1, -1e30, Number.NaN, Number.POSITIVE_INFINITY].map(Math.fround)],
  ['float16', 'f32', [1.5, -65504, Number.NaN, 2 ** -24]],
  ['float16', 'f16', [1.5, -65504, 2 ** -24]],
  ['bfloat16', 'f32', [1.5, -(2 ** 100), Number.NaN]],
  ['float64', 'f32', [0.5, -(2 ** 127), Number.NEGATIVE_INFINITY]],
  ['float8e4m3fn', 'f32', [448, -0.5, 0]],
  ['int4', 'i32', [-8, 7, 1]],
  ['int8', 'i32', [-128, 127, 5]],
  ['int8', 'i8', [-128, 127, 5]],
  ['uint8', 'u32', [0, 255, 7]],
  ['uint8', 'u8', [0, 255, 7, 9, 11]],
  ['int16', 'i32', [-32768, 32767]],
  ['int32', 'i32', [-(2 ** 31), 2 ** 31 - 1]],
  ['uint32', 'u32', [0, 2 ** 32 - 1]],
  ['int64', 'i32', [-(2 ** 31), -1, 0, 2 ** 31 - 1]],
  ['uint64', 'u32', [0, 2 ** 31, 2 ** 32 - 1]],
  ['bool', 'u32', [0, 1, 1]],
];
const DTYPE_OF = { f32: 'float32', f16: 'float16', i32: 'int32', u32: 'uint32', i8: 'int8', u8: 'uint8' } as const satisfies Record<Storage, DType>;

describe('toDevice and fromDevice', () => {
  const bindingOf = (dtype: DType, storage: Storage, count: number): PlanBinding => ({ name: 'x', dtype, dims: [count], storage, buffer: 0 });
  /** The same bytes behind one that makes them unaligned. */
  const unaligned = ({ data, ...type }: Tensor): Tensor => ({ ...type, data: Buffer.from([0, ...data]).subarray(1) });

  it.each(STORED)('%s as %s', (dtype, storage, values) => {
    const [binding, tensor] = [bindingOf(dtype, storage, values.length), fromNumbers(dtype, [values.length], values)];
    for (const given of [tensor, unaligned(tensor)]) {
      const stored = toDevice(binding, given);
      expect(stored.byteLength % 4).toBe(0);
      const bytes = stored.slice(0, storedBytes(binding));
      expect(toNumbers({ dtype: DTYPE_OF[storage], dims: binding.dims, data: bytes })).toEqual(values);
      expect(fromDevice(binding, bytes.buffer)).toEqual(tensor);
    }
  });

  it('copies nothing that the device stores alike', () => {
    const picture = { dtype: 'uint8', dims: [8], data: new Uint8Array(8) } as const;
    expect(toDevice(bindingOf('uint8', 'u8', 8), picture).buffer).toBe(picture.data.buffer);
    const bytes = new ArrayBuffer(8);
    expect(fromDevice(bindingOf('float32', 'f32', 2), bytes).data.buffer).toBe(bytes);
  });

  it('refuses the first 64-bit integer that 32 bits do not hold', () => {
    const upload = (dtype: 'int64' | 'uint64', storage: Storage, ...values: bigint[]) => toDevice(bindingOf(dtype, storage, values.length), { dtype, dims: [values.length], data: new Uint8Array(BigInt64Array.from(values).buffer) });
    for (const value of [2n ** 31n, -(2n ** 31n) - 1n, 2n ** 32n, -(2n ** 63n)]) expect(() => upload('int64', 'i32', 1n, value, 2n ** 62n)).toThrow(`input x holds ${value}, but`);
    for (const value of [2n ** 32n, 2n ** 40n + 1n]) expect(() => upload('uint64', 'u32', 1n, value)).toThrow(`input x holds ${value}, but`);
  });
});
