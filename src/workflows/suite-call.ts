/** How a suite is called for in a command that is to be pasted. */
import { TsrtError } from '../errors.ts';
import { loadSuite, type SuiteLookup } from '../suite/load.ts';
import { shellWord } from '../text.ts';

/**
 * As it was asked for, where it was; else by its name, where that finds it. A record knows no more than the name, which finds neither a suite nor a model
 * that lies elsewhere: then the path is for the reader to put in.
 */
export async function suiteCall(name: string, asked: string | undefined, lookup: SuiteLookup = { cwd: process.cwd() }): Promise<string> {
  if (asked !== undefined) return shellWord(asked);
  const found = await loadSuite(name, lookup).catch((error: unknown) => {
    if (!(error instanceof TsrtError)) throw error;
    return undefined;
  });
  return found?.name === name ? name : `path/to/${name}`;
}
