/**
 * Resize in float64, written from ONNX's specification (https://onnx.ai/onnx/operators/onnx__Resize.html), one axis after the other. Where
 * the text leaves a choice, it does as ONNX's reference implementation: lengths under a scale or an aspect ratio policy stay
 * fractional in `align_corners`, and the border repeats under an antialiasing filter.
 */
import type { OpAttrs } from '../../src/ir/ops.ts';
import { type Dims, elementCount } from '../../src/ir/tensor.ts';
import { eachCoordinate } from './references.ts';

type Attrs = OpAttrs['Resize'];

/** One value per resized axis, in the order of the attribute `axes`; the region has all begins before all ends. */
export interface ResizeRequest {
  readonly scales?: readonly number[] | undefined;
  readonly sizes?: readonly number[] | undefined;
  readonly roi?: readonly number[] | undefined;
}

interface Axis {
  readonly axis: number;
  readonly from: number;
  readonly to: number;
  readonly scale: number;
  readonly roi: readonly [number, number];
}

function resizedAxes(attrs: Attrs, dims: Dims, { scales, sizes, roi }: ResizeRequest): Axis[] {
  const axes = attrs.axes?.map((axis) => (axis + dims.length) % dims.length) ?? dims.map((_, axis) => axis);
  const own = axes.map((axis, i) => scales?.[i] ?? sizes![i]! / dims[axis]!);
  const { keep_aspect_ratio_policy: policy } = attrs;
  const common = policy === 'not_larger' ? Math.min(...own) : Math.max(...own);
  return axes.map((axis, i) => {
    const from = dims[axis]!;
    const kept = sizes !== undefined && policy !== 'stretch';
    const scale = kept ? common : own[i]!;
    const to = kept ? Math.floor(scale * from + 0.5) : (sizes?.[i] ?? Math.floor(scale * from));
    return { axis, from, to, scale, roi: roi ? [roi[i]!, roi[axes.length + i]!] : [0, 1] };
  });
}

function coordinate(attrs: Attrs, x: number, { from, to, scale, roi: [begin, end] }: Axis): number {
  const width = scale * from;
  switch (attrs.coordinate_transformation_mode) {
    case 'half_pixel':
      return (x + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric':
      return (from / 2) * (1 - to / width) + (x + 0.5) / scale - 0.5;
    case 'pytorch_half_pixel':
      return to > 1 ? (x + 0.5) / scale - 0.5 : 0;
    case 'align_corners':
      return to > 1 ? (x * (from - 1)) / (width - 1) : 0;
    case 'asymmetric':
      return x / scale;
    case 'tf_crop_and_resize':
      return to > 1 ? begin * (from - 1) + (x * (end - begin) * (from - 1)) / (width - 1) : 0.5 * (begin + end) * (from - 1);
    case 'tf_half_pixel_for_nn':
      return (x + 0.5) / scale;
    default:
      return attrs.coordinate_transformation_mode satisfies never;
  }
}

function weigh({ mode, cubic_coeff_a: a }: Attrs, distance: number): number {
  const d = Math.abs(distance);
  if (mode === 'linear') return Math.max(0, 1 - d);
  if (d <= 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
  return d < 2 ? a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a : 0;
}

function nearest(mode: Attrs['nearest_mode'], x: number): number {
  const half = x - Math.floor(x) === 0.5;
  switch (mode) {
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    case 'round_prefer_floor':
      return half ? Math.floor(x) : Math.round(x);
    case 'round_prefer_ceil':
      return half ? Math.ceil(x) : Math.round(x);
    default:
      return mode satisfies never;
  }
}

/** The value at a position of the output, of a row of the input. */
function sample(attrs: Attrs, row: readonly number[], position: number, axis: Axis): number {
  const x = coordinate(attrs, position, axis);
  const last = axis.from - 1;
  if (attrs.coordinate_transformation_mode === 'tf_crop_and_resize' && (x < 0 || x > last)) return attrs.extrapolation_value;
  const at = (index: number): number => row[Math.min(Math.max(index, 0), last)]!;
  if (attrs.mode === 'nearest') return at(nearest(attrs.nearest_mode, x));
  const shrink = attrs.antialias ? Math.min(1, axis.scale) : 1;
  let [sum, total] = [0, 0];
  const reach = Math.ceil(2 / shrink) + 1;
  for (let index = Math.floor(x) - reach; index <= Math.floor(x) + reach; index++) {
    if (attrs.exclude_outside && (index < 0 || index > last)) continue;
    const weight = weigh(attrs, (index - x) * shrink);
    sum += weight * at(index);
    total += weight;
  }
  return sum / total;
}

export function resizeReference(attrs: Attrs, dims: Dims, x: ArrayLike<number>, request: ResizeRequest): { readonly dims: Dims; readonly values: readonly number[] } {
  return resizedAxes(attrs, dims, request).reduce<{ readonly dims: Dims; readonly values: readonly number[] }>((given, axis) => {
    const inner = elementCount(given.dims.slice(axis.axis + 1));
    const to = given.dims.with(axis.axis, axis.to);
    const values = eachCoordinate(to).map((c) => {
      const outer = c.slice(0, axis.axis).reduce((index, value, a) => index * given.dims[a]! + value, 0);
      const within = c.slice(axis.axis + 1).reduce((index, value, a) => index * given.dims[axis.axis + 1 + a]! + value, 0);
      const row = Array.from({ length: axis.from }, (_, k) => given.values[(outer * axis.from + k) * inner + within]!);
      return sample(attrs, row, c[axis.axis]!, axis);
    });
    return { dims: to, values };
  }, { dims, values: Array.from(x) });
}
