/**
 * The engine file: how an engine is written to bytes and read back.
 *
 *     0   magic, 8 bytes                 0x89 T S E CR LF ^Z LF, as PNG's: shows what a text-mode copy broke
 *     8   format version, uint32
 *     12  length of the header, uint32
 *     16  SHA-256 of the header, 32 bytes
 *     48  header: canonical JSON { engine, parts: [{ name, offset, length, sha256 }] }
 *         parts in table order, each at the next multiple of 256 bytes, the gaps zero; the file ends with the last part
 *
 * Numbers are little-endian. Every byte of a file is determined by the engine and covered by a check: the same engine gives
 * the same bytes, and a flipped bit anywhere is found. 256 bytes is WebGPU's largest default buffer-offset alignment
 * (minStorageBufferOffsetAlignment), so that parts can be bound as they lie.
 */
import { TsrtError } from '../errors.ts';
import { unshared } from '../ir/tensor.ts';
import { canonicalJson, parseBoundedJson } from './canonical.ts';
import type { Engine } from './engine.ts';
import { HeaderError, readHeader } from './header.ts';
import { sha256, sha256Hex, toHex } from './sha256.ts';

export const ENGINE_FORMAT_VERSION = 1;
export const PART_ALIGNMENT = 256;

const MAGIC = Uint8Array.of(0x89, 0x54, 0x53, 0x45, 0x0d, 0x0a, 0x1a, 0x0a);
const PRELUDE_BYTES = 48;
const MAX_HEADER_BYTES = 64 * 2 ** 20;
const MAX_PARTS = 65_536;
const MAX_NAME_LENGTH = 1024;

const REBUILD = 'Build the engine again: tsrt-bench build.';

interface PartEntry {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly sha256: string;
}

/** Whether bytes mean to be an engine file: only the name in the magic counts, so that a mangled file is read and refused as one. */
export function isEngineFile(bytes: Uint8Array): boolean {
  return MAGIC.subarray(0, 4).every((byte, index) => bytes[index] === byte);
}

/** What Node reads of a file in one piece, and WebCrypto hashes. */
const MAX_ENGINE_BYTES = 2 ** 31 - 1;

/**
 * The bytes of an engine file. Deterministic: equal engines, with parts in equal order, give equal bytes. Throws TsrtError MODEL_UNSUPPORTED for an engine
 * of 2 GiB and more.
 */
export async function serializeEngine(engine: Engine): Promise<Uint8Array> {
  const bytes = [...engine.parts.values()].reduce((sum, part) => sum + part.length + PART_ALIGNMENT, PRELUDE_BYTES + MAX_HEADER_BYTES);
  if (bytes > MAX_ENGINE_BYTES) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the engine would take ${(bytes / 2 ** 30).toFixed(1)} GiB, and an engine file holds less than 2`, {
      fix: 'build it in fp16, which takes half of fp32, or in int8, which takes a quarter',
    });
  }
  const hashes = await Promise.all([...engine.parts.values()].map(sha256Hex));
  const names = [...engine.parts.keys()];
  const lengths = [...engine.parts.values()].map((part) => part.length);
  const header = settleHeader(engine, names, lengths, hashes);
  const end = header.entries.at(-1);
  const file = new Uint8Array(end ? end.offset + end.length : PRELUDE_BYTES + header.bytes.length);
  const view = new DataView(file.buffer);
  file.set(MAGIC, 0);
  view.setUint32(8, ENGINE_FORMAT_VERSION, true);
  view.setUint32(12, header.bytes.length, true);
  file.set(await sha256(header.bytes), 16);
  file.set(header.bytes, PRELUDE_BYTES);
  for (const entry of header.entries) file.set(engine.parts.get(entry.name)!, entry.offset);
  return file;
}

/**
 * Reads an engine file from an untrusted source: bytes, or the buffer that a page's `response.arrayBuffer()` gives. Parts of the result are views of it,
 * or of a copy where it is in shared memory.
 * Throws TsrtError ENGINE_INVALID for anything but an intact file, ENGINE_INCOMPATIBLE for another format version.
 */
export async function deserializeEngine(file: Uint8Array | ArrayBuffer): Promise<Engine> {
  const bytes = unshared(ArrayBuffer.isView(file) ? file : new Uint8Array(file));
  const headerBytes = await readPrelude(bytes);
  const { header, entries } = readEnvelope(headerBytes);
  checkLayout(bytes, PRELUDE_BYTES + headerBytes.length, entries);
  const parts = entries.map((entry) => [entry.name, bytes.subarray(entry.offset, entry.offset + entry.length)] as const);
  const hashes = await Promise.all(parts.map(([, part]) => sha256Hex(part)));
  entries.forEach((entry, index) => {
    if (hashes[index] !== entry.sha256) throw invalid(`part '${entry.name}' does not match its SHA-256`);
  });
  return { header, parts: new Map(parts) };
}

/** Offsets stand in the header and depend on its length; they are repeated until they agree, which two or three turns do. */
function settleHeader(engine: Engine, names: readonly string[], lengths: readonly number[], hashes: readonly string[]) {
  let headerLength = 0;
  for (;;) {
    const offsets = partOffsets(PRELUDE_BYTES + headerLength, lengths);
    const entries = names.map(
      (name, i): PartEntry => ({ name, offset: offsets[i]!, length: lengths[i]!, sha256: hashes[i]! }),
    );
    const bytes = new TextEncoder().encode(canonicalJson({ engine: engine.header, parts: entries }));
    if (bytes.length > MAX_HEADER_BYTES) throw new Error(`engine header takes ${bytes.length} bytes; put bulk data in a part`);
    // A longer header never moves a part to a lower offset, so lengths only grow and the loop ends.
    if (bytes.length <= headerLength) return { bytes: padWithSpaces(bytes, headerLength), entries };
    headerLength = bytes.length;
  }
}

/** JSON may end in spaces; used in the rare case that a shorter header would have shorter offsets. */
function padWithSpaces(bytes: Uint8Array, length: number): Uint8Array {
  const padded = new Uint8Array(length).fill(0x20);
  padded.set(bytes);
  return padded;
}

function partOffsets(start: number, lengths: readonly number[]): number[] {
  let end = start;
  return lengths.map((length) => {
    const offset = Math.ceil(end / PART_ALIGNMENT) * PART_ALIGNMENT;
    end = offset + length;
    return offset;
  });
}

async function readPrelude(bytes: Uint8Array): Promise<Uint8Array> {
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) throw invalid('it does not start as an engine file does');
  if (bytes.length < PRELUDE_BYTES) throw invalid(`it is cut off after ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== ENGINE_FORMAT_VERSION) {
    throw new TsrtError(
      'ENGINE_INCOMPATIBLE',
      `the engine file has format version ${version}; this tool reads version ${ENGINE_FORMAT_VERSION}`,
      { fix: REBUILD, details: [`format version: file ${version}, tool ${ENGINE_FORMAT_VERSION}`] },
    );
  }
  const length = view.getUint32(12, true);
  if (length > MAX_HEADER_BYTES) throw invalid(`its header claims ${length} bytes, more than ${MAX_HEADER_BYTES}`);
  if (PRELUDE_BYTES + length > bytes.length) throw invalid(`it is cut off inside its header`);
  const header = bytes.subarray(PRELUDE_BYTES, PRELUDE_BYTES + length);
  if ((await sha256Hex(header)) !== toHex(bytes.subarray(16, 48))) throw invalid('its header does not match its SHA-256');
  return header;
}

