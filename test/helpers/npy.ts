/** Files as NumPy writes them. */
import { zipSync } from 'fflate';
import { tensorBytes, type DType, type Tensor } from '../../src/ir/tensor.ts';

const DESCR: Partial<Record<DType, string>> = { float32: '<f4', float64: '<f8', float16: '<f2', int64: '<i8', int32: '<i4', uint8: '|u1', bool: '|b1' };

interface NpyOptions {
  readonly descr?: string;
  readonly fortranOrder?: boolean;
  readonly version?: 1 | 2;
}

/** What `numpy.save` writes. */
export function npyBytes(tensor: Tensor, { descr = DESCR[tensor.dtype], fortranOrder = false, version = 1 }: NpyOptions = {}): Uint8Array {
  const shape = tensor.dims.length === 1 ? `${tensor.dims[0]},` : tensor.dims.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': ${fortranOrder ? 'True' : 'False'}, 'shape': (${shape}), }`;
  const prefix = version === 1 ? 10 : 12;
  const length = Math.ceil((prefix + text.length + 1) / 64) * 64 - prefix;
  const bytes = new Uint8Array(prefix + length + tensorBytes(tensor));
  bytes.set([0x93, ...new TextEncoder().encode('NUMPY'), version, 0]);
  const view = new DataView(bytes.buffer);
  if (version === 1) view.setUint16(8, length, true);
  else view.setUint32(8, length, true);
  bytes.set(new TextEncoder().encode(`${text.padEnd(length - 1)}\n`), prefix);
  bytes.set(tensor.data, prefix + length);
  return bytes;
}

/** What `numpy.savez` writes, or `numpy.savez_compressed`. */
export function npzBytes(arrays: Readonly<Record<string, Tensor>>, compressed = false): Uint8Array {
  return zipSync(Object.fromEntries(Object.entries(arrays).map(([name, tensor]) => [`${name}.npy`, npyBytes(tensor)])), { level: compressed ? 6 : 0 });
}
