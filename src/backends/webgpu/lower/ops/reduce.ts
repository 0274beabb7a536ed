/** Reductions over axes, and global pools, which are reductions over the pixels. */
import type { Graph, Node, ValueId } from '../../../../ir/graph.ts';
import { typeOf } from '../../../../ir/graph.ts';
import type { OpKind } from '../../../../ir/ops.ts';
import { elementCount, toNumbers } from '../../../../ir/tensor.ts';
import { type RowEmitter, type RowOutput, rowKernel } from '../../kernels/rows.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { floatReason } from '../support.ts';
import { channelAlignment, type Layout, paddedChannels, viewOf } from '../tensor.ts';

type ReduceOp = Extract<OpKind, `Reduce${string}`>;

/** Emits the reduction of one row and stores it. */
type Program = (row: RowEmitter) => void;

const square = (x: string): string => `(${x}) * (${x})`;

const PROGRAMS: { readonly [K in ReduceOp]: Program } = {
  ReduceSum: (row) => row.storeRow(row.reduce('sum', (load) => load(0))),
  ReduceMean: (row) => row.storeRow(`${row.reduce('sum', (load) => load(0))} / ${row.constant(row.count)}`),
  ReduceMax: (row) => row.storeRow(row.reduce('max', (load) => load(0))),
  ReduceMin: (row) => row.storeRow(row.reduce('min', (load) => load(0))),
  ReduceProd: (row) => row.storeRow(row.reduce('prod', (load) => load(0))),
  ReduceL1: (row) => row.storeRow(row.reduce('sum', (load) => `abs(${load(0)})`)),
  ReduceL2: (row) => row.storeRow(`sqrt(${row.reduce('sum', (load) => square(load(0)))})`),
  ReduceSumSquare: (row) => row.storeRow(row.reduce('sum', (load) => square(load(0)))),
  ReduceLogSum: (row) => row.storeRow(`${row.help('log1', 'row')}(${row.reduce('sum', (load) => load(0))})`),
  ReduceLogSumExp(row) {
    // Of a row of -∞ alone or with +∞ in it nothing is taken off: the sum is 0 or ∞, and so its logarithm is right.
    const shift = row.let(`${row.help('finite1', 'row')}(${row.reduce('max', (load) => load(0))})`);
    const sum = row.reduce('sum', (load) => `${row.help('exp1', 'element')}(${load(0)} - ${shift})`);
    row.storeRow(`${row.help('log1', 'row')}(${sum}) + ${shift}`);
  },
};

/** Functions that WGSL has for floating types only. */
const FLOAT_ONLY: ReadonlySet<ReduceOp> = new Set(['ReduceL2', 'ReduceLogSum', 'ReduceLogSumExp']);

function reduceLowering(op: ReduceOp): Lowering<ReduceOp> {
  return {
    unsupported(node, graph) {
      const type = typeOf(graph, node.inputs[0]!);
      const isFloat = type.dtype === 'float32' || type.dtype === 'float16';
      if (FLOAT_ONLY.has(op) && !isFloat) return `no kernel for ${type.dtype}`;
      if (type.dtype === 'int8' || type.dtype === 'uint8' || type.dtype === 'bool') return `no kernel for ${type.dtype}`;
      if (elementCount(type.dims) === 0) return 'the input is empty';
      return node.inputs[1] && !graph.constants.has(node.inputs[1]) ? 'the axes are not constant' : undefined;
    },
    lower(node, context) {
      const axes = reducedAxes(node, context.graph);
      reduceAxes({ label: node.op, input: node.inputs[0]!, output: node.outputs[0]!, axes, keepDims: node.attrs.keepdims === 1, program: PROGRAMS[op] }, context);
    },
  };
}

/** The axes given, made positive; where none are given, all, or none at all: every element is then a row of its own. */
function reducedAxes(node: Node<ReduceOp>, graph: Graph): number[] {
  const rank = typeOf(graph, node.inputs[0]!).dims.length;
  const given = node.inputs[1] ? graph.constants.get(node.inputs[1]) : undefined;
  const axes = given ? toNumbers(given).map((axis) => (axis + rank) % rank) : [];
  if (axes.length > 0 || node.attrs.noop_with_empty_axes === 1) return axes;
  return Array.from({ length: rank }, (_, axis) => axis);
}

/** Reductions that give no more than the largest of what they take. */
const BOUNDED: ReadonlySet<string> = new Set(['GlobalAveragePool', 'GlobalMaxPool', 'ReduceMax', 'ReduceMean', 'ReduceMin']);

