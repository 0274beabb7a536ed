/** The kit's worker process as something to ask: started again after a crash or a hang, which becomes the answer. */
import { fork, type ChildProcess } from 'node:child_process';
import { builtEntry } from '../entries.ts';
import { TsrtError } from '../errors.ts';
import type { KitReply, KitRequest } from './messages.ts';

export interface LaneSettings {
  readonly open: Extract<KitRequest, { kind: 'open' }>;
  /** Added to this process's: driver paths, say. */
  readonly environment: Readonly<Record<string, string>>;
  /** Ends the worker; what is asked then, or was not yet answered, throws the signal's reason. */
  readonly signal: AbortSignal | undefined;
}

/** What the worker says, by the kind of the request. */
interface Replies {
  readonly open: Extract<KitReply, { kind: 'opened' }>;
  readonly check: Extract<KitReply, { kind: 'passed' | 'refused' | 'failed' }>;
  readonly part: Extract<KitReply, { kind: 'judged' }>;
}
type Broken = Extract<KitReply, { kind: 'broken' }>;
type Lost = { readonly kind: 'hung' } | { readonly kind: 'died'; readonly message: string };
type Asked = KitRequest['kind'];

export type Answer = Replies['check'] | Lost;
export type PartAnswer = Replies['part'] | Lost;

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
  check(request: Extract<KitRequest, { kind: 'check' }>, timeoutMs: number): Promise<Answer> {
    return this.#answer<'check'>(request, timeoutMs);
  }

  /** Throws what the plugin raised while it was loaded. */
  checkPart(request: Extract<KitRequest, { kind: 'part' }>, timeoutMs: number): Promise<PartAnswer> {
    return this.#answer<'part'>(request, timeoutMs);
  }

  /** Loads the plugins. Throws what they raise meanwhile, and PLUGIN_FAILED where they don't come to an end in time. */
  async open(timeoutMs = OPEN_TIMEOUT_MS): Promise<void> {
    this.#settings.signal?.throwIfAborted();
    if (!this.#child) await this.#open(timeoutMs);
  }

  end(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }

  async #answer<K extends Asked>(request: Extract<KitRequest, { kind: K }>, timeoutMs: number): Promise<Replies[K] | Lost> {
    await this.open();
    const reply = await this.#ask<K>(request, timeoutMs);
    if (reply.kind === 'broken') throw fromReport(reply);
    return reply;
  }

  async #open(timeoutMs: number): Promise<void> {
    this.#stderr = '';
    this.#child = fork(builtEntry('kit-worker'), [], {
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
      // A worker that was ended may have words left, which are not the next one's.
      if (this.#child === child) this.#stderr = (this.#stderr + text).slice(-4096);
    });
    const reply = await this.#ask<'open'>(this.#settings.open, timeoutMs);
    if (reply.kind === 'opened') return;
    this.end();
    if (reply.kind === 'broken') throw fromReport(reply);
    throw new TsrtError('PLUGIN_FAILED', reply.kind === 'hung' ? `loading it takes longer than ${timeoutMs / 1000} s` : 'the worker process died while it loaded the plugin', {
      ...(reply.kind === 'died' && { details: [reply.message] }),
      fix: 'correct what the module does on import',
    });
  }

  #ask<K extends Asked>(request: Extract<KitRequest, { kind: K }>, timeoutMs: number): Promise<Replies[K] | Broken | Lost> {
    const child = this.#child!;
    const { signal } = this.#settings;
    return new Promise((resolve, reject) => {
      const settle = (answer: Replies[K] | Broken | Lost): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', giveUp);
        child.off('message', settle);
        child.off('close', died);
        if (signal?.aborted) reject(signal.reason as Error);
        else resolve(answer);
      };
      const died = (code: number | null, signal: string | null): void => {
        this.#child = undefined;
        const words = this.#stderr.trim().split('\n').filter(Boolean).slice(-LAST_LINES).join(' ');
        settle({ kind: 'died', message: `the process died (${signal ?? `exit ${code}`})${words ? `: ${words}` : ''}` });
      };
      const giveUp = (): void => {
        this.end();
        settle({ kind: 'hung' });
      };
      const timer = setTimeout(giveUp, timeoutMs);
      signal?.addEventListener('abort', giveUp);
      child.on('message', settle);
      child.once('close', died);
      child.send(request, () => {});
    });
  }
}

function fromReport({ error }: Broken): Error {
  const { code, message, stack, ...rest } = error;
  if (code !== 'INTERNAL') return new TsrtError(code, message, rest);
  const thrown = new Error(message);
  if (stack !== undefined) thrown.stack = stack;
  return thrown;
}
