/**
 * Ops that see the same elements under another shape, or repeat them: Reshape and its kin, Transpose, Expand, Tile, Shape.
 */
import type { OpAttrs } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { bytesMoved, movement, view } from './cost.ts';
import { NotStaticError, ShapeError, UnsupportedError } from './def.ts';
import type { InferContext, OpTable } from './def.ts';
import { BOOL, FLOAT, INT64 } from './dtypes.ts';
import { broadcast, expectScalar, input, normalizeAxes, normalizeAxis, optionalInput, rejectInput, staticInts } from './shapes.ts';
import { flag, int, ints, optionalInt } from './specs.ts';
import { broadcastValues, offsets, rowMajorStrides } from './values.ts';
import type { Known } from './values.ts';

type ReshapeOp =
  | 'Dropout' | 'Expand' | 'Flatten' | 'Reshape' | 'Shape' | 'Size' | 'Squeeze' | 'Tile' | 'Transpose' | 'Unsqueeze';

const ONE = { min: 1, max: 1 };
const TWO = { min: 2, max: 2 };

/** Values that keep their order. */
function unchanged(_attrs: unknown, context: InferContext): readonly Known[] {
  return [context.numbers(0)];
}

/** The dims that ONNX's Reshape gives for a target with 0 (copy, unless allowzero) and at most one −1 (the rest). */
export function reshapeDims(from: Dims, target: readonly number[], allowzero: boolean): number[] {
  const describe = `[${from.join(',')}] to [${target.join(',')}]`;
  const dims = target.map((dim, axis) => {
    if (dim < -1) throw new ShapeError(`cannot reshape ${describe}: ${dim} is not a dimension`);
    if (dim !== 0 || allowzero) return dim;
    const copied = from[axis];
    if (copied === undefined) throw new ShapeError(`cannot reshape ${describe}: 0 copies axis ${axis}, which the input lacks`);
    return copied;
  });
  const count = elementCount(from);
  const rest = dims.indexOf(-1);
  if (rest >= 0) {
    if (dims.includes(-1, rest + 1)) throw new ShapeError(`cannot reshape ${describe}: more than one -1`);
    const others = elementCount(dims.filter((dim) => dim !== -1));
    if (others === 0 && allowzero) throw new ShapeError(`cannot reshape ${describe}: -1 beside a 0 has no size`);
    dims[rest] = others === 0 ? 0 : count / others;
  }
  if (!Number.isInteger(dims[rest] ?? 0) || elementCount(dims) !== count) {
    throw new ShapeError(`cannot reshape ${describe}: ${count} elements do not fit`);
  }
  return dims;
}

function shapeSlice(attrs: OpAttrs['Shape'], dims: Dims): Dims {
  const clamp = (axis: number): number => Math.min(Math.max(axis < 0 ? axis + dims.length : axis, 0), dims.length);
  return dims.slice(clamp(attrs.start), clamp(attrs.end ?? dims.length));
}

function squeezeDims(context: InferContext): number[] {
  const { dims } = input(context, 0, 'data');
  if (!context.optionalType(1)) return dims.filter((dim) => dim !== 1);
  const axes = normalizeAxes(staticInts(context, 1, 'axes'), dims.length);
  for (const axis of axes) if (dims[axis] !== 1) rejectInput(context, 0, 'data', `must have size 1 along squeezed axis ${axis}`);
  return dims.filter((_, axis) => !axes.includes(axis));
}

function unsqueezeDims(context: InferContext): number[] {
  const rest = [...input(context, 0, 'data').dims];
  const given = staticInts(context, 1, 'axes');
  const axes = normalizeAxes(given, rest.length + given.length);
  return Array.from({ length: rest.length + axes.length }, (_, axis) => (axes.includes(axis) ? 1 : rest.shift()!));
}

function transposeDims(perm: readonly number[], dims: Dims): number[] {
  const axes = new Set(perm);
  if (perm.length !== dims.length || axes.size !== perm.length || !perm.every((axis) => axis >= 0 && axis < dims.length)) {
    throw new ShapeError(`attribute 'perm' must permute ${dims.length} axes, found [${perm.join(',')}]`);
  }
  return perm.map((axis) => dims[axis]!);
}

function tileRepeats(context: InferContext): readonly number[] {
  const { dims } = input(context, 0, 'input');
  const repeats = staticInts(context, 1, 'repeats');
  const rank = dims.length;
  if (repeats.length !== rank) rejectInput(context, 1, 'repeats', `must hold ${rank} integers to match input of rank ${rank}`);
  if (repeats.some((repeat) => repeat < 0)) throw new ShapeError(`repeats must be 0 or more, found [${repeats.join(',')}]`);
  return repeats;
}

