/**
 * Convolutions and matrix products of 8-bit integers: sums in int32, one scale per output channel, then the epilogue in f32.
 *
 * Activations lie as signed bytes; the zero point goes into the bias: Σ (x − z)·w = Σ x·w − z·Σ w, where padding taps read z.
 */
import { type Node, typeOf } from '../../../../ir/graph.ts';
import { elementCount, toNumbers, typedView } from '../../../../ir/tensor.ts';
import { hasWholeVectors } from '../../../../passes/integer-products.ts';
import { depthwiseCandidates } from '../../kernels/depthwise.ts';
import { packedBytes, packInt8, type WeightAt, type WeightShape } from '../../kernels/packed/pack.ts';
import { packedColumns, type PackedRight, type PackedSpec } from '../../kernels/packed/spec.ts';
import { once } from '../constants.ts';
import { productProblem } from '../../tactics/tactic.ts';
import { packedCandidates } from '../candidates.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { channelOperand, type ConvNode, type ConvWindow, epilogueOf, fillsPadding, isDepthwise, outputLayout, quantizedConvNode, vectorImage, windowOf } from '../conv-problem.ts';
import { fewChannels, hasRuns } from '../few-channels.ts';
import { mustBeConstant } from '../support.ts';
import { broadcastView, channelAlignment, type DeviceTensor, paddedChannels, rowMajorStrides, viewOf } from '../tensor.ts';

type Quantized = Node<'QuantizedConv' | 'QuantizedMatMul'>;

/** The zero point of the bytes as they lie: uint8 lies 128 lower. */
function storedZero(node: Quantized, context: LowerContext): number {
  return node.attrs.zeroPoint - (context.type(node.inputs[0]!).dtype === 'uint8' ? 128 : 0);
}

export const int8Of = (id: string, context: LowerContext): Int8Array => typedView(context.constant(id)!) as Int8Array;

/** Factors and summands by column. */
export interface ScaleAndBias {
  readonly scale: DeviceTensor;
  readonly bias: DeviceTensor | undefined;
}

/** scale ∘ (Σ x·w − shift) + b, as a scale and a bias per column; `shift` is what a column's zero point makes of its weights, undefined where there is none. */
export function scaleAndBias(node: Node<'QuantizedConv' | 'QuantizedMatMul' | 'QuantizedShortcut'>, columns: number, shift: ((column: number) => number) | undefined, context: LowerContext): ScaleAndBias {
  const [, , scaleId = '', biasId = ''] = node.inputs;
  const vector = { dtype: 'float32', dims: [columns], storage: 'f32' } as const;
  const scales = (): number[] => [...toNumbers(context.constant(scaleId)!)];
  const scale = context.pack(`${node.name}:scale`, vector, () => Float32Array.from(scales()));
  if (!shift && biasId === '') return { scale, bias: undefined };
  const bias = context.pack(`${node.name}:bias`, vector, () => {
    const given = biasId === '' ? undefined : toNumbers(context.constant(biasId)!);
    return Float32Array.from(scales(), (factor, column) => (given?.[column] ?? 0) - (shift ? factor * shift(column) : 0));
  });
  return { scale, bias };
}

/** What kernels of integers read at build. */
const CONSTANTS = { 1: 'weights', 2: 'scale', 3: 'bias' } as const;

const quantizedConv: Lowering<'QuantizedConv'> = {
  unsupported(node, graph) {
    const channels = (id: string): number => typeOf(graph, id).dims[1]!;
    const whole = hasWholeVectors(channels(node.inputs[0]!), channels(node.outputs[0]!), node.attrs.group);
    return mustBeConstant(node, graph, CONSTANTS) ?? (whole ? undefined : 'no integer kernel for groups whose channels are not whole vectors of 16');
  },
  lower(node, context) {
    const conv = quantizedConvNode(node);
    const window = windowOf(conv, context);
    if (isDepthwise(conv, window)) lowerDepthwise(node, conv, window, context);
    else lowerGemm(node, conv, window, context);
  },
};

