/** Models that go on from a length that the data decide: the beginning on WebGPU, the end in onnxruntime, against onnxruntime alone. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { CompositePlan } from '../../src/engine/composite.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { TsrtError } from '../../src/errors.ts';
import { fromNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { branch, choose, detector } from '../unit/onnx/graphs.ts';
import { floats, modelBytes, node, type ModelParts, value } from '../unit/onnx/models.ts';
import { disagreement, runOnnx } from '../unit/onnx/run.ts';
import { noDevice, noise } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

function build(parts: ModelParts, backendOptions: Readonly<Record<string, string>> = { fallback: 'onnxruntime' }, dims: Readonly<Record<string, number>> = {}): Promise<Engine> {
  return compileModel({
    modelBytes: modelBytes(parts),
    modelName: 'detector',
    folder: undefined,
    options: { backend: 'webgpu', precision: 'fp32', fusion: 'on', batch: 1, dims, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions },
    backend: webgpuBackend,
    context: { signal: undefined, onProgress: undefined },
  });
}

const boxes = (seed: number, scale: number): Tensor => fromNumbers('float32', [1, 8, 4], noise(32, seed).map((value) => Math.abs(value) * scale));

describe.skipIf(noDevice)('tails of composite engines (skipped without SwiftShader)', () => {
  it('answer as onnxruntime does, with lengths that differ from request to request', async () => {
    const engine = await deserializeEngine(await serializeEngine(await build(detector)));
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const lengths = new Set<number>();
    for (const x of [boxes(1, 4), boxes(2, 4), boxes(3, 4), fromNumbers('float32', [1, 8, 4], Array.from({ length: 32 }, () => 1))]) {
      const [found, expected] = [await session.run({ x }), await runOnnx(modelBytes(detector), { x })];
      expect(Object.keys(found)).toEqual(['picked', 'scores', 'count']);
      for (const [name, tensor] of Object.entries(expected)) expect(disagreement(found[name]!, tensor)).toBe(0);
      lengths.add(found['picked']!.dims[1]!);
    }
    expect(lengths.size).toBeGreaterThan(1);
    expect((await session.profile!({ x: boxes(1, 4) })).length).toBeGreaterThan(0);
    await session.dispose();
  });

  it('say what runs where, and the binding that its length is for the data to decide', async () => {
    const { header } = await build(detector);
    const { segments } = header.backendData as CompositePlan;
    expect(segments.map(({ runner, inputs }) => [runner, inputs.map(({ name }) => name).sort()])).toEqual([['webgpu', ['x']], ['onnxruntime', ['boxes', 'chosen']]]);
    expect(header.outputs.map(({ name, dynamic }) => [name, dynamic])).toEqual([['picked', true], ['scores', undefined], ['count', true]]);
    expect(header.notices).toEqual([
      expect.stringMatching(/^The last 3 nodes of the model run in onnxruntime on the processor \(--fallback\), unchanged, with 2 values .*NonMaxSuppression 'NonMaxSuppression_of_chosen', and what depends on it\.$/),
    ]);
  });

  it('hold branches that do not fit the sizes that are bound, where they are not taken', async () => {
    const weights = (rows: number) => floats([...noise(rows * 3, rows)], [rows, 3]);
    const product = (rows: number) => branch([node('MatMul', ['e', `w${rows}`], ['t'])], ['t']);
    const parts: ModelParts = {
      inputs: [value('x', 'float32', [1, 'k'])],
      outputs: [value('y', 'float32', [1, 3])],
      initializers: { w8: weights(8), w4: weights(4), limit: floats([-1], []) },
      nodes: [node('Exp', ['x'], ['e']), node('ReduceMax', ['e'], ['m'], { keepdims: 0 }), node('Greater', ['m', 'limit'], ['large']), choose('large', ['y'], product(8), product(4))],
    };
    const x = fromNumbers('float32', [1, 8], noise(8, 3));
    const session = await webgpuBackend.load(await build(parts, { fallback: 'onnxruntime' }, { k: 8 }), { device: undefined, signal: undefined });
    const { y } = await session.run({ x });
    expect(disagreement(y!, (await runOnnx(modelBytes(parts), { x }))['y']!)).toBeLessThanOrEqual(1);
    await session.dispose();
  });

  it('need the option, which the refusal names where it helps', async () => {
    const refusal = (parts: ModelParts, options?: Readonly<Record<string, string>>) =>
      build(parts, options).then(
        () => 'none',
        (error: unknown) => (error instanceof TsrtError ? error.fix : String(error)),
      );
    expect(await refusal(detector, {})).toContain('--fallback onnxruntime');
    const all: ModelParts = { nodes: [node('Unique', ['x'], ['u']), node('Relu', ['u'], ['y'])] };
    expect(await refusal(all)).toBe('use --backend onnxruntime, which runs such a model unchanged');
    expect(await refusal(all, {})).toBe('use --backend onnxruntime, which runs such a model unchanged');
  });
});
