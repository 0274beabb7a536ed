import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { coveredRange, fakeQuantize, paramsOf, quantize, SCHEMES } from '../../../src/quantize/params.ts';
import { biasShift, quantizeBias, quantizeWeights } from '../../../src/quantize/weights.ts';
import { seededRandom } from '../../helpers/random.ts';

const bound = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e6), max: Math.fround(1e6) });
const range = fc.tuple(bound, bound).map(([a, b]) => ({ low: Math.min(a, b), high: Math.max(a, b) }));

describe('grids', () => {
  it.each([
    [{ low: 0, high: 255 }, 'affine', { dtype: 'uint8', scale: 1, zeroPoint: 0 }],
    [{ low: -128, high: 127 }, 'affine', { dtype: 'uint8', scale: 1, zeroPoint: 128 }],
    [{ low: 2, high: 51 }, 'affine', { dtype: 'uint8', scale: Math.fround(0.2), zeroPoint: 0 }],
    [{ low: -51, high: -2 }, 'affine', { dtype: 'uint8', scale: Math.fround(0.2), zeroPoint: 255 }],
    [{ low: -1, high: 127 }, 'symmetric', { dtype: 'int8', scale: 1, zeroPoint: 0 }],
    [{ low: 0, high: 0 }, 'affine', { dtype: 'uint8', scale: 1, zeroPoint: 0 }],
  ] as const)('%j %s', (given, scheme, expected) => expect(paramsOf(given, scheme)).toEqual(expected));

  it('holds zero exactly, and every value of the range to half a step (a whole one at the nudged ends)', () => {
    fc.assert(
      fc.property(range, fc.constantFrom(...SCHEMES), fc.double({ min: 0, max: 1, noNaN: true }), (given, scheme, at) => {
        const params = paramsOf(given, scheme);
        expect(fakeQuantize(0, params)).toBe(0);
        expect(Math.fround(params.scale)).toBe(params.scale);
        const value = given.low + at * (given.high - given.low);
        expect(Math.abs(fakeQuantize(value, params) - value)).toBeLessThanOrEqual(params.scale * 1.001);
        const { low, high } = coveredRange(params);
        if (value >= low && value <= high) expect(Math.abs(fakeQuantize(value, params) - value)).toBeLessThanOrEqual(params.scale * 0.5001);
      }),
      { seed: 8 },
    );
  });

  it('saturates, and rounds half to even', () => {
    const params = paramsOf({ low: 0, high: 255 }, 'affine');
    expect([-7, 0.5, 1.5, 2.5, 300].map((value) => quantize(value, params))).toEqual([0, 0, 2, 2, 255]);
  });

  it.each([[{ low: 1, high: 0 }], [{ low: Number.NaN, high: 0 }], [{ low: 0, high: Number.POSITIVE_INFINITY }]])('refuses %j', (given) => {
    expect(() => paramsOf(given, 'affine')).toThrow(RangeError);
  });
});

describe('weights', () => {
  const weights = fromNumbers('float32', [2, 3], [0.5, -1.27, 0.01, 0, 254, -127]);

  it('are symmetric per output channel', () => {
    const { values, scales } = quantizeWeights(weights, 0, 1, undefined);
    expect(toNumbers(values)).toEqual([50, -127, 1, 0, 127, -64]);
    expect(scales[0]).toBeCloseTo(0.01, 7);
    expect(scales[1]).toBe(2);
  });

  it('are per column along axis 1', () => {
    const { values, scales } = quantizeWeights(weights, 1, 1, undefined);
    expect(Array.from(scales, (scale) => scale * 127)).toEqual([0.5, 254, 127].map((value) => expect.closeTo(value, 4)));
    expect(toNumbers(values)).toEqual([127, -1, 0, 0, 127, -127]);
  });

  it('raise the scale of a dead channel until its bias fits in int32', () => {
    const dead = fromNumbers('float32', [2, 1], [1e-12, 1]);
    const bias = Float32Array.from([3, 3]);
    const { scales, values } = quantizeWeights(dead, 0, 0.02, bias);
    const integers = quantizeBias(bias, 0.02, scales);
    expect(Math.abs(toNumbers(integers.values)[0]!)).toBeLessThanOrEqual(2 ** 29 + 1);
    expect(toNumbers(integers.values).map((value, i) => value * integers.scales[i]!)).toEqual([expect.closeTo(3, 4), expect.closeTo(3, 2)]);
    expect(toNumbers(values)[1]).toBe(127);
  });

  it.each([
    ['conv of 2 groups', [4, 2, 3, 3], 0, 2],
    ['matrix, transposed', [4, 5], 0, 1],
    ['matrix', [5, 4], 1, 1],
  ] as const)('the shift of the mean is that of the constant input of these means: %s', (_name, dims, axis, groups) => {
    const random = seededRandom(9);
    const values = Array.from({ length: dims.reduce((a: number, b) => a * b, 1) }, () => random() - 0.5);
    const tensor = fromNumbers('float32', dims, values);
    const rounded = quantizeWeights(tensor, axis, 1, undefined);
    const inputs = axis === 1 ? dims[0] : dims[1]! * groups;
    const means = Array.from({ length: inputs! }, () => random() * 3);
    const found = biasShift(tensor, rounded, means, groups);
    const exact = toNumbers(tensor);
    const integers = toNumbers(rounded.values);
    const kernel = dims.slice(2).reduce((a: number, b) => a * b, 1);
    for (let out = 0; out < 4; out++) {
      let wanted = 0;
      for (let input = 0; input < (axis === 1 ? dims[0]! : dims[1]!); input++) {
        for (let tap = 0; tap < kernel; tap++) {
          const at = axis === 1 ? input * 4 + out : (out * dims[1]! + input) * kernel + tap;
          const group = Math.floor(out / (4 / groups));
          wanted += (integers[at]! * rounded.scales[out]! - exact[at]!) * means[axis === 1 ? input : group * dims[1]! + input]!;
        }
      }
      expect(found[out]).toBeCloseTo(wanted, 5);
    }
  });
});
