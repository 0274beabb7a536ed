/**
 * Normalizations and the softmax family: every output has the shape of its input.
 */
import type { OpAttrs } from '../ir/ops.ts';
import type { TensorType } from '../ir/tensor.ts';
import { perInput } from './cost.ts';
import { ShapeError, UnsupportedError } from './def.ts';
import type { AttrSpecs, InferContext, OpDef, OpTable } from './def.ts';
import { FLOAT } from './dtypes.ts';
import { broadcastsTo, expectDims, input, normalizeAxes, normalizeAxis, optionalInput, rejectInput } from './shapes.ts';
import { float, int, ints, oneOfInts, onlyZero } from './specs.ts';

type NormalizeOp =
  | 'BatchNormalization' | 'GroupNormalization' | 'Hardmax' | 'InstanceNormalization' | 'LRN' | 'LayerNormalization' | 'LogSoftmax'
  | 'LpNormalization' | 'MeanVarianceNormalization' | 'RMSNormalization' | 'Softmax';

const ONE = { min: 1, max: 1 };
const THREE = { min: 3, max: 3 };

/** Checks one value per channel (axis 1 of X) at each of these inputs. */
function perChannel(context: InferContext, x: TensorType, names: readonly string[], sameDtype: boolean): void {
  for (const [i, name] of names.entries()) {
    input(context, i + 1, name, sameDtype ? { dtype: x.dtype } : { dtypes: FLOAT });
    expectDims(context, i + 1, name, [x.dims[1]!], 'to match the channels of X');
  }
}

/** Checks that scale and bias broadcast to the normalized axes. */
function affine(context: InferContext, x: TensorType, index: number, name: string): void {
  const type = optionalInput(context, index, name, { dtypes: FLOAT });
  if (type && !broadcastsTo(type.dims, x.dims)) rejectInput(context, index, name, `must broadcast to X of [${x.dims.join(',')}]`);
}

function inferAlongAxis(attrs: { readonly axis: number }, context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'input', { dtypes: FLOAT });
  if (x.dims.length > 0) normalizeAxis(attrs.axis, x.dims.length);
  return [x];
}

function softmaxLike(flopsPerElement: number): OpDef<'Softmax'> {
  return {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { axis: int(-1) },
    infer: inferAlongAxis,
    cost: perInput(flopsPerElement),
  };
}

/** The type that statistics are computed in: ONNX's stash_type names float32 (1) or bfloat16 (16). */
function stashDtype(stash: number): 'float32' | 'bfloat16' {
  if (stash === 1) return 'float32';
  if (stash === 16) return 'bfloat16';
  throw new UnsupportedError(`attribute 'stash_type' must be 1 (float32) or 16 (bfloat16), found ${stash}`);
}

const LAYER_ATTRS: AttrSpecs<'LayerNormalization'> = { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) };

function inferLayer(attrs: OpAttrs['LayerNormalization'], context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 1 });
  const axis = normalizeAxis(attrs.axis, x.dims.length);
  affine(context, x, 1, 'Scale');
  affine(context, x, 2, 'B');
  const statistics = { dtype: stashDtype(attrs.stash_type), dims: x.dims.map((dim, i) => (i < axis ? dim : 1)) };
  return [x, statistics, statistics];
}

export const NORMALIZE: Pick<OpTable, NormalizeOp> = {
  BatchNormalization: {
    since: 1,
    domain: '',
    inputs: { min: 5, max: 5 },
    outputs: ONE,
    attrs: { epsilon: float(1e-5), momentum: float(0.9), training_mode: onlyZero('training is not supported') },
    infer(_attrs, context) {
      const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 2 });
      perChannel(context, x, ['scale', 'B', 'input_mean', 'input_var'], false);
      return [x];
    },
    cost: perInput(2),
  },
  GroupNormalization: {
    since: 18,
    domain: '',
    inputs: THREE,
    outputs: ONE,
    attrs: { epsilon: float(1e-5), num_groups: int(), stash_type: int(1) },
    infer(attrs, context) {
      const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 2 });
      stashDtype(attrs.stash_type);
      if (attrs.num_groups < 1 || x.dims[1]! % attrs.num_groups !== 0) {
        rejectInput(context, 0, 'X', `must have channels divisible by num_groups ${attrs.num_groups}`);
      }
      perChannel(context, x, ['scale', 'bias'], true);
      return [x];
    },
    cost: perInput(8),
  },
  Hardmax: softmaxLike(1),
  InstanceNormalization: {
    since: 1,
    domain: '',
    inputs: THREE,
    outputs: ONE,
    attrs: { epsilon: float(1e-5) },
    infer(_attrs, context) {
      const x = input(context, 0, 'input', { dtypes: FLOAT, minRank: 3 });
      perChannel(context, x, ['scale', 'B'], true);
      return [x];
    },
    cost: perInput(8),
  },
  LRN: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { alpha: float(1e-4), beta: float(0.75), bias: float(1), size: int() },
    infer(attrs, context) {
      if (attrs.size < 1) throw new ShapeError(`attribute 'size' must be 1 or more, found ${attrs.size}`);
      return [input(context, 0, 'X', { dtypes: FLOAT, minRank: 2 })];
    },
    cost: (attrs, inputs, outputs) => perInput(2 * attrs.size + 4)(attrs, inputs, outputs),
  },
  LayerNormalization: {
    since: 17,
    domain: '',
    inputs: { min: 2, max: 3 },
    outputs: { min: 1, max: 3 },
    attrs: LAYER_ATTRS,
    infer: inferLayer,
    cost: perInput(8),
  },
  LogSoftmax: softmaxLike(5),
  LpNormalization: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { axis: int(-1), p: oneOfInts([1, 2], 2) },
    infer: inferAlongAxis,
    cost: perInput(3),
  },
  MeanVarianceNormalization: {
    since: 9,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { axes: ints([0, 2, 3]) },
    infer(attrs, context) {
      const x = input(context, 0, 'X', { dtypes: FLOAT });
      normalizeAxes(attrs.axes, x.dims.length);
      return [x];
    },
    cost: perInput(6),
  },
  RMSNormalization: {
    since: 23,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: ONE,
    attrs: LAYER_ATTRS,
    infer(attrs, context) {
      const [x] = inferLayer(attrs, context);
      return [{ dtype: context.type(1).dtype, dims: x!.dims }];
    },
    cost: perInput(5),
  },
  Softmax: softmaxLike(5),
};
