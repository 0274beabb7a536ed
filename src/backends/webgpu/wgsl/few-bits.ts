/**
 * WGSL functions that round an f32 to a float of few bits (ir/few-bits.ts), and give the f32 of its value.
 *
 * They work on bits: rounding to nearest even adds to an f32's bits what carries where it must, and NaN, infinities and what an implementation may take
 * for 0 (section 15.7, "Floating Point Evaluation") never meet arithmetic. `_open` is said of those that do not saturate.
 */
import { type FewBitsFloat, type Minifloat, MINIFLOATS, type Overflow, type RoundMode } from '../../../ir/few-bits.ts';
import { lanes } from './lanes.ts';

type Scaled = Exclude<FewBitsFloat, 'float8e8m0'>;
type ScalarHelper = `to_${Scaled | `float8e8m0_${RoundMode}`}${'' | '_open'}`;
export type FewBitsHelper = `${ScalarHelper}${'' | '4'}`;

/** The scalar function for a type; ONNX's usual way is to saturate, and upwards to a power of two. */
export function fewBitsHelper(to: FewBitsFloat, { saturate, round_mode }: Overflow = { saturate: 1, round_mode: 'up' }): ScalarHelper {
  return `to_${to === 'float8e8m0' ? (`${to}_${round_mode}` as const) : to}${saturate ? '' : '_open'}`;
}

interface Helper {
  readonly code: string;
  readonly needs: readonly FewBitsHelper[];
}

const NAN = 0x7fc00000;
const INFINITY = 0x7f800000;

const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!;
const hex = (bits: number): string => `0x${bits.toString(16)}u`;

function minifloat(name: ScalarHelper, { mantissaBits, minExponent, max, beside }: Minifloat, saturate: 0 | 1): string {
  const dropped = 23 - mantissaBits;
  const beyond = saturate || beside === 'nothing' ? bitsOf(max) : beside === 'infinities' ? INFINITY : NAN;
  const ofNan = beside === 'nothing' ? hex(0x80000000) : 'bits';
  const sign = beside === 'nan-for-negative-zero' ? 'select(bits & 0x80000000u, 0u, rounded == 0u)' : 'bits & 0x80000000u';
  return `fn ${name}(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let magnitude = bits & 0x7fffffffu;
  let normal = (magnitude + ${hex(2 ** (dropped - 1) - 1)} + ((magnitude >> ${dropped}u) & 1u)) & ${hex(2 ** 32 - 2 ** dropped)};
  let subnormal = bitcast<u32>(round(bitcast<f32>(magnitude) * ${2 ** (mantissaBits - minExponent)}.0f) * ${2 ** (minExponent - mantissaBits)}f);
  let rounded = select(normal, subnormal, magnitude < ${hex(bitsOf(2 ** minExponent))});
  let bounded = select(rounded, ${hex(beyond)}, rounded > ${hex(bitsOf(max))});
  return bitcast<f32>(select(bounded | (${sign}), ${ofNan}, magnitude > ${hex(INFINITY)}));
}
`;
}

/** An f32's exponent is the power of two, but for 2^−127, which is the half of its smallest one. */
function power(name: ScalarHelper, mode: RoundMode, saturate: 0 | 1): string {
  const [least, smallest, most] = [bitsOf(2 ** -127), bitsOf(2 ** -126), bitsOf(2 ** 127)];
  const isUp = { up: 'rest > 0u', nearest: 'rest >= gap / 2u', down: 'false' }[mode];
  return `fn ${name}(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let isBelow = (bits >> 31u) == 1u || bits < ${hex(least)};
  let floor = select(bits & ${hex(INFINITY)}, ${hex(least)}, bits < ${hex(smallest)});
  let gap = select(${hex(smallest)}, ${hex(least)}, bits < ${hex(smallest)});
  let rest = bits - floor;
  let rounded = select(floor, floor + gap, ${isUp});
  let bounded = select(rounded, ${hex(saturate ? most : NAN)}, rounded > ${hex(most)});
  return bitcast<f32>(select(select(bounded, ${hex(saturate ? least : NAN)}, isBelow), ${hex(NAN)}, (bits & 0x7fffffffu) > ${hex(INFINITY)}));
}
`;
}

function helpers(): { readonly [K in FewBitsHelper]: Helper } {
  const scalars: [ScalarHelper, string][] = [];
  for (const saturate of [1, 0] as const) {
    for (const [dtype, format] of Object.entries(MINIFLOATS) as [Scaled, Minifloat][]) {
      const name = fewBitsHelper(dtype, { saturate, round_mode: 'up' });
      scalars.push([name, minifloat(name, format, saturate)]);
    }
    for (const round_mode of ['up', 'down', 'nearest'] as const) {
      const name = fewBitsHelper('float8e8m0', { saturate, round_mode });
      scalars.push([name, power(name, round_mode, saturate)]);
    }
  }
  const pairs = scalars.flatMap(([name, code]): [FewBitsHelper, Helper][] => [
    [name, { code, needs: [] }],
    [`${name}4`, { code: lanes(name, ['x'], 'f32', 'f32'), needs: [name] }],
  ]);
  return Object.fromEntries(pairs) as { readonly [K in FewBitsHelper]: Helper };
}

export const FEW_BITS_HELPERS = helpers();
