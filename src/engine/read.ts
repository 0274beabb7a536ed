/** Engine files on disk. Apart from `file.ts`, which browsers read too. */
import { readFile } from 'node:fs/promises';
import { TsrtError, withPlace } from '../errors.ts';
import type { Engine } from './engine.ts';
import { deserializeEngine } from './file.ts';

/** Throws TsrtError MODEL_NOT_FOUND, ENGINE_INVALID or ENGINE_INCOMPATIBLE (of another format version), with the file's name; what `signal` aborts with. */
export async function readEngine(file: string, signal?: AbortSignal): Promise<{ readonly bytes: Uint8Array; readonly engine: Engine }> {
  const bytes = await readFile(file, { signal }).catch((cause: unknown) => {
    signal?.throwIfAborted();
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    throw new TsrtError('MODEL_NOT_FOUND', missing ? 'there is no such engine file' : "the engine file can't be read", {
      place: file,
      fix: 'give a file that `tsrt-bench build` wrote',
      cause,
    });
  });
  const engine = await deserializeEngine(bytes).catch((error: unknown) => {
    throw withPlace(error, file);
  });
  return { bytes, engine };
}
