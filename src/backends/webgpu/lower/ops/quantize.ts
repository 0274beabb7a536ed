/**
 * Linear quantization: QuantizeLinear and DequantizeLinear as maps whose scales are broadcast along an axis (or blocks of
 * one), DynamicQuantizeLinear as extremes, then a map.
 */
import type { BinaryFn, Expr } from '../../../../ir/expr.ts';
import type { Node, ValueId } from '../../../../ir/graph.ts';
import { type Dims, type DType, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { mapKernel } from '../../kernels/map.ts';
import { pointKernel } from '../../kernels/pointwise.ts';
import { rowKernel } from '../../kernels/rows.ts';
import { integerRange } from '../../wgsl/narrow.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { isForRows, readersOf } from '../readers.ts';
import { floatReason } from '../support.ts';
import { broadcastView, type DeviceTensor, type Layout, narrowStorage, rowMajorStrides, stridesOf, type View } from '../tensor.ts';
import { lowerMean } from './reduce.ts';

const binary = (fn: BinaryFn, a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });
const input = (index: number, dtype: DType): Expr => ({ kind: 'input', index, dtype });
const number = (value: number): Expr => ({ kind: 'const', value, dtype: 'float32' });
const toFloat = (x: Expr): Expr => ({ kind: 'cast', to: 'float32', x });

/** saturate(round(x / scale) + zero); inputs x, scale, zero. */
function quantizeExpr(from: DType, to: DType, zero: boolean): Expr {
  const ratio = binary('div', from === 'float32' ? input(0, from) : toFloat(input(0, from)), input(1, 'float32'));
  const rounded: Expr = { kind: 'unary', fn: 'round', x: ratio };
  const shifted = zero ? binary('add', rounded, toFloat(input(2, to))) : rounded;
  const [low, high] = integerRange(to);
  return { kind: 'cast', to, x: binary('min', binary('max', shifted, number(low)), number(high)) };
}

/** (x − zero) · scale; inputs x, scale, zero. The difference of int32 values is exact only as an integer. */
function dequantizeExpr(from: DType, zero: boolean): Expr {
  const wide = (x: Expr): Expr => (from === 'int32' ? x : { kind: 'cast', to: 'int32', x });
  const difference = zero ? binary('sub', wide(input(0, from)), wide(input(2, from))) : input(0, from);
  return binary('mul', toFloat(difference), input(1, 'float32'));
}

/** One stretch of the tensor in which scales repeat regularly: along the axis, whole blocks, or a last one cut short. */
interface Stretch {
  readonly dims: Dims;
  view(tensor: DeviceTensor): View;
  parameter(tensor: DeviceTensor): View;
}

function stretches(dims: Dims, axis: number, block: number): Stretch[] {
  if (block === 0) {
    const view = (tensor: DeviceTensor): View => ({ offset: 0, strides: stridesOf(tensor) });
    const parameter = (tensor: DeviceTensor): View => ({ offset: 0, strides: dims.map((_, a) => (a === axis && elementCount(tensor.dims) > 1 ? 1 : 0)) });
    return [{ dims, view, parameter }];
  }
  const whole = Math.floor(dims[axis]! / block);
  const rest = dims[axis]! % block;
  const stretch = (first: number, blocks: number, size: number): Stretch => ({
    dims: [...dims.slice(0, axis), blocks, size, ...dims.slice(axis + 1)],
    view(tensor) {
      const strides = stridesOf(tensor);
      const along = strides[axis]!;
      return { offset: first * block * along, strides: [...strides.slice(0, axis), block * along, along, ...strides.slice(axis + 1)] };
    },
    parameter(tensor) {
      const strides = rowMajorStrides(tensor.dims);
      const along = strides[axis]!;
      return { offset: first * along, strides: [...strides.slice(0, axis), along, 0, ...strides.slice(axis + 1)] };
    },
  });
  return [...(whole > 0 ? [stretch(0, whole, block)] : []), ...(rest > 0 ? [stretch(whole, 1, rest)] : [])];
}

/** Images of so few channels lie better as they are than padded to whole vectors. */
const FEW_CHANNELS = 4;

