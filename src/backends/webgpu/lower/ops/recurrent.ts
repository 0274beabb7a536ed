/** LSTM, GRU, RNN: one product of all steps with the input weights, then the recurrent kernel. */
import type { Expr } from '../../../../ir/expr.ts';
import type { Graph, Node } from '../../../../ir/graph.ts';
import type { RnnAttrs } from '../../../../ir/ops.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import { type Activation, ACTIVATIONS, type Cell, GATES, MAX_HIDDEN, recurrentKernel } from '../../kernels/recurrent.ts';
import { constantArray } from '../constants.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { floatReason } from '../support.ts';
import { type DeviceTensor, rowMajorStrides, type View } from '../tensor.ts';
import { lowerProduct } from './matmul.ts';

type RecurrentNode = Node<Cell>;

interface Sizes {
  readonly directions: number;
  readonly batch: number;
  readonly steps: number;
  readonly hidden: number;
  readonly gates: number;
}

function sizesOf(node: RecurrentNode, context: LowerContext): Sizes {
  const [first, second] = context.type(node.inputs[0]!).dims as [number, number, number];
  const [steps, batch] = node.attrs.layout === 0 ? [first, second] : [second, first];
  const directions = node.attrs.direction === 'bidirectional' ? 2 : 1;
  return { directions, batch, steps, hidden: node.attrs.hidden_size, gates: GATES[node.op] };
}

function unsupported(node: RecurrentNode, graph: Graph): string | undefined {
  const { hidden_size: hidden, activations } = node.attrs;
  const unknown = activations.find((name) => !(name.toLowerCase() in ACTIVATIONS));
  if (unknown !== undefined) return `no activation '${unknown}'`;
  if (hidden > MAX_HIDDEN) return `hidden_size ${hidden} is beyond ${MAX_HIDDEN}`;
  return floatReason(node, graph);
}

/** Activations of every direction; the lists of parameters are consumed in order by those functions that have one. */
function activationsOf(attrs: RnnAttrs, directions: number): Activation[][] {
  const [alphas, betas] = [[...attrs.activation_alpha], [...attrs.activation_beta]];
  const all = attrs.activations.map((given): Activation => {
    const name = given.toLowerCase();
    const { alpha, beta } = ACTIVATIONS[name]!;
    return {
      name,
      alpha: alpha === undefined ? 0 : (alphas.shift() ?? alpha),
      beta: beta === undefined ? 0 : (betas.shift() ?? beta),
    };
  });
  const each = all.length / directions;
  return Array.from({ length: directions }, (_, d) => all.slice(d * each, (d + 1) * each));
}

const linear = (tensor: DeviceTensor): View => ({ offset: 0, strides: rowMajorStrides(tensor.dims) });

function map(context: LowerContext, label: string, dims: Dims, inputs: readonly { tensor: DeviceTensor; view: View }[], tensor: DeviceTensor, view: View, expr: Expr): void {
  if (elementCount(dims) > 0) context.dispatch(mapKernel({ label, dims, inputs, outputs: [{ tensor, view, expr }] }, context.profile));
}

const SUM: Expr = { kind: 'binary', fn: 'add', a: inputExpr('float32'), b: inputExpr('float32', 1) };

/** The biases of input and recurrence added up, [directions, 1, gates · hidden]; `apart` leaves those of the last gate apart. */
function biasOf(node: RecurrentNode, sizes: Sizes, apart: boolean, context: LowerContext): DeviceTensor | undefined {
  if (!node.inputs[3]) return undefined;
  const { directions, gates, hidden } = sizes;
  const given = context.tensorIn(node.inputs[3], 'linear');
  const width = gates * hidden;
  const sum = context.scratch('float32', [directions, 1, width]);
  const both = apart ? width - hidden : width;
  const at = (offset: number): { tensor: DeviceTensor; view: View } => ({ tensor: given, view: { offset, strides: [2 * width, 1] } });
  map(context, node.op, [directions, both], [at(0), at(width)], sum, { offset: 0, strides: [width, 1] }, SUM);
  if (apart) map(context, node.op, [directions, hidden], [at(both)], sum, { offset: both, strides: [width, 1] }, inputExpr('float32'));
  return sum;
}

/** The recurrent bias of a GRU's hidden gate, [directions, hidden]; zeros where the node has none. */
function innerBias(node: RecurrentNode, { directions, gates, hidden }: Sizes, context: LowerContext): DeviceTensor {
  const bias = context.scratch('float32', [directions, hidden]);
  const zero: Expr = { kind: 'const', value: 0, dtype: 'float32' };
  if (!node.inputs[3]) map(context, node.op, bias.dims, [], bias, linear(bias), zero);
  else {
    const view = { offset: (2 * gates - 1) * hidden, strides: [2 * gates * hidden, 1] };
    map(context, node.op, bias.dims, [{ tensor: context.tensorIn(node.inputs[3], 'linear'), view }], bias, linear(bias), inputExpr('float32'));
  }
  return bias;
}

