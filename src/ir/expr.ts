/**
 * Scalar expressions: what a fused elementwise kernel or an epilogue computes per element.
 *
 * A small tree language, so that a fusion is data that prints itself, costs itself and generates code for any backend.
 */
import type { Overflow } from './few-bits.ts';
import type { DType } from './tensor.ts';

export type UnaryFn =
  | 'abs' | 'acos' | 'acosh' | 'asin' | 'asinh' | 'atan' | 'atanh' | 'ceil' | 'cos' | 'cosh' | 'erf' | 'exp' | 'floor' | 'log'
  | 'neg' | 'not' | 'bitnot' | 'reciprocal' | 'round' | 'sign' | 'sin' | 'sinh' | 'sqrt' | 'tan' | 'tanh' | 'isnan' | 'isposinf'
  | 'isneginf';

export type BinaryFn =
  | 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'min' | 'max' | 'mod' | 'fmod' | 'and' | 'or' | 'xor' | 'bitand' | 'bitor' | 'bitxor'
  | 'shl' | 'shr' | 'eq' | 'lt' | 'le' | 'gt' | 'ge';

/** Comparisons and logic give `bool`; every other function gives its operands' type. */
export type Expr =
  | { readonly kind: 'input'; readonly index: number; readonly dtype: DType }
  | { readonly kind: 'const'; readonly value: number; readonly dtype: DType }
  | { readonly kind: 'unary'; readonly fn: UnaryFn; readonly x: Expr }
  | { readonly kind: 'binary'; readonly fn: BinaryFn; readonly a: Expr; readonly b: Expr }
  | { readonly kind: 'select'; readonly condition: Expr; readonly a: Expr; readonly b: Expr }
  /** `overflow`: of a cast to a float of few bits, where it is not ONNX's usual one. */
  | { readonly kind: 'cast'; readonly to: DType; readonly x: Expr; readonly overflow?: Overflow };

/** Where a part of a concatenation lies along its axis: `extent` elements, the first at `start`, each `step` behind the one before. */
export interface PartPlace {
  readonly start: number;
  readonly step: number;
  readonly extent: number;
}

/** A part of a concatenation, by element. */
export interface ExprPart extends PartPlace {
  /** Inputs broadcast to the part's shape. */
  readonly expr: Expr;
}

/** Expressions side by side along an axis, or in turn; in the order of their starts they fill it. */
export interface JoinedExprs {
  /** Counted from the front. */
  readonly axis: number;
  readonly parts: readonly ExprPart[];
}

/** Parts in the order of their places: those that lie in turn together, others each alone. Throws an Error where parts in turn are incomplete. */
export function runsOf<P extends PartPlace>(parts: readonly P[]): readonly (readonly P[])[] {
  const sorted = parts.toSorted((a, b) => a.start - b.start);
  const runs: P[][] = [];
  for (let at = 0; at < sorted.length; at += sorted[at]!.step) {
    const { start, step, extent } = sorted[at]!;
    const run = sorted.slice(at, at + step);
    const isWhole = run.length === step && run.every((part, i) => part.start === start + i && part.step === step && part.extent === extent);
    if (!isWhole) throw new Error(`the parts from ${start} on, each ${step} apart, are not ${step} in turn`);
    runs.push(run);
  }
  return runs;
}

/** Numbers of the inputs that an expression reads. */
export function inputsOf(expr: Expr): ReadonlySet<number> {
  const found = new Set<number>();
  replaceInputs(expr, (index, dtype) => {
    found.add(index);
    return { kind: 'input', index, dtype };
  });
  return found;
}

/** The expression with other expressions in place of its inputs. */
export function replaceInputs(expr: Expr, replacement: (index: number, dtype: DType) => Expr): Expr {
  const visit = (x: Expr): Expr => {
    switch (x.kind) {
      case 'input':
        return replacement(x.index, x.dtype);
      case 'const':
        return x;
      case 'unary':
      case 'cast':
        return { ...x, x: visit(x.x) };
      case 'binary':
        return { ...x, a: visit(x.a), b: visit(x.b) };
      case 'select':
        return { ...x, condition: visit(x.condition), a: visit(x.a), b: visit(x.b) };
      default:
        return x satisfies never;
    }
  };
  return visit(expr);
}
