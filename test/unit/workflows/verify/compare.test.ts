import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromNumbers, type DType } from '../../../../src/ir/tensor.ts';
import { compareTensors, compareValues, toleranceFor } from '../../../../src/workflows/verify/compare.ts';

const DEFAULT_TOLERANCE = toleranceFor('expected outputs', { rtol: undefined, atol: undefined });

const compare = (found: readonly number[], expected: readonly number[], dtype: DType = 'float32', tolerance = DEFAULT_TOLERANCE) =>
  compareTensors('y', fromNumbers(dtype, [found.length], found), fromNumbers(dtype, [expected.length], expected), tolerance);

describe('comparison of floats', () => {
  it('takes NaN and infinities as themselves only', () => {
    expect(compare([Number.NaN, Infinity, -Infinity, 0], [Number.NaN, Infinity, -Infinity, -0]).passed).toBe(true);
    expect(compare([1], [Number.NaN]).passed).toBe(false);
    expect(compare([Number.NaN], [1]).passed).toBe(false);
    expect(compare([Infinity], [-Infinity]).passed).toBe(false);
    expect(compare([3e38], [Infinity]).passed).toBe(false);
    expect(compare([-Infinity], [-3.4e38]).passed).toBe(false);
  });

  it('draws the line at atol × scale + rtol × |expected|', () => {
    const tolerance = { rtol: 0.01, atol: 0.1, outlierShare: 0 };
    expect(compare([0.09], [0], 'float64', tolerance).passed).toBe(true);
    expect(compare([0.11], [0], 'float64', tolerance).passed).toBe(false);
    expect(compare([1, 100], [0, 100], 'float64', tolerance).passed).toBe(true);
    expect(compare([11, 100], [0, 100], 'float64', tolerance).passed).toBe(false);
    expect(compare([110.9], [100], 'float64', tolerance).passed).toBe(true);
    expect(compare([111.1], [100], 'float64', tolerance).passed).toBe(false);
  });

  it('is looser against a reference, where nothing is asked for', () => {
    expect(DEFAULT_TOLERANCE).toEqual({ rtol: 1e-3, atol: 1e-5, outlierShare: 0 });
    expect(toleranceFor('reference', { rtol: undefined, atol: undefined })).toEqual({ rtol: 1e-3, atol: 1e-4, outlierShare: 1e-4 });
    expect(toleranceFor('reference', { rtol: 0, atol: 1e-6 })).toEqual({ rtol: 0, atol: 1e-6, outlierShare: 0 });
  });

  it('is that of the precision, unless another one is asked for', () => {
    const of = (precision: 'fp16' | 'int8' | 'mixed', asked = {}) => toleranceFor('reference', { rtol: undefined, atol: undefined, ...asked }, precision);
    expect(of('fp16')).toEqual({ rtol: 1e-2, atol: 2e-2, outlierShare: 1e-4 });
    expect([of('int8'), of('mixed')]).toEqual([{ rtol: 0.1, atol: 0.2, outlierShare: 1e-4 }, { rtol: 0.1, atol: 0.2, outlierShare: 1e-4 }]);
    expect(of('fp16', { rtol: 1e-4 })).toEqual({ rtol: 1e-4, atol: 2e-2, outlierShare: 0 });
  });

  it('is two units of the last place for bfloat16, and for no other output beside one', () => {
    const of = (asked = {}) => toleranceFor('expected outputs', { rtol: undefined, atol: undefined, ...asked }, 'fp32', ['float32', 'bfloat16']);
    const next = 1 + 2 ** -7;
    expect(compare([next + 2 ** -7], [next], 'bfloat16', of()).passed).toBe(true);
    expect(compare([next + 3 * 2 ** -7], [next], 'bfloat16', of()).passed).toBe(false);
    expect(compare([next], [1], 'float32', of()).passed).toBe(false);
    expect(compare([next], [1], 'bfloat16', of({ rtol: 1e-3 })).passed).toBe(false);
    expect(DEFAULT_TOLERANCE.bfloat16Rtol).toBeUndefined();
  });

  it('bears a few near misses of a whole network, no far one, and none where a bound was asked for', () => {
    const tolerance = toleranceFor('reference', { rtol: undefined, atol: undefined });
    const zeros = Array.from({ length: 20_000 }, () => 0);
    const off = (count: number, error: number) => zeros.map((_, index) => (index < count ? error : 0));
    expect(compare(off(2, 9e-4), zeros, 'float64', tolerance)).toMatchObject({ passed: true, mismatches: 2 });
    expect(compare(off(3, 9e-4), zeros, 'float64', tolerance).passed).toBe(false);
    expect(compare(off(1, 1.1e-3), zeros, 'float64', tolerance).passed).toBe(false);
    expect(compare(off(1, Number.NaN), zeros, 'float64', tolerance).passed).toBe(false);
    expect(compare([9e-4], [0], 'float64', tolerance).passed).toBe(false);
    expect(compare(off(1, 9e-4), zeros, 'float64', toleranceFor('reference', { rtol: undefined, atol: 1e-4 })).passed).toBe(false);
  });

  it('calls an error infinite where only one side is finite', () => {
    expect(compare([Number.NaN, 1], [1, 1])).toMatchObject({ passed: false, maxAbsError: Infinity });
  });

  it('reports the largest errors, how many differ, and the first that does', () => {
    expect(compare([1, 2.5, 0, 4], [1, 2, 0.25, 4])).toEqual({
      output: 'y',
      passed: false,
      maxAbsError: 0.5,
      maxRelError: 1,
      mismatches: 2,
      elements: 4,
      detail: '[1] is 2.5, expected 2',
    });
  });

  it.each(['float16', 'bfloat16', 'float64'] as const)('reads %s as numbers, not as bits', (dtype) => {
    expect(compare([1.5, -2], [1.5, -2], dtype)).toMatchObject({ passed: true, maxAbsError: 0 });
    expect(compare([1.5, -2], [1.5, -3], dtype)).toMatchObject({ passed: false, maxAbsError: 1 });
  });

  it('accepts what it is given, and nothing farther than its bound', () => {
    const number = fc.double({ min: -1e3, max: 1e3, noNaN: true });
    fc.assert(
      fc.property(fc.array(number, { minLength: 1, maxLength: 20 }), number, (values, delta) => {
        expect(compare(values, values, 'float64').passed).toBe(true);
        const scale = Math.max(1, ...values.map(Math.abs));
        const moved = values.map((value, i) => (i === 0 ? value + delta : value));
        const bound = 1e-5 * scale + 1e-3 * Math.abs(values[0]!);
        fc.pre(Math.abs(Math.abs(delta) - bound) > 1e-9);
        expect(compare(moved, values, 'float64').passed).toBe(Math.abs(delta) < bound);
      }),
      { seed: 5, numRuns: 200 },
    );
  });
});

