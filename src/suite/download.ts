/**
 * Fetches a pinned file: mirrors in order, resumed after a cut, checked against its size and SHA-256 before anyone sees it.
 *
 * The bytes gather in `<target>.part` and are renamed when they are right. A resume asks for `Range` with `If-Range` (RFC 9110
 * §13.1.5, §14.2), so that a server whose file changed sends all of it again. Proxies are those of the environment.
 */
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Dispatcher, EnvHttpProxyAgent, errors, interceptors, request } from 'undici';
import { TsrtError } from '../errors.ts';
import { sha256File, writeCache } from './cache.ts';
import type { Download } from './schema.ts';

export interface DownloadOptions {
  readonly onProgress?: ((receivedBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** To connect, to get headers, and between two pieces of the body; in milliseconds. */
  readonly connectTimeoutMs?: number;
  readonly stallTimeoutMs?: number;
  /** First pause before a retry; doubles with each. */
  readonly retryPauseMs?: number;
}

/** `unreachable`: no mirror gave the file. `mismatch`: one gave something else than what is pinned. */
export type DownloadResult =
  | { readonly status: 'downloaded' }
  | { readonly status: 'unreachable'; readonly reasons: readonly string[] }
  | { readonly status: 'mismatch'; readonly reasons: readonly string[] };

/** Retries of one mirror that bring no further byte. */
const RETRIES = 2;

/** Why one attempt ended. */
type Attempt =
  | { readonly status: 'complete' }
  | { readonly status: 'retry'; readonly reason: string }
  | { readonly status: 'give-up'; readonly reason: string }
  | { readonly status: 'mismatch'; readonly reason: string };

interface Transfer {
  readonly pinned: Download;
  readonly part: string;
  readonly dispatcher: Dispatcher;
  readonly options: DownloadOptions;
}

/** Brings the pinned file to `target`. Throws only for the user's abort and for a folder that can't be written. */
export async function download(pinned: Download, target: string, options: DownloadOptions = {}): Promise<DownloadResult> {
  const part = `${target}.part`;
  if ((await sizeOf(part)) >= pinned.bytes && (await sha256File(part)) !== pinned.sha256) await rm(part);
  let agent: EnvHttpProxyAgent;
  try {
    agent = proxyAgent(options);
  } catch (error) {
    return { status: 'unreachable', reasons: [`the proxy settings of the environment are invalid: ${(error as Error).message}`] };
  }
  const transfer: Transfer = { pinned, part, options, dispatcher: agent.compose(interceptors.redirect({ maxRedirections: 8 })) };
  const reasons: string[] = [];
  let mismatch = false;
  try {
    for (const url of pinned.urls) {
      const outcome = await fromMirror(transfer, url);
      if (outcome.status === 'complete') {
        await writeCache(() => rename(part, target));
        await rm(etagFile(part), { force: true });
        return { status: 'downloaded' };
      }
      mismatch ||= outcome.status === 'mismatch';
      reasons.push(`${new URL(url).host}: ${outcome.reason}`);
    }
  } finally {
    await agent.destroy();
  }
  return { status: mismatch ? 'mismatch' : 'unreachable', reasons };
}

function proxyAgent({ connectTimeoutMs = 3000, stallTimeoutMs = 10_000 }: DownloadOptions): EnvHttpProxyAgent {
  return new EnvHttpProxyAgent({
    connect: { timeout: connectTimeoutMs },
    headersTimeout: stallTimeoutMs,
    bodyTimeout: stallTimeoutMs,
  });
}

/** Attempts until the file is whole and right, or the mirror brings nothing new `RETRIES` times. */
async function fromMirror(transfer: Transfer, url: string): Promise<Attempt> {
  const { part, options } = transfer;
  let pauseMs = options.retryPauseMs ?? 500;
  for (let retries = 0; ; retries++) {
    const before = await sizeOf(part);
    const attempt = await attemptOnce(transfer, url, before);
    options.signal?.throwIfAborted();
    if (attempt.status === 'complete') return checkPart(transfer);
    if (attempt.status !== 'retry') return attempt;
    if ((await sizeOf(part)) > before) retries = 0;
    if (retries >= RETRIES) return { status: 'give-up', reason: attempt.reason };
    await sleep(pauseMs, undefined, options.signal ? { signal: options.signal } : {});
    pauseMs = Math.min(pauseMs * 2, 8000);
  }
}

async function attemptOnce(transfer: Transfer, url: string, offset: number): Promise<Attempt> {
  const { pinned, part, dispatcher, options } = transfer;
  if (offset === pinned.bytes) return { status: 'complete' };
  const etag = offset > 0 ? await readFile(etagFile(part), 'utf8').catch(() => '') : '';
  try {
    const response = await request(url, {
      dispatcher,
      headers: {
        'user-agent': 'tsrt-bench',
        ...(offset > 0 && { range: `bytes=${offset}-` }),
        ...(etag !== '' && { 'if-range': etag }),
      },
      ...(options.signal && { signal: options.signal }),
    });
    const attempt = await receive(transfer, response, offset);
    if (attempt.status !== 'complete') response.body.destroy();
    return attempt;
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason;
    return networkFailure(error);
  }
}

async function receive(transfer: Transfer, response: Dispatcher.ResponseData, offset: number): Promise<Attempt> {
  const { pinned, part } = transfer;
  const { statusCode, headers, body } = response;
  body.on('error', () => undefined);
  if (statusCode === 416) {
    await rm(part, { force: true });
    return { status: 'retry', reason: 'the server refused to resume' };
  }
  if (statusCode !== 200 && statusCode !== 206) {
    const status = statusCode === 408 || statusCode === 429 || statusCode >= 500 ? 'retry' : 'give-up';
    return { status, reason: `the server answered ${statusCode}` };
  }
  const start = statusCode === 206 ? rangeStart(headers['content-range']) : 0;
  if (start !== 0 && start !== offset) {
    await rm(part, { force: true });
    return { status: 'retry', reason: 'the server sent a part that was not requested' };
  }
  const length = Number(headers['content-length'] ?? Number.NaN);
  if (Number.isFinite(length) && start + length !== pinned.bytes) {
    return { status: 'mismatch', reason: `the file has ${start + length} bytes, but ${pinned.bytes} were expected` };
  }
  const etag = headers['etag'];
  // A weak validator must not be used with If-Range.
  if (typeof etag === 'string' && !etag.startsWith('W/')) await writeCache(() => writeFile(etagFile(part), etag));
  else await rm(etagFile(part), { force: true });
  return appendBody(transfer, body, start);
}

async function appendBody(transfer: Transfer, body: AsyncIterable<unknown>, start: number): Promise<Attempt> {
  const { pinned, part, options } = transfer;
  const file = await writeCache(() => open(part, start === 0 ? 'w' : 'a'));
  let received = start;
  try {
    for await (const chunk of body) {
      const bytes = chunk as Buffer;
      if (received + bytes.length > pinned.bytes) {
        return { status: 'mismatch', reason: `the file has more than the ${pinned.bytes} bytes expected` };
      }
      await writeCache(() => file.writeFile(bytes));
      received += bytes.length;
      options.onProgress?.(received, pinned.bytes);
    }
  } finally {
    await file.close();
  }
  if (received === pinned.bytes) return { status: 'complete' };
  return { status: 'retry', reason: `the connection ended after ${received} of ${pinned.bytes} bytes` };
}

async function checkPart({ pinned, part }: Transfer): Promise<Attempt> {
  const actual = await sha256File(part);
  if (actual === pinned.sha256) return { status: 'complete' };
  await rm(part, { force: true });
  return { status: 'mismatch', reason: `SHA-256 is ${actual}, expected ${pinned.sha256}` };
}

/** The connection was there and broke, or went quiet: worth another try from where it ended. */
const CUT_CODES = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH']);

const PLAIN_REASONS: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the host name is not known (no network?)',
  EAI_AGAIN: 'the host name can’t be looked up now (no network?)',
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection was cut',
  UND_ERR_CONNECT_TIMEOUT: 'no connection within the time limit',
  UND_ERR_HEADERS_TIMEOUT: 'no answer within the time limit',
  UND_ERR_BODY_TIMEOUT: 'the server stopped sending',
  UND_ERR_SOCKET: 'the connection was cut',
};

/** What an error of the network means for the next attempt. */
function networkFailure(error: unknown): Attempt {
  if (error instanceof TsrtError) throw error;
  const codes = errorCodes(error);
  const known = codes.map((code) => PLAIN_REASONS[code]).find((text) => text !== undefined);
  const reason = known ?? (error instanceof Error && error.message !== '' ? error.message : (codes[0] ?? 'the connection failed'));
  if (codes.some((code) => CUT_CODES.has(code))) return { status: 'retry', reason };
  // Everything else (no such host, refused, no route, connect or header timeout) is not better a second later.
  if (error instanceof errors.UndiciError || codes.length > 0) return { status: 'give-up', reason };
  throw error;
}

function errorCodes(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const { code } = error as { readonly code?: unknown };
  const inner = error instanceof AggregateError ? error.errors.flatMap(errorCodes) : errorCodes(error.cause);
  return [...(typeof code === 'string' ? [code] : []), ...inner];
}

function rangeStart(header: string | string[] | undefined): number | undefined {
  const match = /^bytes (\d+)-/.exec(String(header));
  return match ? Number(match[1]) : undefined;
}

function etagFile(part: string): string {
  return `${part}.etag`;
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}
