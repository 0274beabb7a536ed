/** Constants as the device stores them: narrow floats without a list of numbers between. */
import { describe, expect, it } from 'vitest';
import { constantArray } from '../../../src/backends/webgpu/lower/constants.ts';
import { type DType, fromNumbers } from '../../../src/ir/tensor.ts';

describe('constants on the device', () => {
  it.each([
    ['float16', [0.5, -65504, 2 ** -24, Infinity]],
    ['bfloat16', [0.5, -3.140625, 2 ** 100, -Infinity]],
  ] satisfies [DType, number[]][])('%s is float32 there, number by number', (dtype, numbers) => {
    const { data, ...type } = fromNumbers(dtype, [numbers.length], numbers);
    // At an odd address, as in a file.
    const unaligned = new Uint8Array(data.length + 1).subarray(1);
    unaligned.set(data);
    expect(constantArray({ ...type, data: unaligned })).toEqual(Float32Array.from(numbers));
  });
});