/** How integers lie that are for products: images in channels-last, rows of matrices one after another; undefined for whatever else is as good. */
export function layoutOfIntegers(id: ValueId, context: LowerContext): Layout | undefined {
  const { dims } = context.type(id);
  if (dims.length <= 2 || isForRows(context.graph, id)) return 'linear';
  return dims[1]! > FEW_CHANNELS ? 'channels-last' : undefined;
}

function lowerLinear(node: Node<'QuantizeLinear' | 'DequantizeLinear'>, expr: Expr, context: LowerContext): void {
  const { axis: given, block_size: block } = node.attrs;
  const found = context.tensor(node.inputs[0]!);
  const source = block === 0 ? found : context.tensorIn(node.inputs[0]!, 'linear');
  const { dims } = source;
  const integers = context.type(node.outputs[0]!).dtype !== 'float32' && block === 0;
  const layout = integers ? layoutOfIntegers(node.outputs[0]!, context) : undefined;
  const target = context.define(node.outputs[0]!, layout ?? source.layout, integers ? 'narrow' : 'canonical');
  if (elementCount(dims) === 0) return;
  const parameters = node.inputs.slice(1).flatMap((id) => (id === '' ? [] : [context.tensorIn(id, 'linear')]));
  const single = parameters.every((tensor) => elementCount(tensor.dims) === 1) && block === 0;
  const axis = single || dims.length === 0 ? 0 : normalizeAxis(given, dims.length);
  for (const stretch of stretches(dims, axis, block)) {
    const inputs = [{ tensor: source, view: stretch.view(source) }, ...parameters.map((tensor) => ({ tensor, view: stretch.parameter(tensor) }))];
    const outputs = [{ tensor: target, view: stretch.view(target), expr }];
    const padChannels = target.layout === 'channels-last';
    context.dispatch(mapKernel({ label: node.op, dims: stretch.dims, inputs, outputs, padChannels }, context.profile));
  }
}

function quantizing(node: Node<'QuantizeLinear'>, context: LowerContext): Expr {
  const [from, to] = [context.type(node.inputs[0]!).dtype, context.type(node.outputs[0]!).dtype];
  return quantizeExpr(from === 'float16' ? 'float32' : from, to, Boolean(node.inputs[2]));
}

/** A quantization as the kernel that makes its input can do it, by element of the value (input 0). */
interface WrittenGrid {
  readonly node: Node<'QuantizeLinear'>;
  readonly end: { readonly expr: Expr; readonly inputs: readonly DeviceTensor[] };
  /** Nobody wants the value itself. */
  readonly alone: boolean;
}

/**
 * The quantization by one constant scale, for products of rows, that reads a value which is written in fours along the last axis. Who takes it
 * tells the context, and writes its output: linear, in bytes. Without windows every node keeps its kernel, as where nothing is fused.
 */
export function gridToWrite(id: ValueId, context: LowerContext): WrittenGrid | undefined {
  const { dtype, dims } = context.type(id);
  if (!context.windows || dtype !== 'float32' || !narrowStorage('int8', dims, 'linear')) return undefined;
  const readers = readersOf(context.graph, id);
  const node = readers.find((reader): reader is Node<'QuantizeLinear'> => reader.op === 'QuantizeLinear' && isWritable(reader, id, context));
  if (!node) return undefined;
  const inputs = node.inputs.slice(1).flatMap((parameter) => (parameter === '' ? [] : [context.tensorIn(parameter, 'linear')]));
  return { node, end: { expr: quantizing(node, context), inputs }, alone: readers.length === 1 && !context.graph.outputs.includes(id) };
}

function isWritable({ inputs: [value, ...parameters], outputs: [output], attrs }: Node<'QuantizeLinear'>, id: ValueId, context: LowerContext): boolean {
  const { dtype } = context.type(output!);
  const single = parameters.every((parameter) => parameter === '' || elementCount(context.constant(parameter)?.dims ?? [0]) === 1);
  return value === id && single && attrs.block_size === 0 && (dtype === 'int8' || dtype === 'uint8') && !context.graph.outputs.includes(output!) && layoutOfIntegers(output!, context) === 'linear';
}

