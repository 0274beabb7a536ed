/**
 * Elementwise ops of several tensors, broadcast against each other as NumPy does.
 */
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import type { DType, Dims } from '../ir/tensor.ts';
import { perOutput } from './cost.ts';
import type { InferContext, OpDef, OpTable } from './def.ts';
import { ANY, BOOL, FLOAT, INTEGER, isInteger, NUMBER } from './dtypes.ts';
import type { DTypeSet } from './dtypes.ts';
import { broadcast, broadcastsTo, input, rejectInput } from './shapes.ts';
import { flag, oneOf } from './specs.ts';
import { broadcastValues, mapKnown } from './values.ts';
import type { Known } from './values.ts';

type BroadcastOp =
  | 'Add' | 'And' | 'BitShift' | 'BitwiseAnd' | 'BitwiseOr' | 'BitwiseXor' | 'Div' | 'Equal' | 'Greater' | 'GreaterOrEqual' | 'Less'
  | 'LessOrEqual' | 'Max' | 'Mean' | 'Min' | 'Mod' | 'Mul' | 'Or' | 'PRelu' | 'Pow' | 'Sub' | 'Sum' | 'Where' | 'Xor';

const ONE = { min: 1, max: 1 };
const TWO = { min: 2, max: 2 };
const ANY_NUMBER = { min: 1, max: Number.POSITIVE_INFINITY };
const NAMES = ['A', 'B'] as const;

type KnownFn<K extends OpKind> = (operands: readonly number[], dtype: DType, attrs: OpAttrs[K]) => number | undefined;

interface BroadcastOptions<K extends OpKind> {
  readonly dtypes?: DTypeSet;
  readonly gives?: DType;
  /** The function, for values known at build; `dtype` is the operands'. */
  readonly fn?: KnownFn<K>;
}

/** An op of two or more operands of one element type. */
function elementwise<K extends OpKind>(
  since: number,
  attrs: OpDef<K>['attrs'],
  inputs: { readonly min: number; readonly max: number },
  options: BroadcastOptions<K> = {},
): OpDef<K> {
  const { dtypes = NUMBER, gives, fn } = options;
  return {
    since,
    domain: '',
    inputs,
    outputs: ONE,
    attrs,
    infer(_attrs, context) {
      const shapes: Dims[] = [];
      const first = input(context, 0, 'A', { dtypes }).dtype;
      for (let i = 0; i < context.inputCount; i++) shapes.push(input(context, i, NAMES[i] ?? `operand ${i}`, { dtype: first }).dims);
      return [{ dtype: gives ?? first, dims: broadcast(...shapes) }];
    },
    ...(fn && {
      propagate(opAttrs: OpAttrs[K], context: InferContext) {
        const { dtype } = context.type(0);
        return [mapKnown(context, gives ?? dtype, (operands) => fn(operands, dtype, opAttrs))];
      },
    }),
    cost: (opAttrs, types, outputs) => perOutput(Math.max(1, types.length - 1))(opAttrs, types, outputs),
  };
}

function two<K extends OpKind>(since: number, attrs: OpDef<K>['attrs'], options: BroadcastOptions<K> = {}): OpDef<K> {
  return elementwise(since, attrs, TWO, options);
}

/** Two operands of a function of numbers. */
function pair(fn: (a: number, b: number) => number): (operands: readonly number[]) => number {
  return ([a, b]) => fn(a!, b!);
}

function compare(since: number, dtypes: DTypeSet, fn: (a: number, b: number) => boolean): OpDef<'Less'> {
  return two(since, {}, { dtypes, gives: 'bool', fn: pair((a, b) => Number(fn(a, b))) });
}

/** Integer division truncates toward zero; division by zero has no value at build. */
function divide([a, b]: readonly number[], dtype: DType): number | undefined {
  if (!isInteger(dtype)) return a! / b!;
  return b === 0 ? undefined : Math.trunc(a! / b!);
}

