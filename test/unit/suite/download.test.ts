import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { download, type DownloadOptions } from '../../../src/suite/download.ts';
import { temporaryFolder } from './helpers.ts';
import { cutAt as cutServer, resumeAt, sendFile, serve, status } from './server.ts';

const content = Buffer.from(Uint8Array.from({ length: 200_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff));
const sha256 = createHash('sha256').update(content).digest('hex');
const quick: DownloadOptions = { connectTimeoutMs: 1000, stallTimeoutMs: 1000, retryPauseMs: 1 };

/** Bytes that the download under way has on disk. */
let received = 0;
const cutAt = (file: Buffer, end: number, etag?: string) => cutServer(file, end, () => received, etag);

async function fetchFrom(urls: readonly string[], options: DownloadOptions = {}, folder?: string) {
  const target = join(folder ?? (await temporaryFolder()), 'model.onnx');
  received = 0;
  const onProgress = (receivedBytes: number, totalBytes: number) => {
    received = receivedBytes;
    options.onProgress?.(receivedBytes, totalBytes);
  };
  const result = await download({ urls: [...urls], sha256, bytes: content.length }, target, { ...quick, ...options, onProgress });
  return { result, target };
}

async function expectWhole(target: string): Promise<void> {
  expect((await readFile(target)).equals(content)).toBe(true);
  expect(await readdir(join(target, '..'))).toEqual(['model.onnx']);
}

describe('download', () => {
  it('brings the pinned file and tells how far it is', async () => {
    const { url } = await serve(sendFile(content));
    const seen: [number, number][] = [];
    const { result, target } = await fetchFrom([url], { onProgress: (received, total) => seen.push([received, total]) });
    expect(result).toEqual({ status: 'downloaded' });
    expect(seen.at(-1)).toEqual([content.length, content.length]);
    await expectWhole(target);
  });

  it('follows redirects', async () => {
    const { url } = await serve(sendFile(content));
    const moved = await serve((_request, response) => response.writeHead(302, { location: url }).end());
    const { result, target } = await fetchFrom([moved.url]);
    expect(result.status).toBe('downloaded');
    await expectWhole(target);
  });

  it('resumes after each cut from where it ended', async () => {
    const server = await serve((request, response, call) => {
      const answer = call < 5 ? cutAt(content, (call + 1) * 30_000) : sendFile(content);
      answer(request, response, call);
    });
    const { result, target } = await fetchFrom([server.url]);
    expect(result.status).toBe('downloaded');
    expect(server.ranges).toEqual(['', 'bytes=30000-', 'bytes=60000-', 'bytes=90000-', 'bytes=120000-', 'bytes=150000-']);
    await expectWhole(target);
  });

  it('goes on with what an earlier process left', async () => {
    const folder = await temporaryFolder();
    const first = await serve((request, response, call) => (call === 0 ? cutAt(content, 50_000) : status(404))(request, response, call));
    expect((await fetchFrom([first.url], {}, folder)).result).toMatchObject({ status: 'unreachable' });
    const second = await serve(sendFile(content));
    const { target } = await fetchFrom([second.url], {}, folder);
    expect(second.ranges).toEqual(['bytes=50000-']);
    await expectWhole(target);
  });

  it('starts again where the file changed on the server meanwhile', async () => {
    const folder = await temporaryFolder();
    const old = Buffer.alloc(content.length, 7);
    const before = await serve((request, response, call) => (call === 0 ? cutAt(old, 50_000, '"old"') : status(404))(request, response, call));
    await fetchFrom([before.url], {}, folder);
    const server = await serve(sendFile(content, '"new"'));
    const { result, target } = await fetchFrom([server.url], {}, folder);
    expect(result.status).toBe('downloaded');
    await expectWhole(target);
  });

  it('starts again on a server without ranges', async () => {
    const server = await serve((request, response, call) => {
      if (call === 0) return cutAt(content, 50_000)(request, response, call);
      response.writeHead(200, { 'content-length': content.length }).end(content);
    });
    const { result, target } = await fetchFrom([server.url]);
    expect(result.status).toBe('downloaded');
    expect(server.ranges).toEqual(['', 'bytes=50000-']);
    await expectWhole(target);
  });

  it('starts again on a server that refuses the range, or sends another', async () => {
    const refusing = await serve((request, response, call) => (call === 1 ? status(416) : call === 0 ? cutAt(content, 9000) : sendFile(content))(request, response, call));
    expect((await fetchFrom([refusing.url])).result.status).toBe('downloaded');
    const wrong = await serve((request, response, call) => {
      if (call !== 1) return (call === 0 ? cutAt(content, 9000) : sendFile(content))(request, response, call);
      response.writeHead(206, { 'content-range': `bytes 5-${content.length - 1}/${content.length}` }).end();
    });
    expect((await fetchFrom([wrong.url])).result.status).toBe('downloaded');
  });

  it('refuses a wrong checksum, names both, and keeps nothing', async () => {
    const wrong = Buffer.from(content);
    wrong[100]! ^= 1;
    const { url } = await serve(sendFile(wrong));
    const { result, target } = await fetchFrom([url]);
    const actual = createHash('sha256').update(wrong).digest('hex');
    expect(result).toMatchObject({ status: 'mismatch', reasons: [expect.stringContaining(`SHA-256 is ${actual}, expected ${sha256}`)] });
    expect(await readdir(join(target, '..'))).toEqual(expect.not.arrayContaining(['model.onnx', 'model.onnx.part']));
  });

  it('refuses a wrong size, announced or not', async () => {
    const long = Buffer.concat([content, content]);
    const announced = await serve(sendFile(long));
    expect((await fetchFrom([announced.url])).result).toMatchObject({ status: 'mismatch', reasons: [expect.stringMatching(/has 400000 bytes, but 200000 were expected/)] });
    const chunked = await serve((_request, response) => void response.writeHead(200).end(long));
    const { result, target } = await fetchFrom([chunked.url]);
    expect(result).toMatchObject({ status: 'mismatch', reasons: [expect.stringMatching(/more than the 200000 bytes/)] });
    expect(existsSync(target)).toBe(false);
  });

  it('throws away a whole part that is wrong, and fetches it again', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'model.onnx.part'), Buffer.alloc(content.length));
    const { url } = await serve(sendFile(content));
    const { result } = await fetchFrom([url], {}, folder);
    expect(result.status).toBe('downloaded');
  });

  it('tries the next mirror, and says of each why it failed', async () => {
    const missing = await serve(status(404));
    const good = await serve(sendFile(content));
    expect((await fetchFrom([missing.url, good.url])).result.status).toBe('downloaded');
    const { result } = await fetchFrom([missing.url, 'http://no-such-host.invalid/x', 'http://127.0.0.1:1/x']);
    expect(result).toEqual({
      status: 'unreachable',
      reasons: [
        expect.stringMatching(/answered 404/),
        expect.stringMatching(/^no-such-host\.invalid: the host name/),
        expect.stringMatching(/^127\.0\.0\.1:1: the connection was refused|bad port/),
      ],
    });
    expect(missing.ranges).toHaveLength(2);
  });

  it('tries again when the server is busy, and gives up in the end', async () => {
    const busy = await serve((request, response, call) => (call < 2 ? status(503) : sendFile(content))(request, response, call));
    expect((await fetchFrom([busy.url])).result.status).toBe('downloaded');
    const down = await serve(status(503));
    expect((await fetchFrom([down.url])).result).toMatchObject({ status: 'unreachable', reasons: [expect.stringContaining('503')] });
    expect(down.ranges).toHaveLength(3);
  });

  it('does not wait for a server that stopped sending, or never answers', async () => {
    const stalled = await serve((_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 10));
    });
    const silent = await serve(() => undefined);
    const { result } = await fetchFrom([stalled.url, silent.url], { stallTimeoutMs: 50 });
    expect(result).toMatchObject({
      status: 'unreachable',
      reasons: [expect.stringContaining('the server stopped sending'), expect.stringContaining('no answer within the time limit')],
    });
  });

  it('ends when the user does', async () => {
    const controller = new AbortController();
    const { url } = await serve((_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 10), () => controller.abort());
    });
    await expect(fetchFrom([url], { signal: controller.signal })).rejects.toThrow(/abort/i);
  });

  it('says that the cache can not be written', async () => {
    const { url } = await serve(sendFile(content));
    const target = join(await temporaryFolder(), 'missing', 'model.onnx');
    await expect(download({ urls: [url], sha256, bytes: content.length }, target, quick)).rejects.toMatchObject({
      code: 'MODEL_DOWNLOAD',
      fix: expect.stringContaining('TSRT_BENCH_CACHE'),
    });
  });

  it('goes through the proxy of the environment', async () => {
    const { url } = await serve(sendFile(content));
    const hosts: string[] = [];
    const proxy = createServer();
    proxy.on('connect', (request, socket) => {
      hosts.push(request.url ?? '');
      const upstream = connect(Number(new URL(url).port), '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(socket).pipe(upstream);
      });
      for (const end of [upstream, socket]) end.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void proxy.close());
    for (const name of ['http_proxy', 'HTTP_PROXY']) vi.stubEnv(name, `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
    for (const name of ['no_proxy', 'NO_PROXY']) vi.stubEnv(name, '');
    onTestFinished(() => void vi.unstubAllEnvs());
    expect((await fetchFrom(['http://models.invalid/model.onnx'])).result.status).toBe('downloaded');
    expect(hosts).toEqual(['models.invalid:80']);

    for (const name of ['http_proxy', 'HTTP_PROXY']) vi.stubEnv(name, 'no url at all');
    expect((await fetchFrom([url])).result).toMatchObject({ status: 'unreachable', reasons: [expect.stringContaining('proxy settings')] });
  });

  it('resumes only by a strong validator', async () => {
    const folder = await temporaryFolder();
    const weak = 'W/"v1"';
    const first = await serve((request, response, call) => (call === 0 ? cutAt(content, 50_000, weak) : status(404))(request, response, call));
    await fetchFrom([first.url], {}, folder);
    const headers: (string | undefined)[] = [];
    const server = await serve((request, response, call) => {
      headers.push(request.headers['if-range'] as string | undefined);
      expect(resumeAt(request, weak)).toBe(50_000);
      sendFile(content, weak)(request, response, call);
    });
    expect((await fetchFrom([server.url], {}, folder)).result.status).toBe('downloaded');
    expect(headers).toEqual([undefined]);
  });
});
