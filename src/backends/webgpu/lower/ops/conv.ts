/** Convolutions: depthwise ones by their own kernel, all others as implicit matrix products. */
import type { Graph, Node } from '../../../../ir/graph.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import { depthwiseCandidates } from '../../kernels/depthwise.ts';
import type { EpilogueSpec } from '../../kernels/epilogue.ts';
import { packedBytes, packHalf, packSplit, splitShape, type WeightAt, type WeightShape } from '../../kernels/packed/pack.ts';
import { packedColumns, type PackedRight, type PackedSource } from '../../kernels/packed/spec.ts';
import { matrixRows, type RowLoader, scaledRows, windowRows } from '../../kernels/row-loader.ts';
import { type Candidate, productProblem, type TacticProblem } from '../../tactics/tactic.ts';
import { hasMatrices, packedCandidates, tiledCandidates } from '../candidates.ts';
import { scaledImage } from '../channel-scale.ts';
import { asStored, constantArray, once } from '../constants.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { biasOf, convNode, type ConvNode, type ConvWindow, epilogueOf, fillsPadding, isDepthwise, isPointwise, outputLayout, vectorImage, windowOf } from '../conv-problem.ts';
import { columnWeights } from '../conv-weights.ts';
import { isConvolution, lowerExcitation } from '../excitation.ts';
import { fewChannels, runStorage } from '../few-channels.ts';
import type { RunStorage } from '../../kernels/few-channels.ts';
import { inUnits } from '../space.ts';
import { floatReason } from '../support.ts';
import { broadcastView, channelAlignment, type DeviceTensor, paddedChannels, type View, viewOf } from '../tensor.ts';

const conv: Lowering<'Conv'> = {
  unsupported: weightsMustBeKnown,
  lower: (node, context) => lowerConv(convNode(node, node.attrs, undefined, []), context),
};

const fusedConv: Lowering<'FusedConv'> = {
  unsupported: weightsMustBeKnown,
  lower: (node, context) => lowerConv(convNode(node, node.attrs, node.attrs.epilogue, node.inputs.slice(3)), context),
};

const convTranspose: Lowering<'ConvTranspose'> = {
  unsupported: weightsMustBeKnown,
  lower: (node, context) => lowerConv({ ...convNode(node, node.attrs, undefined, []), transposed: true }, context),
};

export function weightsMustBeKnown(node: Node<'Conv' | 'FusedConv' | 'FusedShortcut' | 'ConvTranspose'>, graph: Graph): string | undefined {
  if (!graph.constants.has(node.inputs[1]!)) return 'the weights are not constant';
  return floatReason(node, graph);
}

/** Fewer input channels than a vector holds are read as they lie: converting them costs a kernel and widens the data. */
const DIRECT_CHANNELS = 3;

function lowerConv(node: ConvNode, context: LowerContext): void {
  const left = context.left(node.x);
  const before = left?.computed ? undefined : left?.node;
  if (before && isConvolution(before)) return lowerExcitation(node, before, context);
  const window = windowOf(node, context);
  const output = (): DeviceTensor => context.target(node.output, outputLayout(node, window), fillsPadding(window, context.type(node.output).dtype) ? 'narrow' : 'canonical');
  const multiply = (image: Image): void => {
    const { problem, candidates } = gemmCandidates(node, window, image, epilogueOf(node, window, biasOf(node, context), output(), context), context);
    context.choose(problem, candidates);
  };
  if (before?.op === 'Mul') return multiply(scaledImage(before, context));
  const runs = runStorage(node, window, context);
  if (runs) return lowerFewChannels(node, window, runs, output(), context);
  const lies = context.source(node.x);
  const direct = !context.split && !(context.half && hasMatrices(context.profile, 'f16')) && lies.layout === 'linear' && window.groups === 1 && window.inputs <= DIRECT_CHANNELS;
  const x = direct ? lies : context.sourceIn(node.x, 'channels-last', 'narrow');
  if (isDepthwise(node, window)) return lowerDepthwise(node, window, x, context);
  multiply({ x });
}

