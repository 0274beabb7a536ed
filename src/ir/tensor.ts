/**
 * Element types, tensor types and tensor values: the nouns that every stage shares.
 *
 * A tensor value holds its elements as raw little-endian bytes, in row-major order, so that weights can stay views of the
 * model file (zero-copy) and engine files can be written without conversion. ONNX stores `raw_data` the same way
 * (onnx.proto3, TensorProto.raw_data).
 */
import { decodeFewBits, encodeFewBits, FEW_BITS, isFewBits } from './few-bits.ts';

/** Bits per element of every element type that the project can hold. Names are ONNX's, in lower case. */
export const DTYPE_BITS = {
  float32: 32,
  float16: 16,
  bfloat16: 16,
  float64: 64,
  int8: 8,
  uint8: 8,
  int16: 16,
  uint16: 16,
  int32: 32,
  uint32: 32,
  int64: 64,
  uint64: 64,
  bool: 8,
  ...FEW_BITS,
} as const;

/** An element type. `bool` takes one byte per element, 0 or 1. */
export type DType = keyof typeof DTYPE_BITS;

export const DTYPES = Object.keys(DTYPE_BITS) as readonly DType[];

/** The largest finite float16 (IEEE 754 binary16). */
export const HALF_MAX = 65504;

/** A static shape: non-negative integers, outermost first; `[]` is a scalar. */
export type Dims = readonly number[];

/** The type of a value in a graph: element type and static shape. */
export interface TensorType {
  readonly dtype: DType;
  readonly dims: Dims;
}

/**
 * A tensor value. `data` holds exactly `tensorBytes(type)` bytes, little-endian, row-major; it may be unaligned. Types of few bits lie as in
 * ONNX's raw data: one float8 a byte; two of 4 bits or four of 2 bits, the first in the lowest, without gaps between rows.
 */
export interface Tensor extends TensorType {
  readonly data: Uint8Array;
}

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(dims: Dims): number {
  let count = 1;
  for (const dim of dims) count *= dim;
  return count;
}

/** Bytes that a tensor of this type takes, without padding but for the last byte of elements of 4 or 2 bits. */
export function tensorBytes(type: TensorType): number {
  return Math.ceil((elementCount(type.dims) * DTYPE_BITS[type.dtype]) / 8);
}

export function sameDims(a: Dims, b: Dims): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/** `float32[1,3,224,224]`, the form used in every print and message. */
export function formatType(type: TensorType): string {
  return `${type.dtype}[${type.dims.join(',')}]`;
}

/**
 * The same bytes outside of shared memory, which drivers do not read: Dawn's Node binding ends the process, onnxruntime says "Invalid argument",
 * WebCrypto throws. A page that is not isolated has no class for it.
 */
export function unshared(bytes: Uint8Array): Uint8Array {
  return typeof SharedArrayBuffer !== 'undefined' && bytes.buffer instanceof SharedArrayBuffer ? bytes.slice() : bytes;
}

type NumberArray = Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;

/**
 * The bytes of `data` as a typed array, copied only where the alignment demands it. Float16 and bfloat16 come as their bits, types of few bits as
 * the bytes that hold their codes.
 */
export function typedView(tensor: Tensor): NumberArray | BigInt64Array | BigUint64Array {
  const { dtype, data } = tensor;
  if (isFewBits(dtype)) return data;
  const width = DTYPE_BITS[dtype] / 8;
  // Not data.slice(): a Node Buffer's slice is a view, as unaligned as the Buffer.
  const aligned = data.byteOffset % width === 0 ? data : new Uint8Array(data);
  const { buffer, byteOffset } = aligned;
  const length = Math.floor(aligned.byteLength / width);
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, byteOffset, length);
    case 'float64':
      return new Float64Array(buffer, byteOffset, length);
    case 'float16':
    case 'bfloat16':
    case 'uint16':
      return new Uint16Array(buffer, byteOffset, length);
    case 'int16':
      return new Int16Array(buffer, byteOffset, length);
    case 'int8':
      return new Int8Array(buffer, byteOffset, length);
    case 'uint8':
    case 'bool':
      return new Uint8Array(buffer, byteOffset, length);
    case 'int32':
      return new Int32Array(buffer, byteOffset, length);
    case 'uint32':
      return new Uint32Array(buffer, byteOffset, length);
    case 'int64':
      return new BigInt64Array(buffer, byteOffset, length);
    case 'uint64':
      return new BigUint64Array(buffer, byteOffset, length);
    default:
      return dtype satisfies never;
  }
}

/** The elements as JavaScript numbers. 64-bit integers beyond ±2^53 lose their low bits; callers that care use `typedView`. */
export function toNumbers(tensor: Tensor): number[] {
  if (isFewBits(tensor.dtype)) return Array.from(decodeFewBits(tensor.dtype, tensor.data, elementCount(tensor.dims)));
  const view = typedView(tensor);
  if (tensor.dtype === 'float16') return arrayOf(view as Uint16Array, float16ToNumber);
  if (tensor.dtype === 'bfloat16') return arrayOf(view as Uint16Array, bfloat16ToNumber);
  return arrayOf(view as ArrayLike<number | bigint>, Number);
}

/** V8 makes a dictionary of an array whose length beyond this is said beforehand. */
const MOST_PREALLOCATED = 2 ** 25;

/** `Array.from`, in a fifth of its time. */
function arrayOf<T extends number | bigint>(view: ArrayLike<T>, toNumber: (element: T) => number): number[] {
  if (view.length > MOST_PREALLOCATED) return Array.from(view, toNumber);
  const numbers: number[] = [];
  numbers.length = view.length;
  for (let i = 0; i < view.length; i++) numbers[i] = toNumber(view[i]!);
  return numbers;
}

