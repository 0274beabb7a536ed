/** The kit's worker process as something to ask: started again after a crash or a hang, which becomes the answer. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { TsrtError } from '../errors.ts';
import type { KitReply, KitRequest } from './messages.ts';

export interface LaneSettings {
  readonly open: Extract<KitRequest, { kind: 'open' }>;
  /** Added to this process's: driver paths, say. */
  readonly environment: Readonly<Record<string, string>>;
}

export type Answer = Extract<KitReply, { kind: 'passed' | 'refused' | 'failed' }> | { readonly kind: 'hung' } | { readonly kind: 'died'; readonly message: string };

/** What loading may take. */
const OPEN_TIMEOUT_MS = 60_000;
const LAST_LINES = 3;

export class Lane {
  readonly #settings: LaneSettings;
  #child: ChildProcess | undefined;
  #stderr = '';

  constructor(settings: LaneSettings) {
    this.#settings = settings;
  }

  /** Throws what the plugin raised while it was loaded. */
  async check(request: Extract<KitRequest, { kind: 'check' }>, timeoutMs: number): Promise<Answer> {
    await this.open();
    const reply = await this.#ask(request, timeoutMs);
    if (reply.kind === 'broken') throw fromReport(reply);
    return reply.kind === 'opened' ? { kind: 'died', message: 'the worker was opened twice' } : reply;
  }

  /** Loads the plugins. Throws what they raise meanwhile, and PLUGIN_FAILED where they don't come to an end in time. */
  async open(timeoutMs = OPEN_TIMEOUT_MS): Promise<void> {
    if (!this.#child) await this.#open(timeoutMs);
  }

  end(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }

  async #open(timeoutMs: number): Promise<void> {
    this.#stderr = '';
    this.#child = fork(entry(), [], {
      env: { ...process.env, ...this.#settings.environment },
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const child = this.#child;
    child.once('close', () => {
      if (this.#child === child) this.#child = undefined;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4096);
    });
    const reply = await this.#ask(this.#settings.open, timeoutMs);
    if (reply.kind === 'opened') return;
    this.end();
    if (reply.kind === 'broken') throw fromReport(reply);
    throw new TsrtError('PLUGIN_FAILED', reply.kind === 'hung' ? `loading it takes longer than ${timeoutMs / 1000} s` : 'the worker process died while it loaded the plugin', {
      ...(reply.kind === 'died' && { details: [reply.message] }),
      fix: 'mend what the module does when it is imported',
    });
  }

  #ask(request: KitRequest, timeoutMs: number): Promise<Exclude<KitReply, never> | Answer> {
    const child = this.#child!;
    return new Promise((resolve) => {
      const settle = (answer: KitReply | Answer): void => {
        clearTimeout(timer);
        child.off('message', settle);
        child.off('close', died);
        resolve(answer);
      };
      const died = (code: number | null, signal: string | null): void => {
        this.#child = undefined;
        const words = this.#stderr.trim().split('\n').filter(Boolean).slice(-LAST_LINES).join(' ');
        settle({ kind: 'died', message: `the process died (${signal ?? `exit ${code}`})${words ? `: ${words}` : ''}` });
      };
      const timer = setTimeout(() => {
        this.end();
        settle({ kind: 'hung' });
      }, timeoutMs);
      child.on('message', settle);
      child.once('close', died);
      child.send(request, () => {});
    });
  }
}

function fromReport({ error }: Extract<KitReply, { kind: 'broken' }>): Error {
  const { code, message, stack, ...rest } = error;
  if (code !== 'INTERNAL') return new TsrtError(code, message, rest);
  const thrown = new Error(message);
  if (stack !== undefined) thrown.stack = stack;
  return thrown;
}

/** Workers run the built code, also under a test runner that reads TypeScript. */
function entry(): string {
  return fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../../dist/src/kit/worker.js' : './worker.js', import.meta.url));
}
