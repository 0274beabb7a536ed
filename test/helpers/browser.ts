/** Pages in a real browser: headless Chromium with WebGPU on SwiftShader, of the dev dependency @sparticuz/chromium or that of TSRT_BENCH_CHROMIUM. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname } from 'node:path';
import chromium from '@sparticuz/chromium';
import { onTestFinished } from 'vitest';
import { temporaryFolder } from './folder.ts';

async function findBrowser(): Promise<string | undefined> {
  const given = process.env['TSRT_BENCH_CHROMIUM'];
  if (given !== undefined) return given;
  return process.platform === 'linux' && process.arch === 'x64' ? chromium.executablePath().catch(() => undefined) : undefined;
}

/** Its path; undefined where there is none. */
export const browser = await findBrowser();

const TYPES: Readonly<Record<string, string>> = { '.js': 'text/javascript', '.html': 'text/html', '.json': 'application/json' };

/** What a server has at a path; undefined for nothing. */
export type Content = (path: string) => Promise<Uint8Array | string | undefined>;

/** Serves pages; resolves with what one of them posts, as JSON. */
export async function serve<Answer>(content: Content): Promise<{ readonly url: string; readonly answer: Promise<Answer> }> {
  let resolve: (answer: Answer) => void = () => undefined;
  const answer = new Promise<Answer>((done) => (resolve = done));
  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    if (request.method === 'POST') {
      resolve(JSON.parse(Buffer.concat(await request.toArray()).toString()) as Answer);
      response.end();
      return;
    }
    const body = await content(pathname);
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': TYPES[extname(pathname) || '.html'] ?? 'application/octet-stream' });
    response.end(body);
  };
  const server = createServer((request, response) => void respond(request, response));
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, answer };
}

/** Opens a page; rejects where the browser ends, with what it said. The browser ends with the test. */
export async function openPage(path: string, url: string): Promise<{ readonly ended: Promise<never> }> {
  const profile = await temporaryFolder();
  const child: ChildProcess = spawn(
    path,
    [
      '--headless',
      '--no-sandbox',
      '--no-zygote',
      '--no-first-run',
      '--enable-unsafe-webgpu',
      '--use-webgpu-adapter=swiftshader',
      '--enable-features=Vulkan',
      // Without a way to be driven, a headless shell prints nothing and ends at once.
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      url,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const closed = new Promise<void>((done) => child.once('close', () => done()));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await closed;
  });
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => reject(new Error(`the browser ended (${code ?? signal}): ${said.slice(-2000)}`)));
  });
  ended.catch(() => undefined);
  return { ended };
}
