/**
 * Windows: parts of a tensor as tensors, so that splitting and joining cost no copy.
 *
 * A window has the whole's id, so that memory is planned for the whole, and explicit strides. Kernels bind the whole and have
 * the window's offset in their code: bindings may only begin at multiples of 256 bytes, and equal layers of a network then
 * still share their shaders where they lie alike. A channels-last window keeps what the layout promises (whole vectors of
 * channels, zeros in padding lanes); a linear one promises nothing but its strides. Prior art: NumPy's and PyTorch's views.
 */
import { type Dims, elementCount, type Tensor, toNumbers } from '../../../ir/tensor.ts';
import { collapse } from './space.ts';
import { channelAlignment, type DeviceTensor, type Layout, storedBytes, stridesOf, type View, viewOf } from './tensor.ts';

/** What a part takes of one axis: `extent` elements, the first at `start`, each `step` after the one before. */
export interface AxisRange {
  readonly start: number;
  readonly step: number;
  readonly extent: number;
}

/** The elements of an axis that a Gather picks, where its indices are constant and follow one another. Indices beyond the axis pick its nearest element. */
export function pickedRange(indices: Tensor | undefined, extent: number): AxisRange | undefined {
  if (!indices || indices.dims.length > 1 || elementCount(indices.dims) === 0 || extent === 0) return undefined;
  const places = toNumbers(indices).map((index) => Math.min(Math.max(index < 0 ? index + extent : index, 0), extent - 1));
  const [start] = places as [number, ...number[]];
  return places.every((place, at) => place === start + at) ? { start, step: 1, extent: places.length } : undefined;
}

/** All of every axis but one. */
export function alongAxis(dims: Dims, axis: number, range: AxisRange): AxisRange[] {
  return dims.map((extent, a) => (a === axis ? range : { start: 0, step: 1, extent }));
}

/** The part of a tensor that takes these ranges of its axes; undefined where the layout's promises would not hold for it. */
export function windowOf(whole: DeviceTensor, ranges: readonly AxisRange[]): DeviceTensor | undefined {
  if (ranges.some(({ step, extent }) => step < 1 || extent === 0)) return undefined;
  if (whole.layout === 'channels-last' && !keepsLanes(whole, ranges[1]!)) return undefined;
  const { offset, strides } = viewOf(whole);
  const view = {
    offset: ranges.reduce((sum, { start }, axis) => sum + start * strides[axis]!, offset),
    strides: ranges.map(({ step }, axis) => step * strides[axis]!),
  };
  return withView(whole, ranges.map(({ extent }) => extent), view, whole.layout);
}

/** Whether a range of channels begins at a vector and ends at one, or with the last channel, whose padding lanes it then has. */
function keepsLanes(whole: DeviceTensor, { start, step, extent }: AxisRange): boolean {
  const alignment = channelAlignment(whole.storage);
  return step === 1 && start % alignment === 0 && (extent % alignment === 0 || start + extent === whole.dims[1]);
}

/** Whether parts of these extents, one after the other along an axis, each begin and end at whole vectors of the stored elements. */
export function wholeParts({ dims, layout, storage }: Pick<DeviceTensor, 'dims' | 'layout' | 'storage'>, axis: number, extents: readonly number[]): boolean {
  if (axis !== (layout === 'channels-last' ? 1 : dims.length - 1)) return true;
  // The last channels bring the padding lanes with them.
  const bounded = layout === 'channels-last' ? extents.slice(0, -1) : extents;
  return bounded.every((extent) => extent % channelAlignment(storage) === 0);
}

function withView(whole: DeviceTensor, dims: Dims, view: View, layout: Layout): DeviceTensor {
  return { ...whole, dims, layout, window: { offset: view.offset, strides: view.strides, boundBytes: storedBytes(whole) } };
}

/** Elements of a tensor's memory as a tensor of these dims: by itself where they lie as a layout has them, else a window. */
export function viewedAs(whole: DeviceTensor, dims: Dims, view: View): DeviceTensor {
  const { window: _, ...own } = whole;
  const lies = (layout: Layout): boolean => view.offset === 0 && sameWalk(dims, view.strides, stridesOf({ ...own, dims, layout }));
  if (lies('linear')) return { ...own, dims, layout: 'linear' };
  if (!hasVectors(dims, view, channelAlignment(whole.storage))) return withView(whole, dims, view, 'linear');
  return lies('channels-last') ? { ...own, dims, layout: 'channels-last' } : withView(whole, dims, view, 'channels-last');
}

function sameWalk(dims: Dims, a: readonly number[], b: readonly number[]): boolean {
  return dims.every((extent, axis) => extent === 1 || a[axis] === b[axis]);
}

/** Whether the channels of an image lie in whole vectors. */
function hasVectors(dims: Dims, { offset, strides }: View, alignment: number): boolean {
  if (dims.length < 3 || strides[1] !== 1 || offset % alignment !== 0 || dims[1]! % alignment !== 0) return false;
  return dims.every((extent, axis) => axis === 1 || extent === 1 || strides[axis]! % alignment === 0);
}

/** The tensor with other dims over the same elements in the same order; undefined where strides can't express it. */
export function reshaped(tensor: DeviceTensor, dims: Dims): DeviceTensor | undefined {
  if (elementCount(dims) === 0) return undefined;
  const { offset, strides } = viewOf(tensor);
  const moved = reshapedStrides(tensor.dims, strides, dims);
  return moved && viewedAs(tensor, dims, { offset, strides: moved });
}

/** Strides that walk the elements of `dims` × `strides` in the same order as `wanted`; undefined where there are none. */
export function reshapedStrides(dims: Dims, strides: readonly number[], wanted: Dims): number[] | undefined {
  // Axes that lie like one are one; every wanted axis must then fit into one of these, the innermost first.
  const { extents, views } = collapse({ extents: dims, views: [{ offset: 0, strides }] });
  let run = extents.length - 1;
  let left = extents[run] ?? 1;
  let stride = views[0]!.strides[run] ?? 1;
  const result = wanted.map(() => 0);
  for (let axis = wanted.length - 1; axis >= 0; axis--) {
    const extent = wanted[axis]!;
    if (extent > 1 && left === 1) {
      run--;
      left = extents[run]!;
      stride = views[0]!.strides[run]!;
    }
    if (left % extent !== 0) return undefined;
    result[axis] = stride;
    stride *= extent;
    left /= extent;
  }
  return result;
}

/** The tensor of which these are the parts, one after the other along an axis; undefined where they don't lie so. */
export function joined(parts: readonly DeviceTensor[], axis: number, dims: Dims): DeviceTensor | undefined {
  const [first] = parts;
  if (!first?.window) return undefined;
  const { offset, strides } = first.window;
  let start = 0;
  for (const part of parts) {
    if (!isAt(part, first, { offset: offset + start * strides[axis]!, strides })) return undefined;
    start += part.dims[axis]!;
  }
  return { ...first, dims };
}

/** Whether a tensor lies in the memory of another one, in its layout, with exactly this view. */
export function isAt(tensor: DeviceTensor, whole: DeviceTensor, { offset, strides }: View): boolean {
  if (tensor.id !== whole.id || tensor.layout !== whole.layout) return false;
  const view = viewOf(tensor);
  return view.offset === offset && view.strides.every((stride, axis) => stride === strides[axis]);
}
