/**
 * Tensors as the device holds them.
 *
 * Elements: floating types as f32; int64 as i32 and uint64 as u32 (values beyond 32 bits, of float64 too, are refused where they are known, at
 * build for constants and at upload for inputs); narrower signed integers as i32, unsigned ones and bool as u32, one element a word. Types of few bits are their
 * numbers, too: the host packs and unpacks them, and a cast rounds to what the type has.
 *
 * Layouts: `linear` is row-major. `channels-last` stores [N, C, spatial…] as [N, spatial…, C] with C padded so that every
 * access is one 16-byte vector; padding lanes hold zero, so that sums over them are harmless.
 *
 * Narrow storages, where a lowering asks for them: floating types as f16 (the precision of the build decides), 8-bit integers as bytes.
 * uint8 lies 128 lower in them, so that products of bytes are of signed ones.
 */
import { STORAGE_BYTES, type Storage, paddedBytes } from '../../../engine/plan.ts';
import { type DType, type Dims, elementCount } from '../../../ir/tensor.ts';
import { registerType } from '../wgsl/access.ts';

export type Layout = 'linear' | 'channels-last';

export interface DeviceTensor {
  /** Index in the program's tensors. */
  readonly id: number;
  readonly dtype: DType;
  /** Logical shape. */
  readonly dims: Dims;
  readonly storage: Storage;
  readonly layout: Layout;
  /** Its contents are known at build. */
  readonly constant?: boolean;
  /** Set where the tensor is a part of a larger one (lower/windows.ts), whose `id` it then has. */
  readonly window?: Window;
}

/** Where the elements of a part lie in the memory of the whole. Kernels bind the whole and have the offset in their code. */
export interface Window extends View {
  /** Bytes of the whole. */
  readonly boundBytes: number;
}

/** Where the elements of a logical tensor lie: element (i0, i1, …) at `offset + Σ i_k · strides[k]`, counted in elements. */
export interface View {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** How elements of a type are stored: as registers hold them, a bool as a word. */
export function storageOf(dtype: DType): 'f32' | 'i32' | 'u32' {
  const register = registerType(dtype);
  return register === 'bool' ? 'u32' : register;
}

/** The narrow storage of a type, where the innermost stored extent is whole 16-byte vectors of it. */
export function narrowStorage(dtype: DType, dims: Dims, layout: Layout): Storage | undefined {
  const storage = dtype === 'float32' || dtype === 'float16' ? 'f16' : dtype === 'int8' || dtype === 'uint8' ? 'i8' : undefined;
  if (!storage) return undefined;
  const whole = layout === 'channels-last' ? dims.length > 2 : (dims.at(-1) ?? 1) % channelAlignment(storage) === 0;
  return whole ? storage : undefined;
}

/** Channels are padded to a multiple of this, the elements of a 16-byte vector. */
export function channelAlignment(storage: Storage): number {
  return 16 / STORAGE_BYTES[storage];
}

/** Channels as stored. */
export function paddedChannels(dims: Dims, storage: Storage): number {
  const alignment = channelAlignment(storage);
  return Math.ceil(dims[1]! / alignment) * alignment;
}

export function rowMajorStrides(dims: Dims): number[] {
  const strides = dims.map(() => 1);
  for (let axis = dims.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * dims[axis + 1]!;
  return strides;
}

type Shaped = Pick<DeviceTensor, 'dims' | 'layout' | 'storage' | 'window'>;

/** Where the elements of a tensor or a window lie. */
export function viewOf(tensor: Shaped): View {
  return tensor.window ?? { offset: 0, strides: stridesOf(tensor) };
}

/** Strides of the logical axes of a tensor with memory of its own; throws for a window, which has an offset too. */
export function stridesOf(tensor: Shaped): number[] {
  const { dims, layout, storage } = tensor;
  if (tensor.window) throw new Error('a window is addressed through viewOf');
  if (layout === 'linear') return rowMajorStrides(dims);
  const strides = dims.map(() => 1);
  let stride = paddedChannels(dims, storage);
  for (let axis = dims.length - 1; axis >= 2; axis--) {
    strides[axis] = stride;
    stride *= dims[axis]!;
  }
  strides[0] = stride;
  return strides;
}

/** Elements with padding channels, without the padding at the end; of a window, those that it would have by itself. */
export function storedElements(tensor: Pick<DeviceTensor, 'dims' | 'layout' | 'storage'>): number {
  const { dims, layout, storage } = tensor;
  if (layout === 'linear') return elementCount(dims);
  return (elementCount(dims) / Math.max(1, dims[1]!)) * paddedChannels(dims, storage);
}

/** Bytes of the tensor's binding: whole vec4s. A window is bound with all that it lies in. */
export function storedBytes(tensor: Shaped): number {
  return tensor.window?.boundBytes ?? paddedBytes(storedElements(tensor) * STORAGE_BYTES[tensor.storage]);
}

/** Whether the two layouts give the same bytes for this shape: no padding, and no two axes to swap. */
export function layoutsAgree(dims: Dims, storage: Storage): boolean {
  if (dims.length < 3) return true;
  return dims[1] === paddedChannels(dims, storage) && elementCount(dims.slice(2)) === 1;
}

/** The view of a tensor broadcast to `dims` by ONNX's (NumPy's) rule: missing and unit axes have stride 0. */
export function broadcastView(tensor: DeviceTensor, dims: Dims): View {
  const { offset, strides: own } = viewOf(tensor);
  const missing = dims.length - tensor.dims.length;
  return {
    offset,
    strides: dims.map((extent, axis) => {
      const ownAxis = axis - missing;
      return ownAxis < 0 || (tensor.dims[ownAxis] === 1 && extent !== 1) ? 0 : own[ownAxis]!;
    }),
  };
}
