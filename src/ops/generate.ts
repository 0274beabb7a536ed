/**
 * Ops that make tensors from parameters: ConstantOfShape, EyeLike, Range.
 */
import { elementCount } from '../ir/tensor.ts';
import type { DType } from '../ir/tensor.ts';
import { movement } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpTable } from './def.ts';
import { INT64, isInteger, NUMBER } from './dtypes.ts';
import { expectScalar, input, staticInts, staticNumbers } from './shapes.ts';
import { int, optionalDtype, scalarTensor } from './specs.ts';
import { MAX_KNOWN_VALUES, operandValues, roundAll, roundTo } from './values.ts';

type GenerateOp = 'ConstantOfShape' | 'EyeLike' | 'Range';

const ONE = { min: 1, max: 1 };

/** max(⌈(limit − start) / delta⌉, 0), difference and quotient in the element type where it is floating, as runtimes take them. */
function rangeLength(dtype: DType, start: number, limit: number, delta: number): number {
  if (delta === 0) throw new ShapeError('delta must not be 0');
  const round = (value: number): number => (isInteger(dtype) ? value : roundTo(dtype, value)!);
  return Math.max(0, Math.ceil(round(round(limit - start) / delta)));
}

function rangeBounds(context: InferContext): readonly [number, number, number] {
  const { dtype } = input(context, 0, 'start', { dtypes: NUMBER });
  for (const [i, name] of ['start', 'limit', 'delta'].entries()) expectScalar(context, i, name, { dtype });
  const bounds = ['start', 'limit', 'delta'].map((name, i) => staticNumbers(context, i, name)[0]!);
  return bounds as unknown as readonly [number, number, number];
}

export const GENERATE: Pick<OpTable, GenerateOp> = {
  ConstantOfShape: {
    since: 9,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { value: scalarTensor({ dtype: 'float32', value: 0 }) },
    infer(attrs, context) {
      input(context, 0, 'input', { dtypes: INT64, rank: 1 });
      const dims = staticInts(context, 0, 'input');
      if (dims.some((dim) => dim < 0)) throw new ShapeError(`the shape must hold integers of 0 or more, found [${dims.join(',')}]`);
      return [{ dtype: attrs.value.dtype, dims }];
    },
    propagate(attrs, context) {
      const dims = context.ints(0);
      const count = dims && elementCount(dims);
      if (count === undefined || count > MAX_KNOWN_VALUES) return [];
      return [Array.from({ length: count }, () => attrs.value.value)];
    },
    cost: movement,
  },
  EyeLike: {
    since: 9,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { dtype: optionalDtype, k: int(0) },
    infer(attrs, context) {
      const x = input(context, 0, 'input', { rank: 2 });
      return [{ dtype: attrs.dtype ?? x.dtype, dims: x.dims }];
    },
    cost: (_attrs, _inputs, outputs) => movement(undefined, [], outputs),
  },
  Range: {
    since: 11,
    domain: '',
    inputs: { min: 3, max: 3 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const { dtype } = context.type(0);
      return [{ dtype, dims: [rangeLength(dtype, ...rangeBounds(context))] }];
    },
    propagate(_attrs, context) {
      const { dtype } = context.type(0);
      const [start, limit, delta] = [0, 1, 2].map((index) => operandValues(context, index)?.[0]);
      if (start === undefined || limit === undefined || delta === undefined) return [];
      const length = rangeLength(dtype, start, limit, delta);
      if (length > MAX_KNOWN_VALUES) return [];
      return [roundAll(dtype, Array.from({ length }, (_, i) => start + i * delta))];
    },
    cost: movement,
  },
};
