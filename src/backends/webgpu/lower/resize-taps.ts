/**
 * Resize as taps: for every position of an output axis, which input positions it mixes and with which weights.
 *
 * All of ONNX's coordinate transformations, cubic coefficients, antialiasing and border rules end in such a table, one per
 * axis, so that one kernel serves them all (https://onnx.ai/onnx/operators/onnx__Resize.html; the same idea as the
 * reference implementation in onnx/reference/ops/op_resize.py). Coordinates are computed in float32, as runtimes do: the
 * pixel that nearest picks depends on it.
 */
import type { OpAttrs } from '../../../ir/ops.ts';

type ResizeAttrs = OpAttrs['Resize'];

/** What one axis needs. */
export interface ResizeAxis {
  readonly from: number;
  readonly to: number;
  readonly scale: number;
  /** The output's length before it became a whole number: scale · from, where scales or an aspect ratio policy are given. */
  readonly length: number;
  /** Begin and end of the region of interest, in fractions of the axis. */
  readonly roi: readonly [number, number];
}

export interface AxisTaps {
  readonly count: number;
  /** [to, count]; −1 in the first tap marks a position outside the image, which gets the extrapolation value. */
  readonly indices: Int32Array;
  readonly weights: Float32Array;
}

const f32 = Math.fround;

function sourceCoordinate(mode: ResizeAttrs['coordinate_transformation_mode'], position: number, axis: ResizeAxis): number {
  const { from, to, scale, length, roi } = axis;
  const x = position;
  switch (mode) {
    case 'half_pixel':
      return f32(f32(f32(x + 0.5) / scale) - 0.5);
    case 'half_pixel_symmetric': {
      // The output's true size is not whole; the difference is shared by both ends.
      const adjustment = f32(to / f32(scale * from));
      const offset = f32(f32(from / 2) * f32(1 - adjustment));
      return f32(f32(offset + f32(f32(x + 0.5) / scale)) - 0.5);
    }
    case 'pytorch_half_pixel':
      return to > 1 ? f32(f32(f32(x + 0.5) / scale) - 0.5) : 0;
    case 'align_corners':
      return to === 1 ? 0 : f32(f32(x * (from - 1)) / f32(length - 1));
    case 'asymmetric':
      return f32(x / scale);
    case 'tf_crop_and_resize': {
      const [begin, end] = roi;
      if (to === 1) return f32(0.5 * f32(begin + end) * (from - 1));
      return f32(f32(begin * (from - 1)) + f32(f32(x * f32(end - begin) * (from - 1)) / f32(length - 1)));
    }
    case 'tf_half_pixel_for_nn':
      return f32(f32(x + 0.5) / scale);
    default:
      return mode satisfies never;
  }
}

function nearest(mode: ResizeAttrs['nearest_mode'], x: number): number {
  switch (mode) {
    case 'round_prefer_floor':
      return x === Math.floor(x) + 0.5 ? Math.floor(x) : Math.round(x);
    case 'round_prefer_ceil':
      return Math.round(x);
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    default:
      return mode satisfies never;
  }
}

/** Keys' cubic convolution kernel. */
function cubic(a: number, distance: number): number {
  const d = Math.abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

type Tap = readonly [index: number, weight: number];

/** Taps around a coordinate, before borders are dealt with. The filter is stretched where antialiasing shrinks an image. */
function filterTaps(attrs: ResizeAttrs, x: number, scale: number): Tap[] {
  const { mode, cubic_coeff_a: a, antialias } = attrs;
  if (mode === 'nearest') return [[nearest(attrs.nearest_mode, x), 1]];
  const stretch = antialias ? Math.min(scale, 1) : 1;
  const weigh = (d: number): number => (mode === 'linear' ? Math.max(0, 1 - Math.abs(d)) : cubic(a, d));
  const reach = (mode === 'linear' ? 1 : 2) / stretch;
  const [first, last] = [Math.floor(x - reach) + 1, Math.ceil(x + reach) - 1];
  const taps: Tap[] = [];
  for (let index = Math.min(first, Math.floor(x)); index <= Math.max(last, Math.floor(x)); index++) taps.push([index, weigh((index - x) * stretch)]);
  if (stretch === 1) return taps;
  const total = taps.reduce((sum, [, weight]) => sum + weight, 0);
  return taps.map(([index, weight]) => [index, weight / total]);
}

/** Taps inside the image: the border repeats, or with exclude_outside what lies beyond is left out. */
function inside(attrs: ResizeAttrs, taps: readonly Tap[], from: number): Tap[] {
  const within = ([index]: Tap): boolean => index >= 0 && index < from;
  // Antialiasing never repeats the border where it shrinks: it mixes what the filter covers of the image.
  if (attrs.mode !== 'nearest' && attrs.exclude_outside) {
    const kept = taps.filter(within);
    const total = kept.reduce((sum, [, weight]) => sum + weight, 0);
    return kept.map(([index, weight]) => [index, weight / total]);
  }
  return taps.map(([index, weight]) => [Math.min(Math.max(index, 0), from - 1), weight]);
}

/** The table of one axis. */
export function axisTaps(attrs: ResizeAttrs, axis: ResizeAxis): AxisTaps {
  const { coordinate_transformation_mode: transform } = attrs;
  const rows = Array.from({ length: axis.to }, (_, position): readonly Tap[] => {
    const x = sourceCoordinate(transform, position, axis);
    if (transform === 'tf_crop_and_resize' && (x < 0 || x > axis.from - 1)) return [[-1, 0]];
    return inside(attrs, filterTaps(attrs, x, axis.scale), axis.from);
  });
  const count = Math.max(1, ...rows.map((row) => row.length));
  const indices = new Int32Array(axis.to * count);
  const weights = new Float32Array(axis.to * count);
  for (const [position, row] of rows.entries()) {
    for (const [k, [index, weight]] of row.entries()) {
      indices[position * count + k] = index;
      weights[position * count + k] = weight;
    }
  }
  return { count, indices, weights };
}
