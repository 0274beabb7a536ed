/**
 * Elementwise ONNX ops as scalar expressions: the one place that says what each computes per element.
 *
 * Formulas are those of the ONNX operator schemas; where the schema's form overflows (Softplus, Sigmoid are safe in IEEE
 * arithmetic, Softplus is not), the stable form with the same value is written.
 */
import type { BinaryFn, Expr, UnaryFn } from '../ir/expr.ts';
import { isFewBitsFloat } from '../ir/few-bits.ts';
import type { AnyNode, Node } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import type { DType } from '../ir/tensor.ts';
import { inOp } from '../ops/custom.ts';
import { exprDtype } from '../ops/internal.ts';

/** Operand expressions and their element types; an absent optional input is undefined. */
export type Operands = readonly (Expr | undefined)[];

type Formula<K extends OpKind> = (args: readonly Expr[], node: Node<K>, operands: Operands) => Expr | undefined;

/** Nodes of the expression written out as a tree. */
export function exprSize(expr: Expr, seen: Map<Expr, number> = new Map()): number {
  const known = seen.get(expr);
  if (known !== undefined) return known;
  const size = 1 + exprChildren(expr).reduce((sum, child) => sum + exprSize(child, seen), 0);
  seen.set(expr, size);
  return size;
}

export function exprChildren(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case 'input':
    case 'const':
      return [];
    case 'unary':
    case 'cast':
      return [expr.x];
    case 'binary':
      return [expr.a, expr.b];
    case 'select':
      return [expr.condition, expr.a, expr.b];
    default:
      return expr satisfies never;
  }
}

const unary = (fn: UnaryFn, x: Expr): Expr => ({ kind: 'unary', fn, x });
const binary = (fn: BinaryFn, a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });
const select = (condition: Expr, a: Expr, b: Expr): Expr => ({ kind: 'select', condition, a, b });
const cast = (to: DType, x: Expr): Extract<Expr, { kind: 'cast' }> => ({ kind: 'cast', to, x });
/** A number in the type of another expression. */
const like = (x: Expr, value: number): Expr => ({ kind: 'const', value, dtype: exprDtype(x) });
const add = (a: Expr, b: Expr | number): Expr => binary('add', a, typeof b === 'number' ? like(a, b) : b);
const mul = (a: Expr, b: Expr | number): Expr => binary('mul', a, typeof b === 'number' ? like(a, b) : b);
const max = (a: Expr, b: Expr | number): Expr => binary('max', a, typeof b === 'number' ? like(a, b) : b);
const min = (a: Expr, b: Expr | number): Expr => binary('min', a, typeof b === 'number' ? like(a, b) : b);
const isNegative = (x: Expr): Expr => binary('lt', x, like(x, 0));

const sigmoid = (x: Expr): Expr => unary('reciprocal', add(unary('exp', unary('neg', x)), 1));
/** log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|), which does not overflow. */
const softplus = (x: Expr): Expr => add(max(x, 0), unary('log', add(unary('exp', unary('neg', unary('abs', x))), 1)));
const hardSigmoid = (x: Expr, alpha: number, beta: number): Expr => max(min(add(mul(x, alpha), beta), 1), 0);
const expm1 = (x: Expr): Expr => add(unary('exp', x), -1);

const simple =
  <K extends OpKind>(fn: UnaryFn): Formula<K> =>
  ([x]) =>
    unary(fn, x!);
const pairwise =
  <K extends OpKind>(fn: BinaryFn): Formula<K> =>
  (args) =>
    args.slice(1).reduce((left, right) => binary(fn, left, right), args[0]!);
const mean = (args: readonly Expr[]): Expr => mul(args.slice(1).reduce((a, b) => add(a, b), args[0]!), 1 / args.length);

