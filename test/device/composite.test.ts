/** Composite engines: networks of which a part runs in onnxruntime, against onnxruntime alone; and broken ones, refused. */
import { beforeAll, describe, expect, it } from 'vitest';
import { compileModel, type CompileRequest } from '../../src/backends/compile.ts';
import { createCompositeSession } from '../../src/backends/webgpu/composite/session.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { CompositePlan, CompositeSegment } from '../../src/engine/composite.ts';
import type { BuildOptions, Engine } from '../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { TsrtError } from '../../src/errors.ts';
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { fromNumbers, toNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { loadEngine } from '../../src/runtime.ts';
import type { BuildInput } from '../../src/backends/backend.ts';
import { sha256Hex } from '../../src/engine/sha256.ts';
import type { Calibration } from '../../src/quantize/calibration.ts';
import { runGraph, runModel } from '../helpers/ort.ts';
import { net, pictures, quantizeNet } from '../unit/quantize/networks.ts';
import { distance, noDevice, noise, testDevice, validatingDevice } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const CONV = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] } as const;
const DET = { domain: '', opType: 'Det', opset: 11, attributes: [] } as const;

/** Convolution → determinants of five rows, which WebGPU kernels lack → sigmoid, and the convolution's own result summed up. */
function mixed(): Graph {
  const graph = newGraphBuilder('mixed');
  graph.input('x', { dtype: 'float32', dims: [1, 3, 5, 5] });
  const w = graph.constant(fromNumbers('float32', [6, 3, 3, 3], noise(162)), 'w');
  const half = graph.constant(fromNumbers('float32', [1], [0.5]));
  const conv = graph.node('Conv', ['x', w], CONV, { name: 'conv' });
  const relu = graph.node('Relu', [conv], {}, { name: 'relu' });
  const det = graph.node('Custom', [relu], DET, { name: 'det', types: [{ dtype: 'float32', dims: [1, 6] }] });
  const scaled = graph.node('Mul', [det, half], {}, { name: 'scale' });
  graph.node('Sigmoid', [scaled], {}, { name: 'sigmoid', outputs: ['y'] });
  graph.node('Add', [relu, half], {}, { name: 'shift', outputs: ['z'] });
  return graph.finish(['y', 'z']);
}

const OPTIONS: BuildOptions = {
  backend: 'webgpu',
  precision: 'fp32',
  fusion: 'on',
  batch: 1,
  dims: {},
  inputShapes: {},
  disabledPasses: [],
  workspaceBytes: undefined,
  backendOptions: { fallback: 'onnxruntime' },
};

/** A convolution whose channels are scaled by the roots of their means, in a type that the device lacks, and another one. */
function gated(channels = 16): Graph {
  const { b, conv } = net();
  const x = b.input('x', { dtype: 'float32', dims: [1, channels, 4, 4] });
  const first = b.node('Relu', [conv(x, 16, 3)], {});
  const wide = b.node('Cast', [b.node('GlobalAveragePool', [first], {})], { saturate: 1, to: 'float64' });
  const gate = b.node('Cast', [b.node('Sqrt', [wide], {}, { name: 'root' })], { saturate: 1, to: 'float32' });
  return b.finish([conv(b.node('Mul', [first, gate], {}), 16, 3)]);
}

/** Of pictures that no test asks about. */
async function calibrationOf(graph: Graph, choices: Partial<Calibration['quantization']> = {}): Promise<NonNullable<BuildInput['calibration']>> {
  const { tensors } = await quantizeNet(graph);
  const cache: Calibration = {
    kind: 'tsrt-bench calibration', formatVersion: 1, tool: '0', model: { name: graph.name, sha256: await sha256Hex(exportGraph(graph)) },
    graph: { fusion: 'on', disabledPasses: [] }, dataset: { description: 'seeded', samples: 8 }, method: 'minmax', scheme: 'affine', percentile: 99.99,
    quantization: { biasCorrection: false, equalization: false, firstLayer: 'int8', lastLayer: 'int8', keep: [], ...choices }, beyondHalf: [], tensors,
  };
  return { cache, stamp: { sha256: 'f'.repeat(64), method: 'minmax', dataset: 'seeded' } };
}

