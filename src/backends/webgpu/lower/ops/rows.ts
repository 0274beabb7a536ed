/** Softmax and normalizations: every one a program over rows (kernels/rows.ts). */
import type { Node, ValueId } from '../../../../ir/graph.ts';
import type { OpKind } from '../../../../ir/ops.ts';
import { type RowEmitter, type RowOperand, type RowOutput, rowKernel } from '../../kernels/rows.ts';
import type { LowerContext, Lowering, LoweringTable, StorageWish } from '../context.ts';
import { floatReason } from '../support.ts';
import { type DeviceTensor, rowMajorStrides } from '../tensor.ts';
import { gridToWrite } from './quantize.ts';

/** What a row kernel asks of a lowering's context. */
type RowContext = Pick<LowerContext, 'dispatch' | 'profile'>;

type SoftmaxOp = 'Softmax' | 'LogSoftmax';

/** Softmax along one axis of a linear tensor, with the row's maximum taken off first. A row that has none is NaN, or zeros of SafeSoftmax. */
export function softmaxRows(op: SoftmaxOp | 'SafeSoftmax', source: DeviceTensor, target: DeviceTensor, axis: number, context: RowContext): void {
  overAxes({ label: op, source, axes: [axis], targets: [{ tensor: target }] }, context, (row) => {
    const max = row.reduce('max', (load) => load(0));
    const sum = `${row.help('softmax_sum', 'row')}(${row.reduce('sum', (load) => `exp(${load(0)} - ${max})`)})`;
    if (op === 'LogSoftmax') {
      // Two differences: the logarithm would be lost in a maximum that is large.
      const log = row.let(`${row.help('log1', 'row')}(${sum})`);
      return row.storeEach((load) => `${load(0)} - ${max} - ${log}`);
    }
    const scale = row.let(`1.0 / ${sum}`);
    const weight = (load: (input: number) => string): string => `exp(${load(0)} - ${max}) * ${scale}`;
    row.storeEach(op === 'SafeSoftmax' ? (load) => `${row.help('finite1', 'element')}(${weight(load)})` : weight);
  });
}

/** A parameter of a normalization: which of the tensor's axes it runs along; it is constant along the others. */
interface Parameter {
  readonly tensor: DeviceTensor;
  readonly strides: readonly number[];
}

/** A tensor of a row program's values, or of what these become. */
interface Target {
  readonly tensor: DeviceTensor;
  readonly end?: RowOutput['end'];
}

/** The rows of a linear tensor over some of its axes, and where they go. */
interface Rows {
  readonly label: string;
  readonly source: DeviceTensor;
  readonly axes: readonly number[];
  readonly targets: readonly Target[];
  /** Inputs 1, 2 … of the program. */
  readonly parameters?: readonly Parameter[];
}

function overAxes({ label, source, axes, targets, parameters = [] }: Rows, context: RowContext, program: (row: RowEmitter) => void): void {
  const kept = source.dims.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const order = [...kept, ...axes];
  const operand = (tensor: DeviceTensor, strides: readonly number[]): RowOperand => ({
    tensor,
    view: { offset: 0, strides: order.map((axis) => strides[axis]!) },
  });
  const strides = rowMajorStrides(source.dims);
  const spec = {
    label,
    kept: kept.map((axis) => source.dims[axis]!),
    reduced: axes.map((axis) => source.dims[axis]!),
    inputs: [operand(source, strides), ...parameters.map((parameter) => operand(parameter.tensor, parameter.strides))],
    outputs: targets.map(({ tensor, end }) => ({ ...operand(tensor, strides), end })),
  };
  const call = rowKernel(spec, context.profile, program);
  // A layer is named for the type of its values; one that writes nothing but integers computes in what it reads.
  context.dispatch(targets.every(({ end }) => end) ? { ...call, precision: source.storage === 'f16' ? 'float16' : 'float32' } : call);
}

/** Where a normalization goes: the value, the integers of its quantization, or both. */
function normalized(id: ValueId, axes: readonly number[], rank: number, context: LowerContext): Target[] {
  const grid = axes.includes(rank - 1) ? gridToWrite(id, context) : undefined;
  if (grid) context.take(grid.node);
  return [
    ...(grid?.alone ? [] : [{ tensor: context.define(id, 'linear', alongRows(axes, rank)) }]),
    ...(grid ? [{ tensor: context.define(grid.node.outputs[0]!, 'linear', 'narrow'), end: grid.end }] : []),
  ];
}

