/**
 * What an epilogue's expression says about its result, so that narrow outputs cost few instructions: a quantization at its end
 * becomes one addition per element that rounds, and its own bounds replace those of the storage.
 */
import { STORAGE_BYTES } from '../../../../engine/plan.ts';
import type { Expr } from '../../../../ir/expr.ts';
import type { Block } from '../../wgsl/module.ts';
import type { PackedOperand } from './spec.ts';

/** Least and greatest value. */
export type Range = readonly [number, number];

/** saturate(round(x) + zero), in numbers of the integer type. */
export interface SaturatingTail {
  readonly x: Expr;
  readonly zero: number;
  readonly low: number;
  readonly high: number;
}

const RANGES: Readonly<Record<string, Range>> = { int8: [-128, 127], uint8: [0, 255] };

/** The quantization with which a result of bytes ends: the operand's, or one that the expression writes out; undefined where there is none. */
export function saturatingTail(epilogue: Expr | undefined, { tensor, quantization }: PackedOperand): SaturatingTail | undefined {
  const x: Expr = epilogue ?? { kind: 'input', index: 0, dtype: 'float32' };
  if (quantization) {
    // Counted in bytes as they lie, whatever the type.
    const scaled: Expr = { kind: 'binary', fn: 'mul', a: x, b: { kind: 'const', value: 1 / quantization.scale, dtype: 'float32' } };
    return { x: scaled, zero: quantization.zeroPoint, low: -128, high: 127 };
  }
  // Where each number has a word of its own, it leaves as a number.
  const range = STORAGE_BYTES[tensor.storage] === 1 ? RANGES[tensor.dtype] : undefined;
  if (!range || x.kind !== 'cast' || x.to !== tensor.dtype) return undefined;
  const [low, high] = rangeOf(x.x);
  const [shifted, zero] = offsetOf(boundedBy(x.x));
  if (!(low >= range[0] && high <= range[1] && low <= high) || ![low, high, zero].every(Number.isInteger)) return undefined;
  return shifted.kind === 'unary' && shifted.fn === 'round' ? { x: shifted.x, zero, low, high } : undefined;
}

/** The bounds that an expression's own `min` and `max` with constants set. */
export function rangeOf(expr: Expr | undefined): Range {
  const bound = expr && boundOf(expr);
  if (!bound) return [-Infinity, Infinity];
  const [low, high] = rangeOf(bound.x);
  return bound.fn === 'max' ? [Math.max(low, bound.value), Math.max(high, bound.value)] : [Math.min(low, bound.value), Math.min(high, bound.value)];
}

/** What the outermost `min`s and `max`es with constants bound. */
function boundedBy(expr: Expr): Expr {
  const bound = boundOf(expr);
  return bound ? boundedBy(bound.x) : expr;
}

function boundOf(expr: Expr): { readonly fn: 'min' | 'max'; readonly x: Expr; readonly value: number } | undefined {
  if (expr.kind !== 'binary' || (expr.fn !== 'min' && expr.fn !== 'max')) return undefined;
  const { fn, a, b } = expr;
  if (b.kind === 'const' && b.dtype === 'float32') return { fn, x: a, value: b.value };
  return a.kind === 'const' && a.dtype === 'float32' ? { fn, x: b, value: a.value } : undefined;
}

function offsetOf(expr: Expr): readonly [Expr, number] {
  return expr.kind === 'binary' && expr.fn === 'add' && expr.b.kind === 'const' ? [expr.a, expr.b.value] : [expr, 0];
}

/** 1.5 · 2²³: floats around it are whole numbers, the last byte of whose bits counts them. */
const WHOLE = 12_582_912;

/**
 * Emits the bytes of a tail whose `x` is in the register `value`: vec4<u32>, the byte last, anything above it. Adding {@link WHOLE} rounds
 * to the nearest, halves to even; an even zero point can be added with it, an odd one would tip the halves.
 */
export function saturate(block: Block, name: string, value: string, { zero, low, high }: SaturatingTail, { tensor: { storage, dtype }, quantization }: PackedOperand): string {
  // uint8 in 'i8' lies 128 lower (wgsl/access.ts).
  const stored = zero - (!quantization && storage === 'i8' && dtype === 'uint8' ? 128 : 0);
  const even = stored % 2 === 0;
  const bounded = `clamp(${value}, vec4<f32>(${low - zero}.0f), vec4<f32>(${high - zero}.0f))`;
  const bits = `bitcast<vec4<u32>>(${bounded} + vec4<f32>(${WHOLE + (even ? stored : 0)}.0f))`;
  return block.let(`${name}_b`, even ? bits : `${bits} + vec4<u32>(${stored & 0xff}u)`);
}

/** The last bytes of four words in one. */
export function joinBytes(bytes: string): string {
  return `(${bytes}.x & 255u) | ((${bytes}.y & 255u) << 8u) | ((${bytes}.z & 255u) << 16u) | (${bytes}.w << 24u)`;
}
