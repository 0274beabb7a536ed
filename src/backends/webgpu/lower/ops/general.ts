/**
 * General forms of ops whose fast kernels (pool.ts, reduce.ts, rows.ts) are made for floating images and rows: pools with
 * indices and of integers, reductions of narrow integers, of bools and of nothing, layer normalization that also gives its
 * statistics.
 */
import type { BinaryFn, Expr } from '../../../../ir/expr.ts';
import type { Graph, Node } from '../../../../ir/graph.ts';
import { typeOf } from '../../../../ir/graph.ts';
import type { OpAttrs, OpKind } from '../../../../ir/ops.ts';
import { type Dims, type DType, elementCount, toNumbers } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { mapKernel } from '../../kernels/map.ts';
import { type BoundTensor, pointKernel } from '../../kernels/pointwise.ts';
import { type RowEmitter, rowKernel } from '../../kernels/rows.ts';
import { registerType } from '../../wgsl/access.ts';
import type { Block } from '../../wgsl/module.ts';
import { integerRange, wrapInteger } from '../../wgsl/narrow.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';
import { floatReason } from '../support.ts';
import { broadcastView, type DeviceTensor, rowMajorStrides } from '../tensor.ts';

/** Declares `best`, the largest element of the window, and `best_at`, its index in x with the pixels counted in `order`. */
function emitLargest(block: Block, at: readonly string[], x: BoundTensor, attrs: OpAttrs['MaxPool']): void {
  const [n, c, ...pixel] = at as [string, string, ...string[]];
  const { kernel_shape: kernel, strides, dilations, pads, storage_order: columnMajor } = attrs;
  const spatial = x.tensor.dims.slice(2);
  const order = columnMajor ? rowMajorStrides(spatial.toReversed()).toReversed() : rowMajorStrides(spatial);
  block.var('best', `${registerType(x.tensor.dtype)}()`);
  block.var('best_at', '-1i');
  const nest = (outer: Block, axis: number, places: readonly string[]): void => {
    if (axis < kernel.length) {
      outer.for(`k${axis}`, '0u', `${kernel[axis]}u`, '1u', (loop) => {
        loop.let(`p${axis}`, `i32(${pixel[axis]} * ${strides[axis]}u + k${axis} * ${dilations[axis]}u) - ${pads[axis]}`);
        loop.if(`p${axis} >= 0 && p${axis} < ${spatial[axis]}`, (inside) => nest(inside, axis + 1, [...places, `u32(p${axis})`]));
      });
      return;
    }
    outer.let('value', x.load([n, c, ...places]));
    const flat = [`(${n} * ${x.tensor.dims[1]}u + ${c}) * ${elementCount(spatial)}u`, ...places.map((place, a) => `${place} * ${order[a]}u`)];
    outer.if('best_at < 0 || value > best', (then) => {
      then.line('best = value');
      then.line(`best_at = i32(${flat.join(' + ')})`);
    });
  };
  nest(block, 0, []);
}

const maxPool: Lowering<'MaxPool'> = {
  lower(node, context) {
    const x = context.tensorIn(node.inputs[0]!, 'linear');
    const [values = '', indices = ''] = node.outputs;
    const named = Object.entries({ values, indices }).filter(([, id]) => id !== '');
    const outputs = Object.fromEntries(named.map(([name, id]) => [name, context.define(id, 'linear')]));
    const { dims } = Object.values(outputs)[0]!;
    if (elementCount(dims) === 0) return;
    const call = pointKernel(
      {
        label: 'MaxPool',
        extents: dims,
        inputs: { x },
        outputs,
        body(scope) {
          emitLargest(scope.block, scope.at, scope.inputs.x, node.attrs);
          scope.outputs['values']?.store(scope.block, scope.at, 'best');
          scope.outputs['indices']?.store(scope.block, scope.at, 'best_at');
        },
      },
      context.profile,
    );
    context.dispatch(call);
  },
};

