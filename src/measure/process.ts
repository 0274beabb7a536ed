/**
 * The parent's side of a worker process: start, ask, wait no longer than allowed, and tell from its end what went wrong.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { builtEntry } from '../entries.ts';
import type { FailureStage } from '../results/record.ts';
import { readText } from '../system.ts';
import { WorkerFailure, exitFailure, reportedFailure, timeoutFailure } from './failure.ts';
import type { Reply, ReplyTo, Request, SamplingNote } from './messages.ts';

export interface WorkerProcess {
  /** One request at a time. Rejects with WorkerFailure; afterwards the process is dead or of no more use. */
  ask<K extends Request['kind']>(request: Extract<Request, { readonly kind: K }>, timeoutMs: number): Promise<ReplyTo[K]>;
  /** The end of what it wrote to stdout and stderr. */
  output(): string;
  /**
   * Ends the process in peace: it gives back what it holds and leaves by itself, so that a driver writes down what it keeps for later (NVIDIA's writes
   * the kernels that it compiled when a process exits, and not before). Killed where it takes too long. Resolves when it has ended.
   */
  leave(limitMs?: number): Promise<void>;
  /** Ends the process at once. Resolves when it has ended. */
  kill(): Promise<void>;
}

export interface WorkerLaunch {
  /** Added to this process' environment: a driver's paths, say. */
  readonly environment: Readonly<Record<string, string>>;
  /** More arguments for Node, such as a heap limit. */
  readonly nodeArguments?: readonly string[];
  /** The worker's module; default: the project's own. */
  readonly entry?: string;
  /** Folder in which it runs; default: this process'. */
  readonly folder?: string;
}

export type StartWorker = (launch: WorkerLaunch) => WorkerProcess;

/** What a worker writes is kept to this many characters, the last ones. */
const OUTPUT_LIMIT = 16_384;

/** A session that hangs in its last moment gets this long, and then the process around it. */
const GOODBYE_MS = 5000;

const STAGES = { load: 'load', answer: 'answer', infer: 'answer', round: 'warmup', begin: 'warmup', slice: 'measure', end: 'measure', memory: 'measure', bye: 'measure' } as const satisfies Record<
  Request['kind'],
  FailureStage
>;

/** A request that waits for its reply. */
interface Pending {
  resolve(reply: Reply): void;
  reject(error: WorkerFailure): void;
}

export const startWorker: StartWorker = (launch) => {
  const child = fork(launch.entry ?? builtEntry('measure-worker'), [], {
    env: { ...process.env, ...launch.environment },
    cwd: launch.folder,
    execArgv: ['--expose-gc', ...(launch.nodeArguments ?? [])],
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const output = collectOutput(child);
  const oomKillsBefore = countOomKills();
  let stage: FailureStage = 'load';
  let pending: Pending | undefined;
  let ended: WorkerFailure | undefined;

  const end = (code: number | null, signal: NodeJS.Signals | null): void => {
    ended ??= new WorkerFailure(exitFailure(stage, { code, signal, oomKilled: countOomKills() > oomKillsBefore }, output()));
    pending?.reject(ended);
  };
  const closed = new Promise<void>((resolve) => {
    // 'close' comes after the pipes are drained, so that the last words of a crash are there.
    child.once('close', (code, signal) => {
      end(code, signal);
      resolve();
    });
    child.once('error', (error) => {
      ended ??= new WorkerFailure(reportedFailure(stage, { code: 'INTERNAL', message: error.message }, output()));
      pending?.reject(ended);
      if (child.pid === undefined) resolve();
    });
  });
  child.on('message', (message: Reply | SamplingNote) => {
    if (message.kind === 'sampling') stage = 'measure';
    else pending?.resolve(message);
  });
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await closed;
  };

  const ask = async <K extends Request['kind']>(request: Extract<Request, { readonly kind: K }>, timeoutMs: number): Promise<ReplyTo[K]> => {
    if (ended) throw ended;
    if (pending) throw new Error('a worker is asked one thing at a time');
    stage = STAGES[request.kind];
    let timer: NodeJS.Timeout | undefined;
    const reply = await new Promise<Reply>((resolve, reject) => {
      pending = { resolve, reject };
      timer = setTimeout(() => {
        ended ??= new WorkerFailure(timeoutFailure(stage, timeoutMs, output()));
        reject(ended);
        void kill();
      }, timeoutMs);
      // A failed write means that the process is gone; 'close' tells how it went.
      child.send(request, () => {});
    }).finally(() => {
      clearTimeout(timer);
      pending = undefined;
    });
    if (reply.kind === 'failed') throw new WorkerFailure(reportedFailure(stage, reply.error, output()));
    return reply as ReplyTo[K];
  };
  return {
    output,
    kill,
    ask,
    async leave(limitMs = GOODBYE_MS) {
      // All that was wanted of it is there: how the process takes its leave changes nothing.
      await ask<'bye'>({ kind: 'bye' }, limitMs).catch(() => {});
      const late = setTimeout(() => void kill(), limitMs);
      await closed;
      clearTimeout(late);
    },
  };
};

function collectOutput(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8');
    stream?.on('data', (chunk: string) => {
      text = (text + chunk).slice(-OUTPUT_LIMIT);
    });
  }
  return () => text;
}

/** How many processes the kernel has killed for want of memory since boot (proc(5), /proc/vmstat); 0 where it doesn't say. */
function countOomKills(): number {
  return Number(readText('/proc/vmstat')?.match(/^oom_kill (\d+)$/m)?.[1] ?? 0);
}
