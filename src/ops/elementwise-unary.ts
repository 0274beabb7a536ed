/**
 * Elementwise ops of one tensor: functions, activations, casts, Clip.
 */
import { isFewBits } from '../ir/few-bits.ts';
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import type { DType } from '../ir/tensor.ts';
import { movement, perOutput, view } from './cost.ts';
import type { InferContext, OpDef, OpTable } from './def.ts';
import { ANY, BOOL, FLOAT, INTEGER, isInteger, NUMBER, SIGNED_NUMBER } from './dtypes.ts';
import type { DTypeSet } from './dtypes.ts';
import { expectScalar, input } from './shapes.ts';
import { dtype, flag, float, oneOf, roundMode } from './specs.ts';
import { mapKnown, operandValues, roundAll } from './values.ts';
import type { Known } from './values.ts';

type UnaryOp =
  | 'Abs' | 'Acos' | 'Acosh' | 'Asin' | 'Asinh' | 'Atan' | 'Atanh' | 'BitwiseNot' | 'Cast' | 'CastLike' | 'Ceil' | 'Celu' | 'Clip'
  | 'Cos' | 'Cosh' | 'Elu' | 'Erf' | 'Exp' | 'Floor' | 'Gelu' | 'HardSigmoid' | 'HardSwish' | 'Identity' | 'IsInf' | 'IsNaN'
  | 'LeakyRelu' | 'Log' | 'Mish' | 'Neg' | 'Not' | 'Reciprocal' | 'Relu' | 'Round' | 'Selu' | 'Shrink' | 'Sigmoid' | 'Sign' | 'Sin'
  | 'Sinh' | 'Softplus' | 'Softsign' | 'Sqrt' | 'Swish' | 'Tan' | 'Tanh' | 'ThresholdedRelu';

const ONE = { min: 1, max: 1 };

interface UnaryOptions {
  readonly dtypes?: DTypeSet;
  readonly gives?: DType;
  /** The function, for values known at build. */
  readonly fn?: (x: number) => number;
  /** Operations per element, 1 by default. */
  readonly flops?: number;
}

/** An op whose output has its input's shape. */
function unary<K extends OpKind>(since: number, attrs: OpDef<K>['attrs'], options: UnaryOptions = {}): OpDef<K> {
  const { dtypes = FLOAT, gives, fn, flops = 1 } = options;
  return {
    since,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs,
    infer(_attrs, context) {
      const x = input(context, 0, 'X', { dtypes });
      return [{ dtype: gives ?? x.dtype, dims: x.dims }];
    },
    ...(fn && { propagate: (_attrs: OpAttrs[K], context: InferContext) => [mapKnown(context, context.type(0).dtype, ([x]) => fn(x!))] }),
    cost: perOutput(flops),
  };
}

/** Values cast to `to`: toward zero for integers, to 0 or 1 for bool, unchanged where they only move. Nobody computes shapes in few bits. */
function castKnown(context: InferContext, to: DType): Known {
  const from = context.type(0).dtype;
  if (from === to) return context.numbers(0);
  if (isFewBits(from) || isFewBits(to)) return undefined;
  const values = operandValues(context, 0);
  if (!values) return undefined;
  if (to === 'bool') return values.map((value) => (value === 0 ? 0 : 1));
  return roundAll(to, isInteger(to) ? values.map(Math.trunc) : values);
}

function clipKnown(context: InferContext): Known {
  const x = operandValues(context, 0);
  const bound = (index: number, absent: number): number | undefined =>
    context.optionalType(index) ? operandValues(context, index)?.[0] : absent;
  const low = bound(1, Number.NEGATIVE_INFINITY);
  const high = bound(2, Number.POSITIVE_INFINITY);
  if (!x || low === undefined || high === undefined) return undefined;
  return x.map((value) => Math.min(Math.max(value, low), high));
}

/** Rounds halves to even, as ONNX's Round. */
function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