/** Few channels in halves, or in f32 that becomes halves: the image is laid out in runs of pixels first. */
function lowerFewChannels(node: ConvNode, window: ConvWindow, storage: RunStorage, output: DeviceTensor, context: LowerContext): void {
  const image = fewChannels(node, window, storage, 0, context);
  const { inputs, outputs, kernel } = window;
  const [height, width] = kernel as [number, number];
  const w = once(() => constantArray(context.constant(node.w)!) as Float32Array);
  const at = image.weightAt((row, channel, column, out) => w()[((out * inputs + channel) * height + row) * width + column]!);
  const { left, depth, right } = halfOperands(`${node.w}:runs`, { a: image.a, depth: image.depth }, image.weights, at, storage === 'f32', context);
  const end = epilogueOf(node, window, biasOf(node, context), output, context);
  const spec = image.epilogue({ ...end, label: 'Conv', element: 'f16', depth, a: left, b: right });
  const shape = { batch: 1, rows: window.images * elementCount(window.outputSpatial), columns: outputs, depth: inputs * height * width };
  context.choose(productProblem('Conv', storage, shape), packedCandidates(spec, context, storage === 'f32' ? 'float32' : 'float16'));
}

/** Operands of halves for the packed kernel: as they are, or split from f32. */
function halfOperands(
  key: string,
  { a, depth }: { readonly a: PackedSource; readonly depth: number },
  shape: WeightShape,
  at: WeightAt,
  split: boolean,
  context: LowerContext,
): { readonly left: PackedSource; readonly depth: number; readonly right: PackedRight } {
  const stored = split ? splitShape(shape) : shape;
  const spec = { dtype: 'float32', dims: [packedBytes(stored, 'f16') / 2], storage: 'f16' } as const;
  const tensor = context.pack(split ? `${key} split` : key, spec, () => (split ? packSplit(shape, at) : packHalf(shape, at)));
  const right: PackedRight = { kind: 'packed', tensor, columns: packedColumns(shape.columns), grouped: shape.groups > 1 };
  if (!split) return { left: a, depth, right };
  return { left: a.kind === 'image' ? { ...a, split, channels: a.channels * 2 } : { ...a, split }, depth: depth * 2, right };
}

/** What a convolution reads; with factors of its channels ([N or 1, C, 1…]) where it is one of single pixels that multiplies by them. */
interface Image {
  readonly x: DeviceTensor;
  readonly scale?: DeviceTensor;
}

/** A convolution as an implicit matrix product that ends in `epilogue`. */
export function gemmCandidates(
  node: ConvNode,
  window: ConvWindow,
  image: Image,
  epilogue: EpilogueSpec,
  context: LowerContext,
): { readonly problem: TacticProblem; readonly candidates: Candidate[] } {
  const { x, scale } = image;
  const channels = window.groups === 1 && x.layout === 'channels-last' ? paddedChannels(x.dims, x.storage) : window.inputs;
  const { tensor: weights, depth, columns } = columnWeights(node, window, channels, context);
  const shape = { batch: window.groups, rows: window.images * elementCount(window.outputSpatial), columns: window.outputs, depth };
  const spec = {
    ...epilogue,
    label: scale ? 'Conv scaled' : 'Conv',
    depth,
    a: scale ? scaledRows(imageRows(node, window, x, channels), factorRows(scale, window, channels)) : imageRows(node, window, x, channels),
    b: { tensor: weights, view: { offset: 0, strides: [depth * columns, columns, 1] } },
  };
  const tiled = tiledCandidates(spec, shape, context);
  const halves = (context.half && x.storage === 'f16') || (context.split && x.storage === 'f32') ? halfCandidates(node, window, image, epilogue, context) : [];
  const first = hasMatrices(context.profile, 'f16') ? [...halves, ...tiled] : [...tiled, ...halves];
  return { problem: productProblem(spec.label, context.half && halves.length > 0 ? 'f16' : 'f32', shape), candidates: first };
}

/** The packed kernel on halves, or on f32 split into them, where the image's channels are whole vectors. */
function halfCandidates(node: ConvNode, window: ConvWindow, { x, scale }: Image, epilogue: EpilogueSpec, context: LowerContext): Candidate[] {
  const image = vectorImage(node, window, x, 0);
  if (!image) return [];
  const scaleOfA = scale && { kind: 'matrix', tensor: scale, view: inUnits(factorView(scale, window), channelAlignment(x.storage)) } as const;
  const { groups, outputs, inputs } = window;
  const taps = elementCount(window.kernel);
  const shape = { groups, taps, channels: inputs, columns: outputs };
  const w = once(() => constantArray(context.constant(node.w)!) as Float32Array);
  const at: WeightAt = (group, tap, channel, column) => w()[((group * outputs + column) * inputs + channel) * taps + tap]!;
  const { left, depth, right } = halfOperands(`${node.w}:packed`, { a: image.a, depth: taps * image.channels }, shape, at, context.split, context);
  return packedCandidates({ ...epilogue, label: scale ? 'Conv scaled' : 'Conv', element: 'f16', depth, a: left, scaleOfA, b: right }, context, context.split ? 'float32' : 'float16');
}

