/**
 * Tensors as the device holds them.
 *
 * Elements: floating types as f32; int64 as i32 (values beyond 32 bits are refused where they are known, at build for
 * constants and at upload for inputs); narrower signed integers as i32, unsigned ones and bool as u32, one element a word.
 *
 * Layouts: `linear` is row-major. `channels-last` stores [N, C, spatial…] as [N, spatial…, C] with C padded so that every
 * access is one 16-byte vector; padding lanes hold zero, so that sums over them are harmless.
 */
import { STORAGE_BYTES, type Storage, paddedBytes } from '../../../engine/plan.ts';
import { type DType, type Dims, elementCount } from '../../../ir/tensor.ts';

export type Layout = 'linear' | 'channels-last';

export interface DeviceTensor {
  /** Index in the program's tensors. */
  readonly id: number;
  readonly dtype: DType;
  /** Logical shape. */
  readonly dims: Dims;
  readonly storage: Storage;
  readonly layout: Layout;
}

/** Where the elements of a logical tensor lie: element (i0, i1, …) at `offset + Σ i_k · strides[k]`, counted in elements. */
export interface View {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** How elements of a type are stored; undefined for those that the device has no number for. */
export function storageOf(dtype: DType): Storage | undefined {
  switch (dtype) {
    case 'float32':
    case 'float16':
      return 'f32';
    case 'int64':
    case 'int32':
    case 'int16':
    case 'int8':
      return 'i32';
    case 'uint32':
    case 'uint16':
    case 'uint8':
    case 'bool':
      return 'u32';
    case 'float64':
    case 'bfloat16':
    case 'uint64':
      return undefined;
    default:
      return dtype satisfies never;
  }
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

/** Strides of the logical axes. */
export function stridesOf(tensor: Pick<DeviceTensor, 'dims' | 'layout' | 'storage'>): number[] {
  const { dims, layout, storage } = tensor;
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

/** Elements with padding channels, without the padding at the end. */
export function storedElements(tensor: Pick<DeviceTensor, 'dims' | 'layout' | 'storage'>): number {
  const { dims, layout, storage } = tensor;
  if (layout === 'linear') return elementCount(dims);
  return (elementCount(dims) / Math.max(1, dims[1]!)) * paddedChannels(dims, storage);
}

/** Bytes of the tensor's binding: whole vec4s. */
export function storedBytes(tensor: Pick<DeviceTensor, 'dims' | 'layout' | 'storage'>): number {
  return paddedBytes(storedElements(tensor) * STORAGE_BYTES[tensor.storage]);
}

/** Whether the two layouts give the same bytes for this shape: no padding, and no two axes to swap. */
export function layoutsAgree(dims: Dims, storage: Storage): boolean {
  if (dims.length < 3) return true;
  return dims[1] === paddedChannels(dims, storage) && elementCount(dims.slice(2)) === 1;
}

/** The view of a tensor broadcast to `dims` by ONNX's (NumPy's) rule: missing and unit axes have stride 0. */
export function broadcastView(tensor: DeviceTensor, dims: Dims): View {
  const own = stridesOf(tensor);
  const missing = dims.length - tensor.dims.length;
  return {
    offset: 0,
    strides: dims.map((extent, axis) => {
      const ownAxis = axis - missing;
      return ownAxis < 0 || (tensor.dims[ownAxis] === 1 && extent !== 1) ? 0 : own[ownAxis]!;
    }),
  };
}
