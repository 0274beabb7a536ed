/**
 * Resize under aspect ratio policies, over chosen axes, and with antialiasing, on SwiftShader against ONNX's specification in float64. onnxruntime is no
 * reference for some of these: in `align_corners` and `tf_crop_and_resize` it takes lengths that it has rounded.
 */
import { describe, expect, it } from 'vitest';
import type { OpAttrs } from '../../src/ir/ops.ts';
import { sameDims, toNumbers } from '../../src/ir/tensor.ts';
import { distance, noDevice, noise } from './helpers.ts';
import { resizeReference, type ResizeRequest } from './resize-reference.ts';
import { floats, known, oracle, runOp } from './run-op.ts';

type Attrs = OpAttrs['Resize'];

const RESIZE: Attrs = {
  antialias: 0,
  axes: undefined,
  coordinate_transformation_mode: 'half_pixel',
  cubic_coeff_a: -0.75,
  exclude_outside: 0,
  extrapolation_value: 10,
  keep_aspect_ratio_policy: 'stretch',
  mode: 'linear',
  nearest_mode: 'round_prefer_floor',
};

const DIMS = [1, 2, 4, 6];
const x = noise(48, 3);
const tolerance = { absolute: 1e-4, relative: 1e-4 };

function operandsOf({ roi, scales, sizes }: ResizeRequest, channelsLast = false) {
  const list = (values: readonly number[] | undefined) => values && floats([values.length], values, { constant: true });
  return [floats(DIMS, x, { channelsLast }), list(roi), list(scales), sizes && known(...sizes)];
}

/** How far the kernel is from the specification at most, in both layouts: 1 or less means close. */
async function gap(options: Partial<Attrs>, request: ResizeRequest): Promise<number> {
  const attrs = { ...RESIZE, ...options };
  const expected = resizeReference(attrs, DIMS, x, request);
  const gaps = [false, true].map(async (channelsLast) => {
    const [y] = await runOp('Resize', attrs, operandsOf(request, channelsLast));
    return sameDims(y!.dims, expected.dims) ? distance(y!, expected.values, tolerance) : Number.POSITIVE_INFINITY;
  });
  return Math.max(...(await Promise.all(gaps)));
}

const MODES = ['nearest', 'linear', 'cubic'] as const;
const TRANSFORMS = ['half_pixel', 'half_pixel_symmetric', 'pytorch_half_pixel', 'align_corners', 'asymmetric'] as const;

describe.skipIf(noDevice)('Resize (skipped without SwiftShader)', () => {
  describe.each(['not_larger', 'not_smaller'] as const)('%s', (keep_aspect_ratio_policy) => {
    it.each(TRANSFORMS.flatMap((transform) => MODES.map((mode) => [transform, mode] as const)))('%s, %s', async (coordinate_transformation_mode, mode) => {
      const options = { keep_aspect_ratio_policy, coordinate_transformation_mode, mode };
      expect(await gap({ ...options, axes: [2, 3] }, { sizes: [7, 8] })).toBeLessThan(1);
      expect(await gap({ ...options, axes: [3, 2] }, { sizes: [5, 3] })).toBeLessThan(1);
      expect(await gap({ ...options, axes: [-1] }, { sizes: [5] })).toBeLessThan(1);
    });

    it('of a region', async () => {
      const options = { keep_aspect_ratio_policy, coordinate_transformation_mode: 'tf_crop_and_resize' } as const;
      expect(await gap({ ...options, axes: [3, 2] }, { sizes: [5, 3], roi: [0.1, 0.4, 1.2, 0.9] })).toBeLessThan(1);
    });
  });

  it.each(MODES)('%s of a region over chosen axes, in any order', async (mode) => {
    const options = { coordinate_transformation_mode: 'tf_crop_and_resize', mode } as const;
    expect(await gap({ ...options, axes: [2, 3] }, { sizes: [3, 3], roi: [0.4, 0.6, 0.6, 0.8] })).toBeLessThan(1);
    expect(await gap({ ...options, axes: [3, 2] }, { sizes: [5, 3], roi: [0.1, 0.4, 1.2, 0.9] })).toBeLessThan(1);
    expect(await gap({ ...options, axes: [-1] }, { sizes: [1], roi: [0.2, 1.3] })).toBeLessThan(1);
    expect(await gap({ ...options, axes: [3] }, { scales: [1.5], roi: [0.2, 0.9] })).toBeLessThan(1);
  });

  const antialiased = TRANSFORMS.flatMap((transform) => (['linear', 'cubic'] as const).flatMap((mode) => ([0, 1] as const).map((exclude) => [transform, mode, exclude] as const)));
  it.each(antialiased)('antialiased, %s, %s, exclude_outside %i', async (coordinate_transformation_mode, mode, exclude_outside) => {
    const options = { antialias: 1, coordinate_transformation_mode, mode, exclude_outside } as const;
    // An axis that grows is not filtered, beside one that shrinks.
    for (const sizes of [[1, 2, 2, 3], [1, 2, 3, 2], [1, 2, 1, 4], [1, 2, 7, 4]]) {
      expect(await gap(options, { sizes })).toBeLessThan(1);
      const [expected] = await oracle('Resize', { ...RESIZE, ...options }, operandsOf({ sizes }));
      expect(distance((await runOp('Resize', { ...RESIZE, ...options }, operandsOf({ sizes })))[0]!, expected!, tolerance)).toBeLessThan(1);
    }
    expect(await gap(options, { scales: [1, 1, 0.625, 0.375] })).toBeLessThan(1);
  });

  // onnxruntime makes 76 of some pixels of an image of 77: the sum of its weights falls short of 1.
  it.each(['uint8', 'int8', 'uint16', 'int16'] as const)('linear of %s drops fractions and nothing else', async (dtype) => {
    const signed = dtype.startsWith('int');
    for (const image of [Array.from(x, (v) => Math.trunc(v * 127) + (signed ? 0 : 128)), Array.from(x, () => 77)]) {
      for (const sizes of [[1, 2, 6, 9], [1, 2, 8, 5], [1, 2, 3, 18]]) {
        const expected = resizeReference(RESIZE, DIMS, image, { sizes }).values.map((value) => Math.trunc(value + Math.sign(value) * 1e-9) + 0);
        const [y] = await runOp('Resize', RESIZE, [{ dtype, dims: DIMS, values: image }, undefined, undefined, known(...sizes)]);
        expect(toNumbers(y!)).toEqual(expected);
      }
    }
  });

  it.each(['nearest', 'linear'] as const)('%s of integers beyond the image is the extrapolation value, without its fraction', async (mode) => {
    const attrs = { ...RESIZE, mode, axes: [0], coordinate_transformation_mode: 'tf_crop_and_resize', extrapolation_value: 10.75 } as const;
    const [y] = await runOp('Resize', attrs, [{ dtype: 'int8', dims: [3], values: [-1, -3, -5] }, floats([2], [0, 2], { constant: true }), undefined, known(5)]);
    expect(toNumbers(y!)).toEqual([-1, -3, -5, 10, 10]);
  });

  it('refuses what has no kernel', async () => {
    const operands = [{ dtype: 'int8', dims: DIMS, values: Array.from(x, () => 0) } as const, undefined, undefined, known(1, 2, 3, 3)];
    await expect(runOp('Resize', { ...RESIZE, mode: 'cubic' }, operands)).rejects.toThrow('no cubic resize of int8');
    await expect(runOp('Resize', { ...RESIZE, antialias: 1 }, operands)).rejects.toThrow('no antialiased linear resize of int8');
  });
});