/** Factors of the channels over the axes of a left matrix, [batch, image, pixel…], of which those by channel lie side by side. */
function factorView(scale: DeviceTensor, { images, outputSpatial }: ConvWindow): View {
  const { offset, strides } = broadcastView(scale, [images, scale.dims[1]!, ...outputSpatial]);
  return { offset, strides: [0, strides[0]!, ...outputSpatial.map(() => 0)] };
}

function factorRows(scale: DeviceTensor, window: ConvWindow, channels: number): RowLoader {
  const { offset, strides } = factorView(scale, window);
  return matrixRows({ tensor: scale, batch: [1], rows: [window.images, ...window.outputSpatial], depth: channels, view: { offset, strides: [...strides, 1] }, name: 'scale' });
}

/** The image as the left matrix. A convolution of single pixels reads it as the matrix that it is. */
function imageRows(node: ConvNode, window: ConvWindow, x: DeviceTensor, channels: number): RowLoader {
  const { attrs } = node;
  const view = viewOf(x);
  const groupChannels = window.groups === 1 ? 0 : window.inputs;
  if (isPointwise(node, window)) {
    const [image, channel, ...spatial] = view.strides as [number, number, ...number[]];
    const matrix = { offset: view.offset, strides: [groupChannels * channel, image, ...spatial, channel] };
    return matrixRows({ tensor: x, batch: [window.groups], rows: [window.images, ...window.outputSpatial], depth: channels, view: matrix });
  }
  return windowRows({
    tensor: x,
    view,
    images: window.images,
    inputSpatial: window.inputSpatial,
    outputSpatial: window.outputSpatial,
    kernel: window.kernel,
    stride: attrs.strides,
    dilation: attrs.dilations,
    padBegin: attrs.pads.slice(0, window.kernel.length),
    channels,
    groupChannels,
    transposed: node.transposed,
  });
}

function lowerDepthwise(node: ConvNode, window: ConvWindow, given: DeviceTensor, context: LowerContext): void {
  const output = context.target(node.output, 'channels-last', given.storage === 'f16' ? 'narrow' : 'canonical');
  // Image and result are walked with one count of padded channels.
  const x = output.storage === given.storage ? given : context.sourceIn(node.x, 'channels-last', 'canonical');
  const taps = elementCount(window.kernel);
  const channels = paddedChannels(output.dims, output.storage);
  const weights = context.pack(`${node.w}:depthwise:${channels}`, { dtype: 'float32', dims: [taps, channels], storage: context.half ? 'f16' : 'f32' }, () => {
    const w = constantArray(context.constant(node.w)!) as Float32Array;
    const packed = new Float32Array(taps * channels);
    for (let channel = 0; channel < window.groups; channel++) {
      for (let tap = 0; tap < taps; tap++) packed[tap * channels + channel] = w[channel * taps + tap]!;
    }
    return asStored(packed, context.half);
  });
  // As one group of many channels, which is how its epilogue sees it.
  const whole: ConvWindow = { ...window, groups: 1, outputs: window.groups, inputs: window.groups };
  const { problem, candidates } = depthwiseCandidates(
    {
      x,
      weights,
      images: window.images,
      inputSpatial: window.inputSpatial,
      outputSpatial: window.outputSpatial,
      kernel: window.kernel,
      stride: node.attrs.strides,
      dilation: node.attrs.dilations,
      padBegin: node.attrs.pads.slice(0, window.kernel.length),
      channels,
      end: epilogueOf(node, whole, biasOf(node, context), output, context),
    },
    context.profile,
  );
  context.choose(problem, candidates);
}

export const CONV_LOWERINGS: LoweringTable = { Conv: conv, FusedConv: fusedConv, ConvTranspose: convTranspose };