describe('comparison of the rest', () => {
  it('is exact for integers, the large ones too', () => {
    const big = (value: bigint) => ({ dtype: 'int64' as const, dims: [1], data: new Uint8Array(BigInt64Array.of(value).buffer) });
    expect(compareTensors('y', big(2n ** 60n), big(2n ** 60n), DEFAULT_TOLERANCE).passed).toBe(true);
    expect(compareTensors('y', big(2n ** 60n + 1n), big(2n ** 60n), DEFAULT_TOLERANCE)).toMatchObject({ passed: false, mismatches: 1 });
    expect(compare([7, 1], [7, 2], 'uint8')).toMatchObject({ passed: false, maxAbsError: 1, detail: '[1] is 1, expected 2' });
  });

  it('sees another type or shape, whatever the values', () => {
    const four = fromNumbers('float32', [4], [0, 0, 0, 0]);
    expect(compareTensors('y', { ...four, dims: [2, 2] }, four, DEFAULT_TOLERANCE)).toMatchObject({
      passed: false,
      detail: 'is float32[2,2], expected float32[4]',
    });
    expect(compare([1], [1], 'int32').passed).toBe(true);
    expect(compareTensors('y', fromNumbers('int32', [1], [1]), fromNumbers('int64', [1], [1]), DEFAULT_TOLERANCE).passed).toBe(false);
  });

  it('compares strings', () => {
    const words = (...strings: string[]) => ({ kind: 'strings' as const, dims: [strings.length], strings });
    expect(compareValues('y', words('a', 'b'), words('a', 'b'), DEFAULT_TOLERANCE).passed).toBe(true);
    expect(compareValues('y', words('a', 'c'), words('a', 'b'), DEFAULT_TOLERANCE)).toMatchObject({ passed: false, detail: '[1] is c, expected b' });
    expect(compareValues('y', words('a'), words('a', 'b'), DEFAULT_TOLERANCE)).toMatchObject({ passed: false, detail: 'is string[1], expected string[2]' });
  });
});
