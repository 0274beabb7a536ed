/**
 * Ops that only move elements along straight walks: Concat, Split, Slice, Expand, Tile, DepthToSpace, SpaceToDepth. Parts are
 * windows where layouts allow (lower/windows.ts), and one map kernel each, with other strides, where not; channels-last images
 * stay as they are.
 */
import type { Node, ValueId } from '../../../../ir/graph.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { sliceAxis } from '../../../../ops/slice.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { mustBeConstant } from '../support.ts';
import { readAsImage } from '../placement.ts';
import { broadcastView, channelAlignment, type DeviceTensor, type Layout, paddedChannels, rowMajorStrides, stridesOf, type View, viewOf } from '../tensor.ts';
import { alongAxis, type AxisRange, isAt, joined, windowOf } from '../windows.ts';

interface Move {
  readonly label: string;
  /** The walk's axes; axis 1 are the channels where `padChannels`. */
  readonly dims: Dims;
  readonly source: DeviceTensor;
  readonly from: View;
  readonly target: DeviceTensor;
  readonly to: View;
  readonly padChannels?: boolean;
}

function move(context: LowerContext, { label, dims, source, from, target, to, padChannels = false }: Move): void {
  if (elementCount(dims) === 0) return;
  const inputs = [{ tensor: source, view: from }];
  const outputs = [{ tensor: target, view: to, expr: inputExpr(source.dtype) }];
  context.dispatch(mapKernel({ label, dims, inputs, outputs, padChannels }, context.profile));
}

const concat: Lowering<'Concat'> = {
  lower(node, context) {
    const output = node.outputs[0]!;
    const { dims } = context.type(output);
    const axis = normalizeAxis(node.attrs.axis, dims.length);
    const sources = node.inputs.map((id) => context.source(id));
    const home = context.home(output);
    const together = home || !context.windows ? undefined : joined(sources, axis, dims);
    if (together) return context.alias(output, together, together.layout);
    const target = context.target(output, home?.layout ?? joinedLayout(node, sources, context));
    const { offset, strides } = viewOf(target);
    const hasLanes = target.layout === 'channels-last';
    let [start, lanesFilled] = [0, !hasLanes || axis !== 1];
    for (const [i, source] of sources.entries()) {
      const to = { offset: offset + start * strides[axis]!, strides };
      const isLast = start + source.dims[axis]! === dims[axis]!;
      // The last channels bring the padding lanes with them, if they begin with a whole vector.
      const padChannels = hasLanes && (axis !== 1 || (isLast && start % channelAlignment(target.storage) === 0));
      lanesFilled ||= padChannels && source.dims[axis]! > 0;
      if (!isAt(source, target, to)) {
        const from = source.id === target.id ? context.tensor(node.inputs[i]!) : source;
        move(context, { label: 'Concat', dims: source.dims, source: from, from: viewOf(from), target, to, padChannels });
      }
      start += source.dims[axis]!;
    }
    if (!lanesFilled) clearPadding(context, target);
  },
};

/** As a source of it lies, and as those who read it want it where nothing lies in another way than ONNX's. */
function joinedLayout(node: Node<'Concat'>, sources: readonly DeviceTensor[], context: LowerContext): Layout {
  if (sources.some((source) => source.layout === 'channels-last')) return 'channels-last';
  return context.windows && sources[0]!.dims.length > 2 && readAsImage(node.outputs[0]!, context.graph) ? 'channels-last' : 'linear';
}

/** Zeros for the padding lanes, where several kernels wrote the channels. */
function clearPadding(context: LowerContext, target: DeviceTensor): void {
  const [images, channels, ...spatial] = target.dims as [number, number, ...number[]];
  const dims = [images, paddedChannels(target.dims, target.storage) - channels, ...spatial];
  if (elementCount(dims) === 0) return;
  const { offset, strides } = viewOf(target);
  const view = { offset: offset + channels, strides };
  const expr = { kind: 'const', value: 0, dtype: target.dtype } as const;
  context.dispatch(mapKernel({ label: 'Concat', dims, inputs: [], outputs: [{ tensor: target, view, expr }] }, context.profile));
}

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
  Concat: concat,
  Split: split,
  Slice: slice,
  Expand: expand,
  Tile: tile,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
};