/** Grids and borders are those of the whole graph in onnxruntime; sums that are the output are stored as halves, once. */
async function expectWholeOf(graph: Graph, inputs: Map<ValueId, Tensor>, actual: Tensor, absolute = 2 ** -25): Promise<void> {
  const [expected] = (await runGraph((await quantizeNet(graph, { fused: true })).graph, inputs)).values();
  expect(distance(actual, toNumbers(expected!), { absolute, relative: 1.001 * 2 ** -11 })).toBeLessThan(1);
}

/** Kind and type of what matters in {@link gated}. */
const productsOf = ({ header }: Engine): readonly string[] => header.layers.map(({ kind, precision }) => `${kind} ${precision}`).filter((text) => /Conv|Sqrt/.test(text));

function build(graph: Graph, options: Partial<BuildOptions> = {}, calibration?: BuildInput['calibration'], pixels?: CompileRequest['pixels']): Promise<Engine> {
  return compileModel({
    ...(calibration && { calibration }),
    ...(pixels && { pixels }),
    modelBytes: exportGraph(graph),
    modelName: graph.name,
    folder: undefined,
    options: { ...OPTIONS, ...options },
    backend: webgpuBackend,
    context: { signal: undefined, onProgress: undefined },
  });
}

async function errorOf(action: Promise<unknown>): Promise<TsrtError> {
  const error: unknown = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof TsrtError)) throw new Error(`expected a TsrtError, got ${String(error)}`, { cause: error });
  return error;
}

const x: Tensor = fromNumbers('float32', [1, 3, 5, 5], noise(75, 7));

