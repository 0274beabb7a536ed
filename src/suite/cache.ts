/** The model cache: one file per key, made by one process at a time, never seen half-written. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lock } from 'proper-lockfile';
import { TsrtError } from '../errors.ts';

export interface LockOptions {
  /** Called once where another process holds the lock. */
  readonly onWait?: (() => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A lock whose holder has not touched it for so long is taken over: its process died. */
const STALE_MS = 15_000;
const POLL_MS = 200;

/** Runs `work` while holding the lock of `target`; creates its folder. */
export async function withFileLock<T>(target: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  await writeCache(() => mkdir(dirname(target), { recursive: true }));
  const release = await acquire(target, options);
  try {
    return await work();
  } finally {
    await release();
  }
}

async function acquire(target: string, { onWait, signal }: LockOptions): Promise<() => Promise<void>> {
  for (let waited = false; ; waited = true) {
    signal?.throwIfAborted();
    try {
      // A lost lock (the machine slept) is no reason to end: writes are renamed into place whole.
      return await lock(target, { realpath: false, stale: STALE_MS, update: STALE_MS / 3, onCompromised: () => undefined });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') return writeCache(() => Promise.reject(error));
    }
    if (!waited) onWait?.();
    await sleep(POLL_MS, undefined, signal ? { signal } : {});
  }
}

export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/** SHA-256 of a file, streamed; lower-case hexadecimal. */
export async function sha256File(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Runs something that writes to the model cache; a full or read-only disk becomes an error with the way out. */
export async function writeCache<T>(write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (cause) {
    const { code, path } = cause as NodeJS.ErrnoException;
    if (code === undefined) throw cause;
    throw new TsrtError('MODEL_DOWNLOAD', `the model cache can't be written: ${code === 'ENOSPC' ? 'no space left on the disk' : (cause as Error).message}`, {
      ...(path !== undefined && { place: path }),
      fix: `${code === 'ENOSPC' ? 'free some space, or ' : ''}name another folder with --cache or TSRT_BENCH_CACHE`,
      cause,
    });
  }
}
