/**
 * Ops that take parts or join them: Concat, Split, Slice, ReverseSequence, Trilu.
 */
import type { OpAttrs } from '../ir/ops.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { movement, picking } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpTable } from './def.ts';
import { INDEX, INT64 } from './dtypes.ts';
import { expectDims, expectScalar, input, normalizeAxes, normalizeAxis, rejectInput, staticInts, staticNumbers } from './shapes.ts';
import { flag, int, optionalInt } from './specs.ts';
import { offsets, rowMajorStrides } from './values.ts';
import type { Known } from './values.ts';

type SliceOp = 'Concat' | 'ReverseSequence' | 'Slice' | 'Split' | 'Trilu';

const ONE = { min: 1, max: 1 };
const MANY = { min: 1, max: Number.POSITIVE_INFINITY };

function inferConcat(attrs: OpAttrs['Concat'], context: InferContext): readonly TensorType[] {
  const first = input(context, 0, 'inputs[0]', { minRank: 1 });
  const rank = first.dims.length;
  const axis = normalizeAxis(attrs.axis, rank);
  let total = 0;
  for (let i = 0; i < context.inputCount; i++) {
    const { dims } = input(context, i, `inputs[${i}]`, { dtype: first.dtype, rank });
    if (!dims.every((dim, a) => a === axis || dim === first.dims[a])) {
      rejectInput(context, i, `inputs[${i}]`, `must match [${first.dims.join(',')}] on every axis but ${axis}`);
    }
    total += dims[axis]!;
  }
  return [{ dtype: first.dtype, dims: first.dims.map((dim, a) => (a === axis ? total : dim)) }];
}

/** One-dimensional values one after the other, which is all that shape arithmetic joins. */
function concatKnown(context: InferContext): Known {
  const parts: number[] = [];
  for (let i = 0; i < context.inputCount; i++) {
    const values = context.numbers(i);
    if (!values || context.type(i).dims.length !== 1) return undefined;
    parts.push(...values);
  }
  return parts;
}

/** One sliced axis: `count` elements from `start`, `step` apart. */
interface AxisSlice {
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

/**
 * ONNX's clamping (https://onnx.ai/onnx/operators/onnx__Slice.html): NumPy's, but for a backward slice that starts before
 * the first element, which starts at it.
 */
export function sliceAxis(size: number, start: number, end: number, step: number): AxisSlice {
  if (step === 0) throw new ShapeError('steps must not be 0');
  const clamp = (index: number, low: number, high: number): number => Math.min(Math.max(index < 0 ? index + size : index, low), high);
  const from = step > 0 ? clamp(start, 0, size) : clamp(start, 0, size - 1);
  const to = step > 0 ? clamp(end, 0, size) : clamp(end, -1, size - 1);
  return { start: from, step, count: size === 0 ? 0 : Math.max(0, Math.ceil((to - from) / step)) };
}

function sliceAxes(context: InferContext): AxisSlice[] {
  const { dims } = input(context, 0, 'data', { minRank: 1 });
  const starts = staticNumbers(context, 1, 'starts');
  const ends = staticNumbers(context, 2, 'ends');
  const axes = context.optionalType(3) ? staticInts(context, 3, 'axes') : starts.map((_, axis) => axis);
  const steps = context.optionalType(4) ? staticNumbers(context, 4, 'steps') : starts.map(() => 1);
  const lengths = [starts.length, ends.length, axes.length, steps.length];
  if (new Set(lengths).size > 1) throw new ShapeError(`starts, ends, axes and steps must have one length, found ${lengths.join(', ')}`);
  const slices: AxisSlice[] = dims.map((size) => ({ start: 0, step: 1, count: size }));
  for (const [i, axis] of normalizeAxes(axes, dims.length).entries()) {
    slices[axis] = sliceAxis(dims[axis]!, starts[i]!, ends[i]!, steps[i]!);
  }
  return slices;
}

function sliceKnown(context: InferContext): Known {
  const values = context.numbers(0);
  if (!values) return undefined;
  const slices = sliceAxes(context);
  const strides = rowMajorStrides(context.type(0).dims);
  const start = slices.reduce((sum, slice, axis) => sum + slice.start * strides[axis]!, 0);
  const order = offsets(slices.map((slice) => slice.count), slices.map((slice, axis) => slice.step * strides[axis]!), start);
  return order.map((offset) => values[offset]!);
}

/** Sizes of the parts: given, or as even as ONNX makes them (all ⌈size / n⌉ but the last). */
function splitSizes(attrs: OpAttrs['Split'], context: InferContext, size: number): readonly number[] {
  if (context.optionalType(1)) {
    const sizes = staticInts(context, 1, 'split');
    const total = sizes.reduce((sum, part) => sum + part, 0);
    if (sizes.length !== context.outputCount || total !== size || sizes.some((part) => part < 0)) {
      throw new ShapeError(`split [${sizes.join(',')}] must give ${context.outputCount} parts that add up to ${size}`);
    }
    return sizes;
  }
  const count = attrs.num_outputs ?? context.outputCount;
  if (count !== context.outputCount) throw new ShapeError(`attribute 'num_outputs' must be ${context.outputCount}, found ${count}`);
  const part = Math.ceil(size / count);
  const last = size - part * (count - 1);
  if (last < 0) throw new ShapeError(`${size} elements do not split into ${count} parts of ${part}`);
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? last : part));
}

