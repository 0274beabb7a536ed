/**
 * Objects behind HTTP: GET, PUT and DELETE with conditions (RFC 9110, §13), retried where a retry can help. Proxies are those of
 * the environment. What a request carried never appears in an error.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type * as Undici from 'undici';
import { TsrtError } from '../../errors.ts';

/** A request before it is signed. */
export interface PlainRequest {
  readonly method: Method;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

type Method = 'GET' | 'PUT' | 'DELETE';

/** Where objects are, and what their requests need. */
export interface ObjectTarget {
  /** For people. */
  readonly label: string;
  urlOf(key: string): string;
  /** Headers to send: authorization, signature. */
  headers(plain: PlainRequest): Promise<Readonly<Record<string, string>>>;
  /** The way out where the server refuses. */
  readonly denied: string;
}

export interface StoredObject {
  readonly bytes: Buffer;
  /** Undefined where the server has none that a condition can rest on. */
  readonly etag: string | undefined;
}

/** `absent`: only where nothing is there. `etag`: only where that is there. */
export type Condition = { readonly kind: 'absent' } | { readonly kind: 'etag'; readonly etag: string } | undefined;

export interface Objects {
  readonly label: string;
  placeOf(key: string): string;
  /** Undefined where there is none. */
  get(key: string): Promise<StoredObject | undefined>;
  /** `conflict`: the condition does not hold. `unconditional`: the server knows no conditions; nothing was written. */
  put(key: string, text: string, condition?: Condition): Promise<'written' | 'conflict' | 'unconditional'>;
  remove(key: string): Promise<void>;
}

export interface HttpOptions {
  /** To connect, to get headers, and between two pieces of the body. */
  readonly timeoutMs?: number;
  /** First pause before a retry; doubles with each. */
  readonly retryPauseMs?: number;
}

const RETRIES = 3;

/** A store of baselines is small; a body beyond this is something else. */
const LARGEST_BODY_BYTES = 256 * 2 ** 20;

interface Answer {
  readonly status: number;
  readonly etag: string | undefined;
  readonly bytes: Buffer;
}

/** Every method throws STORE_UNAVAILABLE where the server can't be reached, refuses, or fails for good. */
export function httpObjects(target: ObjectTarget, { timeoutMs = 15_000, retryPauseMs = 400 }: HttpOptions = {}): Objects {
  const ask = async (method: Method, key: string, headers: Readonly<Record<string, string>> = {}, body?: string): Promise<Answer> => {
    const url = target.urlOf(key);
    // The client is loaded by commands whose baselines are behind HTTP alone.
    const client = await import('undici');
    const agent = new client.EnvHttpProxyAgent({ connect: { timeout: timeoutMs }, headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
    try {
      let trouble = '';
      for (let attempt = 0; attempt <= RETRIES; attempt++) {
        if (attempt > 0) await sleep(retryPauseMs * 2 ** (attempt - 1));
        const answer = await once(client.request, agent, target, { method, url, headers, body });
        if (typeof answer === 'string') trouble = answer;
        else if (isPassing(answer.status)) trouble = `it answered ${answer.status}`;
        else return answer;
      }
      throw new TsrtError('STORE_UNAVAILABLE', `the baseline store can't be reached: ${trouble}, ${RETRIES + 1} times`, {
        place: url,
        fix: 'try again later, or check the address given with --store and the proxy settings of the environment',
      });
    } finally {
      await agent.destroy();
    }
  };
  const refused = (method: Method, key: string, answer: Answer): TsrtError => refusal(target, method, key, answer);
  return {
    label: target.label,
    placeOf: (key) => target.urlOf(key),
    async get(key) {
      const answer = await ask('GET', key);
      if (answer.status === 200) return { bytes: answer.bytes, etag: answer.etag };
      if (answer.status === 404 && !isMissingBucket(answer)) return undefined;
      throw refused('GET', key, answer);
    },
    async put(key, text, condition) {
      const headers = { 'content-type': key.endsWith('.json') ? 'application/json' : 'application/x-ndjson', ...conditionHeaders(condition) };
      const answer = await ask('PUT', key, headers, text);
      if (answer.status >= 200 && answer.status < 300) return 'written';
      if (condition && (answer.status === 412 || answer.status === 409)) return 'conflict';
      if (condition && answer.status === 501) return 'unconditional';
      throw refused('PUT', key, answer);
    },
    async remove(key) {
      const answer = await ask('DELETE', key);
      if ((answer.status >= 200 && answer.status < 300) || answer.status === 404) return;
      throw refused('DELETE', key, answer);
    },
  };
}

function conditionHeaders(condition: Condition): Readonly<Record<string, string>> {
  if (condition === undefined) return {};
  return condition.kind === 'absent' ? { 'if-none-match': '*' } : { 'if-match': condition.etag };
}

/** Worth another try; 501 says that there never will be. */
function isPassing(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501);
}

/** An answer, or why there was none. */
async function once(request: typeof Undici.request, agent: Undici.EnvHttpProxyAgent, target: ObjectTarget, plain: PlainRequest): Promise<Answer | string> {
  const { method, url, body } = plain;
  try {
    const signed = await target.headers(plain);
    const { statusCode, headers, body: stream } = await request(url, {
      dispatcher: agent,
      method,
      headers: { ...plain.headers, 'user-agent': 'tsrt-bench', ...signed },
      ...(body !== undefined && { body }),
    });
    const bytes: Buffer[] = [];
    let size = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > LARGEST_BODY_BYTES) return 'it sent more than a baseline can hold';
      bytes.push(chunk);
    }
    const etag = headers['etag'];
    // A weak validator must not be used with If-Match (RFC 9110, §13.1.1).
    return { status: statusCode, etag: typeof etag === 'string' && !etag.startsWith('W/') ? etag : undefined, bytes: Buffer.concat(bytes) };
  } catch (error) {
    if (error instanceof TsrtError) throw error;
    return networkTrouble(error);
  }
}

function networkTrouble(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  switch (code) {
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
    case 'ETIMEDOUT':
      return 'it did not answer in time';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return "its host name can't be resolved";
    case 'ECONNREFUSED':
      return 'nothing listens there';
    case 'UND_ERR_SOCKET':
    case 'ECONNRESET':
    case 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH':
      return 'it closed the connection';
    default:
      return code === '' ? 'the request failed' : `the request failed (${code})`;
  }
}

function isMissingBucket({ bytes }: Answer): boolean {
  return bytes.subarray(0, 4096).includes('<Code>NoSuchBucket</Code>');
}

function refusal(target: ObjectTarget, method: Method, key: string, answer: Answer): TsrtError {
  const place = target.urlOf(key);
  const { status } = answer;
  if (isMissingBucket(answer)) return new TsrtError('STORE_UNAVAILABLE', `there is no such bucket: ${target.label}`, { place, fix: 'make the bucket first, or check its name and AWS_ENDPOINT_URL' });
  if (status === 401 || status === 403) return new TsrtError('STORE_UNAVAILABLE', `the baseline store refused the request (${status} to ${method})`, { place, fix: target.denied });
  if (status >= 300 && status < 400) {
    return new TsrtError('STORE_UNAVAILABLE', `the baseline store is at another address (${status})`, { place, fix: 'give its own address with --store; for S3, the region of the bucket with AWS_REGION' });
  }
  const fix = status === 404 || status === 405 || status === 501 ? 'check that the address given with --store takes GET and PUT' : 'check the address given with --store';
  return new TsrtError('STORE_UNAVAILABLE', `the baseline store answered ${status} to ${method}`, { place, fix });
}