/** R as [directions, hidden, gates · hidden], so that neighbouring units read neighbouring weights. */
function recurrenceOf(node: RecurrentNode, { directions, gates, hidden }: Sizes, context: LowerContext): DeviceTensor {
  const id = node.inputs[2]!;
  const width = gates * hidden;
  const dims = [directions, hidden, width];
  const constant = context.constant(id);
  if (constant) {
    return context.pack(`${id}:recurrence`, { dtype: 'float32', dims, storage: 'f32' }, () => {
      const values = constantArray(constant) as Float32Array;
      const at = (d: number, j: number, gate: number): number => values[(d * width + gate) * hidden + j]!;
      return Float32Array.from({ length: elementCount(dims) }, (_, i) => at(Math.floor(i / (hidden * width)), Math.floor(i / width) % hidden, i % width));
    });
  }
  const turned = context.scratch('float32', dims);
  const from = { tensor: context.tensorIn(id, 'linear'), view: { offset: 0, strides: [width * hidden, 1, hidden] } };
  map(context, node.op, dims, [from], turned, linear(turned), inputExpr('float32'));
  return turned;
}

/** Strides of a state [slot, direction, batch, unit] over [direction, batch, unit] of an input or output in either layout. */
function stateView({ directions, hidden, batch }: Sizes, layout: 0 | 1): View {
  return { offset: 0, strides: layout === 0 ? [batch * hidden, hidden, 1] : [hidden, directions * hidden, 1] };
}

/** The state before the first step: given, or zero. */
function initialState(node: RecurrentNode, sizes: Sizes, context: LowerContext): DeviceTensor {
  const { directions, batch, hidden } = sizes;
  const slots = node.op === 'LSTM' ? 2 : 1;
  const state = context.scratch('float32', [slots, directions, batch, hidden]);
  const dims = state.dims.slice(1);
  for (let slot = 0; slot < slots; slot++) {
    const id = node.inputs[5 + slot] ?? '';
    const view = { offset: slot * elementCount(dims), strides: rowMajorStrides(dims) };
    const given = id === '' ? [] : [{ tensor: context.tensorIn(id, 'linear'), view: stateView(sizes, node.attrs.layout) }];
    map(context, node.op, dims, given, state, view, id === '' ? { kind: 'const', value: 0, dtype: 'float32' } : inputExpr('float32'));
  }
  return state;
}

/** Y_h and Y_c out of the state after the last step. */
function finalStates(node: RecurrentNode, sizes: Sizes, state: DeviceTensor, context: LowerContext): void {
  const dims = state.dims.slice(1);
  for (const [slot, id] of node.outputs.slice(1).entries()) {
    if (id === '') continue;
    const target = context.define(id, 'linear');
    const from = { tensor: state, view: { offset: slot * elementCount(dims), strides: rowMajorStrides(dims) } };
    map(context, node.op, dims, [from], target, stateView(sizes, node.attrs.layout), inputExpr('float32'));
  }
}

function lowerRecurrent(node: RecurrentNode, context: LowerContext): void {
  const sizes = sizesOf(node, context);
  const { directions, batch, steps, hidden, gates } = sizes;
  const { attrs } = node;
  const apart = node.op === 'GRU' && (node as Node<'GRU'>).attrs.linear_before_reset === 1;
  const x = context.tensorIn(node.inputs[0]!, 'linear');
  const projected = context.scratch('float32', [directions, steps * batch, gates * hidden]);
  const a = { ...x, dims: [1, steps * batch, x.dims[2]!] };
  const c = biasOf(node, sizes, apart, context);
  const product = { extras: [], alpha: 1, beta: 1, transA: false, transB: true, epilogue: undefined };
  lowerProduct({ ...product, a, b: context.tensorIn(node.inputs[1]!, 'linear'), c, output: projected }, context);
  const state = initialState(node, sizes, context);
  const optional = (index: number): DeviceTensor | undefined => (node.inputs[index] ? context.tensorIn(node.inputs[index], 'linear') : undefined);
  const spec = {
    ...sizes,
    cell: node.op,
    layout: attrs.layout,
    backward: ({ forward: 'none', reverse: 'all', bidirectional: 'second' } as const)[attrs.direction],
    gates: projected,
    recurrence: recurrenceOf(node, sizes, context),
    innerBias: apart ? innerBias(node, sizes, context) : undefined,
    lengths: optional(4),
    peepholes: node.op === 'LSTM' ? optional(7) : undefined,
    y: node.outputs[0] ? context.define(node.outputs[0], 'linear') : undefined,
    state,
    activations: activationsOf(attrs, directions),
    clip: attrs.clip,
    inputForget: node.op === 'LSTM' && (node as Node<'LSTM'>).attrs.input_forget === 1,
  };
  context.dispatch(recurrentKernel(spec, context.profile));
  finalStates(node, sizes, state, context);
}

const recurrent = { unsupported, lower: lowerRecurrent };

export const RECURRENT_LOWERINGS: LoweringTable = {
  GRU: recurrent as Lowering<'GRU'>,
  LSTM: recurrent as Lowering<'LSTM'>,
  RNN: recurrent as Lowering<'RNN'>,
};
