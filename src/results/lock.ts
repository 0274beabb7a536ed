/** A lock between processes, for the places that two may write at once: a run that is resumed, a baseline that is saved. */
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { lock } from 'proper-lockfile';
import { TsrtError } from '../errors.ts';
import { errnoOf, unwritable } from './errors.ts';

/** A lock whose process died is free again after this long. */
const STALE_MS = 15_000;

export interface HeldLock {
  /** False once another process took it over, which happens only if this one stood still for longer than the stale time. */
  readonly held: () => boolean;
  readonly release: () => Promise<void>;
}

/**
 * Takes the lock at `path` (made as a folder, by proper-lockfile), creating the folder that it lies in.
 * Throws RESULTS_LOCKED naming `what` where another process holds it, RESULTS_UNWRITABLE where it can't be made.
 */
export async function takeLock(path: string, what: string, retries = 0): Promise<HeldLock> {
  let held = true;
  try {
    await mkdir(dirname(path), { recursive: true });
    const release = await lock(path, {
      realpath: false,
      lockfilePath: path,
      stale: STALE_MS,
      retries: { retries, minTimeout: 100, maxTimeout: 500 },
      onCompromised: () => {
        held = false;
      },
    });
    return {
      held: () => held,
      release: async () => {
        if (!held) return;
        held = false;
        await release();
      },
    };
  } catch (error) {
    if (errnoOf(error) !== 'ELOCKED') throw unwritable(error, path);
    throw new TsrtError('RESULTS_LOCKED', `${what} is being written by another process`, {
      place: path,
      fix: `wait until it has ended; if it crashed, its lock expires after ${STALE_MS / 1000} s`,
      cause: error,
    });
  }
}
