/** A command of the user's, run in a checkout: its last lines are kept for when it fails, and it ends when the user says so. */
import { spawn } from 'node:child_process';
import { TsrtError } from '../../../errors.ts';
import { gitEnvironment } from '../../git-environment.ts';

/** Lines of output that a failure shows. */
const SHOWN = 20;
const KEPT_CHARACTERS = 16_384;

export interface CommandPlace {
  /** Of a checkout, which is gone when a failure is read. */
  readonly folder: string;
  /** For messages: `revision main (0123abc)`. */
  readonly at: string;
  readonly signal: AbortSignal;
}

/** Runs `command` in a shell. Throws BASELINE_INCOMPARABLE with the way out where it fails, INTERRUPTED where `signal` ended it. */
export async function runCommand(command: string, { folder, at, signal }: CommandPlace, fix: string): Promise<void> {
  if (signal.aborted) throw interrupted();
  // A group of its own, so that what the shell started ends with it.
  const child = spawn(command, { shell: true, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], env: gitEnvironment(), detached: process.platform !== 'win32' });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-KEPT_CHARACTERS);
    });
  }
  const end = (): void => {
    try {
      if (child.pid !== undefined) process.kill(process.platform === 'win32' ? child.pid : -child.pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  };
  signal.addEventListener('abort', end);
  process.once('exit', end);
  try {
    const ended = await new Promise<string | undefined>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, by) => resolve(code === 0 ? undefined : by === null ? `status ${code}` : by));
    });
    if (signal.aborted) throw interrupted();
    if (ended === undefined) return;
    throw new TsrtError('BASELINE_INCOMPARABLE', `\`${command}\` fails at ${at} (${ended})`, {
      details: output.trimEnd().split('\n').slice(-SHOWN),
      fix,
    });
  } finally {
    signal.removeEventListener('abort', end);
    process.off('exit', end);
  }
}

export function interrupted(): TsrtError {
  return new TsrtError('INTERRUPTED', 'stopped before anything was measured', { fix: 'run it again' });
}
