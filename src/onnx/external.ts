/**
 * External data: tensors whose bytes lie in files beside the model (onnx.proto3, TensorProto.external_data).
 *
 * Only the ranges that tensors name are read. A location may not leave the model's folder, neither by its text nor through
 * symbolic links: a model is data from anywhere, and its weights may end up in files that are passed on.
 */
import { closeSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { join, sep } from 'node:path';
import { TsrtError } from '../errors.ts';
import { invalid, quote } from './invalid.ts';

/** Where a tensor's bytes lie. `length` undefined: to the end of the file. */
export interface ExternalRange {
  readonly location: string;
  readonly offset: number;
  readonly length: number | undefined;
}

/** Reads ranges of files in one folder; equal ranges are read once. */
export interface ExternalReader {
  /** The bytes of a range. `expectedBytes` is what the tensor's type takes; anything else is an error. */
  read(range: ExternalRange, expectedBytes: number, place: string): Uint8Array;
}

/** What has been read of one file. */
interface DataFile {
  readonly path: string;
  readonly location: string;
  readonly sizeBytes: number;
  readBytes: number;
}

const CHUNK_BYTES = 1 << 30;

/** A reader for the folder of a model; undefined where the model came without one, and then every read is an error. */
export function externalReader(folder: string | undefined): ExternalReader {
  const files = new Map<string, DataFile>();
  const ranges = new Map<string, Uint8Array>();
  return {
    read(range, expectedBytes, place) {
      const key = `${range.offset}:${expectedBytes}:${range.location}`;
      const known = ranges.get(key);
      if (known) return known;
      const file = files.get(range.location) ?? findInside(folder, range.location, place);
      files.set(range.location, file);
      checkRange(file, range, expectedBytes, place);
      const bytes = readRange(file, range.offset, expectedBytes, place);
      ranges.set(key, bytes);
      return bytes;
    },
  };
}

function findInside(folder: string | undefined, location: string, place: string): DataFile {
  const isAbsolute = /^([a-z]:|[\\/])/i.test(location);
  const segments = location.split(/[\\/]/);
  if (location === '' || location.includes('\0')) throw invalid('external data has no usable location', place);
  if (isAbsolute || segments.includes('..')) {
    throw invalid(`external data ${quote(location)} lies outside the model's folder`, place, 'put the data file beside the model and name it by its file name');
  }
  if (folder === undefined) {
    throw invalid(`the weights lie in ${quote(location)}, and the model was given without its folder`, place, 'give the path of the model file rather than its bytes');
  }
  const path = resolveInside(folder, join(folder, ...segments), location, place);
  const stats = statSync(path);
  if (!stats.isFile()) throw invalid(`external data ${quote(location)} is not a regular file`, place);
  return { path, location, sizeBytes: stats.size, readBytes: 0 };
}

function resolveInside(folder: string, path: string, location: string, place: string): string {
  let root: string;
  let real: string;
  try {
    root = realpathSync(folder);
    real = realpathSync(path);
  } catch {
    throw invalid(`external data file ${quote(location)} is missing`, place, `put ${quote(location)} beside the model file`);
  }
  if (!real.startsWith(root.endsWith(sep) ? root : root + sep)) {
    throw invalid(`external data ${quote(location)} leads outside the model's folder through a symbolic link`, place, 'Copy the data file itself beside the model');
  }
  return real;
}

function checkRange(file: DataFile, range: ExternalRange, expectedBytes: number, place: string): void {
  const { location, offset } = range;
  const length = range.length ?? expectedBytes;
  if (length !== expectedBytes) throw invalid(`external data gives ${length} bytes for a tensor of ${expectedBytes}`, place);
  if (offset + length > file.sizeBytes) {
    throw invalid(
      `external data needs bytes ${offset} to ${offset + length} of ${quote(location)}, which has ${file.sizeBytes}`,
      place,
      'The data file is cut short or belongs to another model: copy it again together with the model',
    );
  }
  // Overlapping ranges could make a small file fill the memory many times over.
  if (file.readBytes + length > file.sizeBytes) throw invalid(`tensors overlap in the external data file ${quote(location)}`, place);
  file.readBytes += length;
}

function readRange(file: DataFile, offset: number, length: number, place: string): Uint8Array {
  const bytes = allocate(length, place);
  const descriptor = open(file, place);
  try {
    for (let done = 0; done < length; ) {
      const count = readSync(descriptor, bytes, done, Math.min(CHUNK_BYTES, length - done), offset + done);
      if (count === 0) throw invalid(`external data file ${quote(file.location)} was truncated while it was being read`, place);
      done += count;
    }
  } finally {
    closeSync(descriptor);
  }
  return bytes;
}

function open(file: DataFile, place: string): number {
  try {
    return openSync(file.path, 'r');
  } catch {
    throw invalid(`external data file ${quote(file.location)} can't be opened`, place, 'give yourself the right to read it');
  }
}

function allocate(length: number, place: string): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new TsrtError('OUT_OF_MEMORY', `there is no memory for the ${length} bytes of a tensor`, { place, fix: 'use a smaller model or a machine with more memory', cause });
  }
}
