/**
 * The built runtime in a real browser: headless Chromium with WebGPU on SwiftShader loads `dist/bundle/runtime.js` and an engine over
 * HTTP as a user's page would, runs it, and posts the answer back, which must be onnxruntime's.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { serializeEngine } from '../../src/engine/file.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noise } from '../device/helpers.ts';
import { browser, openPage, serve } from '../helpers/browser.ts';
import { runModel } from '../helpers/ort.ts';

const DIST = fileURLToPath(new URL('../../dist/bundle/', import.meta.url));
const BUILT = existsSync(join(DIST, 'runtime.js'));

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

describe.skipIf(browser === undefined || !BUILT)('the runtime in a browser (skipped without Chromium or without dist)', () => {
  it("runs an engine and gives onnxruntime's answer", { timeout: 120_000 }, async () => {
    const bytes = network();
    const files = new Map<string, Uint8Array | string>([
      ['/', PAGE],
      ['/input.json', JSON.stringify(toNumbers(INPUT))],
      ['/model.engine', await engineFile(bytes)],
    ]);
    const { url, answer } = await serve<Answer>(async (path) => {
      if (!path.startsWith('/runtime/')) return files.get(path);
      return readFile(join(DIST, normalize(path.slice('/runtime'.length)))).catch(() => undefined);
    });
    const { ended } = await openPage(browser!, url);
    const { error, slug, y, damaged } = await Promise.race([answer, ended]);
    expect(error).toBeUndefined();
    expect(slug).toBe('swiftshader');
    const expected = toNumbers((await runModel(bytes, new Map([['x', INPUT]]))).get('y')!);
    expect(y).toHaveLength(expected.length);
    for (const [i, value] of y.entries()) expect(value).toBeCloseTo(expected[i]!, 5);
    expect(damaged).toBe('ENGINE_INVALID');
  });
});
