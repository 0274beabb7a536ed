/**
 * An image times one factor for each channel, such as the gates of squeeze and excitation, that gets no kernel: the convolution of single pixels
 * which reads it multiplies as it reads.
 */
import type { AnyNode, Node, ValueId } from '../../../ir/graph.ts';
import { elementCount } from '../../../ir/tensor.ts';
import type { LowerContext } from './context.ts';
import { convNode, isPointwise, windowOf } from './conv-problem.ts';
import { readsRuns } from './few-channels.ts';
import { type DeviceTensor, layoutsAgree } from './tensor.ts';

/** Buffers of a convolution's kernel beside its bias and the operands of its end: the image, its factors, the weights, the output. */
const BUFFERS = 4;

interface ChannelScale {
  /** [N, C, spatial…] and [N or 1, C, 1…]. */
  readonly x: ValueId;
  readonly scale: ValueId;
}

/** The operands of a product that is an image by its channels' factors. */
function channelScale({ inputs, outputs }: Node<'Mul'>, context: LowerContext): ChannelScale | undefined {
  const dims = inputs.map((id) => context.type(id).dims);
  const [images, channels, ...spatial] = context.type(outputs[0]!).dims;
  const at = dims.findIndex((of) => of.length === spatial.length + 2 && (of[0] === images || of[0] === 1) && of[1] === channels && elementCount(of.slice(2)) === 1);
  const [scale, x] = [inputs[at], inputs[1 - at]];
  if (scale === undefined || x === undefined || spatial.length === 0 || elementCount(spatial) === 1) return undefined;
  const whole = dims[1 - at]!.length === spatial.length + 2 && elementCount(dims[1 - at]!) === elementCount(context.type(outputs[0]!).dims);
  return whole ? { x, scale } : undefined;
}

/** Whether the factors lie as the image's channels do, so that both are read alike. */
function liesAlike(scale: DeviceTensor, x: DeviceTensor): boolean {
  return x.layout === 'channels-last' && !scale.window && scale.storage === x.storage && (scale.layout === 'channels-last' || layoutsAgree(scale.dims, scale.storage));
}

/** Whether a node is such a product, and its only reader a convolution that multiplies by itself. */
export function isChannelScale(node: AnyNode, reader: AnyNode, context: LowerContext): node is Node<'Mul'> {
  if (node.op !== 'Mul' || (reader.op !== 'Conv' && reader.op !== 'FusedConv') || context.split || !context.fitsHalves(node.outputs[0]!)) return false;
  const found = channelScale(node, context);
  const conv = convNode(reader, reader.attrs, undefined, reader.inputs.slice(3));
  const window = windowOf(conv, context);
  if (!found || [found.x, found.scale].some((id) => context.constant(id)) || window.groups !== 1 || !isPointwise(conv, window) || readsRuns(reader, context)) return false;
  const bound = BUFFERS + (conv.b === '' ? 0 : 1) + conv.extras.length;
  return bound <= context.profile.maxStorageBuffers && liesAlike(context.source(found.scale), context.source(found.x));
}

/** The image and its factors, in halves where the build has them. */
export function scaledImage(node: Node<'Mul'>, context: LowerContext): { readonly x: DeviceTensor; readonly scale: DeviceTensor } {
  const { x, scale } = channelScale(node, context)!;
  return { x: context.source(x), scale: context.sourceIn(scale, 'channels-last') };
}
