/** Nodes that get no kernel: the one node that reads their output does their work, as it reads or as it writes. */
import type { AnyNode } from '../../../ir/graph.ts';
import { elementCount } from '../../../ir/tensor.ts';
import { ELEMENTWISE_OPS } from '../../../passes/expr-of.ts';
import { isChannelScale } from './channel-scale.ts';
import type { Computed, LeftToReader, LowerContext } from './context.ts';
import { isMean, isSqueeze, isSqueezedMean } from './excitation.ts';
import { readsRuns } from './few-channels.ts';
import { isPaired } from './paired.ts';
import { soleReader } from './readers.ts';

const COMPUTED: ReadonlySet<string> = new Set([...ELEMENTWISE_OPS, 'FusedElementwise', 'QuantizeLinear']);

/** The node as its reader takes it, where it does. Without windows every node keeps its kernel, as where nothing is fused. */
export function leftToReader(node: AnyNode, context: LowerContext, compute: () => Computed | undefined): LeftToReader | undefined {
  const [output] = node.outputs;
  if (!context.windows || node.outputs.length !== 1) return undefined;
  const reader = soleReader(context.graph, output!);
  if (reader && isPaired(node, reader, context)) return { node, computed: undefined };
  if (!reader || reader.inputs.indexOf(output!) !== 0 || reader.inputs.lastIndexOf(output!) !== 0) return undefined;
  const before = node.inputs.flatMap((id) => context.left(id)?.node ?? []);
  // A mean is left for a squeeze that is left, too.
  if (before.every(isMean) && isSqueeze(node, reader, context)) return { node, computed: undefined };
  if (before.length > 0) return undefined;
  if (isChannelScale(node, reader, context) || isSqueezedMean(node, reader, context)) return { node, computed: undefined };
  // The picture's quantization or normalization, in front of a convolution that lays it out anew.
  if (COMPUTED.has(node.op)) {
    const computed = hasSingleScale(node, context) && readsRuns(reader, context) ? compute() : undefined;
    return computed && { node, computed };
  }
  // A mean over the pixels, quantized for the classifier.
  const isEnd = node.op === 'GlobalAveragePool' && reader.op === 'QuantizeLinear' && hasSingleScale(reader, context);
  return isEnd ? { node, computed: undefined } : undefined;
}

function hasSingleScale(node: AnyNode, context: LowerContext): boolean {
  if (node.op !== 'QuantizeLinear') return true;
  return node.attrs.block_size === 0 && node.inputs.slice(1).every((id) => id === '' || elementCount(context.type(id).dims) === 1);
}
