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
 *
 * A file may have any size; a part has less than 2 GiB, which is what Node reads and WebCrypto hashes in one piece. Files are written and read from first
 * to last, part by part, so that nobody needs the whole of one in memory.
 */
import { TsrtError } from '../errors.ts';
import { canonicalJson, parseBoundedJson } from './canonical.ts';
import type { Engine, EngineHeader } from './engine.ts';
import { HeaderError, readHeader } from './header.ts';
import { sha256, sha256Hex, toHex } from './sha256.ts';
import { type ByteSource, bytesSource, streamSource } from './source.ts';

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
export const MAX_PART_BYTES = 2 ** 31 - 1;

/**
 * The bytes of an engine file, in pieces: parts are given as they are, without a copy. Deterministic: equal engines, with parts in equal order, give equal
 * bytes. Throws TsrtError MODEL_UNSUPPORTED, before the first piece, for a part of 2 GiB and more.
 */
export async function* engineBytes(engine: Engine): AsyncGenerator<Uint8Array> {
  for (const [name, { length }] of engine.parts) if (length > MAX_PART_BYTES) throw tooLarge(name, length);
  const hashes: string[] = [];
  // One after the other: WebCrypto copies what it hashes.
  for (const part of engine.parts.values()) hashes.push(await sha256Hex(part));
  const names = [...engine.parts.keys()];
  const lengths = [...engine.parts.values()].map((part) => part.length);
  const header = settleHeader(engine, names, lengths, hashes);
  yield await preludeOf(header.bytes);
  let end = PRELUDE_BYTES + header.bytes.length;
  for (const { name, offset, length } of header.entries) {
    yield new Uint8Array(offset - end);
    yield engine.parts.get(name)!;
    end = offset + length;
  }
}

/** {@link engineBytes} in one array, for engines that are known to be small. */
export async function serializeEngine(engine: Engine): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of engineBytes(engine)) pieces.push(piece);
  const file = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    file.set(piece, at);
    at += piece.length;
  }
  return file;
}

/** Magic, version, length and hash of the header, and the header. */
async function preludeOf(header: Uint8Array): Promise<Uint8Array> {
  const bytes = new Uint8Array(PRELUDE_BYTES + header.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC, 0);
  view.setUint32(8, ENGINE_FORMAT_VERSION, true);
  view.setUint32(12, header.length, true);
  bytes.set(await sha256(header), 16);
  bytes.set(header, PRELUDE_BYTES);
  return bytes;
}

function tooLarge(part: string, bytes: number): TsrtError {
  return new TsrtError('MODEL_UNSUPPORTED', `the engine's part '${part}' takes ${(bytes / 2 ** 30).toFixed(1)} GiB; a part holds whole tensors, and an engine file takes parts of less than 2 GiB`, {
    fix: 'build it in fp16, which takes half of fp32, or in int8, which takes a quarter; or export the model with its largest tensor split',
  });
}

/**
 * Reads an engine file from an untrusted source: bytes, the buffer that a page's `response.arrayBuffer()` gives, a file that a user chose, or a stream such
 * as `response.body`. Of bytes and buffers the parts of the result are views, or views of a copy where they are in shared memory; a stream
 * or a file is read part by part, and a part is all that is held twice.
 * Throws TsrtError ENGINE_INVALID for anything but an intact file, ENGINE_INCOMPATIBLE for another format version.
 */
export async function deserializeEngine(file: Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array>): Promise<Engine> {
  if ('getReader' in file) return readEngineFrom(streamSource(file));
  if ('stream' in file) return readEngineFrom(streamSource(file.stream(), file.size));
  return readEngineFrom(bytesSource(ArrayBuffer.isView(file) ? file : new Uint8Array(file)));
}

/** As {@link deserializeEngine}; closes the source. */
export async function readEngineFrom(source: ByteSource): Promise<Engine> {
  const parts = new Map<string, Uint8Array>();
  const { header } = await examineEngine(source, (name, part) => parts.set(name, part));
  return { header, parts };
}

