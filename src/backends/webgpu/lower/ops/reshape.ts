/** Ops that only rename bytes (no kernel), and those that only move them (a map kernel with other strides). */
import type { Node } from '../../../../ir/graph.ts';
import type { OpKind } from '../../../../ir/ops.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { inputExpr, mapKernel, type MapInput } from '../../kernels/map.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { rowMajorStrides, type View, viewOf } from '../tensor.ts';
import { isForAttention, isReadByRow } from '../readers.ts';
import { reshaped, viewedAs } from '../windows.ts';

const rename: Lowering<OpKind> = {
  lower(node, context) {
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const view = context.windows ? reshaped(context.source(input), context.type(output).dims) : undefined;
    if (view) context.alias(output, view, view.layout);
    else context.alias(output, context.tensorIn(input, 'linear'), 'linear');
  },
};

const identity: Lowering<OpKind> = {
  lower(node, context) {
    const source = context.source(node.inputs[0]!);
    context.alias(node.outputs[0]!, source, source.layout);
  },
};

/**
 * Row-major, but for a transpose that only reorders what was split off the channels of a channels-last image, as a channel shuffle
 * does: it leaves them innermost, so that the reshape behind it gives a channels-last image again.
 */
function transposeTarget(node: Node<'Transpose'>, from: View, context: LowerContext): MapInput {
  const output = node.outputs[0]!;
  const { dims } = context.type(output);
  const pixels = trailingPixels(node.attrs.perm, dims, from.strides);
  if (!context.windows || pixels === undefined) {
    const target = context.target(output, 'linear', 'narrow');
    return { tensor: target, view: viewOf(target) };
  }
  const order = [0, ...range(pixels, dims.length), ...range(1, pixels)];
  const inOrder = rowMajorStrides(order.map((axis) => dims[axis]!));
  const view = { offset: 0, strides: dims.map((_, axis) => inOrder[order.indexOf(axis)]!) };
  const tensor = context.define(output, 'linear');
  const viewed = viewedAs(tensor, dims, view);
  context.alias(output, viewed, viewed.layout);
  return { tensor, view };
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** The first of the axes at the end that stay where they are and lie outside of all that moves; undefined where none do. */
function trailingPixels(perm: readonly number[], dims: Dims, strides: readonly number[]): number | undefined {
  if (perm[0] !== 0) return undefined;
  const moving = perm.findLastIndex((axis, at) => axis !== at);
  const pixels = range(moving + 1, dims.length);
  const innermost = Math.min(...pixels.map((axis) => strides[axis]!));
  const areInside = range(1, moving + 1).every((axis) => dims[axis] === 1 || strides[axis]! < innermost);
  return pixels.length > 0 && moving > 0 && areInside ? moving + 1 : undefined;
}

const transpose: Lowering<'Transpose'> = {
  lower(node, context) {
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const source = context.source(input);
    const { dims } = context.type(output);
    const { offset, strides } = viewOf(source);
    const from = { offset, strides: node.attrs.perm.map((axis) => strides[axis]!) };
    const moved = viewedAs(source, dims, from);
    // Attention reads its operands through any strides, and concatenations read rows as well from elsewhere, which rotations of queries and keys do.
    const isRead = node.attrs.perm.at(-1) === dims.length - 1 ? isReadByRow : isForAttention;
    if (context.windows && elementCount(dims) > 0 && isRead(context.graph, output)) return context.alias(output, moved, moved.layout);
    // The elements lie in the wanted order already: no kernel.
    if (!moved.window && (context.windows || moved.layout === 'linear')) return context.alias(output, moved, moved.layout);
    // A picture as bytes: what normalizes it walks any strides, and a quarter of a word is gathered at no loss.
    if (context.windows && source.storage === 'u8') return context.alias(output, moved, moved.layout);
    const kernel = mapKernel(
      {
        label: 'Transpose',
        dims,
        inputs: [{ tensor: source, view: from }],
        outputs: [{ ...transposeTarget(node, from, context), expr: inputExpr(source.dtype) }],
      },
      context.profile,
    );
    context.dispatch(kernel);
  },
};

export const RESHAPE_LOWERINGS: LoweringTable = {
  Reshape: rename,
  Flatten: rename,
  Squeeze: rename,
  Unsqueeze: rename,
  Identity: identity,
  Dropout: identity,
  Transpose: transpose,
};
