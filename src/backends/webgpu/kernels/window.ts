/** Walking a window over a channels-last image: shared by pools and depthwise convolutions. */
import { address } from '../lower/space.ts';
import { type DeviceTensor, viewOf } from '../lower/tensor.ts';
import type { Block } from '../wgsl/module.ts';

export interface WindowSpec {
  readonly x: DeviceTensor;
  readonly images: number;
  readonly inputSpatial: readonly number[];
  readonly outputSpatial: readonly number[];
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Begin of every axis, then end. */
  readonly pads: readonly number[];
  /** Stored channels, a multiple of 4. */
  readonly channels: number;
}

/** Every tap of the window as coordinates. */
export function windowTaps(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>((taps, extent) => taps.flatMap((tap) => Array.from({ length: extent }, (_, i) => [...tap, i])), [[]]);
}

/** Windows of more taps than this are walked by loops instead of being written out. */
const UNROLLED_TAPS = 49;

/**
 * Emits a visit of every tap inside the image. `image` and `outputs` are names of the output pixel's coordinates; the visitor gets the
 * index of the image's vec4 and the tap's number, both as WGSL. Taps outside the image are skipped.
 */
export function emitWindow(
  block: Block,
  spec: WindowSpec,
  image: string,
  outputs: readonly string[],
  channelVector: string,
  visit: (block: Block, index: string, tap: string) => void,
): void {
  const first = outputs.map((output, axis) => block.let(`p${axis}`, `i32(${output}) * ${spec.strides[axis]} - ${spec.pads[axis]}`));
  const rank = spec.kernel.length;
  const { offset, strides } = viewOf(spec.x);
  const [imageStride, , ...spatialStrides] = strides as [number, number, ...number[]];
  const pixels = { offset: offset / 4, strides: [imageStride, ...spatialStrides].map((stride) => stride / 4) };
  const visitAt = (inside: Block, offsets: readonly string[], tap: string): void => {
    const positions = first.map((position, axis) => `u32(${position} + ${offsets[axis]})`);
    const conditions = positions.flatMap((position, axis) => (neverOutside(spec, axis) ? [] : [`${position} < ${spec.inputSpatial[axis]}u`]));
    const index = `${address(pixels, [image, ...positions])} + ${channelVector}`;
    if (conditions.length === 0) visit(inside, index, tap);
    else inside.if(conditions.map((condition) => `(${condition})`).join(' & '), (then) => visit(then, index, tap));
  };
  const taps = windowTaps(spec.kernel);
  if (taps.length <= UNROLLED_TAPS) {
    for (const [i, tap] of taps.entries()) visitAt(block, tap.map((at, axis) => String(at * spec.dilations[axis]!)), `${i}u`);
    return;
  }
  const nest = (inside: Block, axis: number, offsets: readonly string[], tap: string): void => {
    if (axis === rank) return visitAt(inside, offsets, tap);
    inside.for(`t${axis}`, '0u', `${spec.kernel[axis]}u`, '1u', (loop) =>
      nest(loop, axis + 1, [...offsets, `i32(t${axis}) * ${spec.dilations[axis]}`], `(${tap}) * ${spec.kernel[axis]}u + t${axis}`),
    );
  };
  nest(block, 0, [], '0u');
}

/** Whether no window leaves the image along an axis. */
function neverOutside(spec: WindowSpec, axis: number): boolean {
  const reach = (spec.outputSpatial[axis]! - 1) * spec.strides[axis]! + (spec.kernel[axis]! - 1) * spec.dilations[axis]!;
  return spec.pads[axis] === 0 && reach < spec.inputSpatial[axis]!;
}
