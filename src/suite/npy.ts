/**
 * Arrays as NumPy saves them: one in a .npy file, several by name in a .npz file (a zip of .npy files) or in a folder. What a .npy file
 * holds is read where it is asked for; a .npz file is in memory.
 *
 * The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
import { open, readdir, readFile, stat, type FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { reportError, TsrtError } from '../errors.ts';
import { tensorBytes, type DType, type Tensor, type TensorType } from '../ir/tensor.ts';

/** An array of a file: its type, and how its bytes are got at. */
export interface NamedArray extends TensorType {
  readonly name: string;
  /** For messages: the file, and the array's name where it holds several. */
  readonly place: string;
  /** Opens the bytes of its elements; `close` them. */
  open(): Promise<ArrayBytes>;
}

export interface ArrayBytes {
  /** Exactly so many bytes from there on. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** NumPy's names of the element types, little-endian as every machine that this runs on. */
const DTYPE_OF: Readonly<Record<string, DType>> = {
  '<f4': 'float32',
  '<f2': 'float16',
  '<f8': 'float64',
  '|b1': 'bool',
  '|i1': 'int8',
  '|u1': 'uint8',
  '<i2': 'int16',
  '<u2': 'uint16',
  '<i4': 'int32',
  '<u4': 'uint32',
  '<i8': 'int64',
  '<u8': 'uint64',
};

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59] as const;

/** No header of numbers is longer: it holds a type and a shape. */
const MAX_HEADER_BYTES = 65_536;

/** Whether the name is of a file of arrays. */
export function isArrayFile(path: string): boolean {
  return /\.np[yz]$/i.test(path);
}

/** Whether a folder holds .npy files. */
export async function holdsArrays(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch((): string[] => []);
  return names.some((name) => /\.npy$/i.test(name));
}

/** The arrays of a .npz file, a .npy file, or a folder of .npy files, by name. Throws DATASET_INVALID. */
export async function readArrays(path: string): Promise<readonly NamedArray[]> {
  const info = await stat(path).catch(() => undefined);
  if (!info) throw invalid('there is no such file of arrays', path, 'check the path: it is a .npz file, a .npy file, or a folder of these');
  if (info.isDirectory()) {
    const names = (await readdir(path)).filter((name) => /\.npy$/i.test(name)).sort();
    return Promise.all(names.map((name) => arrayOfFile(join(path, name))));
  }
  return /\.npz$/i.test(path) ? arraysOfArchive(path) : [await arrayOfFile(path)];
}

/** The whole array. */
export async function readWhole(array: NamedArray): Promise<Tensor> {
  const bytes = await array.open();
  try {
    return { dtype: array.dtype, dims: array.dims, data: await bytes.read(0, tensorBytes(array)) };
  } finally {
    await bytes.close();
  }
}

async function arrayOfFile(path: string): Promise<NamedArray> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const header = parseHeader(await readAt(file, 0, Math.min(size, MAX_HEADER_BYTES)), size, path);
    return { ...header.type, name: stem(path), place: path, open: () => openFile(path, header.length) };
  } finally {
    await file.close();
  }
}

async function openFile(path: string, start: number): Promise<ArrayBytes> {
  const file = await open(path);
  return { read: (offset, length) => readAt(file, start + offset, length), close: () => file.close() };
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) throw new Error('the file was truncated while it was being read');
    done += bytesRead;
  }
  return bytes;
}

async function arraysOfArchive(path: string): Promise<readonly NamedArray[]> {
  const { unzipSync } = await import('fflate');
  let entries: Readonly<Record<string, Uint8Array>>;
  try {
    entries = unzipSync(await readFile(path), { filter: ({ name }) => name.endsWith('.npy') });
  } catch (cause) {
    throw invalid(`the file is not a .npz archive: ${reportError(cause).message}`, path, 'write it with numpy.savez, or, if the arrays are too large together, save each as .npy in one folder', cause);
  }
  return Object.entries(entries).map(([entry, content]) => {
    const place = `${path}, ${entry}`;
    const { type, length } = parseHeader(content, content.length, place);
    const elements = content.subarray(length);
    const bytes: ArrayBytes = { read: async (offset, count) => elements.subarray(offset, offset + count), close: async () => {} };
    // An input's own name may have slashes in it, so that only the ending is taken off.
    return { ...type, name: entry.slice(0, -'.npy'.length), place, open: async () => bytes };
  });
}

function stem(path: string): string {
  return basename(path).replace(/\.npy$/i, '');
}

interface Header {
  readonly type: TensorType;
  /** Where the elements begin. */
  readonly length: number;
}

/** `start` holds at least the header; `size` is the whole file's. */
function parseHeader(start: Uint8Array, size: number, place: string): Header {
  const wide = start[6] !== 1;
  const prefix = wide ? 12 : 10;
  if (start.length < prefix || !MAGIC.every((byte, index) => start[index] === byte)) throw invalid('the file is not a .npy array', place, 'write it with numpy.save');
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const length = prefix + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const text = new TextDecoder().decode(start.subarray(prefix, length));
  const descr = /'descr':\s*'([^']*)'/.exec(text)?.[1];
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(text)?.[1];
  if (length > start.length || shape === undefined) throw invalid("the header of the array can't be read", place, 'write it with numpy.save');
  const dtype = descr === undefined ? undefined : DTYPE_OF[descr];
  if (dtype === undefined) {
    throw invalid(`its elements are ${descr === undefined ? 'records' : `'${descr}'`}, which no model reads`, place, "save numbers or bools in the machine's order, such as array.astype('float32')");
  }
  if (/'fortran_order':\s*True/.test(text)) throw invalid('its elements are in Fortran order', place, 'save numpy.ascontiguousarray(array)');
  const type = { dtype, dims: shape.split(',').filter((part) => part.trim() !== '').map(Number) };
  const wanted = length + tensorBytes(type);
  if (size !== wanted) throw invalid(`the array takes ${wanted} bytes by its header, but the file has ${size}`, place, 'write it again: it was cut off or changed');
  return { type, length };
}

function invalid(message: string, place: string, fix: string, cause?: unknown): TsrtError {
  return new TsrtError('DATASET_INVALID', message, { place, fix, cause });
}