/** Those that give one of their operands, which the result must stay equal to: as halves only where the operands are halves. */
const PICKING: ReadonlySet<string> = new Set(['GlobalMaxPool', 'ReduceMax', 'ReduceMin']);

interface Reduction {
  readonly label: string;
  readonly input: ValueId;
  readonly output: ValueId;
  readonly axes: readonly number[];
  readonly keepDims: boolean;
  readonly program: Program;
  /** What becomes of it as it is written. */
  readonly end?: RowOutput['end'];
}

/** Reduces axes of a value; the output keeps channels-last where the pixels go and the channels stay. */
function reduceAxes({ label, input, output, axes, keepDims, program, end }: Reduction, context: LowerContext): void {
  const lies = context.source(input);
  const followed = lies.layout === 'channels-last' && keepDims && !axes.includes(1);
  // A row kernel neither skips padding lanes nor fills them.
  const padded = lies.layout === 'channels-last' && lies.dims[1] !== paddedChannels(lies.dims, lies.storage);
  const source = padded ? context.sourceIn(input, 'linear') : lies;
  const layout: Layout = followed && !padded ? 'channels-last' : 'linear';
  // Whole vectors of channels are written at once; sums may be beyond what halves hold.
  const bounded = BOUNDED.has(label) && (!PICKING.has(label) || source.storage !== 'f32');
  const narrow = layout === 'channels-last' && bounded && source.dims[1]! % channelAlignment(end ? 'i8' : 'f16') === 0;
  const target = context.target(output, layout, narrow ? 'narrow' : 'canonical');
  const kept = source.dims.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const { offset, strides } = viewOf(source);
  const view = { offset, strides: [...kept.map((axis) => strides[axis]!), ...axes.map((axis) => strides[axis]!)] };
  const out = viewOf(target);
  const outStrides = keepDims ? kept.map((axis) => out.strides[axis]!) : out.strides;
  const spec = {
    label,
    kept: kept.map((axis) => source.dims[axis]!),
    reduced: axes.map((axis) => source.dims[axis]!),
    inputs: [{ tensor: source, view }],
    outputs: [{ tensor: target, view: { offset: out.offset, strides: [...outStrides, ...axes.map(() => 0)] }, end }],
  };
  context.dispatch(rowKernel(spec, context.profile, program));
}

type GlobalPool = 'GlobalAveragePool' | 'GlobalMaxPool' | 'GlobalLpPool';

function globalPool<K extends GlobalPool>(program: (node: Node<K>) => Program): Lowering<K> {
  return {
    unsupported: floatReason,
    lower(node, context) {
      const rank = context.type(node.inputs[0]!).dims.length;
      const pixels = Array.from({ length: rank - 2 }, (_, axis) => axis + 2);
      reduceAxes({ label: node.op, input: node.inputs[0]!, output: node.outputs[0]!, axes: pixels, keepDims: true, program: program(node) }, context);
    },
  };
}

/** A mean over the pixels that ends in an expression, which is another node's output. */
export function lowerMean(node: Node<'GlobalAveragePool'>, output: ValueId, end: NonNullable<RowOutput['end']>, context: LowerContext): void {
  const axes = context.type(node.inputs[0]!).dims.map((_, axis) => axis).slice(2);
  reduceAxes({ label: node.op, input: node.inputs[0]!, output, axes, keepDims: true, program: PROGRAMS.ReduceMean, end }, context);
}

function normProgram(p: number): Program {
  if (p === 1) return PROGRAMS.ReduceL1;
  if (p === 2) return PROGRAMS.ReduceL2;
  // What pow is defined as: unlike pow, it takes vectors and scalars alike.
  const power = (row: RowEmitter, x: string, exponent: number): string => `exp2(log2(${x}) * ${row.constant(exponent)})`;
  return (row) => row.storeRow(power(row, row.reduce('sum', (load) => power(row, `abs(${load(0)})`, p)), 1 / p));
}

export const REDUCE_LOWERINGS: LoweringTable = {
  ...(Object.fromEntries(Object.keys(PROGRAMS).map((op) => [op, reduceLowering(op as ReduceOp)])) as { readonly [K in ReduceOp]: Lowering<K> }),
  GlobalAveragePool: globalPool(() => PROGRAMS.ReduceMean),
  GlobalMaxPool: globalPool(() => PROGRAMS.ReduceMax),
  GlobalLpPool: globalPool((node) => normProgram(node.attrs.p)),
};
