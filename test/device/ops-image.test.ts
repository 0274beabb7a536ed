/** Pad, Resize, GridSample, RoiAlign and LRN on SwiftShader against references written here or onnxruntime. */
import { describe, expect, it } from 'vitest';
import type { OpAttrs } from '../../src/ir/ops.ts';
import { type Dims, toNumbers } from '../../src/ir/tensor.ts';
import { distance, noDevice, noise } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';
import { counting, floats, ints, known, type Operand, oracle, runOp } from './run-op.ts';

const RESIZE: OpAttrs['Resize'] = {
  antialias: 0,
  axes: undefined,
  coordinate_transformation_mode: 'half_pixel',
  cubic_coeff_a: -0.75,
  exclude_outside: 0,
  extrapolation_value: 0,
  keep_aspect_ratio_policy: 'stretch',
  mode: 'nearest',
  nearest_mode: 'round_prefer_floor',
};

const scales = (...values: readonly number[]): Operand => floats([values.length], values, { constant: true });

describe.skipIf(noDevice)('image ops (skipped without SwiftShader)', () => {
  const source: Record<Exclude<OpAttrs['Pad']['mode'], 'constant'>, (p: number, n: number) => number> = {
    edge: (p, n) => Math.min(Math.max(p, 0), n - 1),
    reflect: (p, n) => (p < 0 ? -p : p >= n ? 2 * (n - 1) - p : p),
    wrap: (p, n) => ((p % n) + n) % n,
  };
  const pads: readonly (readonly [OpAttrs['Pad']['mode'], number[], boolean])[] = [
    ['constant', [0, 0, 1, 2, 0, 0, 3, 0], false],
    ['constant', [0, 1, -1, 2, 1, 0, 1, -1], true],
    ['edge', [0, 0, 2, 5, 0, 1, 1, 1], false],
    ['edge', [0, 0, 1, 1, 0, 0, 1, 1], true],
    ['reflect', [0, 0, 2, 3, 0, 0, 1, 2], false],
    ['wrap', [0, 0, 2, 4, 0, 0, 5, 1], false],
  ];
  it.each((['wrap', 'edge', 'reflect', 'constant'] as const).flatMap((mode) => [[-2, 2], [1, -2], [-1, -2], [-3, 1]].map(([begin, end]) => [mode, begin!, end!] as const)))('Pad %s crops before it pads: %i, %i', async (mode, begin, end) => {
    const operands = [floats([2, 6], counting([2, 6], 1)), known(0, begin, 1, end), floats([], [-7], { constant: true })];
    const [[y], [expected]] = [await runOp('Pad', { mode }, operands), await oracle('Pad', { mode }, operands)];
    expect(toNumbers(y!)).toEqual(expected);
  });

  it.each(pads)('Pad %s by %j, channels-last %j', async (mode, amounts, channelsLast) => {
    const dims = [2, 3, 3, 4];
    const [y] = await runOp('Pad', { mode }, [floats(dims, counting(dims, 1), { channelsLast }), known(...amounts), floats([], [-7])]);
    const expected = eachCoordinate(y!.dims).map((c) => {
      const places = c.map((p, axis) => p - amounts[axis]!);
      if (mode !== 'constant') return broadcastIndex(places.map((p, axis) => source[mode](p, dims[axis]!)), dims) + 1;
      return places.every((p, axis) => p >= 0 && p < dims[axis]!) ? broadcastIndex(places, dims) + 1 : -7;
    });
    expect(y!.dims).toEqual(dims.map((dim, axis) => dim + amounts[axis]! + amounts[axis + 4]!));
    expect(toNumbers(y!)).toEqual(expected);
  });

  it('Pad of chosen axes, with zeros where no value is given', async () => {
    const [y] = await runOp('Pad', { mode: 'constant' }, [ints([2, 2], [1, 2, 3, 4]), known(1, 1), undefined, known(-1)]);
    expect(toNumbers(y!)).toEqual([0, 1, 2, 0, 0, 3, 4, 0]);
  });

  const resizes: readonly (readonly [string, Partial<OpAttrs['Resize']>, Dims, Operand | undefined, Operand | undefined])[] = [
    ['nearest up', {}, [1, 2, 3, 4], scales(1, 1, 2, 2.6), undefined],
    ['nearest asymmetric floor', { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }, [1, 2, 4, 5], scales(1, 1, 2, 3), undefined],
    ['nearest ceil, down', { coordinate_transformation_mode: 'align_corners', nearest_mode: 'ceil' }, [1, 1, 7, 9], undefined, known(1, 1, 4, 5)],
    ['linear up', { mode: 'linear' }, [2, 3, 3, 4], scales(1, 1, 2, 1.5), undefined],
    ['linear align corners', { mode: 'linear', coordinate_transformation_mode: 'align_corners' }, [1, 1, 3, 4], undefined, known(1, 1, 5, 8)],
    ['linear pytorch', { mode: 'linear', coordinate_transformation_mode: 'pytorch_half_pixel' }, [1, 1, 4, 4], undefined, known(1, 1, 1, 3)],
    ['linear antialias, down', { mode: 'linear', antialias: 1 }, [1, 1, 8, 6], undefined, known(1, 1, 3, 2)],
    ['cubic up', { mode: 'cubic' }, [1, 2, 4, 5], scales(1, 1, 2, 1.7), undefined],
    ['cubic without the outside', { mode: 'cubic', exclude_outside: 1, cubic_coeff_a: -0.5 }, [1, 1, 5, 6], undefined, known(1, 1, 3, 4)],
    ['cubic antialias, down', { mode: 'cubic', antialias: 1 }, [1, 1, 9, 8], undefined, known(1, 1, 4, 4)],
    ['two axes only', { mode: 'linear', axes: [2, 3] }, [1, 2, 3, 4], undefined, known(6, 7)],
  ];
  it.each(resizes)('Resize %s', async (_name, options, dims, factors, sizes) => {
    const attrs = { ...RESIZE, ...options };
    const x = noise(dims.reduce((a, b) => a * b), 3);
    const expected = (await oracle('Resize', attrs, [floats(dims, x), undefined, factors, sizes]))[0]!;
    for (const channelsLast of [false, true]) {
      const [y] = await runOp('Resize', attrs, [floats(dims, x, { channelsLast }), undefined, factors, sizes]);
      expect(distance(y!, expected, { absolute: 1e-4, relative: 1e-4 })).toBeLessThan(1);
    }
  });

  it('Resize crops to a region and extrapolates beyond the image', async () => {
    const attrs = { ...RESIZE, mode: 'linear', coordinate_transformation_mode: 'tf_crop_and_resize', extrapolation_value: 10 } as const;
    const [dims, roi] = [[1, 1, 4, 4], floats([8], [0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7], { constant: true })];
    const x = floats(dims, counting(dims, 1));
    const expected = (await oracle('Resize', attrs, [x, roi, undefined, known(1, 1, 3, 3)]))[0]!;
    const [y] = await runOp('Resize', attrs, [x, roi, undefined, known(1, 1, 3, 3)]);
    expect(expected).toContain(10);
    expect(distance(y!, expected)).toBeLessThan(1);
  });

  it('Resize of integers picks them exactly', async () => {
    const [y] = await runOp('Resize', RESIZE, [ints([2, 2], [1, -2, 3, 2_000_000_001]), undefined, scales(1, 2)]);
    expect(toNumbers(y!)).toEqual([1, 1, -2, -2, 3, 3, 2_000_000_001, 2_000_000_001]);
  });

  it('samples a grid bilinearly, zero outside', async () => {
    const dims = [1, 2, 3, 4];
    const x = counting(dims, 1);
    const grid = [-1, -1, 1, 1, 0, 0, 0.3, -0.6, 1.5, 0, -0.9, 1.2];
    const attrs = { align_corners: 0, mode: 'linear', padding_mode: 'zeros' } as const;
    const [y] = await runOp('GridSample', attrs, [floats(dims, x), floats([1, 2, 3, 2], grid)]);
    const expected = eachCoordinate([1, 2, 2, 3]).map(([, c, row, column]) => {
      const [gx, gy] = [grid[(row! * 3 + column!) * 2]!, grid[(row! * 3 + column!) * 2 + 1]!];
      const [px, py] = [((gx + 1) * 4 - 1) / 2, ((gy + 1) * 3 - 1) / 2];
      let sum = 0;
      for (const v of [Math.floor(py), Math.floor(py) + 1]) {
        for (const u of [Math.floor(px), Math.floor(px) + 1]) {
          if (v < 0 || v >= 3 || u < 0 || u >= 4) continue;
          sum += (1 - Math.abs(px - u)) * (1 - Math.abs(py - v)) * x[broadcastIndex([0, c!, v, u], dims)]!;
        }
      }
      return sum;
    });
    expect(distance(y!, expected)).toBeLessThan(1);
  });

  const samplings = (['nearest', 'linear', 'cubic'] as const).flatMap((mode) =>
    (['zeros', 'border', 'reflection'] as const).flatMap((padding) => ([0, 1] as const).map((aligned) => [mode, padding, aligned] as const)),
  );
  it.each(samplings)('samples a grid as onnxruntime does: %s, %s, aligned corners %i', async (mode, padding, aligned) => {
    const attrs = { align_corners: aligned, mode, padding_mode: padding };
    const operands = [floats([2, 3, 4, 5], noise(120, 3)), floats([2, 3, 4, 2], Array.from(noise(48, 4), (v) => Math.fround(v * 1.6)))];
    const [expected] = await oracle('GridSample', attrs, operands);
    const [y] = await runOp('GridSample', attrs, operands);
    expect(distance(y!, expected!, { absolute: 1e-4, relative: 1e-4 })).toBeLessThan(1);
  });

  it('samples a grid to the nearest pixel, folded back at the borders', async () => {
    const attrs = { align_corners: 1, mode: 'nearest', padding_mode: 'reflection' } as const;
    // Five pixels, positions 2, 0, 4, and 5 and 10 folded to 3 and 2.
    const [y] = await runOp('GridSample', attrs, [floats([1, 1, 1, 5], [10, 11, 12, 13, 14]), floats([1, 1, 5, 2], [0, 0, -1, 0, 1, 0, 1.5, 0, 4, 0])]);
    expect(toNumbers(y!)).toEqual([12, 10, 14, 13, 12]);
  });

  it('RoiAlign averages and takes maxima of bilinear samples', async () => {
    const dims = [1, 1, 6, 6];
    const x = counting(dims, 1);
    const roi = [0.5, 1, 4.5, 5];
    const common = { output_height: 2, output_width: 2, sampling_ratio: 2, spatial_scale: 1, coordinate_transformation_mode: 'output_half_pixel' } as const;
    const operands = [floats(dims, x), floats([1, 4], roi), ints([1], [0])];
    const [mean] = await runOp('RoiAlign', { ...common, mode: 'avg' }, operands);
    // x is linear in both coordinates: the mean of the samples is the value at the bin's centre.
    const expected = [0, 1].flatMap((row) => [0, 1].map((column) => 1 + (1 + row * 2 + 1) * 6 + (0.5 + column * 2 + 1)));
    expect(distance(mean!, expected)).toBeLessThan(1);
    const [shifted] = await runOp('RoiAlign', { ...common, mode: 'avg', coordinate_transformation_mode: 'half_pixel' }, operands);
    expect(distance(shifted!, expected.map((value) => value - 3.5))).toBeLessThan(1);
  });

  it.each([false, true])('LRN, channels-last %j', async (channelsLast) => {
    const dims = [1, 6, 2, 2];
    const x = noise(24, 7);
    const attrs = { alpha: 0.5, beta: 0.75, bias: 2, size: 4 };
    const [y] = await runOp('LRN', attrs, [floats(dims, x, { channelsLast })]);
    const expected = eachCoordinate(dims).map(([n, c, h, w]) => {
      let sum = 0;
      // floor((size − 1) / 2) before, ceil((size − 1) / 2) after.
      for (let k = Math.max(0, c! - 1); k <= Math.min(5, c! + 2); k++) sum += x[broadcastIndex([n!, k, h!, w!], dims)]! ** 2;
      return x[broadcastIndex([n!, c!, h!, w!], dims)]! / (2 + (0.5 / 4) * sum) ** 0.75;
    });
    expect(distance(y!, expected)).toBeLessThan(1);
  });
});
