/**
 * Ops that move or resample pixels: Pad, Resize, DepthToSpace, SpaceToDepth, GridSample.
 */
import type { OpAttrs } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { bytesMoved, movement } from './cost.ts';
import type { InputTypes } from './cost.ts';
import { NotStaticError, ShapeError } from './def.ts';
import type { AttrSpecs, InferContext, OpCost, OpTable } from './def.ts';
import { FLOAT, FLOAT32, INDEX, INT64 } from './dtypes.ts';
import { expectScalar, input, normalizeAxes, optionalInput, rejectInput, staticInts } from './shapes.ts';
import { flag, float, int, oneOf, optionalInts } from './specs.ts';

type SpatialOp = 'DepthToSpace' | 'GridSample' | 'Pad' | 'Resize' | 'SpaceToDepth';

const ONE = { min: 1, max: 1 };

/** Size of a padded axis; pads may be negative. A reflection reaches back one element less than there are. */
function padded(mode: OpAttrs['Pad']['mode'], axis: number, size: number, begin: number, end: number): number {
  const pads = `pads ${begin} and ${end}`;
  if (size + begin + end < 0) throw new ShapeError(`${pads} remove more than the ${size} elements of axis ${axis}`);
  if (mode === 'reflect' && Math.max(begin, end, 0) > Math.max(size - 1, 0)) {
    throw new ShapeError(`${pads} must be less than the ${size} elements of axis ${axis} to reflect`);
  }
  return size + begin + end;
}

function inferPad(attrs: OpAttrs['Pad'], context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'data');
  input(context, 1, 'pads', { dtypes: INT64, rank: 1 });
  expectScalar(context, 2, 'constant_value', { dtype: x.dtype });
  const pads = staticInts(context, 1, 'pads');
  const rank = x.dims.length;
  optionalInput(context, 3, 'axes', { dtypes: INDEX });
  const axes = context.optionalType(3) ? normalizeAxes(staticInts(context, 3, 'axes'), rank) : x.dims.map((_, axis) => axis);
  if (pads.length !== 2 * axes.length) rejectInput(context, 1, 'pads', `must hold ${2 * axes.length} integers, begins then ends`);
  const dims = [...x.dims];
  for (const [i, axis] of axes.entries()) {
    dims[axis] = padded(attrs.mode, axis, x.dims[axis]!, pads[i]!, pads[axes.length + i]!);
  }
  return [{ dtype: x.dtype, dims }];
}

/** Whether the input is there and not an empty tensor, which older models write for "none". */
function given(context: InferContext, index: number): boolean {
  const type = context.optionalType(index);
  return type !== undefined && elementCount(type.dims) > 0;
}

/** Values of a resize input, one for each resized axis. */
function resizeValues(context: InferContext, index: number, name: string, count: number): readonly number[] {
  const values = context.numbers(index);
  if (!values) throw new NotStaticError(`the output's shape depends on input ${index} (${name}), whose value is not known at build`);
  if (values.length !== count) rejectInput(context, index, name, `must hold ${count} values, one per resized axis`);
  return values;
}

/** Sizes reached under the aspect ratio policy; halves round up, in float32 as runtimes compute. */
function keepAspect(policy: OpAttrs['Resize']['keep_aspect_ratio_policy'], from: Dims, sizes: readonly number[]): readonly number[] {
  if (policy === 'stretch') return sizes;
  const scales = sizes.map((size, i) => Math.fround(size / from[i]!));
  const scale = policy === 'not_larger' ? Math.min(...scales) : Math.max(...scales);
  return from.map((size) => Math.floor(Math.fround(scale * size) + 0.5));
}

function inferResize(attrs: OpAttrs['Resize'], context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'X', { minRank: 1 });
  const axes = attrs.axes ? normalizeAxes(attrs.axes, x.dims.length) : x.dims.map((_, axis) => axis);
  const from = axes.map((axis) => x.dims[axis]!);
  if (given(context, 2) === given(context, 3)) throw new ShapeError('exactly one of input 2 (scales) and input 3 (sizes) must be given');
  const dims = [...x.dims];
  if (given(context, 2)) {
    input(context, 2, 'scales', { dtypes: FLOAT32, rank: 1 });
    const scales = resizeValues(context, 2, 'scales', axes.length);
    if (!scales.every((scale) => scale > 0)) throw new ShapeError(`scales must be positive, found [${scales.join(',')}]`);
    // onnxruntime multiplies in float32 and ignores the region of interest here, also for tf_crop_and_resize.
    for (const [i, axis] of axes.entries()) dims[axis] = Math.floor(Math.fround(from[i]! * Math.fround(scales[i]!)));
  } else {
    input(context, 3, 'sizes', { dtypes: INT64, rank: 1 });
    const sizes = resizeValues(context, 3, 'sizes', axes.length);
    if (sizes.some((size) => size < 0)) throw new ShapeError(`sizes must be 0 or more, found [${sizes.join(',')}]`);
    const reached = keepAspect(attrs.keep_aspect_ratio_policy, from, sizes);
    for (const [i, axis] of axes.entries()) dims[axis] = reached[i]!;
  }
  return [{ dtype: x.dtype, dims }];
}