const quantize: Lowering<'QuantizeLinear'> = {
  lower(node, context) {
    const pool = context.left(node.inputs[0]!)?.node;
    if (!pool) return lowerLinear(node, quantizing(node, context), context);
    const inputs = node.inputs.slice(1).flatMap((id) => (id === '' ? [] : [context.tensorIn(id, 'linear')]));
    lowerMean(pool as Node<'GlobalAveragePool'>, node.outputs[0]!, { expr: quantizing(node, context), inputs }, context);
  },
  compute(node, context) {
    const { dims } = context.type(node.outputs[0]!);
    const inputs = node.inputs.flatMap((id) => {
      if (id === '') return [];
      const tensor = context.source(id);
      return [{ tensor, view: id === node.inputs[0] ? broadcastView(tensor, dims) : { offset: 0, strides: dims.map(() => 0) } }];
    });
    return { inputs, expr: quantizing(node, context) };
  },
};

const dequantize: Lowering<'DequantizeLinear'> = {
  lower: (node, context) => lowerLinear(node, dequantizeExpr(context.type(node.inputs[0]!).dtype, Boolean(node.inputs[2])), context),
};

/** The least or greatest element, or 0 where every element is on its other side: the range must hold 0. */
function extreme(source: DeviceTensor, result: DeviceTensor, how: 'min' | 'max', context: LowerContext): void {
  const strides = rowMajorStrides(source.dims);
  const spec = {
    label: 'DynamicQuantizeLinear',
    kept: [],
    reduced: source.dims,
    inputs: [{ tensor: source, view: { offset: 0, strides } }],
    outputs: [{ tensor: result, view: { offset: 0, strides: strides.map(() => 0) } }],
  };
  context.dispatch(rowKernel(spec, context.profile, (row) => row.storeRow(`${how}(${row.reduce(how, (load) => load(0))}, ${row.constant(0)})`)));
}

const dynamicQuantize: Lowering<'DynamicQuantizeLinear'> = {
  unsupported: floatReason,
  lower(node, context) {
    const [values, scaleId = '', zeroId = ''] = node.outputs as [string, string?, string?];
    const source = context.tensorIn(node.inputs[0]!, 'linear');
    const { dims } = source;
    const result = (id: string, dtype: DType): DeviceTensor => (id === '' ? context.scratch(dtype, []) : context.define(id, 'linear'));
    const [scale, zero] = [result(scaleId, 'float32'), result(zeroId, 'uint8')];
    const [least, greatest] = [context.scratch('float32', []), context.scratch('float32', [])];
    extreme(source, least, 'min', context);
    extreme(source, greatest, 'max', context);
    context.dispatch(
      pointKernel(
        {
          label: 'DynamicQuantizeLinear',
          extents: [1],
          inputs: { least, greatest },
          outputs: { scale, zero },
          body({ block, inputs, outputs }) {
            const range = block.let('range', `${inputs.greatest.loadFlat('0u')} - ${inputs.least.loadFlat('0u')}`);
            const step = block.let('step', `select(${range} / 255.0f, 1.0f, ${range} == 0.0f)`);
            outputs.scale.storeFlat(block, '0u', step);
            outputs.zero.storeFlat(block, '0u', `u32(round(clamp(-${inputs.least.loadFlat('0u')} / ${step}, 0.0f, 255.0f)))`);
          },
        },
        context.profile,
      ),
    );
    if (!values) return;
    const target = context.define(values, 'linear', 'narrow');
    const inputs = [source, scale, zero].map((tensor) => ({ tensor, view: broadcastView(tensor, dims) }));
    const outputs = [{ tensor: target, view: broadcastView(target, dims), expr: quantizeExpr('float32', 'uint8', true) }];
    if (elementCount(dims) > 0) context.dispatch(mapKernel({ label: 'DynamicQuantizeLinear', dims, inputs, outputs }, context.profile));
  },
};

export const QUANTIZE_LOWERINGS: LoweringTable = {
  DequantizeLinear: dequantize,
  DynamicQuantizeLinear: dynamicQuantize,
  QuantizeLinear: quantize,
};
