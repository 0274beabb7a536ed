/** What the file system says, as errors with a way out. */
import { TsrtError } from '../errors.ts';

/** The errno name of a thrown value, such as `ENOENT`; undefined where it has none. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

const WRITE_FIXES: Readonly<Record<string, readonly [sentence: string, fix: string]>> = {
  ENOSPC: ['the disk is full', 'free some space, or write elsewhere with --results FOLDER'],
  EDQUOT: ['the disk quota is used up', 'free some space, or write elsewhere with --results FOLDER'],
  EROFS: ['the file system is read-only', 'write elsewhere with --results FOLDER'],
  EACCES: ['there is no permission to write to the folder', 'give yourself write permission, or write elsewhere with --results FOLDER'],
  EPERM: ['there is no permission to write to the folder', 'give yourself write permission, or write elsewhere with --results FOLDER'],
  ENOTDIR: ['a part of the path is a file, not a folder', 'move that file away, or write elsewhere with --results FOLDER'],
  EEXIST: ['something else already has that name', 'move it away, or write elsewhere with --results FOLDER'],
  EISDIR: ['a folder already has that name', 'move it away, or write elsewhere with --results FOLDER'],
  EMFILE: ['too many files are open', 'raise the limit of open files (ulimit -n)'],
  EFBIG: ['the file would exceed the size limit', 'raise the limit (ulimit -f), or write elsewhere with --results FOLDER'],
  ENAMETOOLONG: ['the path is too long', 'write to a folder with a shorter path with --results FOLDER'],
};

/** RESULTS_UNWRITABLE for a failed write; anything that is no file-system error is handed back as it is. */
export function unwritable(error: unknown, path: string, details: readonly string[] = []): unknown {
  const errno = errnoOf(error);
  if (errno === undefined || error instanceof TsrtError) return error;
  const [sentence, fix] = WRITE_FIXES[errno] ?? [`the system said ${errno}`, 'write elsewhere with --results FOLDER'];
  return new TsrtError('RESULTS_UNWRITABLE', `results can't be written: ${sentence}`, { place: path, fix, details, cause: error });
}

/** RESULTS_INVALID or RESULTS_NOT_FOUND for a failed read. */
export function unreadable(error: unknown, path: string): unknown {
  const errno = errnoOf(error);
  if (errno === undefined || error instanceof TsrtError) return error;
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    return new TsrtError('RESULTS_NOT_FOUND', 'there is no such results file', {
      place: path,
      fix: 'measure first (`tsrt-bench run`), or check the path and --results',
      cause: error,
    });
  }
  const sentence = errno === 'EISDIR' ? 'a folder was found where a results file was expected' : `a results file can't be read (${errno})`;
  return new TsrtError('RESULTS_INVALID', sentence, { place: path, fix: 'name a .jsonl file, a run id or a baseline', cause: error });
}
