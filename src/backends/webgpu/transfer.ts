/**
 * Tensors between the host's types and the device's: 64-bit types in 32 bits, narrow integers and bool as words, float16, bfloat16 and floats of few bits as f32.
 */
import { type PlanBinding, type Storage, STORAGE_BYTES } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { isFewBits } from '../../ir/few-bits.ts';
import { beyond32Bits, type DType, elementCount, fromNumbers, retyped, type Tensor, toNumbers, typedView, wordsOf } from '../../ir/tensor.ts';

/** Types whose elements are on the device what they are on the host. */
const ALIKE: Readonly<Record<Storage, readonly DType[]>> = { f32: ['float32'], f16: ['float16'], i32: ['int32'], u32: ['uint32'], i8: ['int8', 'uint8'], u8: ['int8', 'uint8'] };

/** The tensor's elements as the device stores them; a view of its bytes where they are the same. Throws TsrtError USAGE. */
export function toDevice({ name, storage }: PlanBinding, tensor: Tensor): Uint8Array<ArrayBuffer> {
  if (ALIKE[storage].includes(tensor.dtype)) return wholeWords(tensor.data);
  checkRange(name, tensor);
  const numbers = numbersOf(tensor);
  switch (storage) {
    case 'f32':
      return bytesOf(new Float32Array(numbers));
    case 'i32':
      return bytesOf(new Int32Array(numbers));
    case 'u32':
      return bytesOf(new Uint32Array(numbers));
    case 'f16':
      return wholeWords(fromNumbers('float16', tensor.dims, numbers).data);
    case 'i8':
    case 'u8':
      return wholeWords(tensor.data);
    default:
      return storage satisfies never;
  }
}

/** Elements that 32 bits hold, as numbers; in an array of a type wherever they can be, which another one takes in at once. */
function numbersOf(tensor: Tensor): ArrayLike<number> {
  if (isFewBits(tensor.dtype)) return toNumbers(tensor);
  const view = typedView(tensor.dtype === 'float16' || tensor.dtype === 'bfloat16' ? retyped(tensor, 'float32') : tensor);
  return view instanceof BigInt64Array || view instanceof BigUint64Array ? lowWords(view) : view;
}

function lowWords(view: BigInt64Array | BigUint64Array): Int32Array {
  const words = wordsOf(view);
  const low = new Int32Array(view.length);
  for (let i = 0; i < low.length; i++) low[i] = words[2 * i]!;
  return low;
}

/** A tensor of the binding's type from the device's bytes of its elements ({@link storedBytes}), which become the tensor's where they are the same. */
export function fromDevice({ dtype, dims, storage }: PlanBinding, bytes: ArrayBuffer): Tensor {
  if (ALIKE[storage].includes(dtype)) return { dtype, dims, data: new Uint8Array(bytes) };
  switch (storage) {
    case 'f32':
      return fromNumbers(dtype, dims, new Float32Array(bytes));
    case 'i32':
      return fromNumbers(dtype, dims, new Int32Array(bytes));
    case 'u32':
      return fromNumbers(dtype, dims, new Uint32Array(bytes));
    case 'f16':
      return fromNumbers(dtype, dims, toNumbers({ dtype: 'float16', dims, data: new Uint8Array(bytes) }));
    case 'i8':
    case 'u8':
      return { dtype, dims, data: new Uint8Array(bytes) };
    default:
      return storage satisfies never;
  }
}

/** Bytes of a binding's elements on the device, without padding. */
export function storedBytes({ dims, storage }: PlanBinding): number {
  return elementCount(dims) * STORAGE_BYTES[storage];
}

/** The first `length` entries along an axis; all of them where the device claims more than there are. */
export function cutTo(tensor: Tensor, axis: number, length: number): Tensor {
  const { dtype, dims, data } = tensor;
  const kept = Math.max(0, Math.min(length, dims[axis]!));
  if (kept === dims[axis]) return tensor;
  const outer = dims.slice(0, axis).reduce((product, dim) => product * dim, 1);
  const row = data.byteLength / outer;
  const bytes = (row / dims[axis]!) * kept;
  const cut = new Uint8Array(outer * bytes);
  for (let i = 0; i < outer; i++) cut.set(data.subarray(i * row, i * row + bytes), i * bytes);
  return { dtype, dims: dims.with(axis, kept), data: cut };
}

function bytesOf(view: Float32Array | Int32Array | Uint32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer as ArrayBuffer);
}

/** Bytes as they are; the queue writes whole words. */
function wholeWords(data: Uint8Array): Uint8Array<ArrayBuffer> {
  if (data.byteLength % 4 === 0) return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  const padded = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  padded.set(data);
  return padded;
}

const RANGES: Readonly<Partial<Record<DType, string>>> = {
  int64: 'between -2147483648 and 2147483647',
  uint64: 'up to 4294967295',
  float64: 'that float32 holds',
};

function checkRange(name: string, tensor: Tensor): void {
  const beyond = beyond32Bits(tensor);
  if (beyond === undefined) return;
  throw new TsrtError('USAGE', `input ${name} holds ${beyond}, but the webgpu backend keeps ${tensor.dtype} in 32 bits`, {
    fix: `use values ${RANGES[tensor.dtype]}, or the onnxruntime backend`,
  });
}
