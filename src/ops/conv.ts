/**
 * Convolutions: plain, transposed, integer and quantized.
 */
import type { ConvAttrs } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { bytesMoved } from './cost.ts';
import type { InputTypes } from './cost.ts';
import { ShapeError } from './def.ts';
import type { AttrSpecs, InferContext, OpCost, OpTable } from './def.ts';
import { BYTE, FLOAT, INT32 } from './dtypes.ts';
import { expectDims, expectScalar, input, optionalInput, rejectInput } from './shapes.ts';
import { autoPad, int, ints } from './specs.ts';
import { checkWindow, transposedSizes, windowCounts } from './window.ts';

type ConvOp = 'Conv' | 'ConvInteger' | 'ConvTranspose' | 'QLinearConv';

const CONV_ATTRS: AttrSpecs<'Conv'> = {
  auto_pad: autoPad,
  dilations: ints(),
  group: int(1),
  kernel_shape: ints(),
  pads: ints(),
  strides: ints(),
};

const ONE = { min: 1, max: 1 };

/** Checks group and kernel against the weights [M or C, …, k…]; gives the number of spatial axes. */
function checkWeights(attrs: ConvAttrs, context: InferContext, weights: number): number {
  const x = context.type(0).dims;
  const w = context.type(weights).dims;
  const rank = x.length - 2;
  if (w.length !== x.length) rejectInput(context, weights, 'W', `must have rank ${x.length} to match X of rank ${x.length}`);
  if (attrs.group < 1) throw new ShapeError(`attribute 'group' must be 1 or more, found ${attrs.group}`);
  checkWindow(attrs, rank);
  const kernel = w.slice(2);
  if (!kernel.every((size, axis) => size === attrs.kernel_shape[axis])) {
    rejectInput(context, weights, 'W', `must have spatial dims [${attrs.kernel_shape.join(',')}] to match kernel_shape`);
  }
  return rank;
}

/** Output dims of a convolution of the input at `data` with the weights at `weights`. */
export function convDims(attrs: ConvAttrs, context: InferContext, weights = 1, data = 0): number[] {
  const x = context.type(data).dims;
  const w = context.type(weights).dims;
  checkWeights(attrs, context, weights);
  const [batch, channels] = [x[0]!, x[1]!];
  const filters = w[0]!;
  if (w[1]! * attrs.group !== channels) {
    const expectation = `must have ${channels} / ${attrs.group} input channels to match X [${x.join(',')}] and group ${attrs.group}`;
    rejectInput(context, weights, 'W', expectation);
  }
  if (filters % attrs.group !== 0) rejectInput(context, weights, 'W', `must have filters divisible by group ${attrs.group}`);
  return [batch, filters, ...windowCounts(x.slice(2), attrs, false)];
}

function transposedDims(attrs: ConvAttrs & { readonly output_padding: readonly number[] }, context: InferContext): number[] {
  const x = context.type(0).dims;
  const w = context.type(1).dims;
  const rank = checkWeights(attrs, context, 1);
  const [batch, channels] = [x[0]!, x[1]!];
  if (w[0] !== channels) rejectInput(context, 1, 'W', `must have ${channels} input channels first to match X [${x.join(',')}]`);
  if (channels % attrs.group !== 0) rejectInput(context, 0, 'X', `must have channels divisible by group ${attrs.group}`);
  if (attrs.output_padding.length !== rank || attrs.output_padding.some((padding) => padding < 0)) {
    throw new ShapeError(`attribute 'output_padding' must hold ${rank} integers of 0 or more, found [${attrs.output_padding.join(',')}]`);
  }
  return [batch, w[1]! * attrs.group, ...transposedSizes(x.slice(2), attrs, attrs.output_padding)];
}

/** 2 · outputs · (input channels of a group) · kernel; one more per output for a bias. */
export function convFlops(weights: Dims, output: Dims, bias: boolean): number {
  const outputs = elementCount(output);
  return 2 * outputs * elementCount(weights.slice(1)) + (bias ? outputs : 0);
}

