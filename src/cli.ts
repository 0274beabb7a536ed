/** The entry of the command line: hands the words to oclif and turns what is thrown into one message and an exit status. */
import { execute } from '@oclif/core';

/** Runs the command line. `entry` is the URL of the executable, from which oclif finds the package. */
export async function run(words: readonly string[], entry: string): Promise<void> {
  await execute({ args: [...words], dir: entry });
}
