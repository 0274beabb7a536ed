/**
 * Linear quantization: y = saturate(round(x / scale) + zero point) and back, per tensor, per axis or per block.
 */
import { elementCount } from '../ir/tensor.ts';
import type { DType, TensorType } from '../ir/tensor.ts';
import { perOutput } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpTable } from './def.ts';
import { FLOAT, FLOAT32, QUANTIZED } from './dtypes.ts';
import type { DTypeSet } from './dtypes.ts';
import { expectDims, input, normalizeAxis, optionalInput, rejectInput } from './shapes.ts';
import { flag, int, optionalDtype } from './specs.ts';

type QuantizeOp = 'DequantizeLinear' | 'DynamicQuantizeLinear' | 'QuantizeLinear';

const ONE = { min: 1, max: 1 };
const TWO_OR_THREE = { min: 2, max: 3 };
/** What QuantizeLinear reads: floats, and accumulators of integer products. */
const QUANTIZABLE: DTypeSet = { label: 'a floating type or int32', members: new Set([...FLOAT.members, 'int32'] as const) };

interface Granularity {
  readonly axis: number;
  readonly block_size: number;
}

/** Checks the scale's shape against X: one element, one per index of `axis`, or one per block of `block_size` along it. */
function checkScale(attrs: Granularity, context: InferContext, x: TensorType, name: string): TensorType {
  const scale = input(context, 1, name, { dtypes: FLOAT });
  const rank = x.dims.length;
  if (attrs.block_size < 0) throw new ShapeError(`attribute 'block_size' must be 0 or more, found ${attrs.block_size}`);
  if (attrs.block_size > 0) {
    const axis = normalizeAxis(attrs.axis, rank);
    const blocks = x.dims.map((dim, i) => (i === axis ? Math.ceil(dim / attrs.block_size) : dim));
    expectDims(context, 1, name, blocks, `to hold one scale per block of ${attrs.block_size} along axis ${axis}`);
  } else if (elementCount(scale.dims) !== 1 || scale.dims.length > 1) {
    if (scale.dims.length !== 1) rejectInput(context, 1, name, 'must be a scalar or a vector');
    const axis = normalizeAxis(attrs.axis, rank);
    expectDims(context, 1, name, [x.dims[axis]!], `to match axis ${axis} of the tensor`);
  }
  return scale;
}

/** Checks a zero point: of the scale's shape, where a scalar and a vector of one are the same. */
function checkZeroPoint(context: InferContext, scale: TensorType, name: string, dtype?: DType): TensorType | undefined {
  const zero = optionalInput(context, 2, name, dtype === undefined ? { dtypes: QUANTIZED } : { dtype });
  const one = zero && elementCount(zero.dims) === 1 && elementCount(scale.dims) === 1;
  if (zero && !one) expectDims(context, 2, name, scale.dims, 'to match the scale');
  return zero;
}

function quantizedDtype(attrs: { readonly output_dtype: DType | undefined }, zero: TensorType | undefined): DType {
  if (zero && attrs.output_dtype !== undefined && attrs.output_dtype !== zero.dtype) {
    throw new ShapeError(`attribute 'output_dtype' is ${attrs.output_dtype}, but y_zero_point is ${zero.dtype}`);
  }
  const dtype = zero?.dtype ?? attrs.output_dtype ?? 'uint8';
  if (!QUANTIZED.members.has(dtype) || dtype === 'int32') throw new ShapeError(`cannot quantize to ${dtype}`);
  return dtype;
}

export const QUANTIZE: Pick<OpTable, QuantizeOp> = {
  DequantizeLinear: {
    since: 10,
    domain: '',
    inputs: TWO_OR_THREE,
    outputs: ONE,
    attrs: { axis: int(1), block_size: int(0) },
    infer(attrs, context) {
      const x = input(context, 0, 'x', { dtypes: QUANTIZED });
      const scale = checkScale(attrs, context, x, 'x_scale');
      checkZeroPoint(context, scale, 'x_zero_point', x.dtype);
      return [{ dtype: scale.dtype, dims: x.dims }];
    },
    cost: perOutput(2),
  },
  DynamicQuantizeLinear: {
    since: 11,
    domain: '',
    inputs: ONE,
    outputs: { min: 3, max: 3 },
    attrs: {},
    infer(_attrs, context) {
      const { dims } = input(context, 0, 'x', { dtypes: FLOAT32 });
      return [{ dtype: 'uint8', dims }, { dtype: 'float32', dims: [] }, { dtype: 'uint8', dims: [] }];
    },
    cost: perOutput(6),
  },
  QuantizeLinear: {
    since: 10,
    domain: '',
    inputs: TWO_OR_THREE,
    outputs: ONE,
    attrs: { axis: int(1), block_size: int(0), saturate: flag(1), output_dtype: optionalDtype },
    infer(attrs, context) {
      const x = input(context, 0, 'x', { dtypes: QUANTIZABLE });
      const scale = checkScale(attrs, context, x, 'y_scale');
      return [{ dtype: quantizedDtype(attrs, checkZeroPoint(context, scale, 'y_zero_point')), dims: x.dims }];
    },
    cost: perOutput(4),
  },
};
