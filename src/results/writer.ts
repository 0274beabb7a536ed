/**
 * Writes the records of a run as its cases end: one line each, on the disk (fsync) before the next case starts, so that a
 * crash later loses nothing. What can't be written is kept, and tried again with the next record.
 */
import { fsync } from 'node:fs';
import { access, appendFile, constants, mkdir, open, readFile, rm, statfs, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { TsrtError } from '../errors.ts';
import { encodeRecord } from './codec.ts';
import { errnoOf, unwritable } from './errors.ts';
import { takeLock, type HeldLock } from './lock.ts';
import { checkRunId, folderName } from './names.ts';
import { parseRecordFile } from './reader.ts';
import type { BenchRecord } from './record.ts';
import { runFilePath } from './store.ts';

const flush = promisify(fsync);

export interface RunTarget {
  /** The results folder; made where it is absent. */
  readonly results: string;
  readonly suite: string;
  readonly runId: string;
  /** Go on with the files of an earlier run of that id; without it they must not exist. */
  readonly resume: boolean;
  /** Where records go that can't be written here. Default: the system's folder for temporary files. */
  readonly rescueFolder?: string;
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
  /**
   * Frees the run for others. What is unsaved is tried once more, then written to a file in the rescue folder; that is an
   * error too (RESULTS_UNWRITABLE), which names the file. Calling it again does nothing.
   */
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

  let closed = false;

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
      if (closed) return;
      closed = true;
      await queue;
      const failure: unknown = unsaved.length > 0 ? await write().catch((error: unknown) => error) : undefined;
      for (const file of files.values()) await closeFile(file);
      await held.release();
      if (unsaved.length > 0) throw await rescue(unsaved, target, failure);
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
    throw new TsrtError('RESULTS_LOCKED', `run ${target.runId} was taken over by another process while this one was suspended`, {
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
    throw unwritable(error, path, [`${waiting} finished case${waiting === 1 ? ' is' : 's are'} not saved yet`]);
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

/** A file that got no record is taken away again: an empty one would pass for the newest run. */
async function closeFile({ path, handle, wholeBytes }: OpenFile): Promise<void> {
  await handle.close();
  if (wholeBytes === 0) await rm(path, { force: true });
}

/** Writes the records where there may be room, and returns the error that says so. */
async function rescue(records: readonly BenchRecord[], target: RunTarget, failure: unknown): Promise<unknown> {
  const path = join(target.rescueFolder ?? tmpdir(), `tsrt-bench-${target.runId}.jsonl`);
  const cases = `${records.length} case${records.length === 1 ? '' : 's'}`;
  const reason = failure instanceof Error ? failure.message : String(failure);
  const place = join(target.results, folderName(target.suite));
  try {
    await appendFile(path, records.map((record) => `${encodeRecord(record)}\n`).join(''), { flush: true });
  } catch (cause) {
    return new TsrtError('RESULTS_UNWRITABLE', `${cases} could not be saved, neither here nor in ${dirname(path)}: ${reason}`, {
      place,
      fix: 'free some space and run again with --resume, which measures only these',
      cause,
    });
  }
  return new TsrtError('RESULTS_UNWRITABLE', `${cases} could not be saved here: ${reason}`, {
    place,
    details: [`they are kept in ${path}`],
    fix: `free some space and move that file into the results folder; \`tsrt-bench report ${path}\` shows it as it is`,
    cause: failure,
  });
}

/** Appends a line and a line feed; where that fails, the file is cut back to its last whole line. */
async function appendLine(file: OpenFile, line: string): Promise<void> {
  const bytes = Buffer.from(`${line}\n`);
  try {
    await file.handle.writeFile(bytes);
    // By its descriptor: the handles of Yarn's Plug'n'Play have no sync.
    await flush(file.handle.fd);
    file.wholeBytes += bytes.length;
  } catch (error) {
    // The reader copes with a cut line too, so a failure to cut back must not hide why the write failed.
    await file.handle.truncate(file.wholeBytes).catch(() => undefined);
    throw error;
  }
}
