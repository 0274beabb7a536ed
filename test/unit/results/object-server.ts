/** A stand-in for an S3-compatible store or a plain HTTP one, on the loopback, with conditions (RFC 9110) and faults. */
import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** True: it answered itself. */
export type Fault = (asked: Asked, response: ServerResponse, call: number) => boolean;

export interface ObjectServer {
  readonly url: string;
  readonly objects: Map<string, string>;
  readonly asked: Asked[];
  /** Looked at before each answer. */
  fault: Fault;
  conditions: 'kept' | 'refused' | 'unknown';
}

export async function serveObjects(): Promise<ObjectServer> {
  const state: { -readonly [K in keyof ObjectServer]: ObjectServer[K] } = { url: '', objects: new Map(), asked: [], fault: () => false, conditions: 'kept' };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const asked = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() };
      state.asked.push(asked);
      if (!state.fault(asked, response, state.asked.length - 1)) answer(state, asked, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return state;
}

const etagOf = (body: string) => `"${createHash('md5').update(body).digest('hex')}"`;

function answer({ objects, conditions }: ObjectServer, { method, path, headers, body }: Asked, response: ServerResponse): void {
  const now = objects.get(path);
  const etag = now === undefined ? undefined : etagOf(now);
  const tagged = conditions === 'unknown' ? {} : { etag };
  if (method === 'GET') {
    if (now === undefined) response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
    else response.writeHead(200, etag && conditions !== 'unknown' ? { etag } : {}).end(now);
    return;
  }
  const wanted = headers['if-match'];
  const conditional = wanted !== undefined || headers['if-none-match'] !== undefined;
  if (conditional && conditions === 'refused') return void response.writeHead(501).end();
  if (conditions === 'kept' && ((wanted !== undefined && wanted !== etag) || (headers['if-none-match'] === '*' && now !== undefined))) return void response.writeHead(412).end();
  if (method === 'PUT') objects.set(path, body);
  if (method === 'DELETE') objects.delete(path);
  response.writeHead(method === 'PUT' ? 200 : 204, tagged.etag === undefined ? {} : { etag: tagged.etag }).end();
}

/** Signature Version 4 of a request, from its specification (docs.aws.amazon.com, "Create a signed AWS API request"). */
export function signatureOf({ method, path, headers, body }: Asked, secret: string): { readonly stated: string; readonly right: string; readonly scope: string; readonly names: string } {
  const [, credential = '', names = '', stated = ''] = /^AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(headers.authorization ?? '') ?? [];
  const scope = credential.split('/').slice(1);
  const canonical = [
    method,
    path,
    '',
    ...names.split(';').map((name) => `${name}:${String(headers[name] ?? '').trim()}`),
    '',
    names,
    createHash('sha256').update(body).digest('hex'),
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', String(headers['x-amz-date']), scope.join('/'), createHash('sha256').update(canonical).digest('hex')].join('\n');
  const key = scope.reduce<string | Buffer>((parent, part) => createHmac('sha256', parent).update(part).digest(), `AWS4${secret}`);
  return { stated, right: createHmac('sha256', key).update(toSign).digest('hex'), scope: credential, names };
}
