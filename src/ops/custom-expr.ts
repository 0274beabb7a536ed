/** An expression as standard ONNX ops: the decomposition that comes with every elementwise custom op. */
import type { Decomposer } from '../ir/custom.ts';
import type { BinaryFn, Expr, UnaryFn } from '../ir/expr.ts';
import type { OpKind } from '../ir/ops.ts';
import { ONNX_DTYPE } from './specs.ts';

const UNARY: { readonly [F in UnaryFn]: OpKind } = {
  abs: 'Abs', acos: 'Acos', acosh: 'Acosh', asin: 'Asin', asinh: 'Asinh', atan: 'Atan', atanh: 'Atanh', ceil: 'Ceil', cos: 'Cos', cosh: 'Cosh',
  erf: 'Erf', exp: 'Exp', floor: 'Floor', log: 'Log', neg: 'Neg', not: 'Not', bitnot: 'BitwiseNot', reciprocal: 'Reciprocal', round: 'Round',
  sign: 'Sign', sin: 'Sin', sinh: 'Sinh', sqrt: 'Sqrt', tan: 'Tan', tanh: 'Tanh', isnan: 'IsNaN', isposinf: 'IsInf', isneginf: 'IsInf',
};

const BINARY: { readonly [F in BinaryFn]: OpKind } = {
  add: 'Add', sub: 'Sub', mul: 'Mul', div: 'Div', pow: 'Pow', min: 'Min', max: 'Max', mod: 'Mod', fmod: 'Mod', and: 'And', or: 'Or', xor: 'Xor',
  bitand: 'BitwiseAnd', bitor: 'BitwiseOr', bitxor: 'BitwiseXor', shl: 'BitShift', shr: 'BitShift', eq: 'Equal', lt: 'Less', le: 'LessOrEqual',
  gt: 'Greater', ge: 'GreaterOrEqual',
};

/** Writes the expression over `inputs`; equal subtrees (by identity) once. */
export function exprToNodes(expr: Expr, inputs: readonly string[], graph: Decomposer, known = new Map<Expr, string>()): string {
  const seen = known.get(expr);
  if (seen !== undefined) return seen;
  const value = write(expr, inputs, graph, (inner) => exprToNodes(inner, inputs, graph, known));
  known.set(expr, value);
  return value;
}

function write(expr: Expr, inputs: readonly string[], graph: Decomposer, go: (expr: Expr) => string): string {
  switch (expr.kind) {
    case 'input':
      return inputs[expr.index]!;
    case 'const':
      return graph.constant(expr.dtype, [], [expr.value]);
    case 'unary':
      return graph.op(UNARY[expr.fn], [go(expr.x)], unaryAttributes(expr.fn));
    case 'binary':
      return graph.op(BINARY[expr.fn], [go(expr.a), go(expr.b)], binaryAttributes(expr.fn));
    case 'select':
      return graph.op('Where', [go(expr.condition), go(expr.a), go(expr.b)]);
    case 'cast':
      return graph.op('Cast', [go(expr.x)], { to: ONNX_DTYPE[expr.to], ...expr.overflow });
    default:
      return expr satisfies never;
  }
}

function unaryAttributes(fn: UnaryFn): Readonly<Record<string, number>> {
  if (fn === 'isposinf') return { detect_negative: 0, detect_positive: 1 };
  return fn === 'isneginf' ? { detect_negative: 1, detect_positive: 0 } : {};
}

function binaryAttributes(fn: BinaryFn): Readonly<Record<string, number | string>> {
  if (fn === 'fmod') return { fmod: 1 };
  if (fn === 'shl' || fn === 'shr') return { direction: fn === 'shl' ? 'LEFT' : 'RIGHT' };
  return {};
}
