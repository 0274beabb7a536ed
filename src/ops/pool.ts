/**
 * Pools: sliding, global, and MaxUnpool.
 */
import type { PoolAttrs } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import type { TensorType } from '../ir/tensor.ts';
import { bytesMoved, movement, perInput } from './cost.ts';
import type { InputTypes } from './cost.ts';
import { ShapeError } from './def.ts';
import type { AttrSpecs, InferContext, OpCost, OpDef, OpTable } from './def.ts';
import { FLOAT, INT64, NUMBER } from './dtypes.ts';
import type { DTypeSet } from './dtypes.ts';
import { expectDims, input, staticInts } from './shapes.ts';
import { autoPad, flag, int, ints } from './specs.ts';
import { checkWindow, transposedSizes, windowCounts } from './window.ts';

type PoolOp = 'AveragePool' | 'GlobalAveragePool' | 'GlobalLpPool' | 'GlobalMaxPool' | 'LpPool' | 'MaxPool' | 'MaxUnpool';

const ONE = { min: 1, max: 1 };

const POOL_ATTRS: { readonly [A in keyof PoolAttrs]-?: AttrSpecs<'MaxPool'>[A] } = {
  auto_pad: autoPad,
  ceil_mode: flag(0),
  dilations: ints(),
  kernel_shape: ints(),
  pads: ints(),
  strides: ints(),
};

function poolType(attrs: PoolAttrs, context: InferContext, dtypes: DTypeSet): TensorType {
  const x = input(context, 0, 'X', { dtypes, minRank: 3 });
  const spatial = x.dims.slice(2);
  checkWindow(attrs, spatial.length);
  return { dtype: x.dtype, dims: [...x.dims.slice(0, 2), ...windowCounts(spatial, attrs, attrs.ceil_mode === 1)] };
}

/** `flopsPerTap` operations for every element of every window. */
function poolCost(flopsPerTap: number) {
  return (attrs: PoolAttrs, inputs: InputTypes, outputs: readonly TensorType[]): OpCost => ({
    flops: flopsPerTap * elementCount(outputs[0]?.dims ?? []) * elementCount(attrs.kernel_shape),
    bytes: bytesMoved(inputs, outputs),
  });
}

function inferGlobal(_attrs: unknown, context: InferContext): readonly TensorType[] {
  const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 3 });
  return [{ dtype: x.dtype, dims: x.dims.map((dim, axis) => (axis < 2 ? dim : 1)) }];
}

const GLOBAL: OpDef<'GlobalMaxPool'> = {
  since: 1,
  domain: '',
  inputs: ONE,
  outputs: ONE,
  attrs: {},
  infer: inferGlobal,
  cost: perInput(1),
};

export const POOL: Pick<OpTable, PoolOp> = {
  AveragePool: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { ...POOL_ATTRS, count_include_pad: flag(0) },
    infer: (attrs, context) => [poolType(attrs, context, FLOAT)],
    cost: poolCost(1),
  },
  GlobalAveragePool: GLOBAL,
  GlobalLpPool: { ...GLOBAL, attrs: { p: int(2) }, cost: perInput(2) },
  GlobalMaxPool: GLOBAL,
  LpPool: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: ONE,
    attrs: { ...POOL_ATTRS, p: int(2) },
    infer: (attrs, context) => [poolType(attrs, context, FLOAT)],
    cost: poolCost(2),
  },
  MaxPool: {
    since: 1,
    domain: '',
    inputs: ONE,
    outputs: { min: 1, max: 2 },
    attrs: { ...POOL_ATTRS, storage_order: flag(0) },
    infer(attrs, context) {
      const y = poolType(attrs, context, NUMBER);
      return [y, { dtype: 'int64', dims: y.dims }];
    },
    cost: poolCost(1),
  },
  MaxUnpool: {
    since: 9,
    domain: '',
    inputs: { min: 2, max: 3 },
    outputs: ONE,
    attrs: { kernel_shape: ints(), pads: ints(), strides: ints() },
    infer(attrs, context) {
      const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 3 });
      input(context, 1, 'I', { dtypes: INT64 });
      expectDims(context, 1, 'I', x.dims, 'to match X');
      if (context.optionalType(2)) {
        const dims = staticInts(context, 2, 'output_shape');
        const [found, rank] = [dims.length, x.dims.length];
        if (found !== rank) throw new ShapeError(`output_shape [${dims.join(',')}] must have rank ${rank} to match X`);
        return [{ dtype: x.dtype, dims }];
      }
      const spatial = x.dims.slice(2);
      const window = { ...attrs, dilations: spatial.map(() => 1) };
      checkWindow(window, spatial.length);
      const sizes = transposedSizes(spatial, window, spatial.map(() => 0));
      return [{ dtype: x.dtype, dims: [...x.dims.slice(0, 2), ...sizes] }];
    },
    cost: movement,
  },
};
