/**
 * A program that speaks the protocol: started, asked one thing at a time, and ended with all that it started.
 *
 * Whatever breaks the conversation (a line that is not a reply, silence beyond the limit, an exit) ends the program and becomes a
 * TsrtError that names it, with the end of what it wrote to stderr.
 */
import { TsrtError } from '../../errors.ts';
import { TOOL_VERSION } from '../../version.ts';
import { startGroup } from './group.ts';
import { type Capability, FAILURES, type Line, parseLine, parseReply, PROTOCOL_VERSION, type ReplyBody, type RequestName } from './protocol.ts';

export interface ProgramLaunch {
  /** In messages: the backend's name. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** The folder through which tensors and parts travel. */
  readonly folder: string;
}

export interface AskOptions {
  /** Longest silence; progress counts as a sign of life. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((step: string, done: number, total: number) => void) | undefined;
}

export interface Program {
  /** Rejects with TsrtError; after any but one that the program itself reported, the program has ended. */
  ask<K extends RequestName>(request: K, body: object, options: AskOptions): Promise<ReplyBody<K>>;
  /** What the program last said of its device memory. */
  deviceBytes(): number | undefined;
  readonly pid: number | undefined;
  /** Says goodbye and waits a moment, then ends it and all that it started. Never rejects. */
  close(): Promise<void>;
  kill(): Promise<void>;
}

export interface Greeted {
  readonly program: Program;
  readonly hello: ReplyBody<'hello'>;
  can(capability: Capability): boolean;
}

/** Characters of stderr that are kept, the last ones. */
const STDERR_LIMIT = 8192;
/** Lines of it that an error shows. */
const STDERR_LINES = 20;
/** A reply is small, because tensors lie in files; a program that writes more than this without a line feed is not replying. */
const LINE_LIMIT = 16 * 2 ** 20;
const SHOWN = 200;
/** Characters of a failure's message, and its details, that are passed on. */
const TOLD = 4000;
const DETAILS = 50;
const GOODBYE_MS = 2000;
const DRAIN_MS = 500;

/** Starts a program and shakes hands. Rejects with TsrtError: BACKEND_UNAVAILABLE where it can't be started, PLUGIN_INVALID for another protocol. */
export async function startProgram(launch: ProgramLaunch, options: AskOptions): Promise<Greeted> {
  const program = openProgram(launch);
  try {
    const tool = { name: 'tsrt-bench', version: TOOL_VERSION };
    const hello = await program.ask('hello', { protocol: PROTOCOL_VERSION, tool, folder: launch.folder }, options);
    if (hello.protocol !== PROTOCOL_VERSION) {
      throw new TsrtError('PLUGIN_INVALID', `${launch.name}: the program speaks protocol ${hello.protocol}, this version speaks ${PROTOCOL_VERSION}`, {
        plugin: launch.name,
        fix: 'install a version of the plugin that fits this version of tsrt-bench',
      });
    }
    return { program, hello, can: (capability) => hello.capabilities.includes(capability) };
  } catch (error) {
    await program.kill();
    throw error;
  }
}

