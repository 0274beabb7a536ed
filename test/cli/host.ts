/** A process that runs commands one after another, for tests to which it is all the same whether a command has a process to itself. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, onTestFinished } from 'vitest';

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Order {
  readonly words: readonly string[];
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
}

const root = new URL('../../', import.meta.url);

/** Ends what a command wrote to a stream; no command writes it. */
const END = '\u0000the command has ended\u0000';

interface Host {
  readonly child: ChildProcess;
  /** Runs one command; a process that dies of it gives its exit status. */
  run(order: Order): Promise<Outcome>;
}

let host: Host | undefined;

/** The last command that was asked for: they take turns. */
let last: Promise<unknown> = Promise.resolve();

afterAll(async () => {
  if (host === undefined) return;
  const closed = once(host.child, 'close');
  host.child.kill('SIGKILL');
  await closed;
});

/** Runs a command in the file's shared process, or in a new one where the last one died. */
export function runShared(order: Order): Promise<Outcome> {
  const outcome = last.then(async () => {
    const { child, run } = (host ??= startHost());
    let done = false;
    // A test that is over waits for nothing: its command must not keep the next from its turn.
    onTestFinished(() => {
      if (!done) child.kill('SIGKILL');
    });
    return run(order).finally(() => (done = true));
  });
  last = outcome.catch(() => {});
  return outcome;
}

function startHost(): Host {
  const child = fork(
    fileURLToPath(new URL('host.mjs', import.meta.url)),
    [JSON.stringify({ entry: new URL('bin/run.js', root).href, cli: new URL('dist/bundle/cli.js', root).href, end: END })],
    // What libraries ask of the environment when they are loaded must be as it is for a command of its own.
    { env: { ...process.env, NODE_ENV: undefined, NO_COLOR: '1', CI: '1' }, execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
  );
  let written = { stdout: '', stderr: '' };
  let status: number | null | undefined;
  let finish: (outcome: Outcome) => void = () => {};
  const check = (): void => {
    const { stdout, stderr } = written;
    if (status === undefined || !stdout.endsWith(END) || !stderr.endsWith(END)) return;
    finish({ status, stdout: stdout.slice(0, -END.length), stderr: stderr.slice(0, -END.length) });
  };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.setEncoding('utf8').on('data', (text: string) => {
      written[name] += text;
      check();
    });
  }
  child.on('message', (message: { readonly status: number }) => {
    ({ status } = message);
    check();
  });
  child.once('close', (code) => {
    host = undefined;
    finish({ status: code, ...written });
  });
  return {
    child,
    run: (order) =>
      new Promise((resolve) => {
        written = { stdout: '', stderr: '' };
        status = undefined;
        finish = resolve;
        child.send(order);
      }),
  };
}
