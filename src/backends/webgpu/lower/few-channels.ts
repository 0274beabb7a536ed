/** The first convolution of an image network on the packed matrix kernel: few channels, long runs of pixels as the depth. */
import type { EpilogueOperand } from '../kernels/epilogue.ts';
import { fewChannelsKernel, type RunStorage } from '../kernels/few-channels.ts';
import { inputExpr } from '../kernels/map.ts';
import type { WeightAt, WeightShape } from '../kernels/packed/pack.ts';
import type { PackedImage, PackedSpec } from '../kernels/packed/spec.ts';
import type { DeviceProfile } from '../profile.ts';
import type { AnyNode } from '../../../ir/graph.ts';
import { hasMatrices } from './candidates.ts';
import type { Computed, LowerContext } from './context.ts';
import { convNode, type ConvNode, type ConvWindow, quantizedConvNode, windowOf } from './conv-problem.ts';
import { channelAlignment, type View, viewOf } from './tensor.ts';

/** Elements of a pixel. */
const PIXEL = 4;

interface Runs {
  /** Rows that lie together, pixel by pixel, so that strides of bytes are whole vectors without copies. */
  readonly together: number;
  /** Pixels that a run of the filter takes: its width, up to whole vectors. */
  readonly length: number;
  /** Copies of a row, shifted, so that every run begins at a whole vector; neighbouring outputs take turns. */
  readonly phases: number;
  /** Vectors between the runs of neighbouring outputs of one phase, in a run, and in a row of one phase. */
  readonly step: number;
  readonly channels: number;
  readonly rowVectors: number;
  /** Rows of the filter and of the image, counted together. */
  readonly taps: number;
  readonly rows: number;
}

/**
 * How many rows lie together. Two of bytes where a stride of two pixels is half a vector: the filter's rows are rounded up to pairs, but
 * there are no copies, and neighbouring outputs overlap as those of halves do, which is for matrices to use (kernels/packed/slide.ts).
 */
function rowsTogether({ attrs }: ConvNode, { kernel }: ConvWindow, storage: RunStorage, profile: DeviceProfile): number {
  const [strideY, stride] = attrs.strides as [number, number];
  return storage === 'i8' && hasMatrices(profile, 'i8') && kernel[0]! > 2 && attrs.dilations[0] === 1 && strideY % 2 === 0 && stride % 4 === 2 ? 2 : 1;
}

function runsOf(node: ConvNode, window: ConvWindow, storage: RunStorage, profile: DeviceProfile): Runs | undefined {
  const { attrs, transposed } = node;
  const { groups, inputs, kernel, outputSpatial, inputSpatial } = window;
  if (groups !== 1 || transposed || inputs > PIXEL || kernel.length !== 2 || attrs.dilations[1] !== 1) return undefined;
  const together = rowsTogether(node, window, storage, profile);
  const pixels = channelAlignment(storage) / PIXEL / together;
  const [strideY, stride] = attrs.strides as [number, number];
  const [height, width] = outputSpatial as [number, number];
  let phases = 1;
  while ((stride * phases) % pixels !== 0) phases *= 2;
  if (width % phases !== 0) return undefined;
  const length = Math.ceil(kernel[1]! / pixels) * pixels;
  const [taps, channels] = [Math.ceil(kernel[0]! / together), length / pixels];
  // A depth that is longer than with whole vectors of channels brings nothing.
  if (taps * channels > kernel[0]! * kernel[1]!) return undefined;
  return {
    together,
    length,
    phases,
    step: (stride * phases) / pixels,
    channels,
    rowVectors: Math.ceil((stride * (width - phases) + length) / pixels),
    taps,
    rows: Math.max(((height - 1) * strideY) / together + (taps - 1) * attrs.dilations[0]! + 1, Math.min(1, inputSpatial[0]!)),
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
export function hasRuns(node: ConvNode, window: ConvWindow, storage: RunStorage, { profile }: Pick<LowerContext, 'profile'>): boolean {
  return runsOf(node, window, storage, profile) !== undefined;
}

/** The elements of the runs in which a convolution in floating point reads its image; undefined where it reads it otherwise. */
export function runStorage(node: ConvNode, window: ConvWindow, context: LowerContext): RunStorage | undefined {
  if (context.split && hasRuns(node, window, 'f32', context)) return 'f32';
  return context.half && hasMatrices(context.profile, 'f16') && hasRuns(node, window, 'f16', context) ? 'f16' : undefined;
}

/** Whether a node lays its first input out in runs, and so can compute it element by element. */
export function readsRuns(node: AnyNode, context: LowerContext): boolean {
  if (node.op === 'QuantizedConv') return hasRuns(quantizedConvNode(node), windowOf(quantizedConvNode(node), context), 'i8', context);
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
  const runs = runsOf(node, window, storage, context.profile);
  if (!runs) throw new Error(`'${node.output}' has no runs of pixels`);
  const { together, length, phases, step, channels, rowVectors, taps, rows } = runs;
  const pixels = length / channels;
  const { kernel, images, outputSpatial } = window;
  const { strides, pads, dilations } = node.attrs;
  const { dtype, dims } = context.type(node.x);
  const output = { ...context.scratch(dtype, [images, rows, phases, rowVectors * pixels, together, PIXEL], storage), storage };
  const call = fewChannelsKernel({ image: imageOf(node.x, context), dims, output, padTop: pads[0]!, padLeft: pads[1]!, shift: strides[1]!, fill }, context.profile);
  context.dispatch({ ...call, precision: ({ f32: 'float32', f16: 'float16', i8: 'int8' } as const)[storage] });
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
      kernel: [taps, 1, 1],
      stride: [strides[0]! / together, 1, 1],
      dilation: [dilations[0]!, 1, 1],
      padBegin: [0, 0, 0],
      channels,
      pad: 0,
    },
    depth: taps * channels,
    weights: { groups: 1, taps, channels: length * together * PIXEL, columns: window.outputs },
    weightAt: (at) => (_group, tap, position, column) => {
      const [element, channel] = [Math.floor(position / PIXEL), position % PIXEL];
      const [pixel, row] = [Math.floor(element / together), tap * together + (element % together)];
      return pixel < kernel[1]! && row < kernel[0]! && channel < window.inputs ? at(row, channel, pixel, column) : 0;
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
