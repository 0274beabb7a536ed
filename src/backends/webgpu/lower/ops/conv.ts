/** Convolutions: depthwise ones by their own kernel, all others as implicit matrix products. */
import type { Expr } from '../../../../ir/expr.ts';
import type { Graph, Node } from '../../../../ir/graph.ts';
import { typeOf } from '../../../../ir/graph.ts';
import type { ConvAttrs } from '../../../../ir/ops.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import { depthwiseKernel } from '../../kernels/depthwise.ts';
import type { EpilogueOperand, EpilogueSpec } from '../../kernels/epilogue.ts';
import { matrixRows, type RowLoader, windowRows } from '../../kernels/row-loader.ts';
import { productProblem } from '../../tactics/tactic.ts';
import { tiledCandidates } from '../candidates.ts';
import { asStored, constantArray } from '../constants.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { broadcastView, channelAlignment, type DeviceTensor, type Layout, paddedChannels, type View, viewOf } from '../tensor.ts';

interface ConvNode {
  readonly attrs: ConvAttrs;
  readonly x: string;
  readonly w: string;
  readonly b: string;
  readonly extras: readonly string[];
  readonly epilogue: Expr | undefined;
  readonly output: string;
  readonly transposed: boolean;
}

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

function weightsMustBeKnown(node: Node<'Conv' | 'FusedConv' | 'ConvTranspose'>, graph: Graph): string | undefined {
  if (!graph.constants.has(node.inputs[1]!)) return 'the weights are not constant';
  const dtype = typeOf(graph, node.inputs[0]!).dtype;
  return dtype === 'float32' || dtype === 'float16' ? undefined : `no convolution kernel for ${dtype}`;
}

function convNode(node: Node<'Conv' | 'FusedConv' | 'ConvTranspose'>, attrs: ConvAttrs, epilogue: Expr | undefined, extras: readonly string[]): ConvNode {
  const [x, w, b = ''] = node.inputs as [string, string, string?];
  return { attrs, x, w, b, extras, epilogue, output: node.outputs[0]!, transposed: false };
}

/** The shape of the problem, named once. */
interface Window {
  readonly groups: number;
  /** Input and output channels of one group. */
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: readonly number[];
  readonly inputSpatial: readonly number[];
  readonly outputSpatial: readonly number[];
  readonly images: number;
}

function windowOf(node: ConvNode, context: LowerContext): Window {
  const [x, w, y] = [context.type(node.x).dims, context.type(node.w).dims, context.type(node.output).dims];
  const groups = node.attrs.group;
  return {
    groups,
    inputs: x[1]! / groups,
    outputs: y[1]! / groups,
    kernel: w.slice(2),
    inputSpatial: x.slice(2),
    outputSpatial: y.slice(2),
    images: x[0]!,
  };
}

/** Fewer input channels than a vector holds are read as they lie: converting them costs a kernel and widens the data. */
const DIRECT_CHANNELS = 3;

function lowerConv(node: ConvNode, context: LowerContext): void {
  const window = windowOf(node, context);
  const depthwise = window.groups > 1 && window.inputs === 1 && window.outputs === 1 && !node.transposed;
  // Groups whose channels are not whole vectors can't fill the padding lanes of the last one.
  const outputLayout: Layout = window.groups === 1 || depthwise || window.outputs % 4 === 0 ? 'channels-last' : 'linear';
  const lies = context.source(node.x);
  const direct = lies.layout === 'linear' && window.groups === 1 && window.inputs <= DIRECT_CHANNELS;
  const x = direct ? lies : context.sourceIn(node.x, 'channels-last', 'narrow');
  if (depthwise) return lowerDepthwise(node, window, x, context);
  lowerImplicitGemm(node, window, x, context.target(node.output, outputLayout, fillsPadding(window) ? 'narrow' : 'canonical'), context);
}

/** Whether one group ends where the padded channels of the narrowest storage end: only then are padding lanes written. */
function fillsPadding(window: Window): boolean {
  return window.groups === 1 || (window.groups * window.outputs) % channelAlignment('i8') === 0;
}

/** [N, C, spatial…] as the axes of an epilogue: [group, image, pixel…, channel of the group]. */
function groupedView(view: View, window: Window): View {
  const [image, channel, ...spatial] = view.strides as [number, number, ...number[]];
  return { offset: view.offset, strides: [channel * window.outputs, image, ...spatial, channel] };
}

