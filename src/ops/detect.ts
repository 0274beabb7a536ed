/**
 * Ops of detection heads, and those whose output length depends on data: their types are upper bounds (bounded.ts).
 */
import type { OpAttrs } from '../ir/ops.ts';
import { elementCount, toNumbers } from '../ir/tensor.ts';
import type { TensorType } from '../ir/tensor.ts';
import { bytesMoved } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpTable } from './def.ts';
import { ANY, FLOAT, FLOAT32, INT64 } from './dtypes.ts';
import { expectDims, expectScalar, input, rejectInput } from './shapes.ts';
import { flag, float, int, oneOf } from './specs.ts';
import { rowMajorStrides } from './values.ts';

type DetectOp = 'NonMaxSuppression' | 'NonZero' | 'RoiAlign';

const ONE = { min: 1, max: 1 };

function inferRoiAlign(attrs: OpAttrs['RoiAlign'], context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'X', { dtypes: FLOAT, rank: 4 });
  const rois = input(context, 1, 'rois', { dtype: x.dtype, rank: 2 });
  if (rois.dims[1] !== 4) rejectInput(context, 1, 'rois', 'must have 4 coordinates per region');
  input(context, 2, 'batch_indices', { dtypes: INT64 });
  expectDims(context, 2, 'batch_indices', [rois.dims[0]!], 'to match rois');
  if (attrs.output_height < 1 || attrs.output_width < 1) {
    throw new ShapeError(`the output must be 1×1 or larger, found ${attrs.output_height}×${attrs.output_width}`);
  }
  return [{ dtype: x.dtype, dims: [rois.dims[0]!, x.dims[1]!, attrs.output_height, attrs.output_width] }];
}

function inferSuppression(_attrs: unknown, context: InferContext): readonly TensorType[] {
  const boxes = input(context, 0, 'boxes', { dtypes: FLOAT32, rank: 3 });
  const scores = input(context, 1, 'scores', { dtypes: FLOAT32, rank: 3 });
  if (boxes.dims[2] !== 4) rejectInput(context, 0, 'boxes', 'must have 4 coordinates per box');
  if (scores.dims[0] !== boxes.dims[0] || scores.dims[2] !== boxes.dims[1]) {
    rejectInput(context, 1, 'scores', `must have shape [${boxes.dims[0]},classes,${boxes.dims[1]}] to match boxes`);
  }
  expectScalar(context, 2, 'max_output_boxes_per_class', { dtypes: INT64 });
  expectScalar(context, 3, 'iou_threshold', { dtypes: FLOAT32 });
  expectScalar(context, 4, 'score_threshold', { dtypes: FLOAT32 });
  const [batches, classes, count] = scores.dims as [number, number, number];
  return [{ dtype: 'int64', dims: [batches * classes * Math.min(count, suppressionLimit(context) ?? count), 3] }];
}

/** Most boxes per class, where that is known. Left out, the limit is 0, and nothing is selected. */
function suppressionLimit(context: InferContext): number | undefined {
  if (!context.optionalType(2)) return 0;
  const limit = context.ints(2)?.[0];
  return limit === undefined ? undefined : Math.max(0, limit);
}

/** The values of input 0 where they are known at build, of any size for a constant. */
function dataKnown(context: InferContext): readonly number[] | undefined {
  const constant = context.constant(0);
  return context.numbers(0) ?? (constant && toNumbers(constant));
}

/** Coordinates of the elements that are not zero, one row per axis. */
function nonZeroKnown(context: InferContext): readonly number[] | undefined {
  const values = context.numbers(0);
  if (!values) return undefined;
  const { dims } = context.type(0);
  const found = values.flatMap((value, offset) => (value === 0 ? [] : [offset]));
  return rowMajorStrides(dims).flatMap((stride, axis) => found.map((offset) => Math.floor(offset / stride) % dims[axis]!));
}

export const DETECT: Pick<OpTable, DetectOp> = {
  NonMaxSuppression: {
    since: 10,
    domain: '',
    inputs: { min: 2, max: 5 },
    outputs: ONE,
    attrs: { center_point_box: flag(0) },
    infer: inferSuppression,
    bounds: (_attrs, context) => (suppressionLimit(context) === 0 ? undefined : 0),
    /** Every score compared with the threshold: which pairs of boxes are compared is for the data to decide. */
    cost: (_attrs, inputs, outputs) => ({
      flops: elementCount(inputs[1]?.dims ?? []),
      bytes: bytesMoved(inputs, outputs),
    }),
  },
  NonZero: {
    since: 9,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const { dims } = input(context, 0, 'X', { dtypes: ANY, minRank: 1 });
      const values = dataKnown(context);
      return [{ dtype: 'int64', dims: [dims.length, values ? values.filter((value) => value !== 0).length : elementCount(dims)] }];
    },
    bounds: (_attrs, context) => (dataKnown(context) ? undefined : 1),
    propagate: (_attrs, context) => [nonZeroKnown(context)],
  },
  RoiAlign: {
    since: 10,
    domain: '',
    inputs: { min: 3, max: 3 },
    outputs: ONE,
    attrs: {
      coordinate_transformation_mode: oneOf(['half_pixel', 'output_half_pixel'], 'half_pixel'),
      mode: oneOf(['avg', 'max'], 'avg'),
      output_height: int(1),
      output_width: int(1),
      sampling_ratio: int(0),
      spatial_scale: float(1),
    },
    infer: inferRoiAlign,
    /** Four taps per sample; an adaptive sampling ratio is counted as 2×2 samples. */
    cost: (attrs, inputs, outputs) => ({
      flops: 8 * (attrs.sampling_ratio || 2) ** 2 * elementCount(outputs[0]?.dims ?? []),
      bytes: bytesMoved(inputs, outputs),
    }),
  },
};
