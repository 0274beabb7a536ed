/**
 * Reductions, scans and selections along axes.
 */
import type { OpAttrs, ReduceAttrs } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { bytesMoved, perInput } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpDef, OpTable } from './def.ts';
import { BOOL, INDEX, INT64, isInteger, NUMBER } from './dtypes.ts';
import type { DTypeSet } from './dtypes.ts';
import { expectScalar, input, normalizeAxes, normalizeAxis, rejectInput, staticInts } from './shapes.ts';
import { flag, int } from './specs.ts';
import { offsets, operandValues, roundAll, rowMajorStrides } from './values.ts';
import type { Known } from './values.ts';

type ReduceOp =
  | 'ArgMax' | 'ArgMin' | 'CumSum' | 'ReduceL1' | 'ReduceL2' | 'ReduceLogSum' | 'ReduceLogSumExp' | 'ReduceMax' | 'ReduceMean'
  | 'ReduceMin' | 'ReduceProd' | 'ReduceSum' | 'ReduceSumSquare' | 'TopK';

const ONE = { min: 1, max: 1 };
const NUMBER_OR_BOOL: DTypeSet = { label: 'a number type or bool', members: new Set([...NUMBER.members, ...BOOL.members]) };

/** Axes reduced, normalized: none given means all, unless noop_with_empty_axes. */
function reducedAxes(attrs: ReduceAttrs, context: InferContext): readonly number[] {
  const rank = context.type(0).dims.length;
  const given = context.optionalType(1) ? staticInts(context, 1, 'axes') : [];
  if (given.length > 0) return normalizeAxes(given, rank);
  return attrs.noop_with_empty_axes ? [] : context.type(0).dims.map((_, axis) => axis);
}

function withoutAxes(dims: Dims, axes: readonly number[], keepdims: 0 | 1): number[] {
  if (keepdims) return dims.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
  return dims.filter((_, axis) => !axes.includes(axis));
}

/** How two elements become one, and what no element gives; undefined where that is the type's business. */
interface Fold {
  readonly fn: (a: number, b: number) => number;
  readonly none?: number;
}

/** Folds known integers over the reduced axes; the value of a floating sum is its runtime's, who chooses the order. */
function reduceKnown(attrs: ReduceAttrs, context: InferContext, { fn, none }: Fold): Known {
  const { dims, dtype } = context.type(0);
  const values = isInteger(dtype) ? operandValues(context, 0) : undefined;
  if (!values || (context.optionalType(1) && !context.ints(1))) return undefined;
  const axes = reducedAxes(attrs, context);
  const strides = rowMajorStrides(dims);
  const kept = dims.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const inner = offsets(axes.map((axis) => dims[axis]!), axes.map((axis) => strides[axis]!));
  if (inner.length === 0 && none === undefined) return undefined;
  const outer = offsets(kept.map((axis) => dims[axis]!), kept.map((axis) => strides[axis]!));
  const folded = (list: readonly number[]): number => (none === undefined ? list.reduce(fn) : list.reduce(fn, none));
  return roundAll(dtype, outer.map((base) => folded(inner.map((offset) => values[base + offset]!))));
}

function reduce(
  since: number,
  flopsPerElement: number,
  dtypes: DTypeSet = NUMBER,
  fold?: Fold,
): OpDef<'ReduceSum'> {
  return {
    since,
    domain: '',
    inputs: { min: 1, max: 2 },
    outputs: ONE,
    attrs: { keepdims: flag(1), noop_with_empty_axes: flag(0) },
    infer(attrs, context) {
      const x = input(context, 0, 'data', { dtypes });
      return [{ dtype: x.dtype, dims: withoutAxes(x.dims, reducedAxes(attrs, context), attrs.keepdims) }];
    },
    ...(fold && { propagate: (attrs: ReduceAttrs, context: InferContext) => [reduceKnown(attrs, context, fold)] }),
    cost: perInput(flopsPerElement),
  };
}

const ARG: OpDef<'ArgMax'> = {
  since: 1,
  domain: '',
  inputs: ONE,
  outputs: ONE,
  attrs: { axis: int(0), keepdims: flag(1), select_last_index: flag(0) },
  infer(attrs, context) {
    const { dims } = input(context, 0, 'data', { dtypes: NUMBER });
    const axis = dims.length === 0 ? [] : [normalizeAxis(attrs.axis, dims.length)];
    return [{ dtype: 'int64', dims: withoutAxes(dims, axis, attrs.keepdims) }];
  },
  cost: perInput(1),
};

function inferTopK(attrs: OpAttrs['TopK'], context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'X', { dtypes: NUMBER, minRank: 1 });
  input(context, 1, 'K', { dtypes: INT64 });
  expectScalar(context, 1, 'K');
  const axis = normalizeAxis(attrs.axis, x.dims.length);
  const [k] = staticInts(context, 1, 'K');
  if (k === undefined || k < 0) throw new ShapeError(`K must be 0 or more, found ${k}`);
  if (k > x.dims[axis]!) rejectInput(context, 0, 'X', `must have ${k} elements or more along axis ${axis} for K of ${k}`);
  const dims = x.dims.map((dim, i) => (i === axis ? k : dim));
  return [{ dtype: x.dtype, dims }, { dtype: 'int64', dims }];
}

export const REDUCE: Pick<OpTable, ReduceOp> = {
  ArgMax: ARG,
  ArgMin: ARG,
  CumSum: {
    since: 11,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: ONE,
    attrs: { exclusive: flag(0), reverse: flag(0) },
    infer(_attrs, context) {
      const x = input(context, 0, 'x', { dtypes: NUMBER, minRank: 1 });
      expectScalar(context, 1, 'axis', { dtypes: INDEX });
      const axis = context.ints(1)?.[0];
      if (axis !== undefined) normalizeAxis(axis, x.dims.length);
      return [x];
    },
    cost: perInput(1),
  },
  ReduceL1: reduce(1, 2),
  ReduceL2: reduce(1, 2),
  ReduceLogSum: reduce(1, 1),
  ReduceLogSumExp: reduce(1, 4),
  ReduceMax: reduce(1, 1, NUMBER_OR_BOOL, { fn: (a, b) => Math.max(a, b) }),
  ReduceMean: reduce(1, 1),
  ReduceMin: reduce(1, 1, NUMBER_OR_BOOL, { fn: (a, b) => Math.min(a, b) }),
  ReduceProd: reduce(1, 1, NUMBER, { fn: (a, b) => a * b, none: 1 }),
  ReduceSum: reduce(1, 1, NUMBER, { fn: (a, b) => a + b, none: 0 }),
  ReduceSumSquare: reduce(1, 2),
  TopK: {
    since: 1,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: { min: 2, max: 2 },
    attrs: { axis: int(-1), largest: flag(1), sorted: flag(1) },
    infer: inferTopK,
    /** A heap of k per row: one comparison and log₂ k moves per element. */
    cost(attrs, inputs, outputs) {
      const axis = attrs.axis < 0 ? attrs.axis + (inputs[0]?.dims.length ?? 0) : attrs.axis;
      const k = outputs[0]?.dims[axis] ?? 1;
      const perElement = 1 + Math.ceil(Math.log2(Math.max(1, k)));
      return { flops: perElement * elementCount(inputs[0]?.dims ?? []), bytes: bytesMoved(inputs, outputs) };
    },
  },
};
