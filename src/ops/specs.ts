/**
 * Constructors of attribute specs, so that an op's table row reads like its schema.
 *
 * Float defaults are rounded to float32, the type that ONNX stores them in and that runtimes compute with.
 */
import type { RoundMode } from '../ir/few-bits.ts';
import { DTYPES, fromNumbers, toNumbers } from '../ir/tensor.ts';
import type { DType } from '../ir/tensor.ts';
import { ShapeError, UnsupportedError } from './def.ts';
import type { AttrSpec, RawAttribute } from './def.ts';

/** ONNX's TensorProto.DataType numbers of the element types that the project holds. */
export const ONNX_DTYPE: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
  float8e4m3fn: 17,
  float8e4m3fnuz: 18,
  float8e5m2: 19,
  float8e5m2fnuz: 20,
  uint4: 21,
  int4: 22,
  float4e2m1: 23,
  float8e8m0: 24,
  uint2: 25,
  int2: 26,
};

/** The element type of one of ONNX's numbers, undefined for those the project does not hold (strings, complex numbers …). */
export function dtypeOfOnnx(number: number): DType | undefined {
  return DTYPES.find((dtype) => ONNX_DTYPE[dtype] === number);
}

type Default<T> = { readonly default?: T };

function withDefault<T>(values: readonly [] | readonly [T]): Default<T> {
  return values.length === 0 ? {} : { default: values[0] };
}

/** An integer; required unless a default is given. */
export function int(...value: [] | [number]): AttrSpec<number> {
  return { type: 'int', ...withDefault(value) };
}

export function float(...value: [] | [number]): AttrSpec<number> {
  return { type: 'float', ...withDefault<number>(value.length === 0 ? [] : [Math.fround(value[0])]) };
}

export function ints(...value: [] | [readonly number[]]): AttrSpec<readonly number[]> {
  return { type: 'ints', ...withDefault(value) };
}

export function string(...value: [] | [string]): AttrSpec<string> {
  return { type: 'string', ...withDefault(value) };
}

export const optionalInt: AttrSpec<number | undefined> = { type: 'int', default: undefined };
export const optionalInts: AttrSpec<readonly number[] | undefined> = { type: 'ints', default: undefined };
export const optionalFloat: AttrSpec<number | undefined> = { type: 'float', default: undefined };

/** A list that ONNX leaves out where it is empty. */
export const floatsOrNone: AttrSpec<readonly number[]> = {
  type: 'floats',
  default: [],
  encode: (value) => (value.length === 0 ? undefined : value),
};

/** An integer that is a truth value. */
export function flag(value: 0 | 1): AttrSpec<0 | 1> {
  return {
    type: 'int',
    default: value,
    decode: (raw) => {
      if (raw !== 0 && raw !== 1) throw new ShapeError(`must be 0 or 1, found ${String(raw)}`);
      return raw;
    },
  };
}

/** A flag whose other value the IR leaves out; `reason` says what it would mean. */
export function onlyZero(reason: string): AttrSpec<0> {
  return {
    type: 'int',
    default: 0,
    decode: (raw) => {
      if (raw !== 0) throw new UnsupportedError(`must be 0: ${reason}`);
      return raw;
    },
  };
}

/** One of several words. */
export function oneOf<const T extends string>(words: readonly T[], ...value: [] | [NoInfer<T>]): AttrSpec<T> {
  return {
    type: 'string',
    ...withDefault<T>(value),
    decode: (raw) => {
      const word = words.find((candidate) => candidate === raw);
      if (word === undefined) throw new ShapeError(`must be one of ${words.join(', ')}, found '${String(raw)}'`);
      return word;
    },
  };
}

const ROUND_MODES = ['up', 'down', 'nearest'] as const satisfies readonly RoundMode[];

/** How a cast makes a power of two; left out where it makes none. */
export const roundMode: AttrSpec<RoundMode | undefined> = { type: 'string', default: undefined, decode: oneOf(ROUND_MODES).decode! };

/** An integer of a small set. */
export function oneOfInts<const T extends number>(numbers: readonly T[], value: NoInfer<T>): AttrSpec<T> {
  return {
    type: 'int',
    default: value,
    decode: (raw) => {
      const number = numbers.find((candidate) => candidate === raw);
      if (number === undefined) throw new ShapeError(`must be one of ${numbers.join(', ')}, found ${String(raw)}`);
      return number;
    },
  };
}

function decodeDtype(raw: RawAttribute): DType {
  const dtype = typeof raw === 'number' ? dtypeOfOnnx(raw) : undefined;
  if (!dtype) throw new UnsupportedError(`names ONNX element type ${String(raw)}, which is not supported`);
  return dtype;
}

/** An element type, required. */
export const dtype: AttrSpec<DType> = { type: 'int', decode: decodeDtype, encode: (value) => ONNX_DTYPE[value] };

/** An element type that ONNX leaves out, or writes as 0, where it follows from elsewhere. */
export const optionalDtype: AttrSpec<DType | undefined> = {
  type: 'int',
  default: undefined,
  decode: (raw) => (raw === 0 ? undefined : decodeDtype(raw)),
  encode: (value) => value && ONNX_DTYPE[value],
};

/** A tensor of one element. */
export function scalarTensor(value: {
  readonly dtype: DType;
  readonly value: number;
}): AttrSpec<{ readonly dtype: DType; readonly value: number }> {
  return {
    type: 'tensor',
    default: value,
    decode: (raw) => {
      if (typeof raw !== 'object' || !('dtype' in raw)) throw new ShapeError('must be a tensor');
      const [first, ...rest] = toNumbers(raw);
      if (first === undefined || rest.length > 0) throw new ShapeError(`must hold one element, found [${raw.dims.join(',')}]`);
      const wide = raw.dtype === 'int64' || raw.dtype === 'uint64';
      if (wide && !Number.isSafeInteger(first)) throw new UnsupportedError('holds an integer beyond ±2^53');
      return { dtype: raw.dtype, value: first };
    },
    encode: (scalar) => fromNumbers(scalar.dtype, [1], [scalar.value]),
  };
}

/** Resolved by the importer (see complete.ts), so that no later stage meets another value. */
export const autoPad: AttrSpec<'NOTSET'> = {
  type: 'string',
  default: 'NOTSET',
  decode: (raw) => {
    if (raw !== 'NOTSET') throw new ShapeError(`must be NOTSET once pads are resolved, found '${String(raw)}'`);
    return raw;
  },
};

/** What ONNX has no attribute for: never read, never written. */
export const internal: { readonly type: 'internal' } = { type: 'internal' };
