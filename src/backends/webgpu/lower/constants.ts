/** Constants as the device stores them. */
import { fromNumbers, HALF_MAX, type Tensor, toNumbers, typedView } from '../../../ir/tensor.ts';
import type { HostArray } from './context.ts';
import { storageOf } from './tensor.ts';

const INT32_MIN = -(2n ** 31n);
const INT32_MAX = 2n ** 31n - 1n;

/** Whether every element has a value in the device's 32-bit types. */
export function fitsDevice(tensor: Tensor): boolean {
  if (tensor.dtype !== 'int64') return true;
  return (typedView(tensor) as BigInt64Array).every((value) => value >= INT32_MIN && value <= INT32_MAX);
}

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

/** The elements in row-major order, converted to the device's type; a view of the constant's bytes where they are the same. */
export function constantArray(tensor: Tensor): HostArray {
  const view = typedView(tensor);
  if (view instanceof Float32Array || view instanceof Int32Array || view instanceof Uint32Array) return view;
  switch (storageOf(tensor.dtype)) {
    case 'f32':
      return Float32Array.from(toNumbers(tensor));
    case 'i32':
      return Int32Array.from(toNumbers(tensor));
    case 'u32':
      return Uint32Array.from(toNumbers(tensor));
    default:
      throw new Error(`no device type holds ${tensor.dtype}`);
  }
}
