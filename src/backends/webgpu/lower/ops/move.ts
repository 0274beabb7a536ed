/**
 * Ops that only move elements along straight walks: Split, Slice, Expand, Tile, DepthToSpace, SpaceToDepth. Parts are
 * windows where layouts allow (lower/windows.ts), and one map kernel each, with other strides, where not; channels-last images
 * stay as they are.
 */
import type { Node, ValueId } from '../../../../ir/graph.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { sliceAxis } from '../../../../ops/slice.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { move } from '../elements.ts';
import { mustBeConstant } from '../support.ts';
import { broadcastView, channelAlignment, type DeviceTensor, rowMajorStrides, stridesOf, type View, viewOf } from '../tensor.ts';
import { alongAxis, type AxisRange, windowOf } from '../windows.ts';

/** Makes an output the part of a tensor: its window where that can be, else a copy. */
function takePart(label: string, id: ValueId, source: DeviceTensor, ranges: readonly AxisRange[], context: LowerContext): void {
  const window = context.windows ? windowOf(source, ranges) : undefined;
  if (window) return context.alias(id, window, window.layout);
  const target = context.target(id, source.layout);
  const { offset, strides } = viewOf(source);
  const from = {
    offset: ranges.reduce((sum, { start }, axis) => sum + start * strides[axis]!, offset),
    strides: ranges.map(({ step }, axis) => step * strides[axis]!),
  };
  move(context, { label, dims: target.dims, source, from, target, to: viewOf(target), padChannels: target.layout === 'channels-last' });
}

const split: Lowering<'Split'> = {
  lower(node, context) {
    const source = context.source(node.inputs[0]!);
    const axis = normalizeAxis(node.attrs.axis, source.dims.length);
    let start = 0;
    for (const { id, dims } of parts(node, context)) {
      const range = { start, step: 1, extent: dims[axis]! };
      if (id !== '') takePart('Split', id, source, alongAxis(source.dims, axis, range), context);
      start += dims[axis]!;
    }
  },
};

/** Outputs with their shapes; one that nobody uses has no type of its own. */
function parts(node: Node<'Split'>, context: LowerContext): { readonly id: string; readonly dims: Dims }[] {
  const { dims } = context.type(node.inputs[0]!);
  const axis = normalizeAxis(node.attrs.axis, dims.length);
  const sizes = context.ints(node.inputs[1] ?? '');
  return node.outputs.map((id, i) => {
    const size = sizes?.[i] ?? Math.ceil(dims[axis]! / node.outputs.length);
    return { id, dims: id === '' ? dims.map((dim, a) => (a === axis ? size : dim)) : context.type(id).dims };
  });
}

const slice: Lowering<'Slice'> = {
  // Ends are often the largest int64, for "to the end".
  hostInputs: [1, 2, 3, 4],
  unsupported: (node, graph) => mustBeConstant(node, graph, { 1: 'starts', 2: 'ends', 3: 'axes', 4: 'steps' }),
  lower(node, context) {
    const source = context.source(node.inputs[0]!);
    const output = node.outputs[0]!;
    const [starts, ends] = [context.ints(node.inputs[1]!)!, context.ints(node.inputs[2]!)!];
    const axes = context.ints(node.inputs[3] ?? '') ?? starts.map((_, axis) => axis);
    const steps = context.ints(node.inputs[4] ?? '') ?? starts.map(() => 1);
    const ranges = context.type(output).dims.map((extent): AxisRange => ({ start: 0, step: 1, extent }));
    for (const [i, given] of axes.entries()) {
      const axis = normalizeAxis(given, ranges.length);
      const { start, step, count: extent } = sliceAxis(source.dims[axis]!, starts[i]!, ends[i]!, steps[i]!);
      ranges[axis] = { start, step, extent };
    }
    takePart('Slice', output, source, ranges, context);
  },
};

const expand: Lowering<'Expand'> = {
  lower(node, context) {
    const source = context.source(node.inputs[0]!);
    const { dims } = context.type(node.outputs[0]!);
    const layout = source.dims.length === dims.length ? source.layout : 'linear';
    const target = context.target(node.outputs[0]!, layout);
    const padChannels = layout === 'channels-last';
    move(context, { label: 'Expand', dims, source, from: broadcastView(source, dims), target, to: viewOf(target), padChannels });
  },
};

const tile: Lowering<'Tile'> = {
  lower(node, context) {
    const source = context.tensor(node.inputs[0]!);
    const target = context.define(node.outputs[0]!, 'linear');
    if (elementCount(target.dims) === 0) return;
    const [own, wanted] = [stridesOf(source), rowMajorStrides(target.dims)];
    // Every axis in two: which copy, and where in it.
    const dims = source.dims.flatMap((dim, axis) => [target.dims[axis]! / dim, dim]);
    const from = { offset: 0, strides: own.flatMap((stride) => [0, stride]) };
    const to = { offset: 0, strides: wanted.flatMap((stride, axis) => [stride * source.dims[axis]!, stride]) };
    move(context, { label: 'Tile', dims, source, from, target, to });
  },
};

/** Strides of [image, channel, row, row of the block, column, column of the block] over the deep and the wide tensor. */
function blockViews(deep: DeviceTensor, wide: DeviceTensor, block: number, mode: 'DCR' | 'CRD'): { deep: View; wide: View; dims: number[] } {
  const [n, c, h, w] = stridesOf(deep) as [number, number, number, number];
  const [wn, wc, wh, ww] = stridesOf(wide) as [number, number, number, number];
  const [images, depth] = wide.dims as [number, number];
  const channel = mode === 'DCR' ? c : c * block * block;
  const column = mode === 'DCR' ? c * depth : c;
  return {
    dims: [images, depth, deep.dims[2]!, block, deep.dims[3]!, block],
    deep: { offset: 0, strides: [n, channel, h, column * block, w, column] },
    wide: { offset: 0, strides: [wn, wc, wh * block, wh, ww * block, ww] },
  };
}

const depthToSpace: Lowering<'DepthToSpace'> = {
  lower(node, context) {
    const source = context.tensor(node.inputs[0]!);
    const target = context.define(node.outputs[0]!, source.layout);
    const views = blockViews(source, target, node.attrs.blocksize, node.attrs.mode);
    const padChannels = target.layout === 'channels-last';
    move(context, { label: 'DepthToSpace', dims: views.dims, source, from: views.deep, target, to: views.wide, padChannels });
  },
};

const spaceToDepth: Lowering<'SpaceToDepth'> = {
  lower(node, context) {
    const source = context.tensor(node.inputs[0]!);
    const { dims } = context.type(node.outputs[0]!);
    const aligned = dims[1]! % channelAlignment(source.storage) === 0;
    const target = context.define(node.outputs[0]!, aligned ? source.layout : 'linear');
    const views = blockViews(target, source, node.attrs.blocksize, 'DCR');
    move(context, { label: 'SpaceToDepth', dims: views.dims, source, from: views.wide, target, to: views.deep });
  },
};

export const MOVE_LOWERINGS: LoweringTable = {
  Split: split,
  Slice: slice,
  Expand: expand,
  Tile: tile,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
};