function epilogueOf(node: ConvNode, window: Window, output: DeviceTensor, context: LowerContext): EpilogueSpec {
  const { dims } = output;
  const bias = node.b === '' ? undefined : context.tensor(node.b);
  const channelOnly = dims.map((_, axis) => (axis === 1 ? 1 : 0));
  const extras = node.extras.map((id): EpilogueOperand => {
    const tensor = context.source(id);
    return { tensor, view: groupedView(broadcastView(tensor, dims), window) };
  });
  return {
    batch: [window.groups],
    rows: [window.images, ...window.outputSpatial],
    columns: window.outputs,
    storedColumns: output.layout === 'channels-last' && window.groups === 1 ? paddedChannels(dims, output.storage) : window.outputs,
    scale: 1,
    biasScale: 1,
    bias: bias && { tensor: bias, view: groupedView({ offset: 0, strides: channelOnly }, window) },
    extras,
    epilogue: node.epilogue,
    output: { tensor: output, view: groupedView(viewOf(output), window) },
  };
}

function lowerImplicitGemm(node: ConvNode, window: Window, x: DeviceTensor, output: DeviceTensor, context: LowerContext): void {
  const channels = window.groups === 1 && x.layout === 'channels-last' ? paddedChannels(x.dims, x.storage) : window.inputs;
  const taps = elementCount(window.kernel);
  const columns = Math.ceil(window.outputs / 4) * 4;
  const depth = taps * channels;
  const weights = context.pack(
    `${node.w}:${node.transposed ? 'transposed' : 'conv'}:${channels}`,
    { dtype: 'float32', dims: [window.groups, depth, columns], storage: context.half ? 'f16' : 'f32' },
    () => asStored(packWeights(constantArray(context.constant(node.w)!) as Float32Array, window, channels, columns, node.transposed), context.half),
  );
  const epilogue = epilogueOf(node, window, output, context);
  const shape = { batch: window.groups, rows: window.images * elementCount(window.outputSpatial), columns: window.outputs, depth };
  const spec = {
    ...epilogue,
    label: 'Conv',
    depth,
    a: imageRows(node, window, x, channels),
    b: { tensor: weights, view: { offset: 0, strides: [depth * columns, columns, 1] } },
  };
  context.choose(productProblem(spec.label, 'f32', shape), tiledCandidates(spec, shape, context));
}

/** The image as the left matrix. A convolution of single pixels reads it as the matrix that it is. */
function imageRows(node: ConvNode, window: Window, x: DeviceTensor, channels: number): RowLoader {
  const { attrs } = node;
  const view = viewOf(x);
  const groupChannels = window.groups === 1 ? 0 : window.inputs;
  const isPointwise = elementCount(window.kernel) === 1 && attrs.strides.every((stride) => stride === 1) && attrs.pads.every((pad) => pad === 0);
  if (isPointwise) {
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

/**
 * To [group, tap, input channel, output channel], channels padded with zeros. ONNX has [output, input of the group, tap] for
 * a convolution and [input, output of the group, tap] for a transposed one.
 */
function packWeights(w: Float32Array, window: Window, channels: number, columns: number, transposed: boolean): Float32Array {
  const { groups, inputs, outputs } = window;
  const taps = elementCount(window.kernel);
  const packed = new Float32Array(groups * taps * channels * columns);
  for (let group = 0; group < groups; group++) {
    for (let output = 0; output < outputs; output++) {
      for (let input = 0; input < inputs; input++) {
        const from = transposed ? ((group * inputs + input) * outputs + output) * taps : ((group * outputs + output) * inputs + input) * taps;
        for (let tap = 0; tap < taps; tap++) {
          packed[((group * taps + tap) * channels + input) * columns + output] = w[from + tap]!;
        }
      }
    }
  }
  return packed;
}

function lowerDepthwise(node: ConvNode, window: Window, given: DeviceTensor, context: LowerContext): void {
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
  const whole: Window = { ...window, groups: 1, outputs: window.groups, inputs: window.groups };
  const call = depthwiseKernel(
    {
      x,
      weights,
      images: window.images,
      inputSpatial: window.inputSpatial,
      outputSpatial: window.outputSpatial,
      kernel: window.kernel,
      strides: node.attrs.strides,
      dilations: node.attrs.dilations,
      pads: node.attrs.pads,
      channels,
      end: epilogueOf(node, whole, output, context),
    },
    context.profile,
  );
  context.dispatch(call);
}

export const CONV_LOWERINGS: LoweringTable = { Conv: conv, FusedConv: fusedConv, ConvTranspose: convTranspose };
