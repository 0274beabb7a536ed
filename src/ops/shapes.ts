/**
 * The checks and the axis arithmetic that every op's inference is written with.
 *
 * Messages have one form: which input, what is expected, what was found.
 */
import { formatType } from '../ir/tensor.ts';
import type { DType, Dims, TensorType } from '../ir/tensor.ts';
import { NotStaticError, ShapeError } from './def.ts';
import type { InferContext } from './def.ts';
import type { DTypeSet } from './dtypes.ts';

export interface Expectation {
  readonly dtypes?: DTypeSet;
  /** Must have exactly this element type, because input `sameAs` has it. */
  readonly dtype?: DType;
  readonly rank?: number;
  readonly minRank?: number;
}

/** Throws "input 1 (W) must …, found float32[64,3]". */
export function rejectInput(context: InferContext, index: number, name: string, expectation: string): never {
  throw new ShapeError(`input ${index} (${name}) ${expectation}, found ${formatType(context.type(index))}`);
}

/** Type of input `index`, checked. */
export function input(context: InferContext, index: number, name: string, expect: Expectation = {}): TensorType {
  const type = context.type(index);
  const { dtypes, dtype, rank, minRank } = expect;
  if (dtypes && !dtypes.members.has(type.dtype)) rejectInput(context, index, name, `must be ${dtypes.label}`);
  if (dtype !== undefined && type.dtype !== dtype) rejectInput(context, index, name, `must be ${dtype} like the other operands`);
  if (rank !== undefined && type.dims.length !== rank) rejectInput(context, index, name, `must have rank ${rank}`);
  if (minRank !== undefined && type.dims.length < minRank) rejectInput(context, index, name, `must have rank ${minRank} or more`);
  return type;
}

/** As `input`, for an input that may be left out. */
export function optionalInput(context: InferContext, index: number, name: string, expect: Expectation = {}): TensorType | undefined {
  return context.optionalType(index) && input(context, index, name, expect);
}

/** Checks that input `index`, where given, has exactly these dims; `reason` says where they come from. */
export function expectDims(context: InferContext, index: number, name: string, dims: Dims, reason: string): void {
  const type = context.optionalType(index);
  if (!type) return;
  const same = type.dims.length === dims.length && dims.every((dim, axis) => dim === type.dims[axis]);
  if (!same) rejectInput(context, index, name, `must have shape [${dims.join(',')}] ${reason}`);
}

/** Checks that input `index`, where given, holds one element. */
export function expectScalar(context: InferContext, index: number, name: string, expect: Expectation = {}): void {
  const type = optionalInput(context, index, name, expect);
  if (type && (type.dims.length > 1 || (type.dims[0] ?? 1) !== 1)) rejectInput(context, index, name, 'must be a scalar');
}

/** The integers of an input that decides a shape; NotStaticError where they are not known at build. */
export function staticInts(context: InferContext, index: number, name: string): readonly number[] {
  const values = context.ints(index);
  if (values) return values;
  context.type(index);
  throw new NotStaticError(`the output's shape depends on input ${index} (${name}), whose value is not known at build`);
}

/** As `staticInts`, for floating values and for integers that only clamp. */
export function staticNumbers(context: InferContext, index: number, name: string): readonly number[] {
  const values = context.numbers(index);
  if (values) return values;
  context.type(index);
  throw new NotStaticError(`the output's shape depends on input ${index} (${name}), whose value is not known at build`);
}

/** An axis in [-rank, rank) as one in [0, rank). */
export function normalizeAxis(axis: number, rank: number, what = 'axis'): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ShapeError(`${what} ${axis} is outside [${-rank}, ${rank - 1}] for rank ${rank}`);
  }
  return axis < 0 ? axis + rank : axis;
}

/** Several axes, none twice. */
export function normalizeAxes(axes: readonly number[], rank: number, what = 'axes'): number[] {
  const normal = axes.map((axis) => normalizeAxis(axis, rank, what));
  if (new Set(normal).size !== normal.length) throw new ShapeError(`${what} [${axes.join(',')}] name an axis twice`);
  return normal;
}

/** NumPy's broadcasting of two shapes; undefined where they do not fit. A zero broadcasts with zero and one only. */
export function broadcastTwo(a: Dims, b: Dims): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const dims: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const x = a[axis - rank + a.length] ?? 1;
    const y = b[axis - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return undefined;
    dims.push(x === 1 ? y : x);
  }
  return dims;
}

/** Broadcast shape of several; ShapeError names the shapes that do not fit. */
export function broadcast(...shapes: readonly Dims[]): number[] {
  let dims: number[] = [];
  for (const shape of shapes) {
    const next = broadcastTwo(dims, shape);
    if (!next) throw new ShapeError(`shapes ${shapes.map((s) => `[${s.join(',')}]`).join(' and ')} do not broadcast`);
    dims = next;
  }
  return dims;
}

/** Whether `from` broadcasts to `to` without changing it (ONNX's unidirectional broadcasting). */
export function broadcastsTo(from: Dims, to: Dims): boolean {
  const dims = broadcastTwo(from, to);
  return dims !== undefined && dims.length === to.length && dims.every((dim, axis) => dim === to[axis]);
}
