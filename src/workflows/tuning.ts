/** What a command says about tuning, and the step from it to what a build is given. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { TuningContext } from '../backends/backend.ts';
import { frozenOf, parseFrozen } from '../backends/webgpu/tune/frozen.ts';
import type { TacticsReport } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { readTextFile } from '../text.ts';

export interface TuningRequest {
  /** Undefined: the one in the cache folder. */
  readonly cacheFile?: string | undefined;
  /** For each engine. */
  readonly budgetMs?: number | undefined;
  readonly frozenFile?: string | undefined;
}

/** Reads the frozen list, if one is named. `cacheFolder` is the user's. Throws TsrtError USAGE. */
export async function tuningContext({ cacheFile, budgetMs, frozenFile }: TuningRequest, cacheFolder: string): Promise<TuningContext> {
  return {
    cacheFile: cacheFile ?? join(cacheFolder, 'timing-cache.json'),
    budgetMs,
    frozen: frozenFile === undefined ? undefined : parseFrozen(await readList(frozenFile), frozenFile),
  };
}

async function readList(file: string): Promise<string> {
  try {
    return await readTextFile(file);
  } catch (cause) {
    throw new TsrtError('USAGE', `the list of frozen tactics can't be read: ${cause instanceof Error ? cause.message : String(cause)}`, {
      place: file,
      fix: 'give a file that `tsrt-bench build --export-tactics FILE` wrote',
      cause,
    });
  }
}

/** Writes the tactics of an engine as a list to freeze. Throws TsrtError USAGE for an engine without any, RESULTS_UNWRITABLE. */
export async function exportTactics(file: string, tactics: TacticsReport | undefined): Promise<void> {
  if (!tactics) throw new TsrtError('USAGE', 'this engine has no tactics to export', { place: file, fix: 'leave out --export-tactics: only the webgpu backend chooses between kernels' });
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, `${JSON.stringify(frozenOf(tactics.choices), undefined, 2)}\n`);
  } catch (cause) {
    throw new TsrtError('RESULTS_UNWRITABLE', `the tactics can't be written: ${cause instanceof Error ? cause.message : String(cause)}`, { place: file, fix: 'choose another path', cause });
  }
}
