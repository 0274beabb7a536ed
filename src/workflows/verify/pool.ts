/** Worker processes that check cases: started again after a crash or a hang, which becomes the result of its case. */
import { fork } from 'node:child_process';
import { builtEntry } from '../../entries.ts';
import { errorFrom, TsrtError, type ErrorReport } from '../../errors.ts';
import type { VerifyCase } from './cases.ts';
import type { Reply, Request } from './messages.ts';
import type { CaseResult } from './result.ts';

export interface PoolSettings {
  /** Sent to each worker when it starts. */
  readonly open: Extract<Request, { kind: 'open' }>;
  readonly jobs: number;
  readonly caseTimeoutMs: number;
  /** Added to this process's: driver paths, say. */
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
  /** What a worker may take to leave; default: 5 s. */
  readonly goodbyeMs?: number;
  /** The worker's module; default: the built one. */
  readonly entry?: string;
}

/** Loading a driver and a large library the first time. */
const OPEN_TIMEOUT_MS = 120_000;
/** Lines of a dead worker's last words. */
const LAST_LINES = 5;
const STDERR_LIMIT = 8192;
const GOODBYE_MS = 5000;

/** Results in the order of the cases. Throws TsrtError where no worker can be opened, or INTERRUPTED where the signal fires. */
export async function* checkAll(cases: readonly VerifyCase[], settings: PoolSettings): AsyncGenerator<CaseResult> {
  const results = cases.map(() => deferred<CaseResult>());
  // Rejections are seen when their turn comes; until then they must not count as unhandled.
  for (const { promise } of results) promise.catch(() => {});
  let next = 0;
  const workers = Array.from({ length: Math.min(settings.jobs, cases.length) }, () => new Worker(settings));
  const running = workers.map(async (worker) => {
    for (let index = next++; index < cases.length && !settings.signal?.aborted; index = next++) {
      await worker.check(cases[index]!).then(results[index]!.resolve, results[index]!.reject);
    }
  });
  const interrupted = interruption(settings.signal);
  try {
    for (const { promise } of results) yield await Promise.race([promise, interrupted]);
  } finally {
    next = cases.length;
    await Promise.all(workers.map((worker) => worker.end()));
    await Promise.allSettled(running);
  }
}

function interruption(signal: AbortSignal | undefined): Promise<never> {
  const { promise, reject } = deferred<never>();
  promise.catch(() => {});
  const stop = () => reject(new TsrtError('INTERRUPTED', 'verifying was interrupted', { fix: 'start again; nothing was written' }));
  if (signal?.aborted) stop();
  signal?.addEventListener('abort', stop, { once: true });
  return promise;
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** Promise.withResolvers, which Node 20 lacks. */
function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** One lane of work: a process, and the next one where that ends. */
class Worker {
  readonly #settings: PoolSettings;
  /** From the moment it is started, so that it can be ended while it opens. */
  #process: WorkerProcess | undefined;

  constructor(settings: PoolSettings) {
    this.#settings = settings;
  }

  async check(testCase: VerifyCase): Promise<CaseResult> {
    const running = this.#process ?? (await this.#open());
    try {
      const reply = await running.ask({ kind: 'check', testCase }, this.#settings.caseTimeoutMs);
      if (reply.kind === 'checked') return reply.result;
      throw new Error(`a worker answered '${reply.kind}' to a case`);
    } catch (error) {
      if (!(error instanceof Dead)) throw error;
      this.#process = undefined;
      const { name, modelFile } = testCase;
      return { name, modelFile, status: 'error', error: error.report };
    }
  }

  async end(): Promise<void> {
    await this.#process?.leave();
  }

  async #open(): Promise<WorkerProcess> {
    const started = startProcess(this.#settings);
    this.#process = started;
    const reply = await started.ask(this.#settings.open, OPEN_TIMEOUT_MS).catch((error: unknown) => {
      this.#process = undefined;
      started.kill();
      throw error instanceof Dead ? new TsrtError('BACKEND_UNAVAILABLE', error.report.message, { details: error.report.details ?? [] }) : error;
    });
    if (reply.kind !== 'opened') throw new Error(`a worker answered '${reply.kind}' when it was opened`);
    return started;
  }
}

interface WorkerProcess {
  /** One request at a time. Rejects with Dead where the process ends or takes too long; it is then gone. */
  ask(request: Request, timeoutMs: number): Promise<Reply>;
  /** Ends it in peace where it has nothing to do, so that a driver keeps the kernels that it compiled, and at once where it has. */
  leave(): Promise<void>;
  kill(): void;
}

function startProcess({ entry, environment, goodbyeMs = GOODBYE_MS }: PoolSettings): WorkerProcess {
  const child = fork(entry ?? builtEntry('verify-worker'), [], {
    env: { ...process.env, ...environment },
    execArgv: [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  let ended: Dead | undefined;
  let pending: Deferred<Reply> | undefined;
  const end = (message: string): void => {
    const details = stderr.trim().split('\n').filter(Boolean).slice(-LAST_LINES);
    ended ??= new Dead({ code: 'INTERNAL', message, details });
    pending?.reject(ended);
  };
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_LIMIT);
  });
  child.on('message', (reply: Reply) => pending?.resolve(reply));
  // 'close' comes after the pipes are drained, so that the last words of a crash are there.
  child.on('close', (code, signal) => end(`the worker process died (${signal ?? `exit ${code}`})`));
  child.on('error', (error) => end(`the worker process did not start: ${error.message}`));
  const kill = (): void => void child.kill('SIGKILL');
  return {
    kill,
    async leave() {
      if (ended) return;
      if (pending) return kill();
      const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
      const late = setTimeout(kill, goodbyeMs);
      child.send({ kind: 'bye' } satisfies Request, () => {});
      await closed;
      clearTimeout(late);
    },
    async ask(request, timeoutMs) {
      if (ended) throw ended;
      pending = deferred<Reply>();
      const timer = setTimeout(() => {
        end(`the worker process did not answer within ${timeoutMs / 1000} s and was ended`);
        kill();
      }, timeoutMs);
      // A failed write means that the process is gone; 'close' tells how it went.
      child.send(request, () => {});
      const reply = await pending.promise.finally(() => {
        clearTimeout(timer);
        pending = undefined;
      });
      if (reply.kind === 'failed') throw errorFrom(reply.error);
      return reply;
    },
  };
}

/** A worker that is gone. */
class Dead extends Error {
  readonly report: ErrorReport;
  constructor(report: ErrorReport) {
    super(report.message);
    this.report = report;
  }
}