describe.skipIf(noDevice)('composite engines (skipped without SwiftShader)', () => {
  it.each(['on', 'off'] as const)('answer as onnxruntime does, fusion %s', async (fusion) => {
    const graph = mixed();
    const engine = await deserializeEngine(await serializeEngine(await build(graph, { fusion })));
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    try {
      const expected = await runModel(exportGraph(graph), new Map([['x', x]]));
      const outputs = await session.run({ x });
      for (const name of ['y', 'z']) expect(distance(outputs[name]!, toNumbers(expected.get(name)!), { absolute: 1e-4, relative: 1e-4 })).toBeLessThan(1);
      const execution = await session.prepare({ x });
      await execution.execute(2);
      expect((await execution.download())['y']).toEqual(outputs['y']);
      await execution.dispose();
      const { deviceBytes } = session.observeMemory();
      const onDevice = (engine.header.backendData as CompositePlan).segments.filter(({ runner }) => runner === 'webgpu');
      expect(deviceBytes).toBe(onDevice.reduce((sum, { memory }) => sum + Object.values(memory).reduce((a, b) => a + b, 0), 0));
    } finally {
      await session.dispose();
    }
    await expect(session.run({ x })).rejects.toThrow('disposed');
  });

  it('profile every layer but the copies', async () => {
    const engine = await build(mixed());
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const times = await session.profile!({ x });
    await session.dispose();
    const layers = engine.header.layers.filter(({ kind }) => kind !== 'Copy').map(({ name }) => name);
    expect(times.map(({ layer }) => layer).filter((name) => layers.includes(name))).toEqual(layers);
  });

  it('say what runs where, and why, and what is copied', async () => {
    const { header } = await build(mixed());
    expect(header.notices).toEqual([
      '1 of 6 nodes run in onnxruntime on the processor (--fallback), in 1 of 3 segments.',
      expect.stringMatching(/^In onnxruntime: .*Det: the webgpu backend has no kernel for this op \('det'\)\.$/),
      'Every inference copies 2 values (624 bytes) between device and host for it; timed executions include that.',
    ]);
    const layers = header.layers.map(({ kind, name }) => `${kind} ${name}`);
    const order = ['FusedConv relu', 'Copy segment 0 to host', 'onnxruntime Det det', 'Copy host to segment 2', 'FusedElementwise sigmoid'];
    expect(layers.filter((layer) => order.includes(layer))).toEqual(order);
    expect(header.layers.filter(({ kind }) => kind === 'Copy').map(({ bytes }) => bytes)).toEqual([600, 24]);
  });

  it('are the same bytes every time', async () => {
    expect(await serializeEngine(await build(mixed()))).toEqual(await serializeEngine(await build(mixed())));
  });

  it('are plain engines where every node has a kernel', async () => {
    const graph = newGraphBuilder('plain');
    graph.input('x', { dtype: 'float32', dims: [4] });
    const { header } = await build(graph.finish([graph.node('Relu', ['x'], {})]));
    expect(header.backendData).not.toHaveProperty('composite');
    expect(header.notices).toEqual([]);
  });

  it('in fp16 store halves where they run on the device, and numbers as the model has them at their borders', async () => {
    const graph = mixed();
    const engine = await deserializeEngine(await serializeEngine(await build(graph, { precision: 'fp16' })));
    const types = new Map(engine.header.layers.map(({ name, precision }) => [name, precision]));
    expect([types.get('relu'), types.get('det')]).toEqual(['float16', 'float32']);
    const { segments } = engine.header.backendData as CompositePlan;
    expect(segments.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]).every(({ dtype }) => dtype === 'float32')).toBe(true);
    const wider = (await build(graph)).header.memory;
    expect(engine.header.memory.weightBytes).toBeLessThan(wider.weightBytes);
    const expected = await runModel(exportGraph(graph), new Map([['x', x]]));
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    try {
      const outputs = await session.run({ x });
      // A determinant of five rows multiplies five halves' errors; what follows is between 0 and 1.
      expect(distance(outputs['z']!, toNumbers(expected.get('z')!), { absolute: 4e-3, relative: 4e-3 })).toBeLessThan(1);
      expect(distance(outputs['y']!, toNumbers(expected.get('y')!), { absolute: 2e-2, relative: 2e-2 })).toBeLessThan(1);
    } finally {
      await session.dispose();
    }
  });

  it('in fp16 are plain where no node falls back', async () => {
    const graph = newGraphBuilder('plain');
    graph.input('x', { dtype: 'float32', dims: [1, 3, 4, 4] });
    const w = graph.constant(fromNumbers('float32', [8, 3, 3, 3], noise(216)), 'w');
    const plain = graph.finish([graph.node('Relu', [graph.node('Conv', ['x', w], CONV)], {})]);
    const { header } = await build(plain, { precision: 'fp16' });
    expect(header.backendData).not.toHaveProperty('composite');
    expect(header.layers.some(({ precision }) => precision === 'float16')).toBe(true);
  });

  it('in int8 multiply integers on both sides of a part in onnxruntime, which gets what was dequantized', async () => {
    const graph = gated();
    const engine = await deserializeEngine(await serializeEngine(await build(graph, { precision: 'int8' }, await calibrationOf(graph))));
    expect(productsOf(engine)).toEqual(['QuantizedConv int8', 'onnxruntime Sqrt float64', 'QuantizedConv int8']);
    const { segments } = engine.header.backendData as CompositePlan;
    expect(segments.map(({ runner, inputs }) => [runner, ...inputs.map(({ dtype }) => dtype)])).toEqual([['webgpu', 'float32'], ['onnxruntime', 'float32'], ['webgpu', 'float32', 'float32']]);
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const inputs = pictures(graph, 100);
    const [y] = Object.values(await session.run(Object.fromEntries(inputs)));
    await session.dispose();
    await expectWholeOf(graph, inputs, y!);
  });

  it('in mixed keep what the calibration names, also behind a part in onnxruntime', async () => {
    const graph = gated();
    const engine = await build(graph, { precision: 'mixed' }, await calibrationOf(graph, { keep: [graph.nodes.at(-1)!.name] }));
    expect(productsOf(engine)).toEqual(['QuantizedConv int8', 'onnxruntime Sqrt float64', 'Conv float16']);
  });

  it('in int8 have the first and the last product of the network, not of each part', async () => {
    const graph = gated();
    const last = await build(graph, { precision: 'int8' }, await calibrationOf(graph, { lastLayer: 'keep' }));
    expect(productsOf(last)).toEqual(['QuantizedConv int8', 'onnxruntime Sqrt float64', 'Conv float16']);
  });

  it('in int8 need a calibration, as a model without a fallback does', async () => {
    const error = await errorOf(build(mixed(), { precision: 'int8' }));
    expect([error.code, error.details]).toEqual(['MODEL_UNSUPPORTED', [expect.stringMatching(/^int8 needs a calibration/)]]);
  });

  it('take pictures as bytes, in integers too', async () => {
    const graph = gated(3);
    const pixels = () => [{ input: 'x', layout: 'NCHW', dtype: 'float32', scale: [1 / 128, 1 / 128, 1 / 128], shift: [-1, -1, -1] }] as const;
    const picture = fromNumbers('uint8', [1, 4, 4, 3], Array.from({ length: 48 }, (_, i) => (i * 37) % 256));
    const numbers = toNumbers(picture);
    const x = fromNumbers('float32', [1, 3, 4, 4], Array.from({ length: 48 }, (_, i) => numbers[(i % 16) * 3 + Math.floor(i / 16)]! / 128 - 1));
    const engine = await build(graph, { precision: 'int8', backendOptions: { fallback: 'onnxruntime', preprocess: 'device' } }, await calibrationOf(graph), pixels);
    expect(engine.header.inputs).toEqual([{ name: 'x', dtype: 'uint8', dims: [1, 4, 4, 3] }]);
    expect(productsOf(engine)).toEqual(['QuantizedConv int8', 'onnxruntime Sqrt float64', 'QuantizedConv int8']);
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const [y] = Object.values(await session.run({ x: picture }));
    await session.dispose();
    // A pixel's number in another order of operations may tip one value to the next step of its grid; the output's own grid would have steps of 6e-3.
    await expectWholeOf(graph, new Map([['x', x]]), y!, 1e-3);
  });

  it('need the option: without it the build says what it can not do', async () => {
    const error = await errorOf(build(mixed(), { backendOptions: {} }));
    expect(error.code).toBe('MODEL_UNSUPPORTED');
    expect(error.details).toEqual([expect.stringMatching(/Det 'det': the webgpu backend has no kernel for this op$/)]);
    expect(error.fix).toContain('--fallback onnxruntime');
  });

  it('are refused where onnxruntime does not know the op either', async () => {
    const graph = newGraphBuilder('foreign');
    graph.input('x', { dtype: 'float32', dims: [4] });
    const made = graph.node('Custom', ['x'], { domain: 'nobody', opType: 'Knows', opset: 1, attributes: [] }, { name: 'odd', types: [{ dtype: 'float32', dims: [4] }] });
    const error = await errorOf(build(graph.finish([graph.node('Relu', [made], {})])));
    expect(error.code).toBe('MODEL_UNSUPPORTED');
    expect(error.details).toHaveLength(1);
    expect(error.details[0]).toMatch(/^nobody\.Knows 'odd': .*nor does onnxruntime take it/);
  });

  it('hand over the nodes of a fused one that has no kernel', async () => {
    const graph = newGraphBuilder('empty');
    graph.input('x', { dtype: 'float32', dims: [2, 0] });
    graph.input('w', { dtype: 'float32', dims: [0, 4] });
    const relu = graph.node('Relu', [graph.node('MatMul', ['x', 'w'], {})], {});
    graph.node('Add', [relu, graph.constant(fromNumbers('float32', [4], [1, 2, 3, 4]))], {}, { outputs: ['y'] });
    const session = await webgpuBackend.load(await build(graph.finish(['y'])), { device: undefined, signal: undefined });
    const nothing = (dims: readonly number[]) => fromNumbers('float32', dims, []);
    const outputs = await session.run({ x: nothing([2, 0]), w: nothing([0, 4]) });
    await session.dispose();
    expect(toNumbers(outputs['y']!)).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
  });

  it('run values of types that the device lacks', async () => {
    const graph = newGraphBuilder('doubles');
    graph.input('x', { dtype: 'float64', dims: [3] });
    const exact = graph.node('Mul', ['x', graph.constant(fromNumbers('float64', [1], [2]))], {}, { outputs: ['exact'] });
    const single = graph.node('Cast', [exact], { saturate: 1, to: 'float32' }, {});
    const built = graph.finish(['exact', graph.node('Neg', [single], {}, { outputs: ['y'] })]);
    const session = await webgpuBackend.load(await build(built), { device: undefined, signal: undefined });
    const outputs = await session.run({ x: fromNumbers('float64', [3], [1, 2, 1e300]) });
    await session.dispose();
    expect(toNumbers(outputs['exact']!)).toEqual([2, 4, 2e300]);
    expect(toNumbers(outputs['y']!)).toEqual([-2, -4, -Infinity]);
  });

  it('are refused by the runtime, which has no onnxruntime, by name', async () => {
    const error = await errorOf(loadEngine(await build(mixed()), await testDevice()));
    expect(error.code).toBe('ENGINE_INCOMPATIBLE');
    expect(error.message).toContain('onnxruntime');
  });
});

