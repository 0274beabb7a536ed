import { describe, expect, it } from 'vitest';
import type { BuildInput } from '../../../src/backends/backend.ts';
import { compileModel } from '../../../src/backends/compile.ts';
import { onnxruntimeBackend } from '../../../src/backends/onnxruntime/onnxruntime.ts';
import type { BuildOptions, Engine, Precision } from '../../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../../src/engine/file.ts';
import { sha256Hex } from '../../../src/engine/sha256.ts';
import { TsrtError } from '../../../src/errors.ts';
import { fromNumbers, typedView } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import type { Calibration } from '../../../src/quantize/calibration.ts';
import { floats, modelBytes, node, value } from '../onnx/models.ts';
import { dynamicallyQuantized, everyOp, pictures, quantizeNet } from '../quantize/networks.ts';

const model = exportGraph(everyOp());

function options(precision: Precision, over: Partial<BuildOptions> = {}): BuildOptions {
  return {
    backend: 'onnxruntime', precision, fusion: 'on', batch: 2, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {}, ...over,
  };
}

async function calibration(over: Partial<Calibration['quantization']> = {}): Promise<BuildInput['calibration']> {
  const { tensors } = await quantizeNet(everyOp());
  const cache: Calibration = {
    kind: 'tsrt-bench calibration',
    formatVersion: 1,
    tool: '0',
    model: { name: 'net', sha256: await sha256Hex(model) },
    graph: { fusion: 'on', disabledPasses: [] },
    dataset: { description: 'seeded', samples: 8 },
    method: 'minmax',
    scheme: 'affine',
    percentile: 99.99,
    quantization: { biasCorrection: false, equalization: false, firstLayer: 'int8', lastLayer: 'int8', keep: [], ...over },
    beyondHalf: [],
    tensors,
  };
  return { cache, stamp: { sha256: 'f'.repeat(64), method: 'minmax', dataset: 'seeded' } };
}

function build(precision: Precision, given?: BuildInput['calibration'], over: Partial<BuildOptions> = {}, bytes = model): Promise<Engine> {
  return compileModel({
    modelBytes: bytes, modelName: 'net', folder: undefined, options: options(precision, over), backend: onnxruntimeBackend,
    context: { signal: undefined, onProgress: undefined }, calibration: given,
  });
}

const kinds = ({ header }: Engine, precision: string) => header.layers.filter((layer) => layer.precision === precision).map(({ kind }) => kind);

