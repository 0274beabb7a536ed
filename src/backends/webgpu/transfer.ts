/**
 * Tensors between the host's types and the device's: 64-bit types in 32 bits, narrow integers and bool as words, float16, bfloat16 and floats of few bits as f32.
 */
import type { PlanBinding } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { beyond32Bits, type DType, fromNumbers, type Tensor, toNumbers, typedView } from '../../ir/tensor.ts';

/** The tensor's elements as the device stores them; a view of its bytes where they are the same. Throws TsrtError USAGE. */
export function toDevice(binding: PlanBinding, tensor: Tensor): Uint8Array<ArrayBuffer> {
  const view = typedView(tensor);
  if (view instanceof Float32Array || view instanceof Int32Array || view instanceof Uint32Array) return bytesOf(view);
  checkRange(binding.name, tensor);
  const numbers = toNumbers(tensor);
  switch (binding.storage) {
    case 'f32':
      return bytesOf(Float32Array.from(numbers));
    case 'i32':
      return bytesOf(Int32Array.from(numbers));
    case 'u32':
      return bytesOf(Uint32Array.from(numbers));
    case 'f16':
      return bytesOf(typedView(fromNumbers('float16', tensor.dims, numbers)) as Uint16Array);
    case 'i8':
    case 'u8':
      return wholeWords(tensor.data);
    default:
      return binding.storage satisfies never;
  }
}

/** A tensor of the binding's type from the device's bytes, which may be padded at the end. */
export function fromDevice(binding: PlanBinding, bytes: ArrayBuffer): Tensor {
  const { dtype, dims } = binding;
  const count = dims.reduce((product, dim) => product * dim, 1);
  switch (binding.storage) {
    case 'f32':
      if (dtype === 'float32') return { dtype, dims, data: new Uint8Array(bytes.slice(0, count * 4)) };
      return fromNumbers(dtype, dims, new Float32Array(bytes, 0, count));
    case 'i32':
      return fromNumbers(dtype, dims, new Int32Array(bytes, 0, count));
    case 'u32':
      return fromNumbers(dtype, dims, new Uint32Array(bytes, 0, count));
    case 'f16':
      return { dtype: 'float16', dims, data: new Uint8Array(bytes.slice(0, count * 2)) };
    case 'i8':
    case 'u8':
      return { dtype, dims, data: new Uint8Array(bytes.slice(0, count)) };
    default:
      return binding.storage satisfies never;
  }
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

function bytesOf(view: Float32Array | Int32Array | Uint32Array | Uint16Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);
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
