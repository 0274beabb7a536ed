/**
 * A program that is run once, to its end: for plugins that drive a command-line tool which speaks no protocol. It has a time limit
 * and leaves nothing behind, as programs that do have.
 */
import { TsrtError } from '../../errors.ts';
import { startGroup } from './group.ts';

/** A program to run to its end, with everything that it starts. */
export interface ToolRun {
  /** In messages: the backend's name. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Each line of its output as it comes, stdout and stderr. */
  readonly onLine?: (line: string) => void;
}

/** How a program ended and the last 256 KiB of what it wrote. */
export interface ToolResult {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  /** The end of what it wrote to stdout and stderr, in the order in which it came. */
  readonly output: string;
}

const OUTPUT_LIMIT = 256 * 1024;

/** Runs a tool. Rejects with TsrtError BACKEND_UNAVAILABLE where it can't be started, BACKEND_FAILED where it takes too long. */
export async function runTool({ name, command, args, env, timeoutMs, signal, onLine }: ToolRun): Promise<ToolResult> {
  signal?.throwIfAborted();
  const group = startGroup({ command, args, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [group.child.stdout!, group.child.stderr!]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output = (output + chunk).slice(-OUTPUT_LIMIT);
      if (!onLine) return;
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      for (const line of lines) onLine(line);
    });
  }
  const drained = new Promise((resolve) => group.child.once('close', resolve));
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    void group.kill();
  }, timeoutMs);
  const onAbort = (): void => void group.kill();
  signal?.addEventListener('abort', onAbort, { once: true });
  const { code, signal: endedBy, error } = await group.exited.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  });
  signal?.throwIfAborted();
  if (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new TsrtError('BACKEND_UNAVAILABLE', `${name}: '${command}' can't be started: ${missing ? 'there is no such program' : error.message}`, {
      plugin: name,
      fix: 'install it, or put it on the PATH',
      cause: error,
    });
  }
  await drained;
  if (late) {
    const details = output.trimEnd().split('\n').slice(-20);
    throw new TsrtError('BACKEND_FAILED', `${name}: ${command} was ended after ${timeoutMs / 1000} s`, { plugin: name, fix: 'raise the time limit, or find out why it hangs', details });
  }
  return { code, signal: endedBy, output };
}
