/**
 * Temporary folders that do not outlive their process for long. A process that is killed removes nothing, so that a folder's name says whose it
 * is, and the next process that makes one removes those of the dead.
 *
 * A process id means something within one machine and, on Linux, one namespace of processes: containers and hosts may share the folder that
 * TMPDIR names, and only folders of the same place are looked at. Those of other users are not ours to remove.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readlinkSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';

let swept: Promise<unknown> | undefined;

/** A new folder, for this process to remove. Throws where none can be made. */
export async function makeTemporaryFolder(purpose: 'engines' | 'kit' | 'profile' | 'optimized' | 'exchange'): Promise<string> {
  await (swept ??= sweep(tmpdir()));
  return mkdtempSync(join(tmpdir(), `tsrt-bench-${purpose}-${hereTag()}-${process.pid}-`));
}

/** Removes the folders of processes of this user and place that are no more; what can't be removed stays. */
export async function sweep(folder: string): Promise<void> {
  const ours = new RegExp(`^tsrt-bench-[a-z]+-${hereTag()}-(\\d+)-`);
  for (const name of await readdir(folder).catch(() => [])) {
    const pid = Number(ours.exec(name)?.[1] ?? process.pid);
    if (isAlive(pid)) continue;
    const path = join(folder, name);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isDirectory() && (process.getuid === undefined || found.uid === process.getuid())) await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

/** Whether a process has this id: then the folder may be its own, or the id was given again and the folder waits for the next sweep. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Where process ids mean what they mean here. */
export function hereTag(): string {
  return createHash('sha256').update(`${hostname()} ${pidNamespace()}`).digest('hex').slice(0, 8);
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}
