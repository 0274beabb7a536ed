/** How values inside a network are compared: decibels by their definition, what no decibel tells, and who added the noise. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../../src/ir/tensor.ts';
import { addedBy, compareLayer, holds, wantedOf, worstOf, type ValueReading } from '../../../../src/workflows/debug/readings.ts';

const floats = (...values: number[]) => fromNumbers('float32', [values.length], values);

describe('a value beside what is right', () => {
  it('has the power of what is right over that of the difference, in decibels', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.float({ min: -1e3, max: 1e3, noNaN: true }), fc.float({ min: -1, max: 1, noNaN: true })), { minLength: 1, maxLength: 50 }), (pairs) => {
        const right = pairs.map(([value]) => Math.fround(value));
        const found = pairs.map(([value, error]) => Math.fround(value + error));
        const errors = right.map((value, i) => found[i]! - value);
        const { snrDb, maxAbsError, largest, mismatches, elements } = compareLayer(floats(...found), floats(...right));
        const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value * value, 0);
        if (errors.every((error) => error === 0)) expect(snrDb).toBeUndefined();
        else expect(snrDb).toBeCloseTo(Math.max(-200, 10 * Math.log10(sum(right) / sum(errors))), 6);
        expect([maxAbsError, largest, mismatches, elements]).toEqual([Math.max(...errors.map(Math.abs)), Math.max(...right.map(Math.abs)), 0, pairs.length]);
      }),
    );
  });

  it('counts what is not finite in one of them alone, and the same kind of it not at all', () => {
    const { NaN: nan, POSITIVE_INFINITY: infinite } = Number;
    expect(compareLayer(floats(nan, infinite, 2), floats(nan, infinite, 2))).toEqual({ snrDb: undefined, maxAbsError: 0, largest: 2, mismatches: 0, elements: 3 });
    expect(compareLayer(floats(infinite, -infinite, 1, nan), floats(65504, infinite, nan, 4))).toMatchObject({ maxAbsError: infinite, largest: 65504, mismatches: 4 });
  });

  it('counts integers and bools that differ', () => {
    expect(compareLayer(fromNumbers('int64', [3], [1, 2, 3]), fromNumbers('int64', [3], [1, 5, 3]))).toEqual({ snrDb: undefined, maxAbsError: 3, largest: 5, mismatches: 1, elements: 3 });
    expect(compareLayer(fromNumbers('bool', [2], [1, 0]), fromNumbers('bool', [2], [1, 0]))).toMatchObject({ mismatches: 0 });
    expect(() => compareLayer(floats(1), floats(1, 2))).toThrow('it is float32[1], and float32[2] in the reference');
    expect(compareLayer(fromNumbers('float16', [1], [0.5]), floats(0.5))).toMatchObject({ snrDb: undefined });
  });

  it('holds by its ratio, or by an error that is nobody\'s matter; a ratio that was given holds alone', () => {
    const small = { snrDb: 20, mismatches: 0, maxAbsError: 5e-7 };
    expect(holds(small, wantedOf('float32', 'fp32', undefined))).toBe(true);
    expect(holds({ ...small, maxAbsError: 5e-6 }, wantedOf('float32', 'fp32', undefined))).toBe(false);
    expect(holds({ ...small, maxAbsError: 5e-4 }, wantedOf('float32', 'fp16', undefined))).toBe(true);
    expect(holds({ ...small, maxAbsError: 5e-4 }, wantedOf('float16', 'fp32', undefined))).toBe(true);
    expect(holds(small, wantedOf('float32', 'fp32', 21))).toBe(false);
    expect(holds(small, wantedOf('float32', 'fp32', 20))).toBe(true);
    expect(holds({ snrDb: undefined, mismatches: 1, maxAbsError: 0 }, wantedOf('float32', 'fp16', 0))).toBe(false);
  });
});

describe('the noise that a node adds', () => {
  it('is what lies behind it less the most of what came in', () => {
    expect(addedBy(40, [])).toBeCloseTo(40);
    expect(addedBy(40, [undefined, undefined])).toBeCloseTo(40);
    // Twice the power: as much again was added.
    expect(addedBy(40 - 10 * Math.log10(2), [60, 40])).toBeCloseTo(40);
    expect(addedBy(50, [40])).toBeUndefined();
    expect(addedBy(undefined, [40])).toBeUndefined();
  });

  it('orders values: those that no ratio tells first, then who adds the most', () => {
    const reading = (value: string, addedDb: number | undefined, mismatches = 0) => ({ value, addedDb, mismatches }) as ValueReading;
    const readings = [reading('none', undefined), reading('less', 60), reading('more', 20), reading('wrong', undefined, 1)];
    expect(worstOf(readings, 3).map(({ value }) => value)).toEqual(['wrong', 'more', 'less']);
  });
});
