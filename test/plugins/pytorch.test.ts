/** The pytorch plugin with a real PyTorch: every op that it lists and exported networks, against onnxruntime. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import pytorch, { pytorchBackend } from '../../plugins/pytorch/index.ts';
import type { BuildInput, Session } from '../../src/backends/backend.ts';
import { compileModel } from '../../src/backends/compile.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import type { BuildOptions, Engine } from '../../src/engine/engine.ts';
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import type { OpAttrs, OpKind } from '../../src/ir/ops.ts';
import { fromNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { readTensorFile } from '../../src/onnx/testdata.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { parsePlugin } from '../../src/plugin-schema.ts';
import { buildOptions } from '../helpers/options.ts';
import { randomInputs, runModel } from '../helpers/ort.ts';
import { expectClose } from '../helpers/passes.ts';
import { sharedPath } from '../helpers/shared.ts';
import { PYTHON } from './python.ts';

const context = { signal: undefined, onProgress: undefined };

function compile(modelBytes: Uint8Array, options: Partial<BuildOptions> = {}): Promise<Engine> {
  return compileModel({ modelBytes, modelName: 'test', folder: undefined, options: buildOptions({ backend: 'pytorch', ...options }), backend: pytorchBackend, context });
}

async function withSession<T>(engine: Engine, use: (session: Session) => Promise<T>): Promise<T> {
  const session = await pytorchBackend.load(await deserializeEngine(await serializeEngine(engine)), { device: undefined, signal: undefined });
  try {
    return await use(session);
  } finally {
    await session.dispose();
  }
}

const ints = (values: readonly number[], dims: readonly number[] = [values.length]): Tensor => fromNumbers('int64', dims, values);
const numbers = (values: readonly number[], dims: readonly number[] = []): Tensor => fromNumbers('float32', dims, values);
const ramp = (dims: readonly number[], step = 0.05): Tensor => numbers(Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => ((i * 7) % 19) * step - 0.4), dims);
const window = { auto_pad: 'NOTSET', dilations: [1, 1], kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] } as const;

type Operand = ValueId | Tensor;
type Case = { [K in OpKind]: readonly [K, readonly (Operand | '')[], OpAttrs[K], number?] }[OpKind];

/** x, y: [2,4,6,6]; p: positive; m: [3,8]; q: booleans; i: indices. */
const CASES: readonly Case[] = [
  ...(['Abs', 'Atan', 'Ceil', 'Cos', 'Erf', 'Exp', 'Floor', 'HardSwish', 'IsNaN', 'Mish', 'Neg', 'Relu', 'Round', 'Sigmoid', 'Sign', 'Sin', 'Softplus', 'Softsign', 'Tanh', 'Identity'] as const).map((op): Case => [op, ['x'], {}]),
  ...(['Log', 'Sqrt', 'Reciprocal', 'Acosh'] as const).map((op): Case => [op, ['p'], {}]),
  ...(['Acos', 'Asin', 'Atanh', 'Asinh', 'Cosh', 'Sinh', 'Tan'] as const).map((op): Case => [op, ['s'], {}]),
  ...(['Add', 'Sub', 'Mul', 'Div', 'Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'PRelu'] as const).map((op): Case => [op, ['x', 'y'], {}]),
  ...(['Add', 'Sub', 'Mul', 'Div', 'Less'] as const).flatMap((op): Case[] => [[op, ['x', numbers([1.5])], {}], [op, [numbers([1.5]), 'x'], {}]]),
  ...(['And', 'Or', 'Xor'] as const).map((op): Case => [op, ['q', 'q2'], {}]),
  ...(['Max', 'Min', 'Sum', 'Mean'] as const).map((op): Case => [op, ['x', 'y', ramp([6])], {}]),
  ['Not', ['q'], {}],
  ['Pow', ['p', numbers([2])], {}],
  ['Pow', ['p', 'p'], {}],
  ['Div', ['i', ints([2])], {}],
  ['Mod', ['i', ints([3])], { fmod: 0 }],
  ['Mod', ['x', 'p'], { fmod: 1 }],
  ['Clip', ['x', numbers([-0.5]), numbers([1])], {}],
  ['Clip', ['x', '', numbers([1])], {}],
  ['LeakyRelu', ['x'], { alpha: 0.1 }],
  ['Elu', ['x'], { alpha: 0.7 }],
  ['Celu', ['x'], { alpha: 0.7 }],
  ['Gelu', ['x'], { approximate: 'none' }],
  ['Gelu', ['x'], { approximate: 'tanh' }],
  ['HardSigmoid', ['x'], { alpha: 1 / 6, beta: 0.5 }],
  ['HardSigmoid', ['x'], { alpha: 0.3, beta: 0.4 }],
  ['Where', ['q', 'x', 'y'], {}],
  ['Cast', ['x'], { to: 'int32', saturate: 1 }],
  ['Cast', ['q'], { to: 'float32', saturate: 1 }],
  ['Conv', ['x', ramp([6, 4, 3, 3]), ramp([6])], { ...window, group: 1 }],
  ['Conv', ['x', ramp([4, 1, 3, 3])], { ...window, group: 4, pads: [0, 1, 1, 0], strides: [2, 1] }],
  ['ConvTranspose', ['x', ramp([4, 2, 3, 3]), ramp([2])], { ...window, group: 1, strides: [2, 2], output_padding: [1, 1] }],
  ['MaxPool', ['x'], { ...window, ceil_mode: 1, storage_order: 0, strides: [2, 2] }],
  ['MaxPool', ['x'], { ...window, ceil_mode: 0, storage_order: 0, pads: [0, 0, 1, 1] }],
  ['AveragePool', ['x'], { ...window, ceil_mode: 0, count_include_pad: 0 }],
  ['AveragePool', ['x'], { ...window, ceil_mode: 0, count_include_pad: 1, pads: [0, 0, 1, 1] }],
  ['GlobalAveragePool', ['x'], {}],
  ['GlobalMaxPool', ['x'], {}],
  ['Gemm', ['m', ramp([5, 8]), ramp([5])], { alpha: 1, beta: 1, transA: 0, transB: 1 }],
  ['Gemm', ['m', ramp([8, 5]), ramp([3, 1])], { alpha: 0.5, beta: 2, transA: 0, transB: 0 }],
  ['Gemm', ['m', 'm'], { alpha: 1, beta: 1, transA: 0, transB: 1 }],
  ['MatMul', ['m', ramp([8, 5])], {}],
  ['MatMul', ['x', 'y'], {}],
  ['BatchNormalization', ['x', ramp([4]), ramp([4]), ramp([4]), numbers([1, 2, 0.5, 1], [4])], { epsilon: 1e-5, momentum: 0.9, training_mode: 0 }],
  ['InstanceNormalization', ['x', ramp([4]), ramp([4])], { epsilon: 1e-5 }],
  ['LayerNormalization', ['x', ramp([6]), ramp([6])], { axis: -1, epsilon: 1e-5, stash_type: 1 }],
  ['GroupNormalization', ['x', ramp([4]), ramp([4])], { epsilon: 1e-5, num_groups: 2, stash_type: 1 }],
  ['Softmax', ['x'], { axis: 1 }],
  ['LogSoftmax', ['x'], { axis: -1 }],
  ...(['ReduceMean', 'ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare', 'ReduceLogSumExp'] as const).map(
    (op, index): Case => [op, ['x', ints([-1, 1])], { keepdims: index % 2 === 0 ? 1 : 0, noop_with_empty_axes: 0 }],
  ),
  ['ReduceMean', ['x'], { keepdims: 0, noop_with_empty_axes: 0 }],
  ['ArgMax', ['x'], { axis: 1, keepdims: 0, select_last_index: 0 }],
  ['ArgMin', ['x'], { axis: -1, keepdims: 1, select_last_index: 0 }],
  ['Reshape', ['x', ints([2, -1])], { allowzero: 0 }],
  ['Flatten', ['x'], { axis: 2 }],
  ['Squeeze', ['o', ints([0])], {}],
  ['Unsqueeze', ['x', ints([0, -1])], {}],
  ['Expand', ['m', ints([2, 3, 8])], {}],
  ['Transpose', ['x'], { perm: [0, 2, 3, 1] }],
  ['Concat', ['x', 'y', ramp([2, 1, 6, 6])], { axis: 1 }],
  ['Split', ['x'], { axis: 1, num_outputs: 2 }, 2],
  ['Slice', ['x', ints([1, -1]), ints([4, -100]), ints([-1, 2]), ints([2, -2])], {}],
  ['Gather', ['x', ints([0, -1])], { axis: 2 }],
  ['Gather', ['x', ints([-2], [])], { axis: 1 }],
  ['Gather', [ramp([9, 3]), 'i'], { axis: 0 }],
  ['GatherElements', ['x', fromNumbers('int64', [1, 1, 1, 3], [0, -1, 2])], { axis: 3 }],
  ['Pad', ['x', ints([0, 1, 2, 1]), numbers([3]), ints([2, 3])], { mode: 'constant' }],
  ['Pad', ['x', ints([0, 0, 1, 2, 0, 0, 2, 1])], { mode: 'reflect' }],
  ['Tile', ['m', ints([2, 1])], {}],
  ['Resize', ['x', '', numbers([1, 1, 2, 2], [4])], resize('nearest', 'asymmetric')],
  ['Resize', ['x', '', numbers([1, 1, 2, 2], [4])], resize('linear', 'half_pixel')],
  ['Resize', ['x', '', numbers([1, 1, 2, 2], [4])], resize('linear', 'align_corners')],
];

function resize(mode: 'nearest' | 'linear', coordinates: OpAttrs['Resize']['coordinate_transformation_mode']): OpAttrs['Resize'] {
  return { antialias: 0, axes: undefined, coordinate_transformation_mode: coordinates, cubic_coeff_a: -0.75, exclude_outside: 0, extrapolation_value: 0, keep_aspect_ratio_policy: 'stretch', mode, nearest_mode: 'floor' };
}

/** Every case side by side in one graph: one Python for all of them. */
function everyOp(): Graph {
  const builder = newGraphBuilder('every-op');
  const picture = { dtype: 'float32', dims: [2, 4, 6, 6] } as const;
  builder.input('x', picture);
  builder.input('y', picture);
  builder.input('m', { dtype: 'float32', dims: [3, 8] });
  builder.input('q', { dtype: 'bool', dims: picture.dims });
  builder.input('q2', { dtype: 'bool', dims: picture.dims });
  builder.input('o', { dtype: 'float32', dims: [1, 5, 1] });
  builder.input('i', { dtype: 'int64', dims: [2, 3] });
  builder.node('Exp', ['x'], {}, { outputs: ['e'] });
  builder.node('Add', ['e', builder.constant(numbers([1]))], {}, { outputs: ['p'] });
  builder.node('Mul', ['x', builder.constant(numbers([0.4]))], {}, { outputs: ['s'] });
  const outputs = CASES.flatMap(([op, operands, attrs, count]) => {
    const inputs = operands.map((operand) => (typeof operand === 'string' ? operand : builder.constant(operand)));
    return builder.nodeOutputs(op, inputs, attrs as OpAttrs[typeof op], { outputs: count ?? 1 });
  });
  return builder.finish(outputs);
}

describe('the pytorch plugin', () => {
  it('is a plugin', () => {
    expect(parsePlugin(pytorch, 'plugins/pytorch')).toBe(pytorch);
  });

  it('is unavailable, with the way out, where there is no such Python', async () => {
    const before = process.env['TSRT_BENCH_PYTHON'];
    process.env['TSRT_BENCH_PYTHON'] = 'no-such-python';
    try {
      expect(await pytorchBackend.probe()).toMatchObject({ status: 'unavailable', reason: expect.stringContaining('no-such-python') });
    } finally {
      if (before === undefined) delete process.env['TSRT_BENCH_PYTHON'];
      else process.env['TSRT_BENCH_PYTHON'] = before;
    }
  });

  it('says which ops and precisions it lacks, all at once and without Python', async () => {
    const builder = newGraphBuilder('odd');
    const x = builder.input('x', { dtype: 'float32', dims: [1, 2, 4, 4] });
    const graph = builder.finish([builder.node('LRN', [x], { alpha: 1, beta: 1, bias: 1, size: 3 })]);
    const input: BuildInput = { graph: { ok: true, graph }, model: { name: 'odd', sha256: '', bytes: new Uint8Array(), folder: undefined, inputs: undefined, outputs: undefined }, options: buildOptions({ backend: 'pytorch', precision: 'int8' }) };
    expect((await pytorchBackend.supports(input)).map(({ op }) => op)).toEqual(['precision', 'LRN']);
    expect(() => pytorchBackend.supports({ ...input, options: buildOptions({ backend: 'pytorch', backendOptions: { mod: 'eager' } }) })).toThrow(/options for backend pytorch/);
  });
});

describe.skipIf(PYTHON === undefined)('PyTorch itself (skipped without a Python that has torch and numpy)', () => {
  it('has every op as onnxruntime has it', async () => {
    const graph = everyOp();
    const model = exportGraph(graph);
    const inputs = randomInputs(graph, 5);
    const expected = await runModel(model, inputs);
    for (const fusion of ['on', 'off'] as const) {
      const found = await withSession(await compile(model, { fusion }), (session) => session.run(Object.fromEntries(inputs)));
      expectClose(new Map(Object.entries(found)), expected, 1e-5);
      expect(Object.keys(found)).toHaveLength(graph.outputs.length);
    }
  });

  it('executes what was prepared, times itself and profiles by node', async () => {
    const builder = newGraphBuilder('linear');
    const x = builder.input('x', { dtype: 'float32', dims: [4, 16] });
    const product = builder.node('MatMul', [x, builder.constant(ramp([16, 8]))], {}, { name: 'product' });
    const graph = builder.finish([builder.node('Add', [builder.constant(ramp([8])), product], {}, { name: 'sum' })]);
    const model = exportGraph(graph);
    const inputs = randomInputs(graph, 6);
    const expected = await runModel(model, inputs);
    await withSession(await compile(model, { batch: 4 }), async (session) => {
      expect(session.clock?.source).toBe('program');
      const execution = await session.prepare(Object.fromEntries(inputs));
      const start = session.clock!.now();
      await execution.execute(5);
      expect(session.clock!.now() > start).toBe(true);
      expectClose(new Map(Object.entries(await execution.download())), expected, 1e-5);
      await execution.dispose();
      // MatMul and Add are one nn.Linear, under the product's name.
      expect((await session.profile!(Object.fromEntries(inputs))).map(({ layer }) => layer)).toEqual(['product']);
    });
  });

  it('refuses modes that this PyTorch or device lacks, and engines of other sources', async () => {
    const builder = newGraphBuilder('relu');
    const model = exportGraph(builder.finish([builder.node('Relu', [builder.input('x', { dtype: 'float32', dims: [1, 4] })], {})]));
    const graphed = await compile(model, { backendOptions: { mode: 'cuda-graph', device: 'cpu' } });
    await expect(withSession(graphed, async () => undefined)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: /CUDA graph needs a CUDA device/ });
    const engine = await compile(model);
    const other = { ...engine, header: { ...engine.header, backendData: { ...(engine.header.backendData as object), sources: 'x' } } };
    await expect(withSession(other, async () => undefined)).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE', message: /other sources/ });
  });

  const models = sharedPath('conformance', 'models');
  it.skipIf(!models).each(['mobilenetv3_small_050_dynamo18', 'vit_tiny_depth4_dynamo20'])('%s gives what was exported with it (skipped without the models beside the repository)', async (name) => {
    const tensor = (file: string): Tensor => {
      const value = readTensorFile(readFileSync(join(models!, name, file)));
      if (value.kind !== 'tensor') throw new Error(`${file} holds no tensor`);
      return value.tensor;
    };
    const input = tensor('input_0.pb');
    const engine = await compile(readFileSync(join(models!, name, 'model.onnx')), { batch: input.dims[0]! });
    const { name: output } = engine.header.outputs[0]!;
    const found = await withSession(engine, (session) => session.run({ [session.inputs[0]!.name]: input }));
    expect(found[output]!.dims).toEqual(tensor('output_0.pb').dims);
    expectClose(new Map([[output, found[output]!]]), new Map([[output, tensor('output_0.pb')]]), 1e-4);
  });
});