/**
 * A tensor of `dtype` from JavaScript numbers; rounds to nearest even for the floating types, truncates for integers. Floats of few bits saturate (an
 * infinity stays one where the type has it), and float8e8m0 takes the next greater power of two.
 */
export function fromNumbers(dtype: DType, dims: Dims, values: ArrayLike<number>): Tensor {
  if (isFewBits(dtype)) return { dtype, dims, data: encodeFewBits(dtype, values) };
  const data = new Uint8Array((values.length * DTYPE_BITS[dtype]) / 8);
  const view = typedView({ dtype, dims, data });
  if (view instanceof BigInt64Array || view instanceof BigUint64Array) {
    const words = wordsOf(view);
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if ((value | 0) === value) {
        words[2 * i] = value;
        words[2 * i + 1] = value >> 31;
      } else view[i] = BigInt(Math.trunc(value));
    }
  } else if (dtype === 'float16') {
    for (let i = 0; i < values.length; i++) view[i] = numberToFloat16(values[i]!);
  } else if (dtype === 'bfloat16') {
    for (let i = 0; i < values.length; i++) view[i] = numberToBfloat16(values[i]!);
  } else {
    for (let i = 0; i < values.length; i++) view[i] = values[i]!;
  }
  return { dtype, dims, data };
}

const INT32_MIN = -(2n ** 31n);
const INT32_MAX = 2n ** 31n - 1n;
const UINT32_MAX = 2n ** 32n - 1n;

/** Whether 32 bits hold a number of a 64-bit type: an int32, a uint32, or a float32 that is neither infinite nor zero for another number. */
export function is32Bits(value: number | bigint, dtype: DType): boolean {
  if (dtype === 'int64') return value >= INT32_MIN && value <= INT32_MAX;
  if (dtype === 'uint64') return value <= UINT32_MAX;
  if (dtype !== 'float64') return true;
  const rounded = Math.fround(Number(value));
  return Number.isFinite(rounded) === Number.isFinite(value) && (rounded === 0) === (value === 0);
}

/** The first element of a 64-bit type that 32 bits don't hold. */
export function beyond32Bits(tensor: Tensor): number | bigint | undefined {
  const { dtype } = tensor;
  if (DTYPE_BITS[dtype] < 64) return undefined;
  const view = typedView(tensor);
  if (!(view instanceof BigInt64Array || view instanceof BigUint64Array)) return (view as Float64Array).find((value) => !is32Bits(value, dtype));
  const words = wordsOf(view);
  for (let i = 0; i < view.length; i++) if (words[2 * i + 1] !== (dtype === 'int64' ? words[2 * i]! >> 31 : 0)) return view[i];
  return undefined;
}

/** The halves of 64-bit integers, the lower first: numbers, of which those that one half holds are read and written without a BigInt. */
export function wordsOf({ buffer, byteOffset, length }: BigInt64Array | BigUint64Array): Int32Array {
  return new Int32Array(buffer, byteOffset, 2 * length);
}

/** The numbers of a tensor in another type. */
export function retyped(tensor: Tensor, dtype: DType): Tensor {
  if (dtype !== 'float32' || (tensor.dtype !== 'bfloat16' && tensor.dtype !== 'float16')) return fromNumbers(dtype, tensor.dims, toNumbers(tensor));
  // Weights of language models are hundreds of millions, too many for an array of numbers. A bfloat16 is the upper half of a float32.
  const halves = typedView(tensor) as Uint16Array;
  const words = tensor.dtype === 'bfloat16' ? Uint32Array.from(halves, (bits) => bits << 16) : fromFloat16(halves);
  return { dtype, dims: tensor.dims, data: new Uint8Array(words.buffer) };
}

/** The numbers of all float16. */
let float16Table: Float32Array | undefined;

function fromFloat16(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const table = (float16Table ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => float16ToNumber(bits)));
  const numbers = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) numbers[i] = table[halves[i]!]!;
  return numbers;
}

const scratch = new DataView(new ArrayBuffer(8));

/** What the last bit of a normal binary16 number is worth, by its exponent's bits. */
const UNITS = Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 25));

/** IEEE 754 binary16 bits to a number. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1024 + fraction) * UNITS[exponent]!;
}

/** A number to IEEE 754 binary16 bits, rounded to nearest even. */
export function numberToFloat16(value: number): number {
  if (value !== value) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = value < 0 ? -value : value;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | (magnitude * 2 ** 24 + ROUNDER - ROUNDER);
  DOUBLE[0] = magnitude;
  const exponent = (WORDS[HIGH_WORD]! >>> 20) - 1023;
  // The significand as 1024 … 2048; a carry of its rounding goes into the exponent, as it should.
  return sign | (((exponent + 15) << 10) + (magnitude * SCALES[exponent + 14]! + ROUNDER - ROUNDER) - 1024);
}

/** Adding 2^52 leaves no bits for fractions: the sum is rounded to a whole number, half to even. */
const ROUNDER = 2 ** 52;
/** 2^(10 − e) for the exponents of normal binary16 numbers. */
const SCALES = Array.from({ length: 30 }, (_, i) => 2 ** (24 - i));
const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer);
const HIGH_WORD = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** bfloat16 bits to a number. */
export function bfloat16ToNumber(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** A number to bfloat16 bits, rounded to nearest even. */
export function numberToBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