describe.skipIf(noDevice)('broken composite engines (skipped without SwiftShader)', () => {
  let engine: Engine;
  let plan: CompositePlan;

  beforeAll(async () => {
    engine = await build(mixed());
    plan = JSON.parse(JSON.stringify(engine.header.backendData)) as CompositePlan;
  });

  const altered = (index: number, change: Partial<CompositeSegment>): CompositePlan => ({
    ...plan,
    segments: plan.segments.map((segment, i) => (i === index ? { ...segment, ...change } : segment)),
  });

  const cases: readonly (readonly [string, () => unknown])[] = [
    ['another version', () => ({ ...plan, composite: 99 })],
    ['no segments', () => ({ composite: 1 })],
    ['segments in the wrong order', () => ({ ...plan, segments: plan.segments.toReversed() })],
    ['a segment left out', () => ({ ...plan, segments: plan.segments.slice(0, 2) })],
    ['a foreign runner', () => altered(0, { runner: 'tpu' as 'webgpu' })],
    ['a value of another type', () => altered(1, { inputs: plan.segments[1]!.inputs.map((binding) => ({ ...binding, dims: [1] })) })],
    ['a value made twice', () => altered(2, { outputs: [...plan.segments[2]!.outputs, ...plan.segments[0]!.outputs] })],
    ['layers beyond the last', () => altered(2, { firstLayer: 5, layerCount: 2 })],
    ['a plan where there should be none of onnxruntime', () => altered(1, { runner: 'webgpu' })],
    ['no plan', () => altered(0, { data: null })],
    ['a field that nobody knows', () => altered(0, { extra: 1 } as object)],
  ];

  it.each(cases)('%s', async (_, change) => {
    const device = await validatingDevice();
    const backendData = change();
    const error = await errorOf(createCompositeSession({ ...engine, header: { ...engine.header, backendData } }, device));
    expect(error.code).toBe('ENGINE_INVALID');
    device.destroy();
  });

  it('a part that no segment owns', async () => {
    const device = await validatingDevice();
    const parts = new Map([...engine.parts, ['segment-9/weights', new Uint8Array(4)] as const]);
    expect((await errorOf(createCompositeSession({ ...engine, parts }, device))).code).toBe('ENGINE_INVALID');
    device.destroy();
  });
});