/** Cost with the weights at input `weights` and a bias at input `bias`. */
function convCost(weights: number, bias: number) {
  return (_attrs: unknown, inputs: InputTypes, outputs: readonly TensorType[]): OpCost => ({
    flops: convFlops(inputs[weights]?.dims ?? [], outputs[0]?.dims ?? [], inputs[bias] !== undefined),
    bytes: bytesMoved(inputs, outputs),
  });
}

/** Every input element meets every filter tap once: 2 · inputs · (filters of a group) · kernel. */
function transposedCost(_attrs: unknown, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  const taps = elementCount(inputs[1]?.dims.slice(1) ?? []);
  const bias = inputs[2] && outputs[0] ? elementCount(outputs[0].dims) : 0;
  return { flops: 2 * elementCount(inputs[0]?.dims ?? []) * taps + bias, bytes: bytesMoved(inputs, outputs) };
}

/** Type of input 0 and checks that the weights and bias go with it, as a floating convolution has them. */
export function convInputs(context: InferContext): TensorType {
  const x = input(context, 0, 'X', { dtypes: FLOAT, minRank: 3 });
  input(context, 1, 'W', { dtype: x.dtype });
  optionalInput(context, 2, 'B', { dtype: x.dtype, rank: 1 });
  return x;
}

export const CONV: Pick<OpTable, ConvOp> = {
  Conv: {
    since: 1,
    domain: '',
    inputs: { min: 2, max: 3 },
    outputs: ONE,
    attrs: CONV_ATTRS,
    infer(attrs, context) {
      const x = convInputs(context);
      const dims = convDims(attrs, context);
      expectDims(context, 2, 'B', [dims[1]!], 'to match the filters');
      return [{ dtype: x.dtype, dims }];
    },
    cost: convCost(1, 2),
  },
  ConvInteger: {
    since: 10,
    domain: '',
    inputs: { min: 2, max: 4 },
    outputs: ONE,
    attrs: CONV_ATTRS,
    infer(attrs, context) {
      const x = input(context, 0, 'x', { dtypes: BYTE, minRank: 3 });
      const w = input(context, 1, 'w', { dtypes: BYTE });
      expectScalar(context, 2, 'x_zero_point', { dtype: x.dtype });
      optionalInput(context, 3, 'w_zero_point', { dtype: w.dtype });
      return [{ dtype: 'int32', dims: convDims(attrs, context) }];
    },
    cost: convCost(1, Number.NaN),
  },
  ConvTranspose: {
    since: 1,
    domain: '',
    inputs: { min: 2, max: 3 },
    outputs: ONE,
    attrs: { ...CONV_ATTRS, output_padding: ints() },
    infer(attrs, context) {
      const x = convInputs(context);
      const dims = transposedDims(attrs, context);
      expectDims(context, 2, 'B', [dims[1]!], 'to match the filters');
      return [{ dtype: x.dtype, dims }];
    },
    cost: transposedCost,
  },
  QLinearConv: {
    since: 10,
    domain: '',
    inputs: { min: 8, max: 9 },
    outputs: ONE,
    attrs: CONV_ATTRS,
    infer(attrs, context) {
      const x = input(context, 0, 'x', { dtypes: BYTE, minRank: 3 });
      expectScalar(context, 1, 'x_scale', { dtypes: FLOAT });
      expectScalar(context, 2, 'x_zero_point', { dtype: x.dtype });
      const w = input(context, 3, 'w', { dtypes: BYTE });
      input(context, 4, 'w_scale', { dtypes: FLOAT });
      input(context, 5, 'w_zero_point', { dtype: w.dtype });
      expectScalar(context, 6, 'y_scale', { dtypes: FLOAT });
      const y = input(context, 7, 'y_zero_point', { dtypes: BYTE });
      const dims = convDims(attrs, context, 3);
      optionalInput(context, 8, 'B', { dtypes: INT32 });
      expectDims(context, 8, 'B', [dims[1]!], 'to match the filters');
      return [{ dtype: y.dtype, dims }];
    },
    cost: convCost(3, 8),
  },
};
