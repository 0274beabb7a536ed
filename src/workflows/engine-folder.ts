/** A folder for the engines of one command, gone when its work is. */
import { rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { TsrtError } from '../errors.ts';
import { makeTemporaryFolder } from '../temporary.ts';

/** Throws RESULTS_UNWRITABLE where no folder can be made. The folder also goes where the process is made to end at once, and with the next command where it was killed. */
export async function withEngineFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await makeTemporaryFolder('engines').catch((cause: unknown) => {
    throw new TsrtError('RESULTS_UNWRITABLE', "the folder for the engines can't be made", {
      place: tmpdir(),
      fix: 'make room there, or name another with the environment variable TMPDIR',
      cause,
    });
  });
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
    process.off('exit', remove);
  }
}
