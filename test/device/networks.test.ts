/** Exported networks from file to answer: imported, fused, compiled, run on SwiftShader, against the outputs that lie with them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { readTensorFile } from '../../src/onnx/testdata.ts';
import { sharedPath } from '../helpers/shared.ts';
import { distance, noDevice } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const models = sharedPath('conformance', 'models');

function tensorFile(folder: string, name: string) {
  const value = readTensorFile(readFileSync(join(folder, name)));
  if (value.kind !== 'tensor') throw new Error(`${name} holds no tensor`);
  return value.tensor;
}

describe.skipIf(noDevice || !models)('exported networks (skipped without SwiftShader or without the models beside the repository)', () => {
  it.each(['mobilenetv3_small_050_dynamo18', 'regnetx_002_13', 'resnet10t_dynbatch17', 'vit_tiny_depth4_dynamo20'])('%s', { timeout: 120_000 }, async (name) => {
    const folder = join(models!, name);
    const [input, expected] = [tensorFile(folder, 'input_0.pb'), tensorFile(folder, 'output_0.pb')];
    const options = {
      backend: 'webgpu',
      precision: 'fp32',
      fusion: 'on',
      batch: input.dims[0]!,
      dims: {},
      inputShapes: {},
      disabledPasses: [],
      workspaceBytes: undefined,
      backendOptions: {},
    } as const;
    const built = await compileModel({
      modelBytes: readFileSync(join(folder, 'model.onnx')),
      modelName: name,
      folder,
      options,
      backend: webgpuBackend,
      context: { signal: undefined, onProgress: undefined },
    });
    // Through the file's form, as a user's engine goes.
    const engine = await deserializeEngine(await serializeEngine(built));
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
