/** Squeeze and excitation: a mean over pixels and two convolutions of it, as one kernel where a workgroup may compute all but the last one by itself. */
import type { AnyNode, Node } from '../../../ir/graph.ts';
import { elementCount } from '../../../ir/tensor.ts';
import { excitationInvocations, excitationKernel } from '../kernels/excitation.ts';
import { constantArray } from './constants.ts';
import type { LowerContext } from './context.ts';
import { biasOf, convNode, type ConvNode, type ConvWindow, epilogueOf, fillsPadding, isPointwise, outputLayout, windowOf } from './conv-problem.ts';
import { columnWeights } from './conv-weights.ts';
import { soleReader } from './readers.ts';
import { paddedChannels, storedBytes } from './tensor.ts';

/** Bytes of the first product's weights, which every workgroup reads. */
const MOST_BYTES = 256 * 1024;
/** Images, each with workgroups of its own that read all weights: of more, products of many rows are faster. */
const MOST_IMAGES = 4;
/** Columns of the first product, of which an invocation takes four. */
const MOST_COLUMNS = 512;
/** Buffers of the kernel beside those of its end: the row, both matrices, what is added to the first product. */
const BUFFERS = 4;

/** Bytes of an image of which every workgroup takes the mean: of more, one workgroup takes longer than a kernel of its own that has the whole device. */
const MOST_IMAGE_BYTES = 384 * 1024;

type Convolution = Node<'Conv'> | Node<'FusedConv'>;

/** Whether a node that was left to its reader is a squeeze: no other convolution is. */
export const isConvolution = (node: AnyNode): node is Convolution => node.op === 'Conv' || node.op === 'FusedConv';

function describe(node: Convolution): ConvNode {
  return node.op === 'FusedConv' ? convNode(node, node.attrs, node.attrs.epilogue, node.inputs.slice(3)) : convNode(node, node.attrs, undefined, []);
}

/** Whether a convolution is one that its reader computes too. */
export function isSqueeze(node: AnyNode, reader: AnyNode, context: LowerContext): boolean {
  if (!isConvolution(node) || !isConvolution(reader) || node.inputs.length > 3) return false;
  const [squeeze, excite] = [node, reader].map(describe) as [ConvNode, ConvNode];
  const [first, second] = [windowOf(squeeze, context), windowOf(excite, context)];
  const bytes = first.inputs * first.outputs * (context.half ? 2 : 4);
  return (
    isRow(squeeze, first, context) && isRow(excite, second, context) && first.images <= MOST_IMAGES && first.outputs <= MOST_COLUMNS && bytes <= MOST_BYTES &&
    (squeeze.b === '' || context.constant(squeeze.b) !== undefined) && BUFFERS + excite.extras.length + 2 <= context.profile.maxStorageBuffers
  );
}

type Mean = Node<'GlobalAveragePool'> | Node<'ReduceMean'>;

/** Whether a node that was left to its reader is a mean of an image. */
export const isMean = (node: AnyNode): node is Mean => node.op === 'GlobalAveragePool' || node.op === 'ReduceMean';

/** Whether a node is a mean over the pixels that the kernel of its reader and of that one's reader takes, too. */
export function isSqueezedMean(node: AnyNode, squeeze: AnyNode, context: LowerContext): boolean {
  const excite = soleReader(context.graph, squeeze.outputs[0]!);
  if (!isMean(node) || !isConvolution(squeeze) || !excite || excite.inputs.indexOf(squeeze.outputs[0]!) !== 0 || excite.inputs.lastIndexOf(squeeze.outputs[0]!) !== 0) return false;
  if (!meansPixels(node, context) || context.constant(node.inputs[0]!) || !isSqueeze(squeeze, excite, context)) return false;
  const x = context.source(node.inputs[0]!);
  const [images, , ...spatial] = x.dims;
  const shape = { x, channels: paddedChannels(x.dims, x.storage), pixels: elementCount(spatial), squeeze: { columns: windowOf(describe(squeeze), context).outputs } };
  const isImage = x.layout === 'channels-last' && !x.window && (x.storage === 'f16' || x.storage === 'f32');
  return isImage && shape.pixels > 1 && storedBytes(x) <= MOST_IMAGE_BYTES * images! && excitationInvocations(shape, context.profile) !== undefined;
}

function meansPixels(node: Mean, context: LowerContext): boolean {
  if (node.op === 'GlobalAveragePool') return true;
  const { length: rank } = context.type(node.inputs[0]!).dims;
  const axes = new Set(context.ints(node.inputs[1] ?? '')?.map((axis) => (axis + rank) % rank));
  return node.attrs.keepdims === 1 && axes.size === rank - 2 && !axes.has(0) && !axes.has(1);
}

/** A product of one row for each image, of constant weights. */
function isRow(node: ConvNode, window: ConvWindow, context: LowerContext): boolean {
  return context.constant(node.w) !== undefined && window.groups === 1 && isPointwise(node, window) && elementCount(window.inputSpatial) === 1;
}

/** The kernel of a convolution and of the one before it. */
export function lowerExcitation(node: ConvNode, before: Convolution, context: LowerContext): void {
  const squeeze = describe(before);
  const [first, window] = [windowOf(squeeze, context), windowOf(node, context)];
  const mean = context.left(squeeze.x)?.node;
  const x = mean ? context.source(mean.inputs[0]!) : context.tensorIn(squeeze.x, 'channels-last', 'narrow');
  const channels = paddedChannels(x.dims, x.storage);
  const padded = Math.ceil(first.outputs / 4) * 4;
  const bias = squeeze.b === '' ? undefined : context.pack(`${squeeze.b}:fours`, { dtype: 'float32', dims: [padded], storage: 'f32' }, () => {
    const values = new Float32Array(padded);
    values.set(constantArray(context.constant(squeeze.b)!) as Float32Array);
    return values;
  });
  const output = context.target(node.output, outputLayout(node, window), fillsPadding(window, context.type(node.output).dtype) ? 'narrow' : 'canonical');
  context.dispatch(excitationKernel({
    ...epilogueOf(node, window, biasOf(node, context), output, context),
    label: 'Excitation', images: window.images, x, channels, pixels: elementCount(x.dims.slice(2)),
    squeeze: { weights: columnWeights(squeeze, first, channels, context).tensor, bias, columns: first.outputs, epilogue: squeeze.epilogue },
    weights: columnWeights(node, window, first.outputs, context).tensor,
  }, context.profile));
}
