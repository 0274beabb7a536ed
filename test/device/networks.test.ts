/** Exported networks from file to answer: imported, fused, compiled, run on SwiftShader, against the outputs that lie with them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { createSession } from '../../src/backends/webgpu/session.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { BuildOptions, Engine } from '../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { readTensorFile } from '../../src/onnx/testdata.ts';
import { sharedPath } from '../helpers/shared.ts';
import { distance, noDevice, validatingDevice } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const models = sharedPath('conformance', 'models');

function tensorFile(folder: string, name: string) {
  const value = readTensorFile(readFileSync(join(folder, name)));
  if (value.kind !== 'tensor') throw new Error(`${name} holds no tensor`);
  return value.tensor;
}

const NETWORKS = ['mobilenetv3_small_050_dynamo18', 'regnetx_002_13', 'resnet10t_dynbatch17', 'vit_tiny_depth4_dynamo20'];

function compile(name: string, batch: number, options: Partial<BuildOptions> = {}): Promise<Engine> {
  const folder = join(models!, name);
  const base: BuildOptions = {
    backend: 'webgpu',
    precision: 'fp32',
    fusion: 'on',
    batch,
    dims: {},
    inputShapes: {},
    disabledPasses: [],
    workspaceBytes: undefined,
    backendOptions: {},
  };
  return compileModel({
    modelBytes: readFileSync(join(folder, 'model.onnx')),
    modelName: name,
    folder,
    options: { ...base, ...options },
    backend: webgpuBackend,
    context: { signal: undefined, onProgress: undefined },
  });
}

describe.skipIf(noDevice || !models)('exported networks (skipped without SwiftShader or without the models beside the repository)', () => {
  it.each(NETWORKS)('%s', { timeout: 120_000 }, async (name) => {
    const folder = join(models!, name);
    const [input, expected] = [tensorFile(folder, 'input_0.pb'), tensorFile(folder, 'output_0.pb')];
    // Through the file's form, as a user's engine goes.
    const engine = await deserializeEngine(await serializeEngine(await compile(name, input.dims[0]!)));
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    try {
      const outputs = await session.run({ [session.inputs[0]!.name]: input });
      const scale = Math.max(...toNumbers(expected).map(Math.abs));
      expect(distance(outputs[session.outputs[0]!.name]!, toNumbers(expected), { absolute: 1e-4 * scale, relative: 1e-3 })).toBeLessThan(1);
    } finally {
      await session.dispose();
    }
  });
});

describe.skipIf(!models)("exported networks within WebGPU's guaranteed limits (skipped without the models beside the repository)", () => {
  it.each(NETWORKS.flatMap((name) => (['on', 'off'] as const).map((fusion) => [name, fusion] as const)))('%s, fusion %s', { timeout: 60_000 }, async (name, fusion) => {
    // The exported transformer has its batch of one written into its class token.
    const engine = await compile(name, name.startsWith('vit') ? 1 : 3, { fusion, backendOptions: { portable: true } });
    const device = await validatingDevice();
    const session = await createSession(engine, device);
    await session.run({ [session.inputs[0]!.name]: fromNumbers('float32', session.inputs[0]!.dims, new Float32Array(elementCount(session.inputs[0]!.dims))) });
    expect(() => device.check()).not.toThrow();
    await session.dispose();
    device.destroy();
  });
});