type ReduceOp = Extract<OpKind, `Reduce${string}`>;

/** The reduction of no elements. */
const OF_NOTHING: { readonly [K in ReduceOp]: number } = {
  ReduceL1: 0,
  ReduceL2: 0,
  ReduceLogSum: Number.NEGATIVE_INFINITY,
  ReduceLogSumExp: Number.NEGATIVE_INFINITY,
  ReduceMax: Number.NEGATIVE_INFINITY,
  ReduceMean: Number.NaN,
  ReduceMin: Number.POSITIVE_INFINITY,
  ReduceProd: 1,
  ReduceSum: 0,
  ReduceSumSquare: 0,
};

/** The same in the element type: what has no infinity has a largest and a least value, where the device holds it. */
function ofNothing(op: ReduceOp, dtype: DType): number | undefined {
  const value = OF_NOTHING[op];
  if (registerType(dtype) === 'f32' || Number.isFinite(value)) return value;
  if (dtype === 'int64' || (op !== 'ReduceMax' && op !== 'ReduceMin')) return undefined;
  const [least, largest] = dtype === 'bool' ? [0, 1] : integerRange(dtype);
  return value < 0 ? least : largest;
}

/** How elements of a narrow integer or a bool join. */
const JOIN: { readonly [K in ReduceOp]?: (type: string, a: string, b: string) => string } = {
  ReduceMax: (type, a, b) => (type === 'bool' ? `${a} || ${b}` : `max(${a}, ${b})`),
  ReduceMin: (type, a, b) => (type === 'bool' ? `${a} && ${b}` : `min(${a}, ${b})`),
  ReduceProd: (_type, a, b) => `${a} * ${b}`,
  ReduceSum: (_type, a, b) => `${a} + ${b}`,
};

function reduceReason(node: Node<ReduceOp>, graph: Graph): string | undefined {
  const { dtype, dims } = typeOf(graph, node.inputs[0]!);
  if (node.inputs[1] && !graph.constants.has(node.inputs[1])) return 'the axes are not constant';
  if (elementCount(dims) > 0) return registerType(dtype) === 'f32' || !JOIN[node.op] ? `no kernel for ${dtype}` : undefined;
  return ofNothing(node.op, dtype) === undefined ? `nothing to reduce, and no ${dtype} on the device stands for that` : undefined;
}

function lowerReduce(node: Node<ReduceOp>, context: LowerContext): void {
  const { dtype, dims } = context.type(node.inputs[0]!);
  if (elementCount(dims) === 0) return fill(node.outputs[0]!, ofNothing(node.op, dtype)!, context);
  const given = node.inputs[1] ? toNumbers(context.constant(node.inputs[1])!).map((axis) => normalizeAxis(axis, dims.length)) : [];
  const all = dims.map((_, axis) => axis);
  const axes = given.length > 0 || node.attrs.noop_with_empty_axes ? given : all;
  const kept = all.filter((axis) => !axes.includes(axis));
  const x = context.tensor(node.inputs[0]!);
  const join = JOIN[node.op]!;
  lowerElements(context, node.outputs[0]!, {
    label: node.op,
    inputs: { x },
    body({ block, at, inputs }) {
      const own = node.attrs.keepdims ? at : all.map((axis) => (kept.includes(axis) ? at[kept.indexOf(axis)]! : '0u'));
      const type = registerType(dtype);
      block.var('acc', `${type}()`);
      block.var('first', 'true');
      const nest = (outer: Block, level: number): void => {
        const axis = axes[level];
        if (axis !== undefined) return outer.for(`k${axis}`, '0u', `${dims[axis]}u`, '1u', (loop) => nest(loop, level + 1));
        outer.let('value', inputs.x.load(own.map((c, a) => (axes.includes(a) ? `k${a}` : c))));
        outer.line(`acc = select(${join(type, 'acc', 'value')}, value, first)`);
        outer.line('first = false');
      };
      nest(block, 0);
      return wrapInteger(dtype, 'acc');
    },
  });
}