function tileKnown(context: InferContext): Known {
  const values = context.numbers(0);
  const repeats = context.ints(1);
  if (!values || !repeats) return undefined;
  const { dims } = context.type(0);
  // Tiling is broadcasting over an axis put before each: [2,3] × [r,s] is [1,2,1,3] broadcast to [r,2,s,3].
  return broadcastValues(values, dims.flatMap((dim) => [1, dim]), dims.flatMap((dim, axis) => [repeats[axis]!, dim]));
}

function inferDropout(_attrs: unknown, context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'data', { dtypes: FLOAT });
  expectScalar(context, 1, 'ratio', { dtypes: FLOAT });
  expectScalar(context, 2, 'training_mode', { dtypes: BOOL });
  if (context.optionalType(2)) {
    const training = context.numbers(2)?.[0];
    if (training === undefined) throw new NotStaticError('input 2 (training_mode) decides what the op does and is not known at build');
    if (training !== 0) throw new UnsupportedError('training_mode must be false: training is not supported');
  }
  return [x, { dtype: 'bool', dims: x.dims }];
}

export const RESHAPE: Pick<OpTable, ReshapeOp> = {
  Dropout: {
    since: 1,
    domain: '',
    inputs: { min: 1, max: 3 },
    outputs: { min: 1, max: 2 },
    attrs: { seed: int(0) },
    infer: inferDropout,
    cost: view,
  },
  Expand: {
    since: 8,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const x = input(context, 0, 'input');
      input(context, 1, 'shape', { dtypes: INT64, rank: 1 });
      const shape = staticInts(context, 1, 'shape');
      if (shape.some((dim) => dim < 0)) throw new ShapeError(`shape must hold integers of 0 or more, found [${shape.join(',')}]`);
      return [{ dtype: x.dtype, dims: broadcast(x.dims, shape) }];
    },
    propagate(_attrs, context) {
      const values = context.numbers(0);
      const shape = context.ints(1);
      const { dims } = context.type(0);
      return [values && shape && broadcastValues(values, dims, broadcast(dims, shape))];
    },
    cost: movement,
  },
  Flatten: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { axis: int(1) },
    infer(attrs, context) {
      const { dtype, dims } = input(context, 0, 'input');
      const axis = attrs.axis === dims.length ? attrs.axis : normalizeAxis(attrs.axis, dims.length);
      return [{ dtype, dims: [elementCount(dims.slice(0, axis)), elementCount(dims.slice(axis))] }];
    },
    propagate: unchanged,
    cost: view,
  },
  Reshape: {
    since: 1,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: { allowzero: flag(0) },
    infer(attrs, context) {
      const { dtype, dims } = input(context, 0, 'data');
      input(context, 1, 'shape', { dtypes: INT64, rank: 1 });
      return [{ dtype, dims: reshapeDims(dims, staticInts(context, 1, 'shape'), attrs.allowzero === 1) }];
    },
    propagate: unchanged,
    cost: view,
  },
  Shape: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { start: int(0), end: optionalInt },
    infer: (attrs, context) => [{ dtype: 'int64', dims: [shapeSlice(attrs, input(context, 0, 'data').dims).length] }],
    propagate: (attrs, context) => [shapeSlice(attrs, context.type(0).dims)],
    cost: (_attrs, _inputs, outputs) => ({ flops: 0, bytes: bytesMoved([], outputs) }),
  },
  Size: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      input(context, 0, 'data');
      return [{ dtype: 'int64', dims: [] }];
    },
    propagate: (_attrs, context) => [[elementCount(context.type(0).dims)]],
    cost: (_attrs, _inputs, outputs) => ({ flops: 0, bytes: bytesMoved([], outputs) }),
  },
  Squeeze: {
    since: 1,
    domain: '',
    inputs: { min: 1, max: 2 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      optionalInput(context, 1, 'axes', { dtypes: INT64 });
      return [{ dtype: context.type(0).dtype, dims: squeezeDims(context) }];
    },
    propagate: unchanged,
    cost: view,
  },
  Tile: {
    since: 1,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const { dtype, dims } = context.type(0);
      const repeats = tileRepeats(context);
      return [{ dtype, dims: dims.map((dim, axis) => dim * repeats[axis]!) }];
    },
    propagate: (_attrs, context) => [tileKnown(context)],
    cost: movement,
  },
  Transpose: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { perm: ints() },
    infer(attrs, context) {
      const { dtype, dims } = input(context, 0, 'data');
      return [{ dtype, dims: transposeDims(attrs.perm, dims) }];
    },
    propagate(attrs, context) {
      const values = context.numbers(0);
      if (!values) return [];
      const { dims } = context.type(0);
      const strides = rowMajorStrides(dims);
      const order = offsets(transposeDims(attrs.perm, dims), attrs.perm.map((axis) => strides[axis]!));
      return [order.map((offset) => values[offset]!)];
    },
    cost: movement,
  },
  Unsqueeze: {
    since: 1,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      input(context, 1, 'axes', { dtypes: INT64 });
      return [{ dtype: context.type(0).dtype, dims: unsqueezeDims(context) }];
    },
    propagate: unchanged,
    cost: view,
  },
};
