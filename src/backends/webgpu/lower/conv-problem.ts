/** What every convolution kernel asks of a node: the shape of the problem, its epilogue, and the image as a matrix of 16-byte vectors. */
import type { Expr } from '../../../ir/expr.ts';
import type { Node } from '../../../ir/graph.ts';
import type { ConvAttrs } from '../../../ir/ops.ts';
import { type DType, elementCount } from '../../../ir/tensor.ts';
import type { EpilogueOperand, EpilogueSpec } from '../kernels/epilogue.ts';
import type { PackedSource } from '../kernels/packed/spec.ts';
import type { LowerContext } from './context.ts';
import { broadcastView, channelAlignment, type DeviceTensor, type Layout, paddedChannels, type View, viewOf } from './tensor.ts';

export interface ConvNode {
  readonly attrs: ConvAttrs;
  readonly x: string;
  readonly w: string;
  readonly b: string;
  readonly extras: readonly string[];
  readonly epilogue: Expr | undefined;
  readonly output: string;
  readonly transposed: boolean;
}

/** A convolution in floating point, as its kernels see it. */
export function convNode(node: Node<'Conv' | 'FusedConv' | 'ConvTranspose'>, attrs: ConvAttrs, epilogue: Expr | undefined, extras: readonly string[]): ConvNode {
  const [x, w, b = ''] = node.inputs as [string, string, string?];
  return { attrs, x, w, b, extras, epilogue, output: node.outputs[0]!, transposed: false };
}

/** An integer convolution: the bias is for its lowering to make. */
export function quantizedConvNode({ inputs, outputs, attrs }: Node<'QuantizedConv'>): ConvNode {
  const [x, w] = inputs as [string, string];
  return { attrs, x, w, b: '', extras: inputs.slice(4), epilogue: attrs.epilogue, output: outputs[0]!, transposed: false };
}

/** The shape of the problem, named once. */
export interface ConvWindow {
  readonly groups: number;
  /** Input and output channels of one group. */
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: readonly number[];
  readonly inputSpatial: readonly number[];
  readonly outputSpatial: readonly number[];
  readonly images: number;
}

export function windowOf(node: ConvNode, context: LowerContext): ConvWindow {
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

export function isDepthwise(node: ConvNode, { groups, inputs, outputs }: ConvWindow): boolean {
  return groups > 1 && inputs === 1 && outputs === 1 && !node.transposed;
}

/** Groups whose channels are not whole vectors can't fill the padding lanes of the last one. */
export function outputLayout(node: ConvNode, window: ConvWindow): Layout {
  return window.groups === 1 || isDepthwise(node, window) || window.outputs % 4 === 0 ? 'channels-last' : 'linear';
}

/** Whether groups are whole vectors, the last of which ends where the padded channels of the type's narrowest storage end: only then are all lanes written, four at a time. */
export function fillsPadding({ groups, outputs }: ConvWindow, dtype: DType): boolean {
  const narrowest = dtype === 'int8' || dtype === 'uint8' ? 'i8' : 'f16';
  return groups === 1 || (outputs % 4 === 0 && (groups * outputs) % channelAlignment(narrowest) === 0);
}

/** Single pixels, all of them, where they are. */
export function isPointwise({ attrs }: ConvNode, window: ConvWindow): boolean {
  return elementCount(window.kernel) === 1 && attrs.strides.every((stride) => stride === 1) && attrs.pads.every((pad) => pad === 0);
}

/** [N, C, spatial…] as the axes of an epilogue: [group, image, pixel…, channel of the group]. */
export function groupedView(view: View, window: ConvWindow): View {
  const [image, channel, ...spatial] = view.strides as [number, number, ...number[]];
  return { offset: view.offset, strides: [channel * window.outputs, image, ...spatial, channel] };
}

export function biasOf(node: ConvNode, context: LowerContext): DeviceTensor | undefined {
  return node.b === '' ? undefined : context.tensor(node.b);
}

/** A vector with an entry per output channel. */
export function channelOperand(tensor: DeviceTensor, window: ConvWindow): EpilogueOperand {
  const strides = [0, 1, ...window.outputSpatial.map(() => 0)];
  return { tensor, view: groupedView({ offset: 0, strides }, window) };
}

export function epilogueOf(node: ConvNode, window: ConvWindow, bias: DeviceTensor | undefined, output: DeviceTensor, context: LowerContext): EpilogueSpec {
  const { dims } = output;
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
    bias: bias && channelOperand(bias, window),
    extras,
    epilogue: node.epilogue,
    output: { tensor: output, view: groupedView(viewOf(output), window) },
  };
}

/** The left matrix in vectors of 16 bytes, with the vectors of channels per tap. */
export interface VectorImage {
  readonly a: PackedSource;
  readonly channels: number;
}

/** The image as the packed kernel reads it; undefined where its channels, or those of a group, are not whole vectors. */
export function vectorImage(node: ConvNode, window: ConvWindow, x: DeviceTensor, pad: number): VectorImage | undefined {
  const unit = channelAlignment(x.storage);
  const { offset, strides } = viewOf(x);
  const [image, channel, ...spatial] = strides as [number, number, ...number[]];
  const grouped = window.groups > 1;
  const whole = [offset, image, ...spatial, ...(grouped ? [window.inputs] : [])].every((stride) => stride % unit === 0);
  if (node.transposed || x.layout !== 'channels-last' || channel !== 1 || !whole) return undefined;
  const channels = (grouped ? window.inputs : paddedChannels(x.dims, x.storage)) / unit;
  const inVectors = (stride: number): number => stride / unit;
  const groupStride = grouped ? channels : 0;
  if (isPointwise(node, window)) {
    const view = { offset: inVectors(offset), strides: [groupStride, image, ...spatial].map((stride, axis) => (axis === 0 ? stride : inVectors(stride))) };
    return { a: { kind: 'matrix', tensor: x, view }, channels };
  }
  const { strides: stride, dilations: dilation, pads } = node.attrs;
  const { images, inputSpatial, outputSpatial, kernel } = window;
  return {
    a: {
      kind: 'image',
      tensor: x,
      offset: inVectors(offset),
      imageStride: inVectors(image),
      spatialStrides: spatial.map(inVectors),
      groupStride,
      images,
      inputSpatial,
      outputSpatial,
      kernel,
      stride,
      dilation,
      padBegin: pads.slice(0, kernel.length),
      channels,
      pad,
    },
    channels,
  };
}
