/** A file server with faults, on the loopback. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export type Answer = (request: IncomingMessage, response: ServerResponse, call: number) => void;

export interface TestServer {
  readonly url: string;
  /** `range` header of each request in order, '' where there was none. */
  readonly ranges: readonly string[];
}

export async function serve(answer: Answer): Promise<TestServer> {
  const ranges: string[] = [];
  const server = createServer((request, response) => {
    ranges.push(request.headers.range ?? '');
    answer(request, response, ranges.length - 1);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.onnx`, ranges };
}

/** Sends the file, or the asked part of it where `If-Range` allows. */
export function sendFile(content: Buffer, etag = '"v1"'): Answer {
  return (request, response) => {
    const start = resumeAt(request, etag);
    const headers = { etag, 'content-length': content.length - start };
    if (start > 0) response.writeHead(206, { ...headers, 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` });
    else response.writeHead(200, headers);
    response.end(content.subarray(start));
  };
}

export function resumeAt(request: IncomingMessage, etag: string): number {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  return (request.headers['if-range'] ?? etag) === etag ? start : 0;
}

/** Promises the whole file, sends up to `end`, and cuts the connection once `received` says that all of it arrived. */
export function cutAt(content: Buffer, end: number, received: () => number, etag = '"v1"'): Answer {
  return (request, response) => {
    const start = resumeAt(request, etag);
    const headers = { etag, 'content-length': content.length - start };
    if (start > 0) response.writeHead(206, { ...headers, 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` });
    else response.writeHead(200, headers);
    response.write(content.subarray(start, end));
    const poll = setInterval(() => {
      if (received() >= end) response.destroy();
    }, 2);
    response.on('close', () => clearInterval(poll));
  };
}

export const status =
  (code: number): Answer =>
  (_request, response) => {
    response.writeHead(code).end('no');
  };
