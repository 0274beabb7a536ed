/**
 * Attributes that ONNX lets a model leave to shapes: filled in once, at import, so that every later stage finds explicit
 * values. auto_pad and ConvTranspose's output_shape become pads; kernel_shape comes from the weights; strides and dilations
 * become ones; Transpose's perm, Split's num_outputs, Resize's axes, hidden_size and activations of recurrent ops are written out.
 */
import type { OpKind } from '../ir/ops.ts';
import { ShapeError } from './def.ts';
import type { InferContext, RawAttribute } from './def.ts';
import { normalizeAxes } from './shapes.ts';
import { parseAutoPad, resolveAutoPad, resolveTransposedPads } from './window.ts';

type RawMap = ReadonlyMap<string, RawAttribute>;

/** Raw attributes with those that depend on shapes filled in; the same map for ops that have none. */
export function completeAttributes(op: OpKind, raw: RawMap, context: InferContext): RawMap {
  switch (op) {
    case 'Conv':
    case 'ConvInteger':
      return completeConv(raw, context, 1);
    case 'QLinearConv':
      return completeConv(raw, context, 3);
    case 'ConvTranspose':
      return completeConvTranspose(raw, context);
    case 'AveragePool':
    case 'LpPool':
    case 'MaxPool':
      return completeWindow(raw, spatialDims(context));
    case 'MaxUnpool':
      return completeUnpool(raw, spatialDims(context).length);
    case 'Transpose':
      return raw.has('perm') ? raw : extend(raw, { perm: context.type(0).dims.map((_, axis) => axis).reverse() });
    case 'Resize':
      return completeResize(raw, context);
    case 'Split':
      return raw.has('num_outputs') || context.optionalType(1) ? raw : extend(raw, { num_outputs: context.outputCount });
    case 'RNN':
      return completeRecurrent(raw, context, ['Tanh']);
    case 'GRU':
      return completeRecurrent(raw, context, ['Sigmoid', 'Tanh']);
    case 'LSTM':
      return completeRecurrent(raw, context, ['Sigmoid', 'Tanh', 'Tanh']);
    default:
      return raw;
  }
}

function extend(raw: RawMap, more: Readonly<Record<string, RawAttribute>>): Map<string, RawAttribute> {
  return new Map([...raw, ...Object.entries(more)]);
}

/** Sizes of the axes after batch and channels of input 0. */
function spatialDims(context: InferContext): readonly number[] {
  return context.type(0).dims.slice(2);
}

function repeat(value: number, count: number): number[] {
  return Array.from({ length: count }, () => value);
}

/** A list attribute of `length` integers, or undefined where the model gives none; an empty list is none. */
function list(raw: RawMap, name: string, length: number): readonly number[] | undefined {
  const value = raw.get(name);
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return undefined;
  const integers = Array.isArray(value) ? value.filter((element): element is number => Number.isSafeInteger(element)) : [];
  if (integers.length !== length || (value as readonly unknown[]).length !== length) {
    throw new ShapeError(`attribute '${name}' must hold ${length} integers to match the spatial axes, found ${JSON.stringify(value)}`);
  }
  return integers;
}

/** A list attribute whose entries must be at least one. */
function positive(raw: RawMap, name: string, length: number): readonly number[] | undefined {
  const values = list(raw, name, length);
  if (values?.some((value) => value < 1)) throw new ShapeError(`attribute '${name}' must be 1 or more, found [${values.join(',')}]`);
  return values;
}

interface RawWindow {
  readonly kernel_shape: readonly number[];
  readonly dilations: readonly number[];
  readonly strides: readonly number[];
  readonly pads: readonly number[];
}

function windowOf(raw: RawMap, rank: number, weightSpatial?: readonly number[]): RawWindow {
  const kernel = positive(raw, 'kernel_shape', rank) ?? weightSpatial;
  if (!kernel) throw new ShapeError(`attribute 'kernel_shape' is required`);
  return {
    kernel_shape: kernel,
    dilations: positive(raw, 'dilations', rank) ?? repeat(1, rank),
    strides: positive(raw, 'strides', rank) ?? repeat(1, rank),
    pads: list(raw, 'pads', 2 * rank) ?? repeat(0, 2 * rank),
  };
}

function completeWindow(raw: RawMap, spatial: readonly number[], weightSpatial?: readonly number[]): RawMap {
  const window = windowOf(raw, spatial.length, weightSpatial);
  const pads = resolveAutoPad(parseAutoPad(raw.get('auto_pad')), spatial, window, window.pads);
  return extend(raw, { ...window, pads, auto_pad: 'NOTSET' });
}

function weightSpatial(context: InferContext, index: number): readonly number[] {
  const x = context.type(0).dims;
  const w = context.type(index).dims;
  if (w.length !== x.length) {
    throw new ShapeError(`input ${index} (W) must have rank ${x.length} to match X, found [${w.join(',')}]`);
  }
  return w.slice(2);
}

function completeConv(raw: RawMap, context: InferContext, weights: number): RawMap {
  return completeWindow(raw, spatialDims(context), weightSpatial(context, weights));
}

function completeConvTranspose(raw: RawMap, context: InferContext): RawMap {
  const spatial = spatialDims(context);
  const rank = spatial.length;
  const window = windowOf(raw, rank, weightSpatial(context, 1));
  const outputPadding = list(raw, 'output_padding', rank) ?? repeat(0, rank);
  const given = raw.get('output_shape');
  const full = Array.isArray(given) && given.length === rank + 2;
  const outputShape = full ? (given as readonly number[]).slice(2) : list(raw, 'output_shape', rank);
  const resolved = resolveTransposedPads(parseAutoPad(raw.get('auto_pad')), spatial, window, outputPadding, outputShape);
  const complete = extend(raw, { ...window, ...resolved, auto_pad: 'NOTSET' });
  complete.delete('output_shape');
  return complete;
}

function completeUnpool(raw: RawMap, rank: number): RawMap {
  const { kernel_shape, strides, pads } = windowOf(raw, rank);
  return extend(raw, { kernel_shape, strides, pads });
}

/** onnxruntime leaves negative axes as they are where it keeps an aspect ratio. */
function completeResize(raw: RawMap, context: InferContext): RawMap {
  const axes = raw.get('axes');
  if (!Array.isArray(axes) || !axes.every(Number.isSafeInteger)) return raw;
  return extend(raw, { axes: normalizeAxes(axes as readonly number[], context.type(0).dims.length) });
}

function completeRecurrent(raw: RawMap, context: InferContext, activations: readonly string[]): RawMap {
  const directions = raw.get('direction') === 'bidirectional' ? 2 : 1;
  const hidden = raw.get('hidden_size') ?? context.type(2).dims[2];
  if (hidden === undefined) throw new ShapeError(`attribute 'hidden_size' is absent and input 2 (R) does not tell it`);
  const given = raw.get('activations');
  const absent = given === undefined || (Array.isArray(given) && given.length === 0);
  const defaults = directions === 2 ? [...activations, ...activations] : activations;
  return extend(raw, { hidden_size: hidden, activations: absent ? defaults : given });
}
