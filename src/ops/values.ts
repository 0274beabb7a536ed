/**
 * Small values known at build: what `propagate` computes with.
 *
 * ONNX calls it data propagation (onnx/defs/data_propagators.h): shape arithmetic such as Shape → Gather → Concat →
 * Reshape is followed while types are inferred. Integer results must be exact; floating results are rounded to their
 * element type after every operation, as a runtime would.
 */
import {
  bfloat16ToNumber,
  DTYPE_BITS,
  elementCount,
  float16ToNumber,
  fromNumbers,
  numberToBfloat16,
  numberToFloat16,
} from '../ir/tensor.ts';
import type { DType, Dims, Tensor, TensorType } from '../ir/tensor.ts';
import type { InferContext } from './def.ts';
import { isInteger, UNSIGNED } from './dtypes.ts';
import { broadcast } from './shapes.ts';

/** Larger tensors are data, not shapes. */
export const MAX_KNOWN_VALUES = 1024;

export type Known = readonly number[] | undefined;

/** `value` as an element of `dtype`; undefined for an integer that does not fit or is not exact. */
export function roundTo(dtype: DType, value: number): number | undefined {
  if (isInteger(dtype)) return fitsInteger(dtype, value) ? value + 0 : undefined;
  switch (dtype) {
    case 'float32':
      return Math.fround(value);
    case 'float16':
      return float16ToNumber(numberToFloat16(value));
    case 'bfloat16':
      return bfloat16ToNumber(numberToBfloat16(value));
    default:
      return value;
  }
}

function fitsInteger(dtype: DType, value: number): boolean {
  if (!Number.isSafeInteger(value)) return false;
  if (dtype === 'bool') return value === 0 || value === 1;
  if (UNSIGNED.members.has(dtype)) return value >= 0 && value < 2 ** DTYPE_BITS[dtype];
  const half = 2 ** (DTYPE_BITS[dtype] - 1);
  return value >= -half && value < half;
}

/** Values of input `index` to compute with: integers only where exact. */
export function operandValues(context: InferContext, index: number): Known {
  const type = context.optionalType(index);
  if (!type) return undefined;
  return isInteger(type.dtype) ? context.ints(index) : context.numbers(index);
}

/** Rounds results to `dtype`; undefined where one does not fit or is undefined. */
export function roundAll(dtype: DType, values: readonly (number | undefined)[]): Known {
  const rounded: number[] = [];
  for (const value of values) {
    const element = value === undefined ? undefined : roundTo(dtype, value);
    if (element === undefined) return undefined;
    rounded.push(element);
  }
  return rounded;
}

/** Strides of `dims` read as if broadcast to `to`: zero along the axes that repeat. */
export function broadcastStrides(dims: Dims, to: Dims): number[] {
  const strides = Array.from({ length: to.length }, () => 0);
  let stride = 1;
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    if (dims[axis] !== 1) strides[axis + to.length - dims.length] = stride;
    stride *= dims[axis]!;
  }
  return strides;
}

/** For every element of `to`, in row-major order, the offset of its source under `strides`. */
export function offsets(to: Dims, strides: readonly number[], start = 0): number[] {
  let list = [start];
  for (const [axis, dim] of to.entries()) {
    const next: number[] = [];
    for (const base of list) for (let i = 0; i < dim; i++) next.push(base + i * strides[axis]!);
    list = next;
  }
  return list;
}

/** `values` of shape `dims` repeated to shape `to`. */
export function broadcastValues(values: readonly number[], dims: Dims, to: Dims): Known {
  if (elementCount(to) > MAX_KNOWN_VALUES) return undefined;
  return offsets(to, broadcastStrides(dims, to)).map((offset) => values[offset]!);
}

/** Row-major strides of a contiguous tensor. */
export function rowMajorStrides(dims: Dims): number[] {
  const strides: number[] = [];
  let stride = 1;
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    strides.unshift(stride);
    stride *= dims[axis]!;
  }
  return strides;
}

/**
 * `fn` over the inputs broadcast against each other, element by element, rounded to `dtype`; undefined where an input is
 * not known, the result is large, or `fn` gives undefined.
 */
export function mapKnown(context: InferContext, dtype: DType, fn: (operands: readonly number[]) => number | undefined): Known {
  const shapes: Dims[] = [];
  const known: (readonly number[])[] = [];
  for (let index = 0; index < context.inputCount; index++) {
    const values = operandValues(context, index);
    if (!values) return undefined;
    known.push(values);
    shapes.push(context.type(index).dims);
  }
  const dims = broadcast(...shapes);
  const aligned = known.map((values, index) => broadcastValues(values, shapes[index]!, dims));
  if (aligned.some((values) => values === undefined)) return undefined;
  const count = elementCount(dims);
  return roundAll(
    dtype,
    Array.from({ length: count }, (_, i) => fn(aligned.map((values) => values![i]!))),
  );
}

/** Known values as a tensor; undefined where a 64-bit integer would not be exact. */
export function materialize(type: TensorType, values: readonly number[]): Tensor | undefined {
  if (isInteger(type.dtype) && !values.every(Number.isSafeInteger)) return undefined;
  return fromNumbers(type.dtype, type.dims, values);
}
