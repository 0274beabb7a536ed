/**
 * Element types of few bits: floats of 8 and 4 bits, integers of 4 and 2, as ONNX defines them (docs/docsgen/source/technical/float8.md,
 * float4.md, int4.md of the ONNX project; E8M0 is the OCP Microscaling Formats specification's).
 *
 * Bytes are those of TensorProto.raw_data: a code a byte for 8 bits, two 4-bit or four 2-bit codes a byte, the first in the lowest
 * bits. What is left of the last byte is 0.
 */

/** Bits per element. */
export const FEW_BITS = {
  float8e4m3fn: 8,
  float8e4m3fnuz: 8,
  float8e5m2: 8,
  float8e5m2fnuz: 8,
  float8e8m0: 8,
  float4e2m1: 4,
  int4: 4,
  uint4: 4,
  int2: 2,
  uint2: 2,
} as const;

export type FewBits = keyof typeof FEW_BITS;
export type FewBitsInteger = 'int4' | 'uint4' | 'int2' | 'uint2';
export type FewBitsFloat = Exclude<FewBits, FewBitsInteger>;

/** How a number that is no power of two becomes a float8e8m0. Half of the way is nearest to the greater one. */
export type RoundMode = 'up' | 'down' | 'nearest';

export interface Overflow {
  /** 1: beyond the greatest number lies the greatest number. 0: there lies infinity, or NaN in a type without it. */
  readonly saturate: 0 | 1;
  /** Of float8e8m0. */
  readonly round_mode: RoundMode;
}

export function isFewBits(dtype: string): dtype is FewBits {
  return Object.hasOwn(FEW_BITS, dtype);
}

export function isFewBitsFloat(dtype: string): dtype is FewBitsFloat {
  return isFewBits(dtype) && dtype.startsWith('float');
}

export function isFewBitsInteger(dtype: string): dtype is FewBitsInteger {
  return isFewBits(dtype) && !dtype.startsWith('float');
}

/** Floats of a sign, an exponent and a mantissa. */
export interface Minifloat {
  readonly mantissaBits: number;
  /** Exponent of the smallest normal number, and of all below it. */
  readonly minExponent: number;
  readonly max: number;
  /** What codes there are beside the numbers: NaN and infinities, NaN alone, NaN in the place of −0, or nothing. */
  readonly beside: 'infinities' | 'nan' | 'nan-for-negative-zero' | 'nothing';
}

export const MINIFLOATS: { readonly [D in Exclude<FewBitsFloat, 'float8e8m0'>]: Minifloat } = {
  float8e4m3fn: { mantissaBits: 3, minExponent: -6, max: 448, beside: 'nan' },
  float8e4m3fnuz: { mantissaBits: 3, minExponent: -7, max: 240, beside: 'nan-for-negative-zero' },
  float8e5m2: { mantissaBits: 2, minExponent: -14, max: 57344, beside: 'infinities' },
  float8e5m2fnuz: { mantissaBits: 2, minExponent: -15, max: 57344, beside: 'nan-for-negative-zero' },
  float4e2m1: { mantissaBits: 1, minExponent: 0, max: 6, beside: 'nothing' },
};

/** Exponents of float8e8m0, whose numbers are powers of two. */
const E8M0_BIAS = 127;
const E8M0_NAN = 255;

/** The numbers that `count` codes stand for; a float32 holds each of them. */
export function decodeFewBits(dtype: FewBits, data: Uint8Array, count: number): Float32Array<ArrayBuffer> {
  const [bits, table] = [FEW_BITS[dtype], tableOf(dtype)];
  const [perByte, mask] = [8 / bits, 2 ** bits - 1];
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = table[(data[Math.floor(i / perByte)]! >> (bits * (i % perByte))) & mask]!;
  return values;
}

/**
 * Codes of numbers. Floats are rounded once, half to even, and NaN has one code, the positive one (−0 in float4e2m1, which has none);
 * float8e8m0 has no sign, and takes what is negative for less than its least. Integers are cut to whole numbers, and wrap. Without `how` numbers saturate and
 * infinities stay where the type has them, so that what was decoded is the same again.
 */
export function encodeFewBits(dtype: FewBits, values: ArrayLike<number>, how?: Overflow): Uint8Array {
  const bits = FEW_BITS[dtype];
  const perByte = 8 / bits;
  const data = new Uint8Array(Math.ceil(values.length / perByte));
  const encode = encoderOf(dtype, how);
  for (let i = 0; i < values.length; i++) data[Math.floor(i / perByte)]! |= encode(values[i]!) << (bits * (i % perByte));
  return data;
}

const TABLES = new Map<FewBits, readonly number[]>();

/** Every code's number. */
function tableOf(dtype: FewBits): readonly number[] {
  const table = TABLES.get(dtype) ?? Array.from({ length: 2 ** FEW_BITS[dtype] }, (_, code) => decode(dtype, code));
  TABLES.set(dtype, table);
  return table;
}

