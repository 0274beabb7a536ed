/** Pools over windows, in channels-last. */
import { type Node, typeOf } from '../../../../ir/graph.ts';
import type { PoolAttrs } from '../../../../ir/ops.ts';
import type { DType } from '../../../../ir/tensor.ts';
import { maxPoolCandidates } from '../../kernels/max-pool.ts';
import { poolKernel, type PoolReduction, type PoolSpec } from '../../kernels/pool.ts';
import type { LowerContext, Lowering, LoweringTable, StorageWish } from '../context.ts';
import { floatReason } from '../support.ts';
import { paddedChannels } from '../tensor.ts';

const isByte = (dtype: DType): boolean => dtype === 'int8' || dtype === 'uint8';

type PoolOp = 'AveragePool' | 'LpPool' | 'MaxPool';

/**
 * Means are no larger than what they are of; sums of powers can be. A maximum is one of its operands and stays equal to it in its storage:
 * detectors find peaks by `scores == maxpool(scores)`.
 */
function storageWish({ kind }: PoolReduction, dtype: DType): StorageWish | undefined {
  if (kind === 'norm') return 'canonical';
  return kind === 'average' || isByte(dtype) ? 'narrow' : undefined;
}

function lowerPool(node: Node<PoolOp>, attrs: PoolAttrs, how: PoolReduction, context: LowerContext): void {
  const x = context.sourceIn(node.inputs[0]!, 'channels-last', storageWish(how, typeOf(context.graph, node.inputs[0]!).dtype));
  const output = context.targetLike(node.outputs[0]!, 'channels-last', x);
  const rank = attrs.kernel_shape.length;
  const spec: PoolSpec = {
    label: node.op,
    x,
    output,
    images: x.dims[0]!,
    inputSpatial: x.dims.slice(2),
    outputSpatial: output.dims.slice(2),
    kernel: attrs.kernel_shape,
    stride: attrs.strides,
    dilation: attrs.dilations,
    padBegin: attrs.pads.slice(0, rank),
    padEnd: attrs.pads.slice(rank),
    channels: paddedChannels(x.dims, x.storage),
    validChannels: x.dims[1]!,
    how,
  };
  if (how.kind !== 'max') return context.dispatch(poolKernel(spec, context.profile));
  const { problem, candidates } = maxPoolCandidates(spec, context.profile);
  context.choose(problem, candidates);
}

const maxPool: Lowering<'MaxPool'> = {
  unsupported: (node, graph) => (isByte(typeOf(graph, node.inputs[0]!).dtype) ? undefined : floatReason(node, graph)) ?? (node.outputs[1] ? 'the output of indices has no kernel' : undefined),
  lower: (node, context) => lowerPool(node, node.attrs, { kind: 'max' }, context),
};

const averagePool: Lowering<'AveragePool'> = {
  unsupported: floatReason,
  lower: (node, context) => lowerPool(node, node.attrs, { kind: 'average', countsPadding: node.attrs.count_include_pad === 1 }, context),
};

const lpPool: Lowering<'LpPool'> = {
  unsupported: floatReason,
  lower: (node, context) => lowerPool(node, node.attrs, { kind: 'norm', p: node.attrs.p }, context),
};

export const POOL_LOWERINGS: LoweringTable = { MaxPool: maxPool, AveragePool: averagePool, LpPool: lpPool };
