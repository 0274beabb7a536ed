/** How the bytes of a picture become the numbers of a network's input: said by a suite, compiled into an engine. */
import type { DType, TensorType } from './tensor.ts';

/**
 * One image input: value = byte · scale + shift, per channel of the network. The picture travels as uint8 [N, H, W, C], rows first and
 * its channels in the network's order, whatever the layout in which the network wants it.
 */
export interface PixelInput {
  /** Name of the model's input. */
  readonly input: string;
  /** Order of the axes in the network. */
  readonly layout: 'NCHW' | 'NHWC';
  /** Element type of the network's input. */
  readonly dtype: DType;
  /** One entry per channel. */
  readonly scale: readonly number[];
  readonly shift: readonly number[];
}

/** Shape of the picture as bytes, for the shape that the network wants. */
export function byteDims({ layout }: Pick<PixelInput, 'layout'>, dims: readonly number[]): readonly number[] {
  const [n, ...rest] = dims as [number, number, number, number];
  return layout === 'NHWC' ? dims : [n, rest[1], rest[2], rest[0]];
}

/** The shape that the network wants, for that of the bytes. */
export function networkDims({ layout }: Pick<PixelInput, 'layout'>, bytes: readonly number[]): readonly number[] {
  const [n, ...rest] = bytes as [number, number, number, number];
  return layout === 'NHWC' ? bytes : [n, rest[2], rest[0], rest[1]];
}

/** Why an input can't be bound as a picture; undefined where it can. */
export function pixelProblem({ dtype, dims }: TensorType, { layout, scale }: Pick<PixelInput, 'layout' | 'scale'>): string | undefined {
  if (dtype !== 'float32' && dtype !== 'float16') return `it is ${dtype}, not floating-point`;
  const channels = dims[layout === 'NCHW' ? 1 : 3];
  if (dims.length !== 4 || channels !== scale.length) return `it is [${dims.join(',')}], not a picture of ${scale.length} channels in ${layout}`;
  return undefined;
}