function lowerGemm(node: Node<'QuantizedConv'>, conv: ConvNode, window: ConvWindow, context: LowerContext): void {
  const output = context.target(conv.output, outputLayout(conv, window), fillsPadding(window, context.type(conv.output).dtype) ? 'narrow' : 'canonical');
  const zero = storedZero(node, context);
  const { groups, inputs, outputs } = window;
  const taps = elementCount(window.kernel);
  const sums = weightSums(conv.w, groups * outputs, inputs * taps, context);
  const { scale, bias } = scaleAndBias(node, groups * outputs, shiftOf(zero, sums), context);
  const { a, depth, weights, epilogue } = integerImage(node, conv, window, zero, context);
  const b: PackedRight = { kind: 'packed', tensor: weights, columns: packedColumns(outputs), grouped: groups > 1 };
  const end = { ...epilogueOf(conv, window, bias, output, context), columnScale: channelOperand(scale, window) };
  const rows = window.images * elementCount(window.outputSpatial);
  context.choose(
    productProblem('Conv', 'i8', { batch: groups, rows, columns: outputs, depth: taps * inputs }),
    packedCandidates(epilogue({ ...end, label: 'QuantizedConv', element: 'i8', depth, a, b }), context),
  );
}

/** The image and its weights as the packed kernel reads them: in runs of pixels where there are few channels. */
function integerImage(node: Node<'QuantizedConv'>, conv: ConvNode, window: ConvWindow, zero: number, context: LowerContext) {
  const { inputs, outputs, groups, kernel } = window;
  const taps = elementCount(kernel);
  const w = once(() => int8Of(conv.w, context));
  if (hasRuns(conv, window, 'i8', context)) {
    const { a, depth, weights: shape, weightAt, epilogue } = fewChannels(conv, window, 'i8', node.attrs.zeroPoint, context);
    const [height, width] = kernel as [number, number];
    const at = weightAt((row, channel, column, output) => w()[((output * inputs + channel) * height + row) * width + column]!);
    return { a, depth, epilogue, weights: packWeights(`${conv.w}:runs of ${shape.channels}`, shape, at, context) };
  }
  const { a, channels } = vectorImage(conv, window, context.tensorIn(conv.x, 'channels-last', 'narrow'), splat(zero))!;
  const at: WeightAt = (group, tap, channel, column) => w()[((group * outputs + column) * inputs + channel) * taps + tap]!;
  const weights = packWeights(conv.w, { groups, taps, channels: inputs, columns: outputs }, at, context);
  return { a, depth: taps * channels, weights, epilogue: (spec: PackedSpec) => spec };
}

export function packWeights(id: string, shape: WeightShape, at: WeightAt, context: LowerContext): DeviceTensor {
  return context.pack(`${id}:packed int8`, { dtype: 'int8', dims: [packedBytes(shape, 'i8')], storage: 'i8' }, () => packInt8(shape, at));
}

/** zero·Σ w, where that is anything. */
function shiftOf(zero: number, weightSum: (column: number) => number): ((column: number) => number) | undefined {
  return zero === 0 ? undefined : (column) => zero * weightSum(column);
}

/** Σ w of a column, whose weights lie one after another. */
export function weightSums(id: string, columns: number, depth: number, context: LowerContext): (column: number) => number {
  let sums: Float64Array | undefined;
  return (column) => {
    sums ??= Float64Array.from({ length: columns }, (_, i) => int8Of(id, context).subarray(i * depth, (i + 1) * depth).reduce((sum, value) => sum + value, 0));
    return sums[column]!;
  };
}

/** Σ w of a column of a matrix whose rows lie one after another. */
function columnSums(matrix: () => Int8Array, columns: number): (column: number) => number {
  const sums = once(() => {
    const w = matrix();
    const found = new Float64Array(columns);
    for (let row = 0; row < w.length; row += columns) for (let column = 0; column < columns; column++) found[column]! += w[row + column]!;
    return found;
  });
  return (column) => sums()[column]!;
}

/** A byte in all four of a word. */
export function splat(byte: number): number {
  return ((byte & 0xff) * 0x01010101) >>> 0;
}

