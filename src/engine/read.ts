/** Engine files on disk. Apart from `file.ts`, which browsers read too. */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { TsrtError, withPlace } from '../errors.ts';
import type { Engine, EngineHeader } from './engine.ts';
import { examineEngine, isEngineFile, readEngineFrom, readHeaderFrom } from './file.ts';
import type { ByteSource } from './source.ts';

/** A file with what its header says; its parts are not held. */
export interface ExaminedEngine {
  readonly header: EngineHeader;
  readonly parts: readonly { readonly name: string; readonly bytes: number }[];
  readonly bytes: number;
  /** Of the file. */
  readonly sha256: string;
}

/** Throws TsrtError MODEL_NOT_FOUND, ENGINE_INVALID or ENGINE_INCOMPATIBLE (of another format version), with the file's name; what `signal` aborts with. */
export async function readEngine(file: string, signal?: AbortSignal): Promise<Engine> {
  signal?.throwIfAborted();
  return readEngineFrom(await openSource(file, { signal })).catch(named(file));
}

/** What a file says of itself; whether its parts are whole is not looked at. Throws what {@link readEngine} throws. */
export async function readEngineHeader(file: string): Promise<EngineHeader> {
  return readHeaderFrom(await openSource(file, {})).catch(named(file));
}

/** Reads and checks a file to its end, a part at a time. Throws what {@link readEngine} throws. */
export async function examineEngineFile(file: string): Promise<ExaminedEngine> {
  const hash = createHash('sha256');
  const source = await openSource(file, { hash });
  const { header, parts } = await examineEngine(source).catch(named(file));
  return { header, parts, bytes: source.size, sha256: hash.digest('hex') };
}

/** Whether a file means to be an engine file, by its first bytes; one that can't be read is none. */
export async function isEngineAt(file: string): Promise<boolean> {
  const source = await openSource(file, {}).catch(() => undefined);
  if (!source) return false;
  return source.take(4).then(isEngineFile, () => false).finally(() => source.close());
}

function named(file: string) {
  return (error: unknown): never => {
    throw withPlace(error, file);
  };
}

interface Reading {
  readonly signal?: AbortSignal | undefined;
  /** Gets all that is read. */
  readonly hash?: Hash;
}

async function openSource(file: string, reading: Reading): Promise<ByteSource & { readonly size: number }> {
  const handle = await open(file).catch(unreadable(file));
  const stats = await handle.stat();
  return fileSource(handle, stats.size, reading, unreadable(file));
}

/** Node reads less than 2 GiB at a time; smaller pieces let a signal in. */
const READ_BYTES = 2 ** 28;

function fileSource(handle: FileHandle, size: number, { signal, hash }: Reading, failed: (cause: unknown) => never): ByteSource & { readonly size: number } {
  let at = 0;
  return {
    size,
    async take(length) {
      const bytes = new Uint8Array(Math.min(length, size - at));
      for (let have = 0; have < bytes.length; ) {
        signal?.throwIfAborted();
        const { bytesRead } = await handle.read(bytes, have, Math.min(READ_BYTES, bytes.length - have), at).catch(failed);
        if (bytesRead === 0) return bytes.subarray(0, have);
        hash?.update(bytes.subarray(have, have + bytesRead));
        have += bytesRead;
        at += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}

function unreadable(file: string) {
  return (cause: unknown): never => {
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    throw new TsrtError('MODEL_NOT_FOUND', missing ? 'there is no such engine file' : "the engine file can't be read", {
      place: file,
      fix: 'give a file that `tsrt-bench build` wrote',
      cause,
    });
  };
}