function fill(id: string, value: number, context: LowerContext): void {
  const tensor = context.define(id, 'linear');
  const { dims, dtype } = tensor;
  if (elementCount(dims) === 0) return;
  const output = { tensor, view: { offset: 0, strides: rowMajorStrides(dims) }, expr: { kind: 'const', value, dtype } as const };
  context.dispatch(mapKernel({ label: 'Fill', dims, inputs: [], outputs: [output] }, context.profile));
}

const binary = (fn: BinaryFn, a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });
const operand = (index: number): Expr => ({ kind: 'input', index, dtype: 'float32' });

/** One value per row over the last axes of a tensor. */
function rowStatistic(sources: readonly DeviceTensor[], target: DeviceTensor, axis: number, context: LowerContext, program: (row: RowEmitter) => void): void {
  const { dims } = sources[0]!;
  const spec = {
    label: 'LayerNormalization',
    kept: dims.slice(0, axis),
    reduced: dims.slice(axis),
    inputs: sources.map((tensor) => ({ tensor, view: broadcastView(tensor, dims) })),
    outputs: [{ tensor: target, view: { offset: 0, strides: [...rowMajorStrides(dims.slice(0, axis)), ...dims.slice(axis).map(() => 0)] } }],
  };
  context.dispatch(rowKernel(spec, context.profile, program));
}

const layerNorm: Lowering<'LayerNormalization'> = {
  unsupported: (node, graph) => floatReason(node, graph) ?? (node.attrs.stash_type === 1 ? undefined : 'statistics in bfloat16'),
  lower(node, context) {
    const x = context.tensorIn(node.inputs[0]!, 'linear');
    const { dims } = x;
    const axis = normalizeAxis(node.attrs.axis, dims.length);
    const rows: Dims = dims.map((dim, a) => (a < axis ? dim : 1));
    const statistic = (id: string): DeviceTensor => (id === '' ? context.scratch('float32', rows) : context.define(id, 'linear'));
    const [y, meanId = '', deviationId = ''] = node.outputs as [string, string?, string?];
    const [mean, inverse] = [statistic(meanId), statistic(deviationId)];
    rowStatistic([x], mean, axis, context, (row) => row.storeRow(`${row.reduce('sum', (load) => load(0))} / ${row.constant(row.count)}`));
    rowStatistic([x, mean], inverse, axis, context, (row) => {
      const squares = row.reduce('sum', (load) => `(${load(0)} - ${load(1)}) * (${load(0)} - ${load(1)})`);
      row.storeRow(`inverseSqrt(${squares} / ${row.constant(row.count)} + ${row.constant(node.attrs.epsilon)})`);
    });
    if (y === '') return;
    const target = context.define(y, 'linear');
    const given = node.inputs.slice(1).filter((id) => id !== '').map((id) => context.tensorIn(id, 'linear'));
    const scaled = binary('mul', binary('mul', binary('sub', operand(0), operand(1)), operand(2)), operand(3));
    const expr = given.length > 1 ? binary('add', scaled, operand(4)) : scaled;
    const inputs = [x, mean, inverse, ...given].map((tensor) => ({ tensor, view: broadcastView(tensor, dims) }));
    const outputs = [{ tensor: target, view: broadcastView(target, dims), expr }];
    context.dispatch(mapKernel({ label: 'LayerNormalization', dims, inputs, outputs }, context.profile));
  },
};

const reductions = Object.fromEntries(Object.keys(OF_NOTHING).map((op) => [op, { unsupported: reduceReason, lower: lowerReduce }])) as {
  readonly [K in ReduceOp]: Lowering<K>;
};

export const GENERAL_LOWERINGS: LoweringTable = { ...reductions, LayerNormalization: layerNorm, MaxPool: maxPool };