function lowerDepthwise(node: Node<'QuantizedConv'>, conv: ConvNode, window: ConvWindow, context: LowerContext): void {
  const x = context.tensorIn(conv.x, 'channels-last', 'narrow');
  const output = context.target(conv.output, 'channels-last', 'narrow');
  const taps = elementCount(window.kernel);
  const channels = paddedChannels(x.dims, x.storage);
  const weights = context.pack(`${conv.w}:depthwise int8`, { dtype: 'int8', dims: [taps, channels], storage: 'i8' }, () => {
    const w = int8Of(conv.w, context);
    const packed = new Int8Array(taps * channels);
    for (let channel = 0; channel < window.groups; channel++) {
      for (let tap = 0; tap < taps; tap++) packed[tap * channels + channel] = w[channel * taps + tap]!;
    }
    return packed;
  });
  const whole: ConvWindow = { ...window, groups: 1, outputs: window.groups, inputs: window.groups };
  // The kernel takes the zero point off every element, and reads no taps outside the image.
  const { bias } = scaleAndBias(node, window.groups, undefined, context);
  const scale = context.pack(`${node.name}:scale padded`, { dtype: 'float32', dims: [channels], storage: 'f32' }, () => {
    const padded = new Float32Array(channels);
    padded.set(toNumbers(context.constant(node.inputs[2]!)!));
    return padded;
  });
  const { images, inputSpatial, outputSpatial, kernel } = window;
  const { strides: stride, dilations: dilation, pads } = conv.attrs;
  const padBegin = pads.slice(0, kernel.length);
  const end = epilogueOf(conv, whole, bias, output, context);
  const { problem, candidates } = depthwiseCandidates(
    { x, weights, images, inputSpatial, outputSpatial, kernel, stride, dilation, padBegin, channels, end, integers: { zeroPoint: node.attrs.zeroPoint, scale } },
    context.profile,
    'int8',
  );
  context.choose(problem, candidates);
}

const quantizedMatMul: Lowering<'QuantizedMatMul'> = {
  unsupported(node, graph) {
    const depth = typeOf(graph, node.inputs[0]!).dims.at(-1)!;
    return mustBeConstant(node, graph, CONSTANTS) ?? (depth % channelAlignment('i8') === 0 ? undefined : `no integer kernel for an inner dimension of ${depth}: 16 must divide it`);
  },
  lower(node, context) {
    const [aId, bId] = node.inputs as [string, string];
    const output = context.target(node.outputs[0]!, 'linear', 'narrow');
    if (elementCount(output.dims) === 0) return;
    const a = context.tensorIn(aId, 'linear', 'narrow');
    const [lead, depth] = [a.dims.slice(0, -1), a.dims.at(-1)!];
    const columns = output.dims.at(-1)!;
    const transB = node.attrs.transB === 1;
    const b = once(() => int8Of(bId, context));
    const at: WeightAt = (_group, _tap, k, column) => b()[transB ? column * depth + k : k * columns + column]!;
    const shape: WeightShape = { groups: 1, taps: 1, channels: depth, columns };
    const weightSum = transB ? weightSums(bId, columns, depth, context) : columnSums(b, columns);
    const { scale, bias } = scaleAndBias(node, columns, shiftOf(storedZero(node, context), weightSum), context);
    const unit = channelAlignment('i8');
    const perColumn = (tensor: DeviceTensor) => ({ tensor, view: { offset: 0, strides: [0, ...lead.map(() => 0), 1] } });
    const placed = (tensor: DeviceTensor) => {
      const view = broadcastView(tensor, output.dims);
      return { tensor, view: { offset: view.offset, strides: [0, ...view.strides] } };
    };
    const own = viewOf(output);
    const rowStrides = rowMajorStrides(a.dims).slice(0, -1).map((stride) => stride / unit);
    context.choose(
      productProblem('MatMul', 'i8', { batch: 1, rows: elementCount(lead), columns, depth }),
      packedCandidates(
        {
          label: 'QuantizedMatMul',
          element: 'i8',
          batch: [1],
          rows: lead,
          columns,
          storedColumns: columns,
          depth: depth / unit,
          scale: 1,
          biasScale: 1,
          bias: bias && perColumn(bias),
          columnScale: perColumn(scale),
          extras: node.inputs.slice(4).map((id) => placed(context.source(id))),
          epilogue: node.attrs.epilogue,
          output: { tensor: output, view: { offset: own.offset, strides: [0, ...own.strides] } },
          a: { kind: 'matrix', tensor: a, view: { offset: 0, strides: [0, ...rowStrides] } },
          b: { kind: 'packed', tensor: packWeights(bId, shape, at, context), columns: packedColumns(columns), grouped: false },
        },
        context,
      ),
    );
  },
};

export const QUANTIZED_LOWERINGS: LoweringTable = { QuantizedConv: quantizedConv, QuantizedMatMul: quantizedMatMul };