export const UNARY: Pick<OpTable, UnaryOp> = {
  Abs: unary(1, {}, { dtypes: NUMBER, fn: Math.abs }),
  Acos: unary(7, {}),
  Acosh: unary(9, {}),
  Asin: unary(7, {}),
  Asinh: unary(9, {}),
  Atan: unary(7, {}),
  Atanh: unary(9, {}),
  BitwiseNot: unary(18, {}, { dtypes: INTEGER }),
  Cast: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { to: dtype, saturate: flag(1), round_mode: roundMode },
    infer: (attrs, context) => [{ dtype: attrs.to, dims: input(context, 0, 'input', { dtypes: ANY }).dims }],
    propagate: (attrs, context) => [castKnown(context, attrs.to)],
    cost: movement,
  },
  CastLike: {
    since: 15,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: ONE,
    attrs: { saturate: flag(1) },
    infer: (_attrs, context) => [{ dtype: input(context, 1, 'target_type').dtype, dims: input(context, 0, 'input').dims }],
    propagate: (_attrs, context) => [castKnown(context, context.type(1).dtype)],
    cost: movement,
  },
  Ceil: unary(1, {}, { fn: Math.ceil }),
  Celu: unary(12, { alpha: float(1) }, { flops: 5 }),
  Clip: {
    since: 1,
    domain: '',
    inputs: { min: 1, max: 3 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const x = input(context, 0, 'input', { dtypes: NUMBER });
      expectScalar(context, 1, 'min', { dtype: x.dtype });
      expectScalar(context, 2, 'max', { dtype: x.dtype });
      return [x];
    },
    propagate: (_attrs, context) => [clipKnown(context)],
    cost: perOutput(2),
  },
  Cos: unary(7, {}),
  Cosh: unary(9, {}),
  Elu: unary(1, { alpha: float(1) }, { flops: 3 }),
  Erf: unary(9, {}, { dtypes: NUMBER }),
  Exp: unary(1, {}),
  Floor: unary(1, {}, { fn: Math.floor }),
  Gelu: unary(20, { approximate: oneOf(['none', 'tanh'], 'none') }, { flops: 5 }),
  HardSigmoid: unary(1, { alpha: float(0.2), beta: float(0.5) }, { flops: 4 }),
  HardSwish: unary(14, {}, { flops: 5 }),
  Identity: {
    ...unary<'Identity'>(1, {}, { dtypes: ANY }),
    propagate: (_attrs, context) => [context.numbers(0)],
    cost: view,
  },
  IsInf: unary(10, { detect_negative: flag(1), detect_positive: flag(1) }, { gives: 'bool' }),
  IsNaN: unary(9, {}, { gives: 'bool' }),
  LeakyRelu: unary(1, { alpha: float(0.01) }, { flops: 2 }),
  Log: unary(1, {}),
  Mish: unary(18, {}, { flops: 4 }),
  Neg: unary(1, {}, { dtypes: SIGNED_NUMBER, fn: (x) => -x }),
  Not: unary(1, {}, { dtypes: BOOL, fn: (x) => 1 - x }),
  Reciprocal: unary(1, {}, { fn: (x) => 1 / x }),
  Relu: unary(1, {}, { dtypes: SIGNED_NUMBER, fn: (x) => Math.max(x, 0) }),
  Round: unary(11, {}, { fn: roundHalfEven }),
  Selu: unary(1, { alpha: float(1.6732632423543772), gamma: float(1.0507009873554805) }, { flops: 4 }),
  Shrink: unary(9, { bias: float(0), lambd: float(0.5) }, { dtypes: NUMBER, flops: 3 }),
  Sigmoid: unary(1, {}, { flops: 3 }),
  Sign: unary(9, {}, { dtypes: NUMBER, fn: Math.sign }),
  Sin: unary(7, {}),
  Sinh: unary(9, {}),
  Softplus: unary(1, {}, { flops: 3 }),
  Softsign: unary(1, {}, { flops: 3 }),
  Sqrt: unary(1, {}, { fn: Math.sqrt }),
  Swish: unary(24, { alpha: float(1) }, { flops: 5 }),
  Tan: unary(7, {}),
  Tanh: unary(1, {}),
  ThresholdedRelu: unary(10, { alpha: float(1) }),
};
