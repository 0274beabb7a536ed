/** Engines of the webgpu backend opened in a program of Node's: several requests at once, inputs that stay on the device, a part in onnxruntime. */
import { beforeAll, describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { requestAdapter } from '../../src/backends/webgpu/dawn.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { fromNumbers, openEngine, toNumbers } from '../../src/node.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { loadEngine, openDevice } from '../../src/runtime.ts';
import { buildOptions } from '../helpers/options.ts';
import { noDevice, swiftshader } from './helpers.ts';

delete process.env['TSRT_BENCH_SWIFTSHADER'];

const DET = { domain: '', opType: 'Det', opset: 11, attributes: [] } as const;

/** Relu of a matrix; with `det`, its determinant, for which there is no kernel. */
async function engineBytes(det: boolean): Promise<Uint8Array> {
  const graph = newGraphBuilder('small');
  graph.input('x', { dtype: 'float32', dims: [1, 5, 5] });
  const relu = graph.node('Relu', ['x'], {}, det ? {} : { outputs: ['y'] });
  if (det) graph.node('Custom', [relu], DET, { types: [{ dtype: 'float32', dims: [1] }], outputs: ['y'] });
  const engine = await compileModel({
    modelBytes: exportGraph(graph.finish(['y'])),
    modelName: 'small',
    folder: undefined,
    options: buildOptions({ backend: 'webgpu', backendOptions: det ? { fallback: 'onnxruntime' } : {} }),
    backend: webgpuBackend,
    context: { device: 'swiftshader', signal: undefined, onProgress: undefined },
  });
  return serializeEngine(engine);
}

const inputOf = (value: number) => ({ x: fromNumbers('float32', [1, 5, 5], Array.from({ length: 25 }, (_, i) => (i % 6 === 0 ? value : 0))) });

describe.skipIf(noDevice)('openEngine on SwiftShader (skipped without it)', () => {
  let bytes: Uint8Array;
  beforeAll(async () => {
    bytes = await engineBytes(false);
  });

  it('keeps several requests under way, and inputs on the device', async () => {
    const session = await openEngine(bytes, { device: 'swiftshader' });
    expect(session.device.slug).toBe('swiftshader');
    expect(session.maxInFlight).toBe(3);
    const answers = await Promise.all([1, 2, 3, 4, 5].map((value) => session.run(inputOf(value))));
    expect(answers.map(({ y }) => toNumbers(y!)[0])).toEqual([1, 2, 3, 4, 5]);
    const execution = await session.prepare(inputOf(7));
    await execution.execute(3);
    expect(toNumbers((await execution.download())['y']!)[0]).toBe(7);
    await execution.dispose();
    await session.dispose();
    await expect(session.run(inputOf(1))).rejects.toMatchObject({ code: 'USAGE', message: 'the session was disposed of' });
  });

  it('is told apart from the runtime of browsers, where the way out is an engine for any adapter', async () => {
    const { header, parts } = await deserializeEngine(bytes);
    const elsewhere: Engine = { header: { ...header, requires: { ...header.requires, device: 'nvidia-h200' } }, parts };
    const refusal = { code: 'ENGINE_INCOMPATIBLE', details: [expect.stringContaining('device: engine nvidia-h200, here ') as string] };
    const open = await openDevice(await requestAdapter({ swiftshader, unchecked: true }));
    await expect(loadEngine(elsewhere, open)).rejects.toMatchObject({ ...refusal, fix: expect.stringContaining('--option portable=true') as string });
    open.destroy();
    await expect(openEngine(elsewhere, { device: 'swiftshader' })).rejects.toMatchObject({ ...refusal, fix: expect.stringContaining('on this device') as string });
  });

  it('runs what the runtime of browsers refuses: an engine with a part in onnxruntime', async () => {
    const composite = await engineBytes(true);
    const engine: Engine = await deserializeEngine(composite);
    const open = await openDevice(await requestAdapter({ swiftshader, unchecked: true }));
    await expect(loadEngine(engine, open)).rejects.toMatchObject({ code: 'ENGINE_INCOMPATIBLE', fix: expect.stringContaining('tsrt-bench/node') as string });
    open.destroy();
    const session = await openEngine(composite, { device: 'swiftshader' });
    expect(toNumbers((await session.run(inputOf(2)))['y']!)).toEqual([32]);
    await session.dispose();
  });
});
