/**
 * Writes the records of a run as its cases end: one line each, on the disk (fsync) before the next case starts, so that a
 * crash later loses nothing. What can't be written is kept, and tried again with the next record.
 */
import { access, constants, mkdir, open, readFile, statfs, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TsrtError } from '../errors.ts';
import { encodeRecord } from './codec.ts';
import { errnoOf, unwritable } from './errors.ts';
import { takeLock, type HeldLock } from './lock.ts';
import { checkRunId, folderName } from './names.ts';
import { parseRecordFile } from './reader.ts';
import type { BenchRecord } from './record.ts';
import { runFilePath } from './store.ts';

export interface RunTarget {
  /** The results folder; made where it is absent. */
  readonly results: string;
  readonly suite: string;
  readonly runId: string;
  /** Go on with the files of an earlier run of that id; without it they must not exist. */
  readonly resume: boolean;
  /** How files are opened; another for tests. */
  readonly open?: typeof open;
}

export interface RunWriter {
  /**
   * Writes one record; resolves with the file's path when the line is on the disk. Throws RESULTS_UNWRITABLE where that
   * fails; the record is then in `unsaved`, the file ends with its last whole line, and the next call tries again.
   */
  append(record: BenchRecord): Promise<string>;
  /** Files written to, in the order of their first record. */
  readonly paths: readonly string[];
  /** Records that could not be written yet, oldest first. */
  readonly unsaved: readonly BenchRecord[];
  /** Frees the run for others. Records that are still unsaved stay in `unsaved`. */
  close(): Promise<void>;
}

/** A file under writing; `wholeBytes` is the end of its last whole line. */
interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
  wholeBytes: number;
}

/**
 * Prepares a run: finds out now, before anything is measured, whether its records can be written.
 * Throws RESULTS_UNWRITABLE, or RESULTS_LOCKED where another process writes this run.
 */
export async function openRunWriter(target: RunTarget): Promise<RunWriter> {
  const folder = join(target.results, folderName(target.suite));
  await checkWritable(folder);
  const held = await takeLock(join(folder, `.${checkRunId(target.runId)}.lock`), `run ${target.runId}`);
  const files = new Map<string, OpenFile>();
  const unsaved: BenchRecord[] = [];
  let queue: Promise<unknown> = Promise.resolve();

  const write = async (): Promise<string> => {
    let path = '';
    for (let record = unsaved[0]; record; record = unsaved[0]) {
      path = await writeRecord(target, files, held, record, unsaved.length);
      unsaved.shift();
    }
    return path;
  };

  return {
    append(record) {
      unsaved.push(record);
      const written = queue.then(write);
      queue = written.catch(() => undefined);
      return written;
    },
    get paths() {
      return [...files.values()].map((file) => file.path);
    },
    get unsaved() {
      return [...unsaved];
    },
    async close() {
      await queue;
      for (const file of files.values()) await file.handle.close();
      await held.release();
    },
  };
}

async function checkWritable(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK | constants.X_OK);
    const { bavail } = await statfs(folder);
    if (bavail === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  } catch (error) {
    throw unwritable(error, folder);
  }
}

async function writeRecord(
  target: RunTarget,
  files: Map<string, OpenFile>,
  held: HeldLock,
  record: BenchRecord,
  waiting: number,
): Promise<string> {
  if (!held.held()) {
    throw new TsrtError('RESULTS_LOCKED', `run ${target.runId} was taken over by another process while this one stood still`, {
      fix: 'start a new run',
    });
  }
  const { slug } = record.provenance.environment.device;
  const path = runFilePath(target.results, target.suite, slug, target.runId);
  try {
    const file = files.get(path) ?? (await openFile(target, path));
    files.set(path, file);
    await appendLine(file, encodeRecord(record));
    return path;
  } catch (error) {
    throw unwritable(error, path, [`${waiting} ended case${waiting === 1 ? ' is' : 's are'} not saved yet`]);
  }
}

async function openFile(target: RunTarget, path: string): Promise<OpenFile> {
  await mkdir(dirname(path), { recursive: true });
  const openPath = target.open ?? open;
  if (!target.resume) return { path, handle: await openPath(path, 'ax'), wholeBytes: 0 };
  const bytes = await readFile(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  });
  const { wholeBytes } = parseRecordFile(bytes, path);
  const file: OpenFile = { path, handle: await openPath(path, 'a'), wholeBytes };
  await file.handle.truncate(wholeBytes);
  if (wholeBytes > 0 && bytes[wholeBytes - 1] !== 0x0a) await appendLine(file, '');
  return file;
}

/** Appends a line and a line feed; where that fails, the file is cut back to its last whole line. */
async function appendLine(file: OpenFile, line: string): Promise<void> {
  const bytes = Buffer.from(`${line}\n`);
  try {
    await file.handle.writeFile(bytes);
    await file.handle.sync();
    file.wholeBytes += bytes.length;
  } catch (error) {
    // The reader copes with a cut line too, so a failure to cut back must not hide why the write failed.
    await file.handle.truncate(file.wholeBytes).catch(() => undefined);
    throw error;
  }
}