/** A request that waits for its reply. */
interface Pending {
  readonly id: number;
  readonly request: RequestName;
  readonly resolve: (body: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: AskOptions['onProgress'];
  readonly alive: () => void;
}

function openProgram(launch: ProgramLaunch): Program {
  const { name, command } = launch;
  const group = startGroup({ ...launch, env: { ...launch.env, TSRT_BENCH_PROTOCOL: String(PROTOCOL_VERSION) }, stdio: ['pipe', 'pipe', 'pipe'] });
  const { child } = group;
  let stderr = '';
  let pending: Pending | undefined;
  let nextId = 1;
  let deviceBytes: number | undefined;
  let ended: TsrtError | undefined;

  const failure = (what: string, fix: string, code: 'BACKEND_FAILED' | 'PLUGIN_INVALID' | 'BACKEND_UNAVAILABLE' = 'BACKEND_FAILED') =>
    new TsrtError(code, `${name}: ${what}`, { plugin: name, fix, details: tailOf(stderr) });
  const end = (error: TsrtError): void => {
    ended ??= error;
    pending?.reject(ended);
    void group.kill();
  };
  const doing = (): string => (pending ? `during '${pending.request}'` : 'between requests');

  const receive = (text: string): void => {
    let line: Line;
    try {
      line = parseLine(text);
      if (line.id !== pending?.id) throw new Error(pending ? `it answers request ${line.id}, and ${pending.id} is under way` : 'nothing was asked');
    } catch (error) {
      end(failure(`the program wrote a line ${doing()} that is not a reply, ${(error as Error).message}: ${shorten(text)}`, 'print nothing but replies to stdout; other output belongs on stderr', 'PLUGIN_INVALID'));
      return;
    }
    if ('event' in line) {
      pending.alive();
      pending.onProgress?.(line.step, line.done, line.total);
    } else if (!line.ok) {
      const { code, message, fix, details } = line.error;
      pending.reject(new TsrtError(FAILURES[code], `${name}: ${told(message)}`, { plugin: name, details: [...details.slice(0, DETAILS).map(told), ...tailOf(stderr)], ...(fix !== undefined && { fix: told(fix) }) }));
    } else {
      deviceBytes = line.deviceBytes ?? deviceBytes;
      pending.resolve(line.body);
    }
  };
  readLines(child.stdout!, receive, () =>
    end(failure(`the program wrote ${LINE_LIMIT} bytes ${doing()} without a line feed`, 'send tensors in files, not in lines', 'PLUGIN_INVALID')),
  );
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
    stderr = (stderr + chunk).slice(-STDERR_LIMIT);
    // A measuring worker's own stderr goes into the record of a case that fails.
    if (process.connected) process.stderr.write(chunk);
  });
  // A program that is gone shows in `exited`.
  child.stdin!.on('error', () => {});
  for (const stream of [child.stdin, child.stdout, child.stderr]) (stream as unknown as { unref?: () => void }).unref?.();
  const drained = new Promise((resolve) => child.once('close', resolve));
  const onExit = async ({ code, signal, error }: Awaited<typeof group.exited>): Promise<void> => {
    // The last lines may still be in the pipe; a grandchild that left the group may keep it open.
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, DRAIN_MS))]);
    const cause = error as NodeJS.ErrnoException | undefined;
    if (cause) end(failure(`'${command}' can't be started: ${cause.code === 'ENOENT' ? 'there is no such program' : cause.message}`, `install it, or put it on the PATH`, 'BACKEND_UNAVAILABLE'));
    else end(failure(`the program ended ${signal ? `by ${signal}` : `with status ${code}`} ${doing()}`, `${lastWords(stderr)}; run it by hand to see more`));
  };
  void group.exited.then(onExit).catch(() => {});

  const ask = async <K extends RequestName>(request: K, body: object, { timeoutMs, signal, onProgress }: AskOptions): Promise<ReplyBody<K>> => {
    signal?.throwIfAborted();
    if (ended) throw ended;
    if (pending) throw new Error('a program is asked one thing at a time');
    const id = nextId++;
    let timer: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      pending?.reject(signal?.reason);
      void group.kill();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const reply = await new Promise<unknown>((resolve, reject) => {
      const alive = (): void => {
        clearTimeout(timer);
        timer = setTimeout(() => end(failure(`no answer to '${request}' in ${timeoutMs / 1000} s`, 'raise the time limit, or find out why the program hangs')), timeoutMs);
      };
      pending = { id, request, resolve, reject, onProgress, alive };
      alive();
      child.stdin!.write(`${JSON.stringify({ id, request, ...body })}\n`);
    }).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      pending = undefined;
    });
    try {
      return parseReply(request, reply);
    } catch (error) {
      end(failure(`the reply to '${request}' is wrong: ${(error as Error).message}: ${shorten(JSON.stringify(reply))}`, 'see docs/external-protocol.md for what it may hold', 'PLUGIN_INVALID'));
      throw ended!;
    }
  };

  return {
    ask,
    pid: child.pid,
    deviceBytes: () => deviceBytes,
    kill: group.kill,
    async close() {
      if (!ended && !pending) await ask('dispose', {}, { timeoutMs: GOODBYE_MS }).catch(() => {});
      child.stdin!.end();
      const late = setTimeout(() => void group.kill(), GOODBYE_MS);
      await group.exited;
      clearTimeout(late);
    },
  };
}

function readLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void, onFlood: () => void): void {
  let rest = '';
  stream.setEncoding('utf8').on('data', (chunk: string | Buffer) => {
    rest += String(chunk);
    if (rest.length > LINE_LIMIT) return onFlood();
    if (!chunk.includes('\n')) return;
    const lines = rest.split('\n');
    rest = lines.pop()!;
    for (const line of lines) if (line.trim() !== '') onLine(line.replace(/\r$/, ''));
  });
}

/** What a program wrote, for a message: what steers a terminal becomes visible. */
function shorten(text: string): string {
  const shown = text.slice(0, SHOWN).replace(/\p{Cc}/gu, '·');
  return text.length > SHOWN ? `${shown}… (${text.length} characters)` : shown;
}

/** What a program tells of a failure: lines stay lines, and a book is cut off. */
function told(text: string): string {
  const shown = text.slice(0, TOLD).replace(/[^\P{Cc}\n\t]/gu, '·');
  return text.length > TOLD ? `${shown}… (${text.length} characters)` : shown;
}

function lastWords(stderr: string): string {
  const line = stderr.trimEnd().split('\n').at(-1)!;
  return line === '' ? 'it wrote nothing to stderr' : `its last words: ${shorten(line)}`;
}

function tailOf(stderr: string): string[] {
  const lines = stderr.trimEnd().split('\n').filter((line) => line.trim() !== '');
  return lines.slice(-STDERR_LINES).map((line) => `stderr: ${shorten(line)}`);
}
