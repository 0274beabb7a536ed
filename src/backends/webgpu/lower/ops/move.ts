/**
 * Ops that only move elements along straight walks: Concat, Split, Slice, Expand, Tile, DepthToSpace, SpaceToDepth. Each is
 * one map kernel per part, with other strides; channels-last images stay as they are.
 */
import type { Node } from '../../../../ir/graph.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { sliceAxis } from '../../../../ops/slice.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { mustBeConstant } from '../support.ts';
import { broadcastView, channelAlignment, type DeviceTensor, type Layout, paddedChannels, rowMajorStrides, stridesOf, type View } from '../tensor.ts';

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

const whole = (tensor: DeviceTensor): View => ({ offset: 0, strides: stridesOf(tensor) });

const concat: Lowering<'Concat'> = {
  lower(node, context) {
    const output = node.outputs[0]!;
    const { dims } = context.type(output);
    const axis = normalizeAxis(node.attrs.axis, dims.length);
    const sources = node.inputs.map((id) => context.tensor(id));
    const layout: Layout = sources.some((source) => source.layout === 'channels-last') ? 'channels-last' : 'linear';
    const target = context.define(output, layout);
    const { strides } = whole(target);
    let start = 0;
    for (const source of sources) {
      const to = { offset: start * strides[axis]!, strides };
      const padChannels = layout === 'channels-last' && axis !== 1;
      move(context, { label: 'Concat', dims: source.dims, source, from: whole(source), target, to, padChannels });
      start += source.dims[axis]!;
    }
    if (layout === 'channels-last' && axis === 1) clearPadding(context, target);
  },
};

/** Zeros for the padding lanes, where several kernels wrote the channels. */
function clearPadding(context: LowerContext, target: DeviceTensor): void {
  const [images, channels, ...spatial] = target.dims as [number, number, ...number[]];
  const dims = [images, paddedChannels(target.dims, target.storage) - channels, ...spatial];
  if (elementCount(dims) === 0) return;
  const view = { offset: channels, strides: stridesOf(target) };
  const expr = { kind: 'const', value: 0, dtype: target.dtype } as const;
  context.dispatch(mapKernel({ label: 'Concat', dims, inputs: [], outputs: [{ tensor: target, view, expr }] }, context.profile));
}

const split: Lowering<'Split'> = {
  lower(node, context) {
    const source = context.tensor(node.inputs[0]!);
    const { strides } = whole(source);
    const axis = normalizeAxis(node.attrs.axis, source.dims.length);
    let start = 0;
    for (const { id, dims } of parts(node, context)) {
      if (id !== '') {
        const target = context.define(id, source.layout);
        const from = { offset: start * strides[axis]!, strides };
        move(context, { label: 'Split', dims, source, from, target, to: whole(target), padChannels: source.layout === 'channels-last' });
      }
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
    const source = context.tensor(node.inputs[0]!);
    const target = context.define(node.outputs[0]!, source.layout);
    const [starts, ends] = [context.ints(node.inputs[1]!)!, context.ints(node.inputs[2]!)!];
    const axes = context.ints(node.inputs[3] ?? '') ?? starts.map((_, axis) => axis);
    const steps = context.ints(node.inputs[4] ?? '') ?? starts.map(() => 1);
    const strides = stridesOf(source);
    let offset = 0;
    for (const [i, given] of axes.entries()) {
      const axis = normalizeAxis(given, strides.length);
      const { start, step } = sliceAxis(source.dims[axis]!, starts[i]!, ends[i]!, steps[i]!);
      offset += start * strides[axis]!;
      strides[axis]! *= step;
    }
    const padChannels = target.layout === 'channels-last';
    move(context, { label: 'Slice', dims: target.dims, source, from: { offset, strides }, target, to: whole(target), padChannels });
  },
};

const expand: Lowering<'Expand'> = {
  lower(node, context) {
    const source = context.tensor(node.inputs[0]!);
    const { dims } = context.type(node.outputs[0]!);
    const layout = source.dims.length === dims.length ? source.layout : 'linear';
    const target = context.define(node.outputs[0]!, layout);
    const padChannels = layout === 'channels-last';
    move(context, { label: 'Expand', dims, source, from: broadcastView(source, dims), target, to: whole(target), padChannels });
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
