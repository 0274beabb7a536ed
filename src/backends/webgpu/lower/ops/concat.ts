/**
 * Concatenations. Parts that were written into place (lower/placement.ts) need nothing; the others are copied, small ones by one
 * kernel together. Parts that are expressions are computed by the kernel that joins them.
 */
import { type ExprPart, inputsOf, type JoinedExprs, replaceInputs, runsOf } from '../../../../ir/expr.ts';
import type { Node, ValueId } from '../../../../ir/graph.ts';
import { elementCount, HALF_MAX, toNumbers } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { STORAGE_BYTES } from '../../../../engine/plan.ts';
import { isJoinable, type Join, joinedTensors, joinKernel, type JoinPart } from '../../kernels/join.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import type { DeviceProfile } from '../../profile.ts';
import type { Computed, LowerContext, Lowering, LoweringTable } from '../context.ts';
import { move } from '../elements.ts';
import { readAsImage } from '../placement.ts';
import { broadcastView, channelAlignment, type DeviceTensor, type Layout, paddedChannels, viewOf } from '../tensor.ts';
import { isAt, joined, wholeParts } from '../windows.ts';
import { layoutOfIntegers } from './quantize.ts';

/** Beyond so many elements the vectors of one kernel per part bring more than the dispatches cost. */
const MAX_JOINED = 2 ** 22;

/** A part that has to be copied. */
interface Copy {
  readonly source: DeviceTensor;
  readonly start: number;
  readonly extent: number;
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
    const layout = home?.layout ?? joinedLayout(node, sources, context);
    const target = context.target(output, layout, isNarrow(node, sources, axis, layout, context) ? 'narrow' : 'canonical');
    const copies = copiesOf(node, sources, target, axis, context);
    const lanes = missingLanes(target, axis, copies);
    if (!joinAll(target, axis, copies, lanes, context)) copyEach(target, axis, copies, lanes, context);
  },
};

/** As a source of it lies, and as those who read it want it where nothing lies in another way than ONNX's. */
function joinedLayout(node: Node<'Concat'>, sources: readonly DeviceTensor[], context: LowerContext): Layout {
  if (sources.some((source) => source.layout === 'channels-last')) return 'channels-last';
  return context.windows && sources[0]!.dims.length > 2 && readAsImage(node.outputs[0]!, context.graph) ? 'channels-last' : 'linear';
}

/**
 * Whether what is computed of it lies in narrow elements, in whole vectors of which every part consists, and these can hold the constants too.
 * What the graph gives out leaves in its own type, and is written in it.
 */
function isNarrow(node: Node<'Concat'>, sources: readonly DeviceTensor[], axis: number, layout: Layout, context: LowerContext): boolean {
  if (context.graph.outputs.includes(node.outputs[0]!)) return false;
  const constants = node.inputs.map((id) => context.constant(id));
  const computed = sources.filter((_, i) => !constants[i]);
  const [first] = computed;
  if (!first || computed.some(({ storage }) => storage !== first.storage) || STORAGE_BYTES[first.storage] >= 4) return false;
  if (first.storage === 'f16' && !constants.every((constant) => !constant || toNumbers(constant).every((value) => Math.abs(value) <= HALF_MAX))) return false;
  const { dims } = context.type(node.outputs[0]!);
  return wholeParts({ dims, layout, storage: first.storage }, axis, sources.map((source) => source.dims[axis]!));
}

function copiesOf(node: Node<'Concat'>, sources: readonly DeviceTensor[], target: DeviceTensor, axis: number, context: LowerContext): Copy[] {
  const { offset, strides } = viewOf(target);
  const copies: Copy[] = [];
  let start = 0;
  for (const [i, source] of sources.entries()) {
    const extent = source.dims[axis]!;
    const isInPlace = isAt(source, target, { offset: offset + start * strides[axis]!, strides });
    // What lies elsewhere in the target's own memory can't be read while that is written.
    if (!isInPlace && elementCount(source.dims) > 0) copies.push({ source: source.id === target.id ? context.copy(node.inputs[i]!) : source, start, extent });
    start += extent;
  }
  return copies;
}

/** Padding lanes that no part fills: all of them, where the last channels are copied; they come with channels in place. */
function missingLanes(target: DeviceTensor, axis: number, copies: readonly Copy[]): number {
  const last = copies.at(-1);
  const channels = target.dims[1]!;
  if (target.layout === 'linear' || axis !== 1 || !last || last.start + last.extent < channels) return 0;
  return paddedChannels(target.dims, target.storage) - channels;
}

/** Copies everything by one kernel; false where that can't be, or would not be faster. */
function joinAll(target: DeviceTensor, axis: number, copies: readonly Copy[], lanes: number, context: LowerContext): boolean {
  const clear: JoinPart[] = lanes > 0 ? [{ value: undefined, start: target.dims[1]!, step: 1, extent: lanes }] : [];
  const copied = ({ source, start, extent }: Copy): JoinPart => ({ value: { inputs: [{ tensor: source, view: viewOf(source) }], expr: inputExpr(source.dtype) }, start, step: 1, extent });
  const join = { axis, parts: [...copies.map(copied), ...clear], target };
  const isPadded = target.layout === 'channels-last' && axis !== 1 && target.dims[1] !== paddedChannels(target.dims, target.storage);
  const elements = copies.reduce((sum, { source }) => sum + elementCount(source.dims), 0);
  const fits = joinedTensors([join]).length < context.profile.maxStorageBuffers && elements <= MAX_JOINED;
  if (!context.windows || join.parts.length < 2 || !fits || isPadded || !isJoinable(join)) return false;
  context.dispatch(joinKernel({ label: 'Concat', joins: [join] }, context.profile));
  return true;
}

