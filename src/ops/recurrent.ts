/**
 * Recurrent networks: RNN, GRU, LSTM, in one or both directions.
 *
 * Layout 0 has X [sequence, batch, input], layout 1 X [batch, sequence, input]; the outputs follow.
 */
import type { RnnAttrs } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { bytesMoved } from './cost.ts';
import type { InputTypes } from './cost.ts';
import { ShapeError } from './def.ts';
import type { AttrSpecs, InferContext, OpCost, OpTable } from './def.ts';
import { FLOAT, INT32 } from './dtypes.ts';
import { expectDims, input, optionalInput } from './shapes.ts';
import { flag, floatsOrNone, int, oneOf, optionalFloat } from './specs.ts';

type RecurrentOp = 'GRU' | 'LSTM' | 'RNN';

const RNN_ATTRS: AttrSpecs<'RNN'> = {
  activations: { type: 'strings' },
  activation_alpha: floatsOrNone,
  activation_beta: floatsOrNone,
  clip: optionalFloat,
  direction: oneOf(['forward', 'reverse', 'bidirectional'], 'forward'),
  hidden_size: int(),
  layout: flag(0),
};

/** Gates of a cell, and activations of one direction. */
interface Cell {
  readonly gates: number;
  readonly activations: number;
}

const CELLS: Readonly<Record<RecurrentOp, Cell>> = {
  RNN: { gates: 1, activations: 1 },
  GRU: { gates: 3, activations: 2 },
  LSTM: { gates: 4, activations: 3 },
};

function checkAttributes(attrs: RnnAttrs, cell: Cell, directions: number): void {
  if (attrs.hidden_size < 1) throw new ShapeError(`attribute 'hidden_size' must be 1 or more, found ${attrs.hidden_size}`);
  if (attrs.activations.length !== cell.activations * directions) {
    throw new ShapeError(`attribute 'activations' must name ${cell.activations * directions} functions, found ${attrs.activations.length}`);
  }
}

/** Output types Y, Y_h, Y_c of a cell; checks every input against X, the directions and the hidden size. */
function inferRecurrent(attrs: RnnAttrs, context: InferContext, cell: Cell): readonly TensorType[] {
  const { dtype, dims } = input(context, 0, 'X', { dtypes: FLOAT, rank: 3 });
  const directions = attrs.direction === 'bidirectional' ? 2 : 1;
  checkAttributes(attrs, cell, directions);
  const hidden = attrs.hidden_size;
  const [first, second, features] = dims as unknown as readonly [number, number, number];
  const [sequence, batch] = attrs.layout === 0 ? [first, second] : [second, first];
  const check = (index: number, name: string, shape: Dims): void => {
    optionalInput(context, index, name, { dtype });
    expectDims(context, index, name, shape, `for hidden_size ${hidden} and direction ${attrs.direction}`);
  };
  input(context, 1, 'W', { dtype });
  input(context, 2, 'R', { dtype });
  check(1, 'W', [directions, cell.gates * hidden, features]);
  check(2, 'R', [directions, cell.gates * hidden, hidden]);
  check(3, 'B', [directions, 2 * cell.gates * hidden]);
  optionalInput(context, 4, 'sequence_lens', { dtypes: INT32 });
  expectDims(context, 4, 'sequence_lens', [batch], 'to match the batch');
  const state = attrs.layout === 0 ? [directions, batch, hidden] : [batch, directions, hidden];
  check(5, 'initial_h', state);
  check(6, 'initial_c', state);
  check(7, 'P', [directions, 3 * hidden]);
  const y = attrs.layout === 0 ? [sequence, directions, batch, hidden] : [batch, sequence, directions, hidden];
  return [{ dtype, dims: y }, { dtype, dims: state }, { dtype, dims: state }];
}

/** Per step and direction: W and R once per batch element (multiply-adds), and some ten operations per state element. */
function recurrentCost(attrs: RnnAttrs, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  const x = inputs[0]?.dims ?? [];
  const steps = elementCount(x.slice(0, 2));
  const weights = elementCount(inputs[1]?.dims ?? []) + elementCount(inputs[2]?.dims ?? []);
  const directions = attrs.direction === 'bidirectional' ? 2 : 1;
  return { flops: steps * (2 * weights + 10 * directions * attrs.hidden_size), bytes: bytesMoved(inputs, outputs) };
}

export const RECURRENT: Pick<OpTable, RecurrentOp> = {
  GRU: {
    since: 1,
    domain: '',
    inputs: { min: 3, max: 6 },
    outputs: { min: 1, max: 2 },
    attrs: { ...RNN_ATTRS, linear_before_reset: flag(0) },
    infer: (attrs, context) => inferRecurrent(attrs, context, CELLS.GRU),
    cost: recurrentCost,
  },
  LSTM: {
    since: 1,
    domain: '',
    inputs: { min: 3, max: 8 },
    outputs: { min: 1, max: 3 },
    attrs: { ...RNN_ATTRS, input_forget: flag(0) },
    infer: (attrs, context) => inferRecurrent(attrs, context, CELLS.LSTM),
    cost: recurrentCost,
  },
  RNN: {
    since: 1,
    domain: '',
    inputs: { min: 3, max: 6 },
    outputs: { min: 1, max: 2 },
    attrs: RNN_ATTRS,
    infer: (attrs, context) => inferRecurrent(attrs, context, CELLS.RNN),
    cost: recurrentCost,
  },
};
