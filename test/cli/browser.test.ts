/**
 * The built runtime in a real browser: headless Chromium with WebGPU on SwiftShader loads `dist/src/runtime.js` and an engine over
 * HTTP as a user's page would, runs it, and posts the answer back, which must be onnxruntime's.
 *
 * The browser is the one of the dev dependency @sparticuz/chromium, or that of TSRT_BENCH_CHROMIUM.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import chromium from '@sparticuz/chromium';
import { describe, expect, it, onTestFinished } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { serializeEngine } from '../../src/engine/file.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noise } from '../device/helpers.ts';
import { temporaryFolder } from '../helpers/folder.ts';
import { runModel } from '../helpers/ort.ts';

const DIST = fileURLToPath(new URL('../../dist/src/', import.meta.url));
const BUILT = existsSync(join(DIST, 'runtime.js'));

async function findBrowser(): Promise<string | undefined> {
  const given = process.env['TSRT_BENCH_CHROMIUM'];
  if (given !== undefined) return given;
  return process.platform === 'linux' && process.arch === 'x64' ? chromium.executablePath().catch(() => undefined) : undefined;
}

const browser = await findBrowser();

/** What the page posts. */
interface Answer {
  readonly error?: string;
  readonly slug: string;
  readonly y: readonly number[];
  readonly damaged: string;
}

const INPUT = fromNumbers('float32', [1, 3, 16, 16], noise(768, 7));

/** Runs in the browser: nothing of Node, nothing but the runtime's own exports. */
const PAGE = `<!doctype html><title>tsrt-bench</title><script type="module">
const answer = (body) => fetch('/answer', { method: 'POST', body: JSON.stringify(body) });
try {
  const { deserializeEngine, fromNumbers, loadEngine, openDevice, toNumbers, TsrtError } = await import('/runtime/runtime.js');
  const bytes = new Uint8Array(await (await fetch('/model.engine')).arrayBuffer());
  const values = await (await fetch('/input.json')).json();
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error(navigator.gpu ? 'no adapter' : 'no navigator.gpu');
  const device = await openDevice(adapter);
  const session = await loadEngine(await deserializeEngine(bytes), device);
  const { y } = await session.run({ x: fromNumbers('float32', [${INPUT.dims.join(', ')}], values) });
  await session.dispose();
  bytes[bytes.length - 1] ^= 1;
  const damaged = await deserializeEngine(bytes).then(() => 'accepted', (error) => error instanceof TsrtError ? error.code : String(error));
  await answer({ slug: device.info.slug, y: toNumbers(y), damaged });
  device.destroy();
} catch (error) {
  await answer({ error: String(error?.stack ?? error) });
}
</script>`;

/** Convolutions with a residual, pools, a product and a softmax: several kernels, one of them tiled. */
function network(): Uint8Array {
  const graph = newGraphBuilder('page');
  graph.input('x', { dtype: 'float32', dims: INPUT.dims });
  const weights = (dims: readonly number[], seed: number): string => {
    const count = dims.reduce((product, dim) => product * dim, 1);
    return graph.constant(fromNumbers('float32', dims, noise(count, seed).map((value) => value / 4)));
  };
  const conv = (input: string, from: number, to: number, seed: number): string =>
    graph.node('Conv', [input, weights([to, from, 3, 3], seed), weights([to], seed + 1)], {
      auto_pad: 'NOTSET',
      dilations: [1, 1],
      group: 1,
      kernel_shape: [3, 3],
      pads: [1, 1, 1, 1],
      strides: [1, 1],
    });
  const first = graph.node('Relu', [conv('x', 3, 16, 1)], {});
  const second = graph.node('Add', [graph.node('Relu', [conv(first, 16, 16, 3)], {}), first], {});
  const pooled = graph.node('GlobalAveragePool', [second], {});
  const flat = graph.node('Flatten', [pooled], { axis: 1 });
  const scores = graph.node('Gemm', [flat, weights([16, 10], 5), weights([10], 6)], { alpha: 1, beta: 1, transA: 0, transB: 0 });
  return exportGraph(graph.finish([graph.node('Softmax', [scores], { axis: 1 }, { outputs: ['y'] })]));
}

async function engineFile(modelBytes: Uint8Array): Promise<Uint8Array> {
  const engine = await compileModel({
    modelBytes,
    modelName: 'page',
    folder: undefined,
    options: {
      backend: 'webgpu',
      precision: 'fp32',
      fusion: 'on',
      batch: 1,
      dims: {},
      inputShapes: {},
      disabledPasses: [],
      workspaceBytes: undefined,
      backendOptions: { portable: true },
    },
    backend: webgpuBackend,
    context: { signal: undefined, onProgress: undefined },
  });
  return serializeEngine(engine);
}

const TYPES: Readonly<Record<string, string>> = { '.js': 'text/javascript', '.html': 'text/html', '.json': 'application/json' };

/** Serves the page; resolves with what it posts. */
async function serve(files: ReadonlyMap<string, Uint8Array | string>): Promise<{ readonly url: string; readonly answer: Promise<Answer> }> {
  let resolve: (answer: Answer) => void = () => undefined;
  const answer = new Promise<Answer>((done) => (resolve = done));
  const content = async (path: string): Promise<Uint8Array | string | undefined> => {
    if (!path.startsWith('/runtime/')) return files.get(path);
    return readFile(join(DIST, normalize(path.slice('/runtime'.length)))).catch(() => undefined);
  };
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
async function open(path: string, url: string): Promise<{ readonly ended: Promise<never> }> {
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

describe.skipIf(browser === undefined || !BUILT)('the runtime in a browser (skipped without Chromium or without dist)', () => {
  it("runs an engine and gives onnxruntime's answer", { timeout: 120_000 }, async () => {
    const bytes = network();
    const files = new Map<string, Uint8Array | string>([
      ['/', PAGE],
      ['/input.json', JSON.stringify(toNumbers(INPUT))],
      ['/model.engine', await engineFile(bytes)],
    ]);
    const { url, answer } = await serve(files);
    const { ended } = await open(browser!, url);
    const { error, slug, y, damaged } = await Promise.race([answer, ended]);
    expect(error).toBeUndefined();
    expect(slug).toBe('swiftshader');
    const expected = toNumbers((await runModel(bytes, new Map([['x', INPUT]]))).get('y')!);
    expect(y).toHaveLength(expected.length);
    for (const [i, value] of y.entries()) expect(value).toBeCloseTo(expected[i]!, 5);
    expect(damaged).toBe('ENGINE_INVALID');
  });
});