describe('onnxruntime, int8', () => {
  it('builds an engine whose header proves what runs in integers', async () => {
    const engine = await build('int8', await calibration());
    expect(kinds(engine, 'float32')).toEqual(['QuantizeLinear', 'Resize'].filter((kind) => kinds(engine, 'float32').includes(kind)));
    expect(kinds(engine, 'uint8').filter((kind) => kind === 'QLinearConv')).toHaveLength(6);
    expect(engine.header.layers.find(({ kind }) => kind === 'QLinearConv')?.origins).toEqual(['Conv_0', 'Relu_1']);
    expect(engine.header.calibration).toEqual({ sha256: 'f'.repeat(64), method: 'minmax', dataset: 'seeded' });
    expect(engine.header.notices.join()).toMatch(/^In int8: (9\d|100)\.\d % of the operations run in 8-bit integers/);
    const again = await deserializeEngine(await serializeEngine(engine));
    expect(again.header).toEqual(engine.header);
  });

  it('takes about a quarter of the memory of fp32, in weights and in activations', async () => {
    const [exact, rounded] = [(await build('fp32')).header.memory, (await build('int8', await calibration())).header.memory];
    expect(rounded.activationBytes).toBeLessThan(0.3 * exact.activationBytes);
    expect(rounded.weightBytes).toBeLessThan(0.4 * exact.weightBytes);
    expect(rounded.activationBytes).toBeGreaterThan(0.1 * exact.activationBytes);
  });

  it('answers as fp32 does, to int8’s precision', async () => {
    const inputs = Object.fromEntries(pictures(everyOp(), 50));
    const answers = await Promise.all(
      [await build('fp32'), await build('int8', await calibration())].map(async (engine) => {
        const session = await onnxruntimeBackend.load(engine, { device: undefined, signal: undefined });
        const { y } = await session.run(inputs);
        await session.dispose();
        return [...(typedView(y!) as Float32Array)];
      }),
    );
    const [exact, rounded] = answers as [number[], number[]];
    const largest = Math.max(...exact.map(Math.abs));
    for (const [i, value] of exact.entries()) expect(Math.abs(value - rounded[i]!)).toBeLessThan(0.08 * largest);
    expect(rounded).not.toEqual(exact);
  });

  it('asks for no calibration where scales are found in each run', async () => {
    const engine = await build('int8', undefined, {}, exportGraph(dynamicallyQuantized()));
    expect(engine.header.notices).toEqual([expect.stringMatching(/^In int8: \d/)]);
    expect(engine.header.layers.some(({ kind, precision }) => /MatMul/.test(kind) && precision !== 'float32')).toBe(true);
  });

  it('mixed keeps the nodes that the calibration names, and onnxruntime leaves them alone', async () => {
    const engine = await build('mixed', await calibration({ keep: ['Conv_5'] }));
    expect(kinds(engine, 'uint8').filter((kind) => kind === 'QLinearConv')).toHaveLength(5);
    const kept = engine.header.layers.find(({ origins }) => origins.includes('Conv_5'));
    expect(kept?.precision).toBe('float32');
  });

  it.each([
    ['fp16', undefined, {}, /fp32/],
    ['int8', undefined, {}, /needs a calibration/],
    ['int8', 'given', { fusion: 'off' }, /fusion off/],
    ['int8', 'given', { backendOptions: { provider: 'webgpu' } }, /provider cpu only/],
  ] as const)('%s is refused with the reason (%s, %j)', async (precision, given, over, reason) => {
    const refused = build(precision, given && (await calibration()), over);
    await expect(refused).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', details: [expect.stringMatching(reason)] });
  });

  it('a calibration of another model or of other passes is refused', async () => {
    const given = (await calibration())!;
    const other = { ...given, cache: { ...given.cache, model: { name: 'other', sha256: '0'.repeat(64) } } };
    await expect(build('int8', other)).rejects.toMatchObject({ code: 'CALIBRATION_INVALID', details: [expect.stringContaining('other')] });
    await expect(build('int8', given, { disabledPasses: ['cse'] })).rejects.toBeInstanceOf(TsrtError);
  });

  it('a calibration that lacks a tensor is refused, with its name', async () => {
    const given = (await calibration())!;
    const { x: _dropped, ...tensors } = given.cache.tensors;
    await expect(build('int8', { ...given, cache: { ...given.cache, tensors } })).rejects.toMatchObject({ code: 'CALIBRATION_INVALID', details: ['x'] });
  });

  it('a model with scales of its own runs in int8 by those, without a calibration', async () => {
    const { graph } = await quantizeNet(everyOp());
    const bytes = exportGraph(graph);
    const engine = await build('int8', undefined, {}, bytes);
    expect(kinds(engine, 'uint8').filter((kind) => kind === 'QLinearConv')).toHaveLength(6);
    expect(engine.header.calibration).toBeUndefined();
    const asked = await build('fp32', undefined, {}, bytes);
    expect(asked.header.notices.join()).toMatch(/scales of its own/);
    await expect(build('mixed', await calibration(), {}, bytes)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' });
  });

  it('a model of which weights alone are quantized is no int8 model', async () => {
    const bytes = modelBytes({
      inputs: [value('x', 'float32', [4, 16])], outputs: [value('y', 'float32', [4, 8])],
      initializers: { w: fromNumbers('int8', [16, 8], Array.from({ length: 128 }, (_, i) => i - 64)), s: floats([0.01], []) },
      nodes: [node('DequantizeLinear', ['w', 's'], ['v']), node('MatMul', ['x', 'v'], ['y'])],
    });
    await expect(build('int8', undefined, {}, bytes)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: expect.stringMatching(/^nothing of the model runs in int8/) });
    await expect(build('fp32', undefined, {}, bytes)).resolves.toBeDefined();
  });
});
