/** Constants as the device stores them. */
import { type DType, float16ToNumber, fromNumbers, HALF_MAX, numberToFloat16, retyped, type Tensor, toNumbers, typedView } from '../../../ir/tensor.ts';
import type { HostArray } from './context.ts';
import { storageOf } from './tensor.ts';

/** A value made when it is first asked for, and kept. */
export function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** Values as halves (rounded to nearest, saturating at ±65,504) where the build stores halves. */
export function asStored(values: Float32Array, half: boolean): Float32Array | Uint16Array {
  if (!half) return values;
  const bounded = values.map((value) => Math.max(-HALF_MAX, Math.min(HALF_MAX, value)));
  return typedView(fromNumbers('float16', [values.length], bounded)) as Uint16Array;
}

const SMALLEST_NORMAL_HALF = 2 ** -14;

/** Whether halves hold all scales exactly; where the build stores halves anyway, as well as they hold weights: none is so small that it would lose bits. */
export function fitHalves(scales: Float32Array, half: boolean): boolean {
  return scales.every((scale) => {
    const size = Math.abs(scale);
    return float16ToNumber(numberToFloat16(scale)) === scale ? size <= HALF_MAX : half && size >= SMALLEST_NORMAL_HALF && size <= HALF_MAX;
  });
}

/** The elements in row-major order, converted to the device's type; a view of the constant's bytes where they are the same. */
export function constantArray(tensor: Tensor): HostArray {
  // Tables of language models are hundreds of millions of halves, too many for a list of numbers.
  const view = typedView(tensor.dtype === 'float16' || tensor.dtype === 'bfloat16' ? retyped(tensor, 'float32') : tensor);
  return view instanceof Float32Array || view instanceof Int32Array || view instanceof Uint32Array ? view : hostArray(tensor.dtype, toNumbers(tensor));
}

/** Numbers as the device stores those of a type. */
export function hostArray(dtype: DType, values: readonly number[]): HostArray {
  switch (storageOf(dtype)) {
    case 'i32':
      return Int32Array.from(values);
    case 'u32':
      return Uint32Array.from(values);
    default:
      return Float32Array.from(values);
  }
}