/** fmod 0: the sign of the divisor, as Python's %; fmod 1: the sign of the dividend, as C's fmod. */
function modulo([a, b]: readonly number[], dtype: DType, attrs: { readonly fmod: 0 | 1 }): number | undefined {
  if (b === 0 && isInteger(dtype)) return undefined;
  const remainder = a! % b!;
  return attrs.fmod === 0 && remainder !== 0 && remainder < 0 !== b! < 0 ? remainder + b! : remainder;
}

function whereKnown(context: InferContext): Known {
  const condition = context.ints(0);
  const x = context.numbers(1);
  const y = context.numbers(2);
  if (!condition || !x || !y) return undefined;
  const shapes = [0, 1, 2].map((index) => context.type(index).dims);
  const dims = broadcast(...shapes);
  const [c, a, b] = [condition, x, y].map((values, index) => broadcastValues(values, shapes[index]!, dims));
  return c && a && b && c.map((chosen, i) => (chosen ? a[i]! : b[i]!));
}

export const BROADCAST: Pick<OpTable, BroadcastOp> = {
  Add: two(1, {}, { fn: pair((a, b) => a + b) }),
  And: two(1, {}, { dtypes: BOOL, fn: pair((a, b) => a * b) }),
  BitShift: two(11, { direction: oneOf(['LEFT', 'RIGHT']) }, { dtypes: INTEGER }),
  BitwiseAnd: two(18, {}, { dtypes: INTEGER }),
  BitwiseOr: two(18, {}, { dtypes: INTEGER }),
  BitwiseXor: two(18, {}, { dtypes: INTEGER }),
  Div: two(1, {}, { fn: divide }),
  Equal: compare(1, ANY, (a, b) => a === b),
  Greater: compare(1, NUMBER, (a, b) => a > b),
  GreaterOrEqual: compare(12, NUMBER, (a, b) => a >= b),
  Less: compare(1, NUMBER, (a, b) => a < b),
  LessOrEqual: compare(12, NUMBER, (a, b) => a <= b),
  Max: elementwise(1, {}, ANY_NUMBER, { fn: (operands) => Math.max(...operands) }),
  Mean: elementwise(1, {}, ANY_NUMBER, { dtypes: FLOAT }),
  Min: elementwise(1, {}, ANY_NUMBER, { fn: (operands) => Math.min(...operands) }),
  Mod: two(10, { fmod: flag(0) }, { fn: modulo }),
  Mul: two(1, {}, { fn: pair((a, b) => a * b) }),
  Or: two(1, {}, { dtypes: BOOL, fn: pair((a, b) => Math.max(a, b)) }),
  PRelu: {
    since: 1,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const x = input(context, 0, 'X', { dtypes: NUMBER });
      const slope = input(context, 1, 'slope', { dtype: x.dtype });
      if (!broadcastsTo(slope.dims, x.dims)) rejectInput(context, 1, 'slope', `must broadcast to X of [${x.dims.join(',')}]`);
      return [x];
    },
    cost: perOutput(2),
  },
  Pow: {
    since: 1,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const x = input(context, 0, 'X', { dtypes: NUMBER });
      return [{ dtype: x.dtype, dims: broadcast(x.dims, input(context, 1, 'Y', { dtypes: NUMBER }).dims) }];
    },
  },
  Sub: two(1, {}, { fn: pair((a, b) => a - b) }),
  Sum: elementwise(1, {}, ANY_NUMBER, { dtypes: FLOAT }),
  Where: {
    since: 9,
    domain: '',
    inputs: { min: 3, max: 3 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const condition = input(context, 0, 'condition', { dtypes: BOOL });
      const x = input(context, 1, 'X');
      const y = input(context, 2, 'Y', { dtype: x.dtype });
      return [{ dtype: x.dtype, dims: broadcast(condition.dims, x.dims, y.dims) }];
    },
    propagate: (_attrs, context) => [whereKnown(context)],
  },
  Xor: two(1, {}, { dtypes: BOOL, fn: pair((a, b) => Number(a !== b)) }),
};
