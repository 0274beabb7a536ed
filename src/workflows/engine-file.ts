/**
 * Engine files as input: read, and refused by the name of what differs before anything runs. Prior art: trtexec's --loadEngine,
 * which refuses too, but tells a version mismatch from a broken file by a log line only.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Availability } from '../backends/backend.ts';
import type { Engine } from '../engine/engine.ts';
import { deserializeEngine } from '../engine/file.ts';
import { differences } from '../engine/fingerprint.ts';
import { sha256Hex } from '../engine/sha256.ts';
import { TsrtError } from '../errors.ts';

export interface EngineFile {
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly engine: Engine;
}

/** Throws TsrtError MODEL_NOT_FOUND, ENGINE_INVALID or ENGINE_INCOMPATIBLE (of another format version), with the file's name. */
export async function readEngineFile(file: string): Promise<EngineFile> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    throw new TsrtError('MODEL_NOT_FOUND', missing ? 'there is no such engine file' : "the engine file can't be read", {
      place: file,
      fix: 'give a file that `tsrt-bench build` wrote',
      cause,
    });
  });
  const engine = await deserializeEngine(bytes).catch((error: unknown) => {
    if (!(error instanceof TsrtError)) throw error;
    const { code, message, fix, details } = error;
    throw new TsrtError(code, message, { place: file, details, cause: error, ...(fix !== undefined && { fix }) });
  });
  return { file, bytes, sha256: await sha256Hex(bytes), engine };
}

/**
 * What keeps an engine from running here: backend, tool version, device, which is the first that the probe lists. Throws TsrtError
 * BACKEND_UNAVAILABLE.
 */
export function whyNotHere({ file, engine: { header } }: EngineFile, availability: Availability): string[] {
  if (availability.status === 'unavailable') {
    throw new TsrtError('BACKEND_UNAVAILABLE', `the engine can't run here: ${availability.reason}`, { place: file, fix: availability.fix });
  }
  return differences(header, header.backend, availability.devices[0]?.properties);
}

/** All files that are refused, in one error. */
export function refusedEngines(refused: readonly { readonly file: string; readonly reasons: readonly string[] }[]): TsrtError {
  const files = refused.map(({ file }) => basename(file)).join(', ');
  return new TsrtError('ENGINE_INCOMPATIBLE', `${files} ${refused.length === 1 ? 'was' : 'were'} not built for this`, {
    details: refused.flatMap(({ file, reasons }) => reasons.map((reason) => (refused.length === 1 ? reason : `${basename(file)}: ${reason}`))),
    fix: 'add --rebuild to build it again from the model with the same options, or do so with tsrt-bench build',
    ...(refused.length === 1 && { place: refused[0]!.file }),
  });
}