function decode(dtype: FewBits, code: number): number {
  if (isFewBitsInteger(dtype)) return dtype.startsWith('u') || code < 2 ** (FEW_BITS[dtype] - 1) ? code : code - 2 ** FEW_BITS[dtype];
  if (dtype === 'float8e8m0') return code === E8M0_NAN ? Number.NaN : 2 ** (code - E8M0_BIAS);
  const format = MINIFLOATS[dtype];
  const negative = 2 ** (FEW_BITS[dtype] - 1);
  if (code === negative && format.beside === 'nan-for-negative-zero') return Number.NaN;
  const rank = code % negative - magnitudeCode(format, format.max);
  if (rank > 0) return rank === 1 && format.beside === 'infinities' ? (code < negative ? 1 : -1) * Number.POSITIVE_INFINITY : Number.NaN;
  const { mantissaBits, minExponent } = format;
  const [exponent, mantissa] = [(code % negative) >> mantissaBits, code % 2 ** mantissaBits];
  const magnitude = exponent === 0 ? mantissa * 2 ** (minExponent - mantissaBits) : (2 ** mantissaBits + mantissa) * 2 ** (exponent - 1 + minExponent - mantissaBits);
  return code < negative ? magnitude : -magnitude;
}

function encoderOf(dtype: FewBits, how: Overflow | undefined): (value: number) => number {
  const { saturate, round_mode: mode } = how ?? { saturate: 1, round_mode: 'up' };
  if (isFewBitsInteger(dtype)) return (value) => Math.trunc(value) & (2 ** FEW_BITS[dtype] - 1);
  if (dtype === 'float8e8m0') return (value) => encodePower(value, saturate, mode);
  const format = MINIFLOATS[dtype];
  const negative = 2 ** (FEW_BITS[dtype] - 1);
  const nan = format.beside === 'nan-for-negative-zero' || format.beside === 'nothing' ? negative : negative - 1;
  const greatest = magnitudeCode(format, format.max);
  const beyond = saturate || format.beside === 'nothing' ? greatest : format.beside === 'nan-for-negative-zero' ? undefined : greatest + 1;
  const infinity = how || format.beside !== 'infinities' ? beyond : greatest + 1;
  return (value) => {
    if (Number.isNaN(value)) return nan;
    const magnitude = roundedMagnitude(format, Math.abs(value));
    const code = magnitude === Number.POSITIVE_INFINITY ? infinity : magnitude > format.max ? beyond : magnitudeCode(format, magnitude);
    if (code === undefined) return nan;
    const isNegative = value < 0 || Object.is(value, -0);
    return isNegative && !(code === 0 && format.beside === 'nan-for-negative-zero') ? code + negative : code;
  };
}

function encodePower(value: number, saturate: 0 | 1, mode: RoundMode): number {
  const [least, most] = [2 ** -E8M0_BIAS, 2 ** E8M0_BIAS];
  if (Number.isNaN(value) || (!saturate && !(value >= least && value < Number.POSITIVE_INFINITY))) return E8M0_NAN;
  const bounded = Math.min(Math.max(value, least), 2 * most);
  const exponent = exponentOf(bounded);
  const isUp = bounded >= 2 ** exponent * (mode === 'nearest' ? 1.5 : 1) && mode !== 'down' && bounded !== 2 ** exponent;
  const code = exponent + (isUp ? 1 : 0) + E8M0_BIAS;
  return code < E8M0_NAN ? code : saturate ? E8M0_NAN - 1 : E8M0_NAN;
}

/** The nearest number with the format's mantissa, half to even, whether or not the format goes that far. */
function roundedMagnitude({ mantissaBits, minExponent }: Minifloat, magnitude: number): number {
  if (magnitude === Number.POSITIVE_INFINITY) return magnitude;
  const step = 2 ** (Math.max(exponentOf(magnitude), minExponent) - mantissaBits);
  return (magnitude / step + ROUNDER - ROUNDER) * step;
}

/** The code of a magnitude that the format has. */
function magnitudeCode({ mantissaBits, minExponent }: Minifloat, magnitude: number): number {
  const exponent = Math.max(exponentOf(magnitude), minExponent);
  return (exponent - minExponent) * 2 ** mantissaBits + magnitude / 2 ** (exponent - mantissaBits);
}

/** ⌊log2 x⌋ of a normal double; less than any format's exponents for smaller ones. */
function exponentOf(x: number): number {
  SCRATCH.setFloat64(0, x);
  return ((SCRATCH.getUint32(0) >>> 20) & 0x7ff) - 1023;
}

/** Adding 2^52 leaves no bits for fractions: the sum is rounded to a whole number, half to even. */
const ROUNDER = 2 ** 52;
const SCRATCH = new DataView(new ArrayBuffer(8));