function copyEach(target: DeviceTensor, axis: number, copies: readonly Copy[], lanes: number, context: LowerContext): void {
  const { offset, strides } = viewOf(target);
  let missing = lanes;
  for (const { source, start, extent } of copies) {
    const isLast = start + extent === target.dims[axis]!;
    // The last channels bring the padding lanes with them, if they begin with a whole vector.
    const padChannels = target.layout === 'channels-last' && (axis !== 1 || (isLast && start % channelAlignment(target.storage) === 0));
    if (padChannels && isLast) missing = 0;
    const to = { offset: offset + start * strides[axis]!, strides };
    move(context, { label: 'Concat', dims: source.dims, source, from: viewOf(source), target, to, padChannels });
  }
  if (missing > 0) clearLanes(target, missing, context);
}

/** Zeros for the padding lanes, where several kernels wrote the channels. */
function clearLanes(target: DeviceTensor, lanes: number, context: LowerContext): void {
  const [images, channels, ...spatial] = target.dims as [number, number, ...number[]];
  const { offset, strides } = viewOf(target);
  const expr = { kind: 'const', value: 0, dtype: target.dtype } as const;
  const outputs = [{ tensor: target, view: { offset: offset + channels, strides }, expr }];
  context.dispatch(mapKernel({ label: 'Concat', dims: [images, lanes, ...spatial], inputs: [], outputs }, context.profile));
}

/**
 * Every part computed as it is written, by as few kernels as bind all tensors: on devices that bind few, or where parts of a tensor are no windows
 * of it, concatenations get kernels of their own, and at last parts do.
 */
const fused: Lowering<'FusedConcat'> = {
  lower(node, context) {
    const joins = node.attrs.joined.map((joined, i) => computedJoin(node, joined, node.outputs[i]!, context));
    for (const some of groupsOf(joins, context.profile)) context.dispatch(joinKernel({ label: 'FusedConcat', joins: some }, context.profile));
  },
};

/** Concatenations in order, as many to a group as one kernel binds; one that is too large for a kernel of its own is several of the same target. */
function groupsOf(joins: readonly Join[], { maxStorageBuffers }: Pick<DeviceProfile, 'maxStorageBuffers'>): readonly (readonly Join[])[] {
  const isBindable = (some: readonly Join[]): boolean => joinedTensors(some).length + some.length <= maxStorageBuffers;
  const units = joins.flatMap((join) => (isBindable([join]) ? [join] : runsOf(join.parts).map((parts): Join => ({ ...join, parts }))));
  const groups: Join[][] = [];
  for (const unit of units) {
    const last = groups.at(-1);
    const isOther = last?.every(({ target }) => target.id !== unit.target.id) ?? false;
    if (last && isOther && isBindable([...last, unit])) last.push(unit);
    else groups.push([unit]);
  }
  return groups;
}

function computedJoin(node: Node<'FusedConcat'>, { axis, parts }: JoinedExprs, output: ValueId, context: LowerContext): Join {
  const { dims } = context.type(output);
  const sources = node.inputs.map((id) => context.source(id));
  const inFours = runsOf(parts).every((run) => 4 % run.length === 0 && run[0]!.start % 4 === 0 && (run.length * run[0]!.extent) % 4 === 0);
  const layout = computedLayout(output, axis, inFours, sources, context);
  const inner = layout === 'channels-last' ? 1 : dims.length - 1;
  const target = context.target(output, layout, axis !== inner || inFours ? 'narrow' : 'canonical');
  const valueOf = ({ extent, expr }: ExprPart): Computed => {
    const own = dims.map((dim, a) => (a === axis ? extent : dim));
    const read = [...inputsOf(expr)];
    const inputs = read.map((index) => ({ tensor: sources[index]!, view: broadcastView(sources[index]!, own) }));
    return { inputs, expr: replaceInputs(expr, (index, dtype) => ({ kind: 'input', index: read.indexOf(index), dtype })) };
  };
  const lanes = layout === 'channels-last' && axis === 1 ? paddedChannels(dims, target.storage) - dims[1]! : 0;
  const clear: JoinPart[] = lanes > 0 ? [{ value: undefined, start: dims[1]!, step: 1, extent: lanes }] : [];
  return { axis, parts: [...parts.map((part) => ({ ...part, value: valueOf(part) })), ...clear], target };
}

/**
 * As its image lies or is read, and integers as products read them: bytes, which are written in fours. Not where parts of other axes than the
 * channels would have padding lanes between them.
 */
function computedLayout(output: ValueId, axis: number, inFours: boolean, sources: readonly DeviceTensor[], context: LowerContext): Layout {
  const { dtype, dims } = context.type(output);
  const lies = sources.some(({ layout, constant, dims: own }) => !constant && layout === 'channels-last' && own.length === dims.length);
  const isImage = lies || (context.windows && dims.length > 2 && readAsImage(output, context.graph));
  const integers = dtype === 'int8' || dtype === 'uint8' ? layoutOfIntegers(output, context) : undefined;
  const layout = integers ?? (isImage ? 'channels-last' : 'linear');
  const isWritable = axis === 1 ? inFours || !integers : dims[1]! % channelAlignment('i8') === 0;
  return isWritable ? layout : 'linear';
}

export const CONCAT_LOWERINGS: LoweringTable = { Concat: concat, FusedConcat: fused };