function inferSplit(attrs: OpAttrs['Split'], context: InferContext): readonly TensorType[] {
  const { dtype, dims } = input(context, 0, 'input', { minRank: 1 });
  const axis = normalizeAxis(attrs.axis, dims.length);
  return splitSizes(attrs, context, dims[axis]!).map((part) => ({ dtype, dims: dims.map((dim, a) => (a === axis ? part : dim)) }));
}

function splitKnown(attrs: OpAttrs['Split'], context: InferContext): readonly Known[] {
  const values = context.numbers(0);
  const { dims } = context.type(0);
  if (!values || dims.length !== 1) return [];
  let start = 0;
  return splitSizes(attrs, context, dims[0]!).map((part) => values.slice(start, (start += part)));
}

function inferReverse(attrs: OpAttrs['ReverseSequence'], context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'input', { minRank: 2 });
  const { batch_axis: batch, time_axis: time } = attrs;
  if (!((batch === 0 && time === 1) || (batch === 1 && time === 0))) {
    throw new ShapeError(`batch_axis and time_axis must be 0 and 1 in some order, found ${batch} and ${time}`);
  }
  input(context, 1, 'sequence_lens', { dtypes: INT64 });
  expectDims(context, 1, 'sequence_lens', [x.dims[batch]!], 'to match the batch');
  return [x];
}

export const SLICE: Pick<OpTable, SliceOp> = {
  Concat: {
    since: 1,
    domain: '',
    inputs: MANY,
    outputs: ONE,
    attrs: { axis: int() },
    infer: inferConcat,
    propagate: (_attrs, context) => [concatKnown(context)],
    cost: movement,
  },
  ReverseSequence: {
    since: 10,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: ONE,
    attrs: { batch_axis: int(1), time_axis: int(0) },
    infer: inferReverse,
    cost: movement,
  },
  Slice: {
    since: 1,
    domain: '',
    inputs: { min: 3, max: 5 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      for (const [i, name] of ['starts', 'ends', 'axes', 'steps'].entries()) {
        if (context.optionalType(i + 1)) input(context, i + 1, name, { dtypes: INDEX, rank: 1 });
      }
      const dims: Dims = sliceAxes(context).map((slice) => slice.count);
      return [{ dtype: context.type(0).dtype, dims }];
    },
    propagate: (_attrs, context) => [sliceKnown(context)],
    cost: picking,
  },
  Split: {
    since: 1,
    domain: '',
    inputs: { min: 1, max: 2 },
    outputs: MANY,
    attrs: { axis: int(0), num_outputs: optionalInt },
    infer: inferSplit,
    propagate: splitKnown,
    cost: movement,
  },
  Trilu: {
    since: 14,
    domain: '',
    inputs: { min: 1, max: 2 },
    outputs: ONE,
    attrs: { upper: flag(1) },
    infer(_attrs, context) {
      expectScalar(context, 1, 'k', { dtypes: INT64 });
      return [input(context, 0, 'input', { minRank: 2 })];
    },
    cost: movement,
  },
};