function readEnvelope(bytes: Uint8Array) {
  try {
    const envelope = parseBoundedJson(bytes);
    if (typeof envelope !== 'object' || envelope === null) throw new HeaderError('header: expected an object');
    const { engine, parts } = envelope as Readonly<Record<string, unknown>>;
    if (Object.keys(envelope).length !== 2) throw new HeaderError('header: expected engine and parts, nothing else');
    return { header: readHeader(engine), entries: readParts(parts) };
  } catch (error) {
    throw invalid(`its header is wrong: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

function readParts(value: unknown): PartEntry[] {
  if (!Array.isArray(value)) throw new HeaderError('parts: expected a list');
  if (value.length > MAX_PARTS) throw new HeaderError(`parts: ${value.length} of them, more than ${MAX_PARTS}`);
  const names = new Set<string>();
  return value.map((item: unknown, index) => {
    const entry = (typeof item === 'object' && item !== null ? item : {}) as Readonly<Record<string, unknown>>;
    const { name, offset, length, sha256: hash } = entry;
    if (typeof name !== 'string' || name.length > MAX_NAME_LENGTH) throw new HeaderError(`parts[${index}].name: expected text`);
    if (names.has(name)) throw new HeaderError(`parts[${index}].name: '${name}' is there twice`);
    names.add(name);
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || (length as number) < 0) {
      throw new HeaderError(`parts[${index}]: expected offset and length as whole numbers`);
    }
    if (typeof hash !== 'string') throw new HeaderError(`parts[${index}].sha256: expected text`);
    if (Object.keys(entry).length !== 4) throw new HeaderError(`parts[${index}]: expected name, offset, length, sha256`);
    return { name, offset: offset as number, length: length as number, sha256: hash };
  });
}

/** Parts must lie exactly where the writer puts them: no overlap, no gap that hides data, nothing after the last. */
function checkLayout(bytes: Uint8Array, headerEnd: number, entries: readonly PartEntry[]): void {
  const offsets = partOffsets(headerEnd, entries.map((entry) => entry.length));
  let end = headerEnd;
  entries.forEach((entry, index) => {
    if (entry.offset !== offsets[index]) throw invalid(`part '${entry.name}' is not where its table says`);
    if (entry.offset + entry.length > bytes.length) throw invalid(`it is cut off inside part '${entry.name}'`);
    for (let i = end; i < entry.offset; i++) if (bytes[i] !== 0) throw invalid(`byte ${i}, between parts, is not zero`);
    end = entry.offset + entry.length;
  });
  if (bytes.length !== end) throw invalid(`it goes on for ${bytes.length - end} bytes after its last part`);
}

function invalid(what: string, cause?: unknown): TsrtError {
  return new TsrtError('ENGINE_INVALID', `this is no intact engine file: ${what}`, { fix: REBUILD, cause });
}