/** Rows that end with the innermost axis are walked in vectors, so that they can be stored narrow. */
function alongRows(axes: readonly number[], rank: number): StorageWish {
  return axes.includes(rank - 1) ? 'narrow' : 'canonical';
}

function softmax<K extends SoftmaxOp>(op: K): Lowering<K> {
  return {
    unsupported: floatReason,
    lower(node, context) {
      const source = context.tensorIn(node.inputs[0]!, 'linear');
      const rank = source.dims.length;
      const axis = (node.attrs.axis + rank) % rank;
      softmaxRows(op, source, context.define(node.outputs[0]!, 'linear', alongRows([axis], rank)), axis, context);
    },
  };
}

const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

/** A value that broadcasts to `dims`, as a parameter. */
function broadcastParameter(id: ValueId, dims: readonly number[], context: LowerContext): Parameter {
  const tensor = context.tensorIn(id, 'linear');
  const own = rowMajorStrides(tensor.dims);
  const missing = dims.length - tensor.dims.length;
  const strides = dims.map((extent, axis) => (axis < missing || (tensor.dims[axis - missing] === 1 && extent !== 1) ? 0 : own[axis - missing]!));
  return { tensor, strides };
}

/** A vector over one axis. */
function axisParameter(id: ValueId, rank: number, axis: number, context: LowerContext): Parameter {
  return { tensor: context.tensor(id), strides: range(0, rank).map((at) => (at === axis ? 1 : 0)) };
}

/** Emits mean and 1/√(variance + ε) of the row, the variance from the differences to the mean. */
function moments(row: RowEmitter, epsilon: number): { mean: string; scale: string } {
  const mean = row.let(`${row.reduce('sum', (load) => load(0))} / ${row.constant(row.count)}`);
  const squares = row.reduce('sum', (load) => `(${load(0)} - ${mean}) * (${load(0)} - ${mean})`);
  return { mean, scale: row.let(`inverseSqrt(${squares} / ${row.constant(row.count)} + ${row.constant(epsilon)})`) };
}

/** (x − mean)·scale, times input 1, plus input 2. */
function normalizeRow(epsilon: number, hasBias: boolean): (row: RowEmitter) => void {
  return (row) => {
    const { mean, scale } = moments(row, epsilon);
    row.storeEach((load) => `(${load(0)} - ${mean}) * ${scale} * ${load(1)}${hasBias ? ` + ${load(2)}` : ''}`);
  };
}

const layerNorm: Lowering<'LayerNormalization'> = {
  unsupported(node, graph) {
    return floatReason(node, graph) ?? (node.outputs.slice(1).some(Boolean) ? 'the mean and deviation outputs have no kernel' : undefined);
  },
  lower(node, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const rank = source.dims.length;
    const axes = range((node.attrs.axis + rank) % rank, rank);
    const parameters = node.inputs.slice(1).filter(Boolean).map((id) => broadcastParameter(id, source.dims, context));
    overAxes({ label: node.op, source, axes, targets: normalized(node.outputs[0]!, axes, rank, context), parameters }, context, normalizeRow(node.attrs.epsilon, parameters.length > 1));
  },
};

const rmsNorm: Lowering<'RMSNormalization'> = {
  unsupported: floatReason,
  lower(node, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const rank = source.dims.length;
    const axes = range((node.attrs.axis + rank) % rank, rank);
    const parameters = [broadcastParameter(node.inputs[1]!, source.dims, context)];
    overAxes({ label: node.op, source, axes, targets: normalized(node.outputs[0]!, axes, rank, context), parameters }, context, (row) => {
      const squares = row.reduce('sum', (load) => `${load(0)} * ${load(0)}`);
      const scale = row.let(`inverseSqrt(${squares} / ${row.constant(row.count)} + ${row.constant(node.attrs.epsilon)})`);
      row.storeEach((load) => `${load(0)} * ${scale} * ${load(1)}`);
    });
  },
};

