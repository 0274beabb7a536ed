/**
 * Engine files as input: read, and refused by the name of what differs before anything runs. Prior art: trtexec's --loadEngine,
 * which refuses too, but tells a version mismatch from a broken file by a log line only.
 */
import { basename } from 'node:path';
import type { Availability } from '../backends/backend.ts';
import { differences } from '../engine/fingerprint.ts';
import { type ExaminedEngine, examineEngineFile } from '../engine/read.ts';
import { TsrtError } from '../errors.ts';
import type { PluginStamp } from '../ir/custom.ts';
import { missingPlugins } from '../plugin-guard.ts';

/** What is known of a file; the engine itself is read where it is loaded. */
export interface EngineFile extends ExaminedEngine {
  readonly file: string;
}

/** Throws TsrtError MODEL_NOT_FOUND, ENGINE_INVALID or ENGINE_INCOMPATIBLE (of another format version), with the file's name. */
export async function readEngineFile(file: string): Promise<EngineFile> {
  return { file, ...(await examineEngineFile(file)) };
}

/**
 * Engines whose plugins nobody named can be neither loaded nor built again: refused at once, and before a backend is looked for, which
 * may be a plugin's. Throws TsrtError ENGINE_INCOMPATIBLE.
 */
export function requireLoaded(files: readonly EngineFile[], loaded: readonly PluginStamp[]): void {
  const needs = files.map(({ file, header }) => ({ file, names: (header.plugins ?? []).map(({ name }) => name).filter((name) => !loaded.some((stamp) => stamp.name === name)) }));
  const lacking = needs.filter(({ names }) => names.length > 0);
  if (lacking.length === 0) return;
  const names = [...new Set(lacking.flatMap((entry) => entry.names))];
  throw new TsrtError('ENGINE_INCOMPATIBLE', `${lacking.map(({ file }) => basename(file)).join(', ')} ${lacking.length === 1 ? 'needs' : 'need'} ${names.length === 1 ? 'a plugin' : 'plugins'} that ${names.length === 1 ? 'is' : 'are'} not loaded: ${names.join(', ')}`, {
    fix: `name ${names.length === 1 ? 'it' : 'them'}, by path or package: ${names.map((name) => `--plugin ${name}`).join(' ')}`,
    ...(lacking.length === 1 && { place: lacking[0]!.file }),
  });
}

/**
 * What keeps an engine from running here: backend, tool version, device, which is the first that the probe lists, and the code of its
 * plugins. Throws TsrtError
 * BACKEND_UNAVAILABLE.
 */
export function whyNotHere({ file, header }: EngineFile, availability: Availability, loaded: readonly PluginStamp[]): string[] {
  if (availability.status === 'unavailable') {
    throw new TsrtError('BACKEND_UNAVAILABLE', `the engine can't run here: ${availability.reason}`, { place: file, fix: availability.fix });
  }
  return [...differences(header, header.backend, availability.devices[0]?.properties), ...missingPlugins(header, loaded)];
}

/** All files that are refused, in one error. `fix`: for commands that do not build. */
export function refusedEngines(
  refused: readonly { readonly file: string; readonly reasons: readonly string[] }[],
  fix = 'add --rebuild to build it again from the model with the same options, or do so with tsrt-bench build',
): TsrtError {
  const files = refused.map(({ file }) => basename(file)).join(', ');
  return new TsrtError('ENGINE_INCOMPATIBLE', `${files} ${refused.length === 1 ? 'was' : 'were'} not built for this`, {
    details: refused.flatMap(({ file, reasons }) => reasons.map((reason) => (refused.length === 1 ? reason : `${basename(file)}: ${reason}`))),
    fix,
    ...(refused.length === 1 && { place: refused[0]!.file }),
  });
}
