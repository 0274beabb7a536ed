/** Windows over images: where they reach, and the walk over a channels-last image that pools and depthwise convolutions share. */
import { address, inUnits } from '../lower/space.ts';
import { type DeviceTensor, viewOf } from '../lower/tensor.ts';
import type { Block } from '../wgsl/module.ts';

/** How windows walk over an image, by spatial axis. */
export interface WindowWalk {
  readonly inputSpatial: readonly number[];
  readonly outputSpatial: readonly number[];
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly padBegin: readonly number[];
}

/** Whether some window reaches beyond the image along an axis. */
export function canLeave({ inputSpatial, outputSpatial, kernel, stride, dilation, padBegin }: WindowWalk, axis: number): boolean {
  if (padBegin[axis] !== 0) return true;
  const reach = (outputSpatial[axis]! - 1) * stride[axis]! + (kernel[axis]! - 1) * dilation[axis]!;
  return reach >= inputSpatial[axis]!;
}

export interface WindowSpec extends WindowWalk {
  readonly x: DeviceTensor;
  readonly images: number;
  /** Stored channels, a multiple of 4. */
  readonly channels: number;
}

/** Every tap of the window as coordinates. */
export function windowTaps(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>((taps, extent) => taps.flatMap((tap) => Array.from({ length: extent }, (_, i) => [...tap, i])), [[]]);
}

/** Windows of more taps than this are walked by loops instead of being written out. */
export const UNROLLED_TAPS = 49;

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
  const first = outputs.map((output, axis) => block.let(`p${axis}`, `i32(${output}) * ${spec.stride[axis]} - ${spec.padBegin[axis]}`));
  const rank = spec.kernel.length;
  const { offset, strides } = viewOf(spec.x);
  const [imageStride, , ...spatialStrides] = strides as [number, number, ...number[]];
  const pixels = inUnits({ offset, strides: [imageStride, ...spatialStrides] }, 4);
  const visitAt = (inside: Block, offsets: readonly string[], tap: string): void => {
    const positions = first.map((position, axis) => `u32(${position} + ${offsets[axis]})`);
    const conditions = positions.flatMap((position, axis) => (canLeave(spec, axis) ? [`${position} < ${spec.inputSpatial[axis]}u`] : []));
    const index = `${address(pixels, [image, ...positions])} + ${channelVector}`;
    if (conditions.length === 0) visit(inside, index, tap);
    else inside.if(conditions.map((condition) => `(${condition})`).join(' & '), (then) => visit(then, index, tap));
  };
  const taps = windowTaps(spec.kernel);
  if (taps.length <= UNROLLED_TAPS) {
    for (const [i, tap] of taps.entries()) visitAt(block, tap.map((at, axis) => String(at * spec.dilation[axis]!)), `${i}u`);
    return;
  }
  const nest = (inside: Block, axis: number, offsets: readonly string[], tap: string): void => {
    if (axis === rank) return visitAt(inside, offsets, tap);
    inside.for(`t${axis}`, '0u', `${spec.kernel[axis]}u`, '1u', (loop) =>
      nest(loop, axis + 1, [...offsets, `i32(t${axis}) * ${spec.dilation[axis]}`], `(${tap}) * ${spec.kernel[axis]}u + t${axis}`),
    );
  };
  nest(block, 0, [], '0u');
}