const instanceNorm: Lowering<'InstanceNormalization'> = {
  unsupported: floatReason,
  lower(node, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const rank = source.dims.length;
    const parameters = node.inputs.slice(1).map((id) => axisParameter(id, rank, 1, context));
    const target = context.define(node.outputs[0]!, 'linear');
    overAxes({ label: node.op, source, axes: range(2, rank), targets: [{ tensor: target }], parameters }, context, normalizeRow(node.attrs.epsilon, true));
  },
};

const groupNorm: Lowering<'GroupNormalization'> = {
  unsupported: floatReason,
  lower(node, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const { dims } = source;
    const groups = node.attrs.num_groups;
    const perGroup = dims[1]! / groups;
    // [N, C, …] as [N, group, channel of the group, …]; scale and bias have one entry per channel.
    const grouped = [dims[0]!, groups, perGroup, ...dims.slice(2)];
    const target = context.define(node.outputs[0]!, 'linear');
    const parameters = node.inputs.slice(1).map((id) => ({ tensor: context.tensor(id), strides: [0, perGroup, 1, ...dims.slice(2).map(() => 0)] }));
    const axes = range(2, grouped.length);
    overAxes({ label: node.op, source: { ...source, dims: grouped }, axes, targets: [{ tensor: { ...target, dims: grouped } }], parameters }, context, normalizeRow(node.attrs.epsilon, true));
  },
};

const batchNorm: Lowering<'BatchNormalization'> = {
  unsupported: floatReason,
  lower(node, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const target = context.define(node.outputs[0]!, 'linear');
    const parameters = node.inputs.slice(1).map((id) => axisParameter(id, source.dims.length, 1, context));
    // A row of one channel's pixels: nothing to reduce, all to map.
    const axes = range(2, source.dims.length);
    overAxes({ label: node.op, source, axes, targets: [{ tensor: target }], parameters }, context, (row) => {
      row.storeEach((load) => `(${load(0)} - ${load(3)}) * inverseSqrt(${load(4)} + ${row.constant(node.attrs.epsilon)}) * ${load(1)} + ${load(2)}`);
    });
  },
};

const meanVariance: Lowering<'MeanVarianceNormalization'> = {
  unsupported: floatReason,
  lower(node, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const rank = source.dims.length;
    const axes = node.attrs.axes.map((axis) => (axis + rank) % rank);
    const target = context.define(node.outputs[0]!, 'linear');
    // ONNX's function body: (x − mean) / (√(E[x²] − mean²) + 1e-9).
    overAxes({ label: node.op, source, axes, targets: [{ tensor: target }] }, context, (row) => {
      const mean = row.let(`${row.reduce('sum', (load) => load(0))} / ${row.constant(row.count)}`);
      const squares = row.reduce('sum', (load) => `(${load(0)} - ${mean}) * (${load(0)} - ${mean})`);
      const deviation = row.let(`sqrt(${squares} / ${row.constant(row.count)}) + ${row.constant(1e-9)}`);
      row.storeEach((load) => `(${load(0)} - ${mean}) / ${deviation}`);
    });
  },
};

const lpNorm: Lowering<'LpNormalization'> = {
  unsupported: floatReason,
  lower(node: Node<'LpNormalization'>, context) {
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const rank = source.dims.length;
    const target = context.define(node.outputs[0]!, 'linear');
    overAxes({ label: node.op, source, axes: [(node.attrs.axis + rank) % rank], targets: [{ tensor: target }] }, context, (row) => {
      const sum = row.reduce('sum', (load) => (node.attrs.p === 1 ? `abs(${load(0)})` : `${load(0)} * ${load(0)}`));
      const norm = row.let(node.attrs.p === 1 ? sum : `sqrt(${sum})`);
      // A row of zeros stays one; the difference is 0 in the norm's width.
      row.storeEach((load) => `${load(0)} / select(${norm}, ${norm} + ${row.constant(1)}, ${norm} == ${norm} - ${norm})`);
    });
  },
};

export const ROW_LOWERINGS = {
  Softmax: softmax('Softmax'),
  LogSoftmax: softmax('LogSoftmax'),
  LayerNormalization: layerNorm,
  RMSNormalization: rmsNorm,
  InstanceNormalization: instanceNorm,
  GroupNormalization: groupNorm,
  BatchNormalization: batchNorm,
  MeanVarianceNormalization: meanVariance,
  LpNormalization: lpNorm,
} as const satisfies LoweringTable & { readonly [K in OpKind]?: Lowering<K> };
