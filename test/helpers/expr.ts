/**
 * Expressions evaluated in float64: the reference against which generated kernels and ONNX ops are compared.
 */
import type { BinaryFn, Expr, UnaryFn } from '../../src/ir/expr.ts';
import { DTYPE_BITS, type DType } from '../../src/ir/tensor.ts';
import { exprDtype } from '../../src/ops/internal.ts';

const flag = (value: boolean): number => (value ? 1 : 0);

/** Abramowitz & Stegun's series 7.1.5 near zero, continued fraction 7.1.14 far from it. */
function erf(x: number): number {
  const a = Math.abs(x);
  if (Number.isNaN(x)) return x;
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let [term, sum] = [x, x];
    for (let n = 1; n < 100; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let k = 60; k >= 1; k--) fraction = k / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + Math.abs(floor % 2) : Math.round(x);
}

const UNARY: { readonly [F in UnaryFn]: (x: number) => number } = {
  abs: Math.abs, acos: Math.acos, acosh: Math.acosh, asin: Math.asin, asinh: Math.asinh, atan: Math.atan, atanh: Math.atanh,
  ceil: Math.ceil, cos: Math.cos, cosh: Math.cosh, erf, exp: Math.exp, floor: Math.floor, log: Math.log, neg: (x) => -x,
  not: (x) => flag(x === 0), bitnot: (x) => ~x, reciprocal: (x) => 1 / x, round: roundHalfEven, sign: Math.sign, sin: Math.sin,
  sinh: Math.sinh, sqrt: Math.sqrt, tan: Math.tan, tanh: Math.tanh, isnan: (x) => flag(Number.isNaN(x)),
  isposinf: (x) => flag(x === Number.POSITIVE_INFINITY), isneginf: (x) => flag(x === Number.NEGATIVE_INFINITY),
};

const BINARY: { readonly [F in BinaryFn]: (a: number, b: number) => number } = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, pow: (a, b) => a ** b,
  min: Math.min, max: Math.max, mod: (a, b) => a - b * Math.floor(a / b), fmod: (a, b) => a % b,
  and: (a, b) => flag(a !== 0 && b !== 0), or: (a, b) => flag(a !== 0 || b !== 0), xor: (a, b) => flag((a !== 0) !== (b !== 0)),
  bitand: (a, b) => a & b, bitor: (a, b) => a | b, bitxor: (a, b) => a ^ b, shl: (a, b) => a * 2 ** b, shr: (a, b) => Math.floor(a / 2 ** b),
  eq: (a, b) => flag(a === b), lt: (a, b) => flag(a < b), le: (a, b) => flag(a <= b), gt: (a, b) => flag(a > b), ge: (a, b) => flag(a >= b),
};

/** The value of an expression for one element; booleans are 0 and 1. */
export function evaluateExpr(expr: Expr, inputs: readonly number[]): number {
  const child = (inner: Expr): number => evaluateExpr(inner, inputs);
  switch (expr.kind) {
    case 'input':
      return inputs[expr.index]!;
    case 'const':
      return expr.value;
    case 'unary':
      return toDtype(exprDtype(expr), UNARY[expr.fn](child(expr.x)));
    case 'binary':
      return toDtype(exprDtype(expr), BINARY[expr.fn](child(expr.a), child(expr.b)));
    case 'select':
      return child(expr.condition) !== 0 ? child(expr.a) : child(expr.b);
    case 'cast':
      return expr.to === 'bool' ? flag(child(expr.x) !== 0) : toDtype(expr.to, child(expr.x));
    default:
      return expr satisfies never;
  }
}

/** Integers truncate and wrap; floating types keep their float64 value. */
function toDtype(dtype: DType, value: number): number {
  if (dtype === 'bool' || dtype.includes('float')) return value;
  const bits = DTYPE_BITS[dtype];
  if (bits === 64) return Math.trunc(value);
  const wrapped = ((Math.trunc(value) % 2 ** bits) + 2 ** bits) % 2 ** bits;
  return dtype.startsWith('uint') || wrapped < 2 ** (bits - 1) ? wrapped : wrapped - 2 ** bits;
}
