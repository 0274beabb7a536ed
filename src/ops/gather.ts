/**
 * Indexed reads and writes: Gather*, Scatter*, OneHot.
 */
import type { OpAttrs } from '../ir/ops.ts';
import type { TensorType } from '../ir/tensor.ts';
import { movement, picking } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpTable } from './def.ts';
import { INDEX, INT64, NUMBER } from './dtypes.ts';
import { expectDims, expectScalar, input, normalizeAxis, rejectInput, staticInts } from './shapes.ts';
import { int, oneOf } from './specs.ts';
import type { Known } from './values.ts';

type GatherOp = 'Gather' | 'GatherElements' | 'GatherND' | 'OneHot' | 'ScatterElements' | 'ScatterND';

const ONE = { min: 1, max: 1 };
const TWO = { min: 2, max: 2 };
const THREE = { min: 3, max: 3 };
const REDUCTIONS = ['none', 'add', 'mul', 'max', 'min'] as const;

/** Picks known values along axis 0 of a vector, which is how models read one dimension of a shape. */
function gatherKnown(context: InferContext): Known {
  const values = context.numbers(0);
  const indices = context.ints(1);
  if (!values || !indices || context.type(0).dims.length !== 1) return undefined;
  const picked = indices.map((index) => values.at(index));
  if (picked.some((value) => value === undefined)) {
    throw new ShapeError(`indices [${indices.join(',')}] are outside [${-values.length}, ${values.length - 1}]`);
  }
  return picked as number[];
}

function inferGatherND(attrs: OpAttrs['GatherND'], context: InferContext): readonly TensorType[] {
  const data = input(context, 0, 'data', { minRank: 1 });
  const indices = input(context, 1, 'indices', { dtypes: INT64, minRank: 1 });
  const batch = attrs.batch_dims;
  if (batch < 0 || batch >= Math.min(data.dims.length, indices.dims.length)) {
    throw new ShapeError(`attribute 'batch_dims' ${batch} must be less than the ranks of data and indices`);
  }
  const sameBatch = data.dims.slice(0, batch).every((dim, axis) => dim === indices.dims[axis]);
  if (!sameBatch) rejectInput(context, 1, 'indices', `must match the first ${batch} dims of data [${data.dims.join(',')}]`);
  const depth = indices.dims.at(-1)!;
  if (depth < 1 || depth > data.dims.length - batch) {
    rejectInput(context, 1, 'indices', `must end in 1 to ${data.dims.length - batch} indices per element`);
  }
  return [{ dtype: data.dtype, dims: [...indices.dims.slice(0, -1), ...data.dims.slice(batch + depth)] }];
}

function inferScatterElements(attrs: OpAttrs['ScatterElements'], context: InferContext): readonly TensorType[] {
  const data = input(context, 0, 'data', { minRank: 1 });
  normalizeAxis(attrs.axis, data.dims.length);
  const indices = input(context, 1, 'indices', { dtypes: INDEX, rank: data.dims.length });
  input(context, 2, 'updates', { dtype: data.dtype });
  expectDims(context, 2, 'updates', indices.dims, 'to match indices');
  return [data];
}

function inferScatterND(_attrs: unknown, context: InferContext): readonly TensorType[] {
  const data = input(context, 0, 'data', { minRank: 1 });
  const indices = input(context, 1, 'indices', { dtypes: INT64, minRank: 1 });
  const depth = indices.dims.at(-1)!;
  if (depth > data.dims.length) rejectInput(context, 1, 'indices', `must end in ${data.dims.length} indices per element or fewer`);
  input(context, 2, 'updates', { dtype: data.dtype });
  expectDims(context, 2, 'updates', [...indices.dims.slice(0, -1), ...data.dims.slice(depth)], 'to match data and indices');
  return [data];
}

function inferOneHot(attrs: OpAttrs['OneHot'], context: InferContext): readonly TensorType[] {
  const { dims } = input(context, 0, 'indices', { dtypes: NUMBER });
  expectScalar(context, 1, 'depth', { dtypes: NUMBER });
  const values = input(context, 2, 'values', { rank: 1 });
  expectDims(context, 2, 'values', [2], '(off and on)');
  const axis = normalizeAxis(attrs.axis, dims.length + 1);
  const depth = staticInts(context, 1, 'depth')[0]!;
  if (depth < 1) throw new ShapeError(`depth must be 1 or more, found ${depth}`);
  return [{ dtype: values.dtype, dims: [...dims.slice(0, axis), depth, ...dims.slice(axis)] }];
}

export const GATHER: Pick<OpTable, GatherOp> = {
  Gather: {
    since: 1,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: { axis: int(0) },
    infer(attrs, context) {
      const data = input(context, 0, 'data', { minRank: 1 });
      const indices = input(context, 1, 'indices', { dtypes: INDEX });
      const axis = normalizeAxis(attrs.axis, data.dims.length);
      return [{ dtype: data.dtype, dims: [...data.dims.slice(0, axis), ...indices.dims, ...data.dims.slice(axis + 1)] }];
    },
    propagate: (_attrs, context) => [gatherKnown(context)],
    cost: picking,
  },
  GatherElements: {
    since: 11,
    domain: '',
    inputs: TWO,
    outputs: ONE,
    attrs: { axis: int(0) },
    infer(attrs, context) {
      const data = input(context, 0, 'data', { minRank: 1 });
      normalizeAxis(attrs.axis, data.dims.length);
      return [{ dtype: data.dtype, dims: input(context, 1, 'indices', { dtypes: INDEX, rank: data.dims.length }).dims }];
    },
    cost: picking,
  },
  GatherND: { since: 11, domain: '', inputs: TWO, outputs: ONE, attrs: { batch_dims: int(0) }, infer: inferGatherND, cost: picking },
  OneHot: { since: 9, domain: '', inputs: THREE, outputs: ONE, attrs: { axis: int(-1) }, infer: inferOneHot, cost: movement },
  ScatterElements: {
    since: 11,
    domain: '',
    inputs: THREE,
    outputs: ONE,
    attrs: { axis: int(0), reduction: oneOf(REDUCTIONS, 'none') },
    infer: inferScatterElements,
    cost: movement,
  },
  ScatterND: {
    since: 11,
    domain: '',
    inputs: THREE,
    outputs: ONE,
    attrs: { reduction: oneOf(REDUCTIONS, 'none') },
    infer: inferScatterND,
    cost: movement,
  },
};
