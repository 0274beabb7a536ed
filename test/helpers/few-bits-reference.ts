/**
 * Floats of few bits by table, apart from the code that is tested: every number of a type in a list, and the nearest one found by looking at all of them.
 * Layouts are those of ONNX's pages on float8 and float4 and of the OCP Microscaling specification.
 */
import type { FewBitsFloat, RoundMode } from '../../src/ir/few-bits.ts';

interface Layout {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** Codes that are no numbers. */
  readonly special: Readonly<Record<number, number>>;
}

const [NAN, INF] = [Number.NaN, Number.POSITIVE_INFINITY];

export const LAYOUTS: { readonly [D in Exclude<FewBitsFloat, 'float8e8m0'>]: Layout } = {
  float8e4m3fn: { exponentBits: 4, mantissaBits: 3, bias: 7, special: { 0x7f: NAN, 0xff: NAN } },
  float8e4m3fnuz: { exponentBits: 4, mantissaBits: 3, bias: 8, special: { 0x80: NAN } },
  float8e5m2: { exponentBits: 5, mantissaBits: 2, bias: 15, special: { 0x7c: INF, 0x7d: NAN, 0x7e: NAN, 0x7f: NAN, 0xfc: -INF, 0xfd: NAN, 0xfe: NAN, 0xff: NAN } },
  float8e5m2fnuz: { exponentBits: 5, mantissaBits: 2, bias: 16, special: { 0x80: NAN } },
  float4e2m1: { exponentBits: 2, mantissaBits: 1, bias: 1, special: {} },
};

export type Scaled = keyof typeof LAYOUTS;
export const SCALED = Object.keys(LAYOUTS) as readonly Scaled[];

/** The number of every code. */
export function numbersOf(dtype: FewBitsFloat): readonly number[] {
  if (dtype === 'float8e8m0') return Array.from({ length: 256 }, (_, code) => (code === 255 ? NAN : 2 ** (code - 127)));
  const { exponentBits, mantissaBits, bias, special } = LAYOUTS[dtype];
  return Array.from({ length: 2 ** (1 + exponentBits + mantissaBits) }, (_, code) => {
    if (code in special) return special[code]!;
    const digits = code.toString(2).padStart(1 + exponentBits + mantissaBits, '0');
    const exponent = Number.parseInt(digits.slice(1, 1 + exponentBits), 2);
    const mantissa = Number.parseInt(digits.slice(1 + exponentBits), 2);
    const magnitude = exponent === 0 ? 2 ** (1 - bias) * (mantissa / 2 ** mantissaBits) : 2 ** (exponent - bias) * (1 + mantissa / 2 ** mantissaBits);
    return digits.startsWith('1') ? -magnitude : magnitude;
  });
}

/** Numbers from 0 up, and the one that would come next if the type went on. */
const MAGNITUDES = new Map(
  SCALED.map((dtype) => {
    const finite = [...new Set(numbersOf(dtype).filter((value) => value >= 0 && value < INF).map(Math.abs))].sort((a, b) => a - b);
    return [dtype, [...finite, 2 * finite.at(-1)! - finite.at(-2)!]] as const;
  }),
);

const POWERS = Array.from({ length: 255 }, (_, code) => 2 ** (code - 127));

/** What a cast gives, as ONNX's tables of Cast say. NaN is −0 in float4e2m1, which has none (as ml_dtypes has it). */
export function castTo(dtype: Scaled, x: number, saturate: 0 | 1): number {
  const { special } = LAYOUTS[dtype];
  const isUnsignedZero = Object.is(special[0x80], NAN);
  if (Number.isNaN(x)) return dtype === 'float4e2m1' ? -0 : NAN;
  const all = MAGNITUDES.get(dtype)!;
  const [greatest, size] = [all.at(-2)!, Math.abs(x)];
  const best = all.reduce((found, value, index) => {
    const [old, other] = [Math.abs(all[found]! - size), Math.abs(value - size)];
    return other < old || (other === old && index % 2 === 0) ? index : found;
  }, 0);
  const isBeyond = size >= all.at(-1)! || best === all.length - 1;
  const beyond = saturate || dtype === 'float4e2m1' ? greatest : dtype === 'float8e5m2' ? INF : NAN;
  const magnitude = isBeyond ? beyond : all[best]!;
  if (Number.isNaN(magnitude) || (magnitude === 0 && isUnsignedZero)) return magnitude;
  return x < 0 || Object.is(x, -0) ? -magnitude : magnitude;
}

/** A power of two, by the table of ONNX's Cast, and the same for its other attributes. */
export function castToPower(x: number, saturate: 0 | 1, mode: RoundMode): number {
  const [least, greatest] = [POWERS[0]!, POWERS.at(-1)!];
  if (Number.isNaN(x) || (!saturate && !(x >= least && x < INF))) return NAN;
  if (x <= least) return least;
  const below = POWERS.findLast((value) => value <= x)!;
  const up = mode === 'up' ? x > below : mode === 'nearest' && x - below >= 2 * below - x;
  const power = up ? 2 * below : below;
  return power <= greatest ? power : saturate ? greatest : NAN;
}

/** Every number of the type, the middles between neighbours and what lies just beside these, as float32, of both signs; beyond the greatest; what is no number. */
export function probes(dtype: Scaled): readonly number[] {
  const all = MAGNITUDES.get(dtype)!;
  const positive = all.flatMap((value, index) => {
    const next = all[index + 1] ?? 2 * value;
    const middle = (value + next) / 2;
    return [value, middle, Math.fround(middle * (1 - 2 ** -20)), Math.fround(middle * (1 + 2 ** -20))];
  });
  return [...positive, 1e-30, 1e30, INF].flatMap((value) => [value, -value]).concat(NAN);
}

/** The same for powers of two; smaller numbers than 2^−127 too, which a float32 has. */
export function powerProbes(): readonly number[] {
  const all = Array.from({ length: 257 }, (_, i) => 2 ** (i - 129));
  return [...all.flatMap((value) => [value, 1.5 * value, value * (1.5 - 2 ** -20), value * (1 + 2 ** -20), value * (2 - 2 ** -20)]).map(Math.fround), 0, -0, -3, INF, -INF, NAN];
}
