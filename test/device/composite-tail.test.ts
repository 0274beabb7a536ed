/** Models that go on from a length that the data decide: the beginning on WebGPU, the end in onnxruntime, against onnxruntime alone. */
import { describe, expect, it } from 'vitest';
import type { BuildInput } from '../../src/backends/backend.ts';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { CompositePlan } from '../../src/engine/composite.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { TsrtError } from '../../src/errors.ts';
import { elementCount, fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import type { Dataset } from '../../src/suite/source.ts';
import { calibrate, forBuild } from '../../src/workflows/calibrate/calibrate.ts';
import { branch, choose, detector } from '../unit/onnx/graphs.ts';
import { floats, ints, modelBytes, node, type ModelParts, value } from '../unit/onnx/models.ts';
import { disagreement, runOnnx } from '../unit/onnx/run.ts';
import { noDevice, noise } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

/** `calibration`: builds in int8; null: without one. */
function build(parts: ModelParts, backendOptions: Readonly<Record<string, string>> = { fallback: 'onnxruntime' }, dims: Readonly<Record<string, number>> = {}, calibration?: BuildInput['calibration'] | null): Promise<Engine> {
  return compileModel({
    modelBytes: modelBytes(parts),
    modelName: 'detector',
    folder: undefined,
    ...(calibration && { calibration }),
    options: { backend: 'webgpu', precision: calibration === undefined ? 'fp32' : 'int8', fusion: 'on', batch: 1, dims, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions },
    backend: webgpuBackend,
    context: { signal: undefined, onProgress: undefined },
  });
}

const boxes = (seed: number, scale: number): Tensor => fromNumbers('float32', [1, 8, 4], noise(32, seed).map((value) => Math.abs(value) * scale));

const weights = (dims: readonly number[], seed: number): Tensor => floats(Array.from(noise(elementCount(dims), seed), (number) => number * Math.sqrt(3 / elementCount(dims.slice(1)))), dims);

/** The same tail behind two convolutions; what it reads is given too. */
const boxesOfConvolutions: ModelParts = {
  ...detector,
  inputs: [value('x', 'float32', [1, 3, 8, 8])],
  outputs: [value('picked', 'float32', []), value('count', 'int64', []), value('boxes', 'float32', [1, 64, 4]), value('scores', 'float32', [1, 1, 64])],
  initializers: { ...detector.initializers, w1: weights([16, 3, 3, 3], 1), w2: weights([4, 16, 1, 1], 2), rows: ints([1, 64, 4]) },
  nodes: [
    node('Conv', ['x', 'w1'], ['c1'], { pads: [1, 1, 1, 1] }), node('Relu', ['c1'], ['r1']), node('Conv', ['r1', 'w2'], ['c2']),
    node('Transpose', ['c2'], ['t'], { perm: [0, 2, 3, 1] }), node('Reshape', ['t', 'rows'], ['boxes']), ...detector.nodes!.slice(1),
  ],
};

const picture = (seed: number): Tensor => fromNumbers('float32', [1, 3, 8, 8], noise(192, seed));

async function calibrated(parts: ModelParts): Promise<NonNullable<BuildInput['calibration']>> {
  const pictures: Dataset = {
    description: 'seeded', sha256: undefined, size: 4, labelled: 0, notices: [], skipped: [],
    async *batches() {
      for (const seed of [1, 2, 3, 4]) yield { inputs: { x: picture(seed) }, count: 1, labels: [], names: [] };
    },
  };
  const { calibration, text, notices } = await calibrate({
    model: { name: 'detector', bytes: modelBytes(parts), folder: '.' },
    options: { fusion: 'on', disabledPasses: [], dims: {}, inputShapes: {} },
    calibrator: { method: 'minmax', scheme: 'affine', percentile: 99.99 },
    choices: { biasCorrection: true, equalization: false, firstLayer: 'int8', lastLayer: 'int8' },
    openDataset: () => Promise.resolve(pictures),
    signal: undefined,
    onProgress: () => {},
  });
  expect(notices).toEqual([expect.stringMatching(/^Ranges are of what comes before the last 3 nodes of the model, which .*: Gather 'Gather_of_column', Gather 'Gather_of_picked', Shape 'Shape_of_count'\.$/)]);
  return forBuild(calibration, text);
}

/** Of the expected one over what differs. */
function snrDb(found: Tensor, expected: Tensor): number {
  const [a, b] = [toNumbers(found), toNumbers(expected)];
  const power = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number * number, 0);
  return 10 * Math.log10(power(b) / power(b.map((number, i) => number - a[i]!)));
}

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
      expect.stringMatching(/^The last 3 nodes of the model run in onnxruntime on the processor \(--fallback\), unchanged and in the types that it has, with 2 values .*NonMaxSuppression 'NonMaxSuppression_of_chosen', and what depends on it\.$/),
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

  it('follow a head in integers, and read what it dequantized', async () => {
    const engine = await deserializeEngine(await serializeEngine(await build(boxesOfConvolutions, { fallback: 'onnxruntime' }, {}, await calibrated(boxesOfConvolutions))));
    const { layers, notices, calibration } = engine.header;
    expect(layers.filter(({ kind }) => kind === 'QuantizedConv')).toHaveLength(2);
    expect(layers.filter(({ kind }) => kind.startsWith('onnxruntime')).map(({ kind, precision }) => `${kind} ${precision}`)).toEqual(['onnxruntime Gather float32', 'onnxruntime Gather float32', 'onnxruntime Shape float32']);
    expect(notices).toContainEqual(expect.stringMatching(/^9\d\.\d % of the operations run in 8-bit integers\.$/));
    expect(calibration?.dataset).toBe('seeded');
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const x = picture(9);
    const { boxes: given, scores, ...found } = await session.run({ x });
    await session.dispose();
    const exact = await runOnnx(modelBytes(boxesOfConvolutions), { x });
    for (const [name, tensor] of Object.entries({ boxes: given!, scores: scores! })) expect(snrDb(tensor, exact[name]!)).toBeGreaterThan(28);
    // By onnxruntime of the boxes that the head gave: integers move some across the threshold, and then others are picked.
    const selection = { ...detector, inputs: ['boxes', 'scores'].map((name) => value(name, 'float32', [...(name === 'boxes' ? given! : scores!).dims])), outputs: ['picked', 'count'].map((name) => value(name, name === 'count' ? 'int64' : 'float32', [])), nodes: detector.nodes!.slice(4) };
    const expected = await runOnnx(modelBytes(selection), { boxes: given!, scores: scores! });
    expect(Object.keys(found)).toEqual(['picked', 'count']);
    for (const name of ['picked', 'count']) expect(disagreement(found[name]!, expected[name]!)).toBe(0);
  });

  it('in int8 need a calibration, which is of the head', async () => {
    await expect(build(boxesOfConvolutions, { fallback: 'onnxruntime' }, {}, null)).rejects.toMatchObject({ details: [expect.stringMatching(/^int8 needs a calibration/)] });
    await expect(build(boxesOfConvolutions, {}, {}, null)).rejects.toMatchObject({ fix: expect.stringContaining('--fallback onnxruntime') as string });
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
