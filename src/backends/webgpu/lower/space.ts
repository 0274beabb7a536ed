/**
 * Iteration spaces: the nested loops of a kernel, with the address of every operand as strides over them.
 *
 * Broadcasting, transposition, slicing, tiling and layout conversion are all the same thing here: other strides. Adjacent
 * axes that every operand walks alike are merged, so that most kernels end with one or two axes.
 */
import type { View } from './tensor.ts';

export interface Space {
  /** Outermost first. */
  readonly extents: readonly number[];
  /** One per operand; strides by axis of `extents`. */
  readonly views: readonly View[];
}

/** The same space without unit axes and with mergeable neighbours merged. */
export function collapse(space: Space): Space {
  const extents: number[] = [];
  const strides: number[][] = space.views.map(() => []);
  for (const [axis, extent] of space.extents.entries()) {
    if (extent === 1) continue;
    const last = extents.length - 1;
    const merges = last >= 0 && space.views.every((view, i) => strides[i]![last] === view.strides[axis]! * extent);
    if (merges) extents[last]! *= extent;
    else extents.push(extent);
    for (const [i, view] of space.views.entries()) {
      if (merges) strides[i]![last] = view.strides[axis]!;
      else strides[i]!.push(view.strides[axis]!);
    }
  }
  return { extents, views: space.views.map((view, i) => ({ offset: view.offset, strides: strides[i]! })) };
}

/** Reorders axes; `order` lists old axes, outermost first. */
export function permuteSpace(space: Space, order: readonly number[]): Space {
  return {
    extents: order.map((axis) => space.extents[axis]!),
    views: space.views.map((view) => ({ offset: view.offset, strides: order.map((axis) => view.strides[axis]!) })),
  };
}

/** Axes in the order in which a tensor with these strides lies in memory, outermost first. */
export function memoryOrder(strides: readonly number[]): number[] {
  return strides.map((_, axis) => axis).sort((a, b) => strides[b]! - strides[a]! || a - b);
}

/** WGSL for each coordinate of a flat index, given by name; outermost first. */
export function decodeIndex(flat: string, extents: readonly number[]): string[] {
  let inner = 1;
  const codes: string[] = [];
  for (let axis = extents.length - 1; axis >= 0; axis--) {
    const quotient = inner === 1 ? flat : `${flat} / ${inner}u`;
    codes.unshift(axis === 0 ? quotient : inner === 1 ? `${flat} % ${extents[axis]}u` : `(${quotient}) % ${extents[axis]}u`);
    inner *= extents[axis]!;
  }
  return codes;
}

/** WGSL for `offset + Σ coordinate · stride`; negative strides are allowed where the sum is not. */
export function address(view: View, coordinates: readonly string[]): string {
  const negative = view.strides.some((stride) => stride < 0);
  const suffix = negative ? 'i' : 'u';
  const terms: string[] = [];
  for (const [axis, stride] of view.strides.entries()) {
    if (stride === 0) continue;
    const coordinate = negative ? `i32(${coordinates[axis]})` : coordinates[axis]!;
    terms.push(stride === 1 ? coordinate : `${coordinate} * ${stride}${suffix}`);
  }
  if (view.offset !== 0 || terms.length === 0) terms.push(`${view.offset}${suffix}`);
  const sum = terms.join(' + ');
  return negative ? `u32(${sum})` : sum;
}

/** A view counted in groups of `unit` elements. Along the axis `inner`, whose elements lie together, a step is then a group. */
export function inUnits({ offset, strides }: View, unit: number, inner?: number): View {
  return { offset: offset / unit, strides: strides.map((stride, axis) => (axis === inner ? stride : stride / unit)) };
}

/** Whether every stride but the one of the axis `except`, and the offset, are multiples of `unit`. */
export function isAligned(view: View, unit: number, except: number): boolean {
  return view.offset % unit === 0 && view.strides.every((stride, axis) => axis === except || stride % unit === 0);
}
