/** The entry of the command line: hands the words to oclif and turns what is thrown into one message and an exit status. */
import { execute } from '@oclif/core';
import { EXIT } from './errors.ts';

/** Runs the command line. `entry` is the URL of the executable, from which oclif finds the package. */
export async function run(words: readonly string[], entry: string): Promise<void> {
  process.on('uncaughtException', giveUp);
  // Whoever read the progress has had enough of it; the result goes elsewhere.
  process.stderr.on('error', () => {});
  await execute({ args: [...words], dir: entry });
}

/** What nobody catches: output that can't be written (oclif throws it from the stream's event), or a bug. Never status 1, which says that a gate found a regression. */
function giveUp(thrown: unknown): never {
  const error: NodeJS.ErrnoException = thrown instanceof Error ? thrown : new Error(String(thrown));
  const isOutput = error.syscall === 'write';
  process.stderr.write(isOutput ? `error: the output can't be written: ${error.message}\n  fix: check that there is space, and that the program that reads it is running\n` : `error: ${error.stack ?? error.message}\n  fix: this is a bug in tsrt-bench or a plugin\n`);
  // oxlint-disable-next-line unicorn/no-process-exit -- nothing that is left to run may be trusted
  process.exit(isOutput ? EXIT.usage : 70);
}
