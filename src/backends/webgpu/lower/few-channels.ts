/** The first convolution of an image network on the packed matrix kernel: few channels, long runs of pixels as the depth. */
import type { EpilogueOperand } from '../kernels/epilogue.ts';
import { fewChannelsKernel, type RunStorage } from '../kernels/few-channels.ts';
import { inputExpr } from '../kernels/map.ts';
import type { WeightAt, WeightShape } from '../kernels/packed/pack.ts';
import type { PackedImage, PackedSpec } from '../kernels/packed/spec.ts';
import type { AnyNode } from '../../../ir/graph.ts';
import { hasMatrices } from './candidates.ts';
import type { Computed, LowerContext } from './context.ts';
import { convNode, type ConvNode, type ConvWindow, quantizedConvNode, windowOf } from './conv-problem.ts';
import { channelAlignment, type View, viewOf } from './tensor.ts';

/** Elements of a pixel. */
const PIXEL = 4;

interface Runs {
  /** Pixels that a run of the filter takes: its width, up to whole vectors. */
  readonly length: number;
  /** Copies of a row, shifted, so that every run begins at a whole vector; neighbouring outputs take turns. */
  readonly phases: number;
  /** Vectors between the runs of neighbouring outputs of one phase, and in a row of one phase. */
  readonly step: number;
  readonly rowVectors: number;
  readonly rows: number;
}

function runsOf({ attrs, transposed }: ConvNode, window: ConvWindow, storage: RunStorage): Runs | undefined {
  const { groups, inputs, kernel, outputSpatial, inputSpatial } = window;
  if (groups !== 1 || transposed || inputs > PIXEL || kernel.length !== 2 || attrs.dilations[1] !== 1) return undefined;
  const pixels = channelAlignment(storage) / PIXEL;
  const [strideY, stride] = attrs.strides as [number, number];
  const [height, width] = outputSpatial as [number, number];
  let phases = 1;
  while ((stride * phases) % pixels !== 0) phases *= 2;
  if (width % phases !== 0) return undefined;
  const length = Math.ceil(kernel[1]! / pixels) * pixels;
  // Longer runs than the whole vector of channels they replace bring nothing.
  if (length * PIXEL > kernel[1]! * channelAlignment(storage)) return undefined;
  return {
    length,
    phases,
    step: (stride * phases) / pixels,
    rowVectors: Math.ceil((stride * (width - phases) + length) / pixels),
    rows: Math.max((height - 1) * strideY + (kernel[0]! - 1) * attrs.dilations[0]! + 1, Math.min(1, inputSpatial[0]!)),
  };
}

export interface FewChannels {
  readonly a: PackedImage;
  /** Depth in vectors. */
  readonly depth: number;
  readonly weights: WeightShape;
  /** Weights by run position, from weights by (row of the filter, channel, column of the filter, output). */
  weightAt(at: (row: number, channel: number, column: number, output: number) => number): WeightAt;
  /** The epilogue with the outputs of a row in the order of the phases. */
  epilogue(spec: PackedSpec): PackedSpec;
}

/** Whether a convolution has few enough channels, and strides that runs can follow. */
export function hasRuns(node: ConvNode, window: ConvWindow, storage: RunStorage): boolean {
  return runsOf(node, window, storage) !== undefined;
}

/** The elements of the runs in which a convolution in floating point reads its image; undefined where it reads it otherwise. */
export function runStorage(node: ConvNode, window: ConvWindow, { split, half, profile }: LowerContext): RunStorage | undefined {
  if (split && hasRuns(node, window, 'f32')) return 'f32';
  return half && hasMatrices(profile, 'f16') && hasRuns(node, window, 'f16') ? 'f16' : undefined;
}

/** Whether a node lays its first input out in runs, and so can compute it element by element. */
export function readsRuns(node: AnyNode, context: LowerContext): boolean {
  if (node.op === 'QuantizedConv') return hasRuns(quantizedConvNode(node), windowOf(quantizedConvNode(node), context), 'i8');
  if (node.op !== 'Conv' && node.op !== 'FusedConv') return false;
  const conv = convNode(node, node.attrs, undefined, []);
  return runStorage(conv, windowOf(conv, context), context) !== undefined;
}

/** The image by element: as it lies, or as it is to be computed. */
function imageOf(id: string, context: LowerContext): Computed {
  const computed = context.left(id)?.computed;
  if (computed) return computed;
  const tensor = context.source(id);
  return { inputs: [{ tensor, view: viewOf(tensor) }], expr: inputExpr(tensor.dtype) };
}

/** The image laid out in runs, by a kernel of the node's own. For convolutions that {@link hasRuns}. */
export function fewChannels(node: ConvNode, window: ConvWindow, storage: RunStorage, fill: number, context: LowerContext): FewChannels {
  const runs = runsOf(node, window, storage);
  if (!runs) throw new Error(`'${node.output}' has no runs of pixels`);
  const { length, phases, step, rowVectors, rows } = runs;
  const pixels = channelAlignment(storage) / PIXEL;
  const { kernel, images, outputSpatial } = window;
  const { strides, pads, dilations } = node.attrs;
  const { dtype, dims } = context.type(node.x);
  const output = { ...context.scratch(dtype, [images, rows, phases, rowVectors * pixels, PIXEL], storage), storage };
  const call = fewChannelsKernel({ image: imageOf(node.x, context), dims, output, padTop: pads[0]!, padLeft: pads[1]!, shift: strides[1]!, fill }, context.profile);
  context.dispatch({ ...call, precision: ({ f32: 'float32', f16: 'float16', i8: 'int8' } as const)[storage] });
  const channels = (length * PIXEL) / channelAlignment(storage);
  const [height, width] = outputSpatial as [number, number];
  const rowStride = phases * rowVectors;
  const split = ({ strides: all, offset }: View): View => {
    const [group, image, row, column, channel] = all as [number, number, number, number, number];
    return { offset, strides: [group, image, row, column * phases, column, channel] };
  };
  const splitOperand = <O extends EpilogueOperand>(operand: O): O => ({ ...operand, view: split(operand.view) });
  return {
    a: {
      kind: 'image',
      tensor: output,
      offset: 0,
      imageStride: rows * rowStride,
      spatialStrides: [rowStride, step, rowVectors],
      groupStride: 0,
      images,
      inputSpatial: [rows, width / phases, phases],
      outputSpatial: [height, width / phases, phases],
      kernel: [kernel[0]!, 1, 1],
      stride: [strides[0]!, 1, 1],
      dilation: [dilations[0]!, 1, 1],
      padBegin: [0, 0, 0],
      channels,
      pad: 0,
    },
    depth: kernel[0]! * channels,
    weights: { groups: 1, taps: kernel[0]!, channels: length * PIXEL, columns: window.outputs },
    weightAt: (at) => (_group, row, position, column) => {
      const [pixel, channel] = [Math.floor(position / PIXEL), position % PIXEL];
      return pixel < kernel[1]! && channel < window.inputs ? at(row, channel, pixel, column) : 0;
    },
    epilogue: (spec) => ({
      ...spec,
      rows: [images, height, width / phases, phases],
      bias: spec.bias && splitOperand(spec.bias),
      columnScale: spec.columnScale && splitOperand(spec.columnScale),
      extras: spec.extras.map(splitOperand),
      output: splitOperand(spec.output),
    }),
  };
}
