/** Writes a rendered text, or bytes, where the user wants them. */
import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TsrtError } from '../errors.ts';

/** Writes the text, making the folders above it. Throws RESULTS_UNWRITABLE. */
export function writeText(path: string, text: string): Promise<void> {
  return writeOutput(path, text);
}

/** As {@link writeText}, for bytes too. */
export async function writeOutput(path: string, content: string | Uint8Array): Promise<void> {
  await attempt(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  });
}

/** Adds to a file that others write to as well, such as a CI job's summary. Throws RESULTS_UNWRITABLE. */
export async function appendText(path: string, text: string): Promise<void> {
  await attempt(path, () => appendFile(path, text));
}

async function attempt(path: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (cause) {
    throw new TsrtError('RESULTS_UNWRITABLE', `the output can't be written: ${cause instanceof Error ? cause.message : String(cause)}`, {
      place: path,
      fix: 'name a file in a folder that may be written to',
      cause,
    });
  }
}
