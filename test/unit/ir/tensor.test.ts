/** Elements to numbers and back. */
import { describe, expect, it } from 'vitest';
import { float16ToNumber, fromNumbers, numberToFloat16, typedView } from '../../../src/ir/tensor.ts';

describe('fromNumbers', () => {
  it('truncates to 64-bit integers', () => {
    const values = [0, -0, 1, -1, 0.9, -1.9, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1, 2 ** 53, -(2 ** 53)];
    expect(typedView(fromNumbers('int64', [values.length], values))).toEqual(BigInt64Array.from(values, (value) => BigInt(Math.trunc(value))));
  });
});

describe('float16', () => {
  it('is (1 + f/1024) · 2^(e−15), below that f · 2^−24, and back', () => {
    for (let bits = 0; bits < 0x7c00; bits++) {
      const [exponent, fraction] = [bits >> 10, bits & 0x3ff];
      const value = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
      if (float16ToNumber(bits) !== value || !Object.is(float16ToNumber(bits | 0x8000), -value)) expect.fail(`${bits}: ${float16ToNumber(bits)}, not ${value}`);
      if (numberToFloat16(value) !== bits) expect.fail(`${value}: ${numberToFloat16(value)}, not ${bits}`);
    }
    expect([0x7c00, 0xfc00, 0x7c01, 0xffff].map(float16ToNumber)).toEqual([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, Number.NaN]);
  });
});