/**
 * The header of an engine file and the sizes of its parts in bytes, all of it checked as {@link deserializeEngine} does; `take` is given every part in turn, and
 * nothing else holds it. Closes the source.
 */
export async function examineEngine(
  source: ByteSource,
  take: (name: string, part: Uint8Array) => void = () => undefined,
): Promise<{ readonly header: EngineHeader; readonly parts: readonly { readonly name: string; readonly bytes: number }[] }> {
  try {
    const headerBytes = await readPrelude(source);
    const { header, entries } = readEnvelope(headerBytes);
    await readAll(source, PRELUDE_BYTES + headerBytes.length, entries, take);
    return { header, parts: entries.map(({ name, length }) => ({ name, bytes: length })) };
  } finally {
    await source.close();
  }
}

/** The header of an engine file, checked by its SHA-256; the parts are not read. Closes the source. Throws what {@link deserializeEngine} throws of a header. */
export async function readHeaderFrom(source: ByteSource): Promise<EngineHeader> {
  try {
    return readEnvelope(await readPrelude(source)).header;
  } finally {
    await source.close();
  }
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

async function readPrelude(source: ByteSource): Promise<Uint8Array> {
  const bytes = await source.take(PRELUDE_BYTES);
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) throw invalid('it does not start with the signature of one');
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
  const header = await source.take(length);
  if (header.length < length) throw invalid(`it is cut off inside its header`);
  if ((await sha256Hex(header)) !== toHex(bytes.subarray(16, 48))) throw invalid('its header does not match its SHA-256');
  return header;
}

function readEnvelope(bytes: Uint8Array) {
  try {
    const envelope = parseBoundedJson(bytes);
    if (typeof envelope !== 'object' || envelope === null) throw new HeaderError('header: expected an object');
    const { engine, parts } = envelope as Readonly<Record<string, unknown>>;
    if (Object.keys(envelope).length !== 2) throw new HeaderError('header: expected engine and parts, and nothing else');
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
    if (names.has(name)) throw new HeaderError(`parts[${index}].name: '${name}' appears twice`);
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
async function readAll(source: ByteSource, headerEnd: number, entries: readonly PartEntry[], take: (name: string, part: Uint8Array) => void): Promise<void> {
  checkTable(source, headerEnd, entries);
  let end = headerEnd;
  for (const { name, offset, length, sha256: hash } of entries) {
    const gap = await source.take(offset - end);
    const hidden = gap.findIndex((byte) => byte !== 0);
    if (hidden >= 0) throw invalid(`byte ${end + hidden}, between parts, is not zero`);
    const part = await source.take(length);
    if (gap.length < offset - end || part.length < length) throw invalid(`it is cut off inside part '${name}'`);
    if ((await sha256Hex(part)) !== hash) throw invalid(`part '${name}' does not match its SHA-256`);
    take(name, part);
    end = offset + length;
  }
  if ((await source.take(1)).length > 0) throw invalid('it continues after its last part');
}

/** Before memory is taken for parts: what no file could have, and what this one is too short for. */
function checkTable({ size = Infinity }: ByteSource, headerEnd: number, entries: readonly PartEntry[]): void {
  const offsets = partOffsets(headerEnd, entries.map((entry) => entry.length));
  for (const [index, { name, offset, length }] of entries.entries()) {
    if (offset !== offsets[index]) throw invalid(`part '${name}' is not where its table says`);
    if (length > MAX_PART_BYTES) throw invalid(`part '${name}' claims ${length} bytes, more than ${MAX_PART_BYTES}`);
    if (offset + length > size) throw invalid(`it is cut off inside part '${name}'`);
  }
}

function invalid(what: string, cause?: unknown): TsrtError {
  return new TsrtError('ENGINE_INVALID', `this is not a valid engine file: ${what}`, { fix: REBUILD, cause });
}
