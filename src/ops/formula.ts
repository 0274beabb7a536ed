/**
 * Expressions written as calls: `formula.mul(x, formula.sigmoid(x))`. A number takes the element type of the expression beside it.
 */
import type { BinaryFn, Expr, UnaryFn } from '../ir/expr.ts';
import type { DType } from '../ir/tensor.ts';
import { exprDtype } from './internal.ts';

/** What a formula takes: an expression, or a number beside one. */
export type Operand = Expr | number;

const unary =
  (fn: UnaryFn) =>
  (x: Expr): Expr => ({ kind: 'unary', fn, x });

const binary =
  (fn: BinaryFn) =>
  (a: Operand, b: Operand): Expr => {
    const [left, right] = lift(a, b);
    return { kind: 'binary', fn, a: left, b: right };
  };

function lift(a: Operand, b: Operand): readonly [Expr, Expr] {
  if (typeof a === 'number' && typeof b === 'number') throw new TypeError('one operand must be an expression: two numbers have no element type');
  if (typeof a === 'number') return [{ kind: 'const', value: a, dtype: exprDtype(b as Expr) }, b as Expr];
  return [a, typeof b === 'number' ? { kind: 'const', value: b, dtype: exprDtype(a) } : b];
}

const add = binary('add');
const exp = unary('exp');
const neg = unary('neg');
const reciprocal = unary('reciprocal');

/** Functions over expressions; comparisons and logic give `bool`. */
export const formula = {
  abs: unary('abs'), ceil: unary('ceil'), cos: unary('cos'), erf: unary('erf'), exp, floor: unary('floor'), log: unary('log'), neg,
  not: unary('not'), reciprocal, round: unary('round'), sign: unary('sign'), sin: unary('sin'), sqrt: unary('sqrt'), tan: unary('tan'),
  tanh: unary('tanh'), isNaN: unary('isnan'),
  add, sub: binary('sub'), mul: binary('mul'), div: binary('div'), pow: binary('pow'), min: binary('min'), max: binary('max'),
  and: binary('and'), or: binary('or'), equal: binary('eq'), less: binary('lt'), lessOrEqual: binary('le'), greater: binary('gt'),
  greaterOrEqual: binary('ge'),
  /** 1 / (1 + e^−x) */
  sigmoid: (x: Expr): Expr => reciprocal(add(exp(neg(x)), 1)),
  /** `a` where the condition holds, else `b`. */
  where(condition: Expr, a: Operand, b: Operand): Expr {
    const [left, right] = lift(a, b);
    return { kind: 'select', condition, a: left, b: right };
  },
  cast: (to: DType, x: Expr): Expr => ({ kind: 'cast', to, x }),
} as const;