function gelu(x: Expr, approximate: 'none' | 'tanh'): Expr {
  const half = mul(x, 0.5);
  if (approximate === 'none') return mul(half, add(unary('erf', mul(x, Math.SQRT1_2)), 1));
  const inner = mul(add(x, mul(mul(mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI));
  return mul(half, add(unary('tanh', inner), 1));
}

function isInf(x: Expr, negative: 0 | 1, positive: 0 | 1): Expr {
  if (negative && positive) return binary('or', unary('isneginf', x), unary('isposinf', x));
  if (negative) return unary('isneginf', x);
  return positive ? unary('isposinf', x) : { kind: 'const', value: 0, dtype: 'bool' };
}

/** Pow gives its base's type. */
function pow(base: Expr, exponent: Expr): Expr {
  const [to, from] = [exprDtype(base), exprDtype(exponent)];
  if (to === from) return binary('pow', base, exponent);
  if (isFloating(to) || !isFloating(from)) return binary('pow', base, exponent.kind === 'const' ? { ...exponent, dtype: to } : cast(to, exponent));
  if (exponent.kind === 'const' && Number.isInteger(exponent.value)) return binary('pow', base, { ...exponent, dtype: to });
  const root = truncatedPow(base, cast('float32', exponent));
  if (exponent.kind === 'const') return root;
  const whole = binary('eq', unary('floor', exponent), exponent);
  return select(whole, binary('pow', base, cast(to, exponent)), root);
}

/**
 * An integer to a fractional power, cut to an integer. A device's pow is a few ulps off, so that 16 ^ 0.75 would come out as 7: what
 * is that near to a whole number is taken for it.
 */
function truncatedPow(base: Expr, exponent: Expr): Expr {
  const power = binary('pow', cast('float32', base), exponent);
  const nearest = unary('round', power);
  const isWhole = binary('le', unary('abs', binary('sub', power, nearest)), mul(unary('abs', nearest), 4e-6));
  return cast(exprDtype(base), select(isWhole, nearest, power));
}

function clip([x, low, high]: Operands): Expr {
  const floored = low ? max(x!, low) : x!;
  return high ? min(floored, high) : floored;
}

const isFloating = (dtype: DType): boolean => dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16' || dtype === 'float64';

/** Every op that maps elements to elements. */
const FORMULAS = {
  Abs: simple('abs'),
  Acos: simple('acos'),
  Acosh: simple('acosh'),
  Add: pairwise('add'),
  And: pairwise('and'),
  Asin: simple('asin'),
  Asinh: simple('asinh'),
  Atan: simple('atan'),
  Atanh: simple('atanh'),
  BitShift: ([a, b], node) => binary(node.attrs.direction === 'LEFT' ? 'shl' : 'shr', a!, b!),
  BitwiseAnd: pairwise('bitand'),
  BitwiseNot: simple('bitnot'),
  BitwiseOr: pairwise('bitor'),
  BitwiseXor: pairwise('bitxor'),
  Cast: ([x], { attrs: { to, saturate, round_mode = 'up' } }) => (isFewBitsFloat(to) && !(saturate && round_mode === 'up') ? { ...cast(to, x!), overflow: { saturate, round_mode } } : cast(to, x!)),
  CastLike: ([x, y]) => cast(exprDtype(y!), x!),
  Ceil: simple('ceil'),
  Celu: ([x], { attrs: { alpha } }) => add(max(x!, 0), min(mul(expm1(mul(x!, 1 / alpha)), alpha), 0)),
  Clip: (_args, _node, operands) => clip(operands),
  Cos: simple('cos'),
  Cosh: simple('cosh'),
  Div: pairwise('div'),
  Elu: ([x], node) => select(isNegative(x!), mul(expm1(x!), node.attrs.alpha), x!),
  Equal: pairwise('eq'),
  Erf: simple('erf'),
  Exp: simple('exp'),
  Floor: simple('floor'),
  Gelu: ([x], node) => gelu(x!, node.attrs.approximate),
  Greater: pairwise('gt'),
  GreaterOrEqual: pairwise('ge'),
  HardSigmoid: ([x], node) => hardSigmoid(x!, node.attrs.alpha, node.attrs.beta),
  HardSwish: ([x]) => mul(x!, hardSigmoid(x!, 1 / 6, 0.5)),
  Identity: ([x]) => x!,
  IsInf: ([x], node) => isInf(x!, node.attrs.detect_negative, node.attrs.detect_positive),
  IsNaN: simple('isnan'),
  LeakyRelu: ([x], node) => select(isNegative(x!), mul(x!, node.attrs.alpha), x!),
  Less: pairwise('lt'),
  LessOrEqual: pairwise('le'),
  Log: simple('log'),
  Max: pairwise('max'),
  Mean: (args) => mean(args),
  Min: pairwise('min'),
  Mish: ([x]) => mul(x!, unary('tanh', softplus(x!))),
  Mod: ([a, b], node) => binary(node.attrs.fmod ? 'fmod' : 'mod', a!, b!),
  Mul: pairwise('mul'),
  Neg: simple('neg'),
  Not: simple('not'),
  Or: pairwise('or'),
  PRelu: ([x, slope]) => select(isNegative(x!), mul(x!, slope!), x!),
  Pow: ([base, exponent]) => pow(base!, exponent!),
  Reciprocal: simple('reciprocal'),
  Relu: ([x]) => max(x!, 0),
  Round: simple('round'),
  Selu: ([x], { attrs: { alpha, gamma } }) => mul(select(isNegative(x!), mul(expm1(x!), alpha), x!), gamma),
  Shrink: ([x], { attrs: { bias, lambd } }) =>
    select(binary('lt', x!, like(x!, -lambd)), add(x!, bias), select(binary('gt', x!, like(x!, lambd)), add(x!, -bias), like(x!, 0))),
  Sigmoid: ([x]) => sigmoid(x!),
  Sign: simple('sign'),
  Sin: simple('sin'),
  Sinh: simple('sinh'),
  Softplus: ([x]) => softplus(x!),
  Softsign: ([x]) => binary('div', x!, add(unary('abs', x!), 1)),
  Sqrt: simple('sqrt'),
  Sub: pairwise('sub'),
  Sum: pairwise('add'),
  Swish: ([x], node) => mul(x!, sigmoid(node.attrs.alpha === 1 ? x! : mul(x!, node.attrs.alpha))),
  Tan: simple('tan'),
  Tanh: simple('tanh'),
  ThresholdedRelu: ([x], node) => select(binary('gt', x!, like(x!, node.attrs.alpha)), x!, like(x!, 0)),
  Where: ([condition, a, b]) => select(condition!, a!, b!),
  Xor: pairwise('xor'),
} as const satisfies { readonly [K in OpKind]?: Formula<K> };

/** Ops that an expression can say. */
export type ElementwiseOp = keyof typeof FORMULAS;

export const ELEMENTWISE_OPS = Object.keys(FORMULAS) as readonly ElementwiseOp[];

export function isElementwise(op: OpKind): op is ElementwiseOp {
  return op in FORMULAS;
}

/** Whether `exprOf` may say what a node computes: one of the vocabulary's elementwise ops, or a custom op with an expression. */
export function isElementwiseNode(node: AnyNode): boolean {
  return isElementwise(node.op) || (node.op === 'Custom' && node.attrs.definition?.op.expression !== undefined);
}

/** What `node` computes per element from its operands' expressions; undefined where no expression says it. */
export function exprOf(node: AnyNode, operands: Operands): Expr | undefined {
  if (node.op === 'Custom') return customExpr(node, operands);
  if (!isElementwise(node.op)) return undefined;
  const formula = FORMULAS[node.op] as unknown as Formula<OpKind>;
  const args = operands.filter((operand) => operand !== undefined);
  return formula(args, node, operands);
}

function customExpr({ attrs: { definition } }: Node<'Custom'>, operands: Operands): Expr | undefined {
  const inputs = operands.filter((operand) => operand !== undefined);
  return definition && inOp(definition, 'expression', () => definition.op.expression?.({ attrs: definition.attrs, inputs }));
}