const RESIZE_ATTRS: AttrSpecs<'Resize'> = {
  antialias: flag(0),
  axes: optionalInts,
  coordinate_transformation_mode: oneOf(
    [
      'half_pixel',
      'half_pixel_symmetric',
      'pytorch_half_pixel',
      'align_corners',
      'asymmetric',
      'tf_crop_and_resize',
      'tf_half_pixel_for_nn',
    ],
    'half_pixel',
  ),
  cubic_coeff_a: float(-0.75),
  exclude_outside: flag(0),
  extrapolation_value: float(0),
  keep_aspect_ratio_policy: oneOf(['stretch', 'not_larger', 'not_smaller'], 'stretch'),
  mode: oneOf(['nearest', 'linear', 'cubic'], 'nearest'),
  nearest_mode: oneOf(['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'], 'round_prefer_floor'),
};

/** Taps per output element along one axis. */
const TAPS = { linear: 2, cubic: 4 } as const;

/** Every tap is one multiply-add; nearest has none. */
function interpolation(mode: 'nearest' | keyof typeof TAPS, axes: number, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  const taps = mode === 'nearest' ? 0 : TAPS[mode] ** axes;
  return { flops: 2 * taps * elementCount(outputs[0]?.dims ?? []), bytes: bytesMoved(inputs, outputs) };
}

function inferGridSample(_attrs: unknown, context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 3 });
  const rank = x.dims.length;
  const grid = input(context, 1, 'grid', { dtypes: FLOAT, rank });
  if (grid.dims[0] !== x.dims[0]) rejectInput(context, 1, 'grid', `must have the batch of X, ${x.dims[0]}`);
  if (grid.dims[rank - 1] !== rank - 2) rejectInput(context, 1, 'grid', `must end in ${rank - 2} coordinates`);
  return [{ dtype: x.dtype, dims: [x.dims[0]!, x.dims[1]!, ...grid.dims.slice(1, -1)] }];
}

/** Checks an image [N,C,H,W] and the block size that divides it. */
function image(attrs: { readonly blocksize: number }, context: InferContext): readonly [number, number, number, number] {
  const { dims } = input(context, 0, 'input', { rank: 4 });
  if (attrs.blocksize < 1) throw new ShapeError(`attribute 'blocksize' must be 1 or more, found ${attrs.blocksize}`);
  return dims as unknown as readonly [number, number, number, number];
}

export const SPATIAL: Pick<OpTable, SpatialOp> = {
  DepthToSpace: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { blocksize: int(), mode: oneOf(['DCR', 'CRD'], 'DCR') },
    infer(attrs, context) {
      const [n, c, h, w] = image(attrs, context);
      const b = attrs.blocksize;
      if (c % (b * b) !== 0) rejectInput(context, 0, 'input', `must have channels divisible by ${b * b}`);
      return [{ dtype: context.type(0).dtype, dims: [n, c / (b * b), h * b, w * b] }];
    },
    cost: movement,
  },
  GridSample: {
    since: 16,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: ONE,
    attrs: {
      align_corners: flag(0),
      mode: oneOf(['linear', 'nearest', 'cubic'], 'linear'),
      padding_mode: oneOf(['zeros', 'border', 'reflection'], 'zeros'),
    },
    infer: inferGridSample,
    cost: (attrs, inputs, outputs) => interpolation(attrs.mode, (inputs[0]?.dims.length ?? 4) - 2, inputs, outputs),
  },
  Pad: {
    since: 1,
    domain: '',
    inputs: { min: 2, max: 4 },
    outputs: ONE,
    attrs: { mode: oneOf(['constant', 'reflect', 'edge', 'wrap'], 'constant') },
    infer: inferPad,
    cost: movement,
  },
  Resize: {
    since: 10,
    domain: '',
    inputs: { min: 1, max: 4 },
    outputs: ONE,
    attrs: RESIZE_ATTRS,
    infer: inferResize,
    cost(attrs, inputs, outputs) {
      const from = inputs[0]?.dims ?? [];
      const axes = from.filter((dim, axis) => dim !== outputs[0]?.dims[axis]).length;
      return interpolation(attrs.mode, axes, inputs, outputs);
    },
  },
  SpaceToDepth: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { blocksize: int() },
    infer(attrs, context) {
      const [n, c, h, w] = image(attrs, context);
      const b = attrs.blocksize;
      if (h % b !== 0 || w % b !== 0) rejectInput(context, 0, 'input', `must have height and width divisible by ${b}`);
      return [{ dtype: context.type(0).dtype, dims: [n, c * b * b, h / b, w / b] }];
    },
    cost: movement,
  },
};
