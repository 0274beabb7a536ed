import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../../../src/backends/compile.ts';
import type { Backend } from '../../../../src/backends/backend.ts';
import { nullBackend } from '../../../../src/backends/null/null.ts';
import { onnxruntimeBackend } from '../../../../src/backends/onnxruntime/onnxruntime.ts';
import { serializeEngine } from '../../../../src/engine/file.ts';
import { fromNumbers, type Tensor } from '../../../../src/ir/tensor.ts';
import { encodeTensor } from '../../../../src/onnx/tensor.ts';
import { findCases } from '../../../../src/workflows/verify/cases.ts';
import { checkCase, type CheckSettings } from '../../../../src/workflows/verify/check.ts';
import type { CaseResult } from '../../../../src/workflows/verify/result.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { npzBytes } from '../../../helpers/npy.ts';
import { buildOptions } from '../../../helpers/options.ts';
import { sharedPath } from '../../../helpers/shared.ts';
import { floats, ints, modelBytes, node, value } from '../../onnx/models.ts';

const { onnx } = onnxProto;

const settings: CheckSettings = { tolerance: { rtol: undefined, atol: undefined }, options: buildOptions(), rebatch: false, device: undefined, seed: 0 };

type File = Tensor | Uint8Array;

/** Writes one case and checks it. */
async function check(
  model: Uint8Array,
  files: Readonly<Record<string, File>> = {},
  backend: Backend = onnxruntimeBackend,
  asked: CheckSettings = settings,
): Promise<CaseResult> {
  const root = await temporaryFolder();
  await writeFile(join(root, 'model.onnx'), model);
  await mkdir(join(root, 'test_data_set_0'));
  for (const [name, content] of Object.entries(files)) {
    const bytes = content instanceof Uint8Array ? content : onnx.TensorProto.encode(encodeTensor(content)).finish();
    await writeFile(join(root, 'test_data_set_0', name), bytes);
  }
  const [found] = await findCases(root);
  return checkCase(found!, asked, { backend, referenceBackend: onnxruntimeBackend });
}

/** onnxruntime with the graph as our passes leave it, as a backend that reads graphs has it. */
const inGraph: Backend = {
  ...onnxruntimeBackend,
  build: (input, context) => onnxruntimeBackend.build({ ...input, model: { ...input.model, hasFewBits: false } }, context),
};

const relu = modelBytes();
const x = floats([-1, 2, -3, 4], [1, 4]);

describe('checkCase', () => {
  it('refuses to compare nothing, but for data that lies with the model', async () => {
    const open = modelBytes({ inputs: [value('x', 'float32', ['N', 4])], outputs: [value('y', 'float32', ['N', 4])] });
    expect(await check(open, {}, onnxruntimeBackend, { ...settings, options: buildOptions({ dims: { N: 0 } }) })).toMatchObject({
      status: 'error',
      error: { code: 'MODEL_UNSUPPORTED', message: "the inputs of the model have no elements: 'x' is [0,4]" },
    });
    expect(await check(open, { 'input_0.pb': floats([], [0, 4]), 'output_0.pb': floats([], [0, 4]) })).toMatchObject({ status: 'passed' });
  });

  /** A product with weights of 4 bits. */
  const packed = (more: Readonly<Record<string, number>> = {}) => modelBytes({
    domains: { 'com.microsoft': 1 }, inputs: [value('x', 'float32', [2, 32])], outputs: [value('y', 'float32', [2, 4])],
    initializers: { w: fromNumbers('uint8', [4, 1, 16], Array.from({ length: 64 }, (_, i) => (i * 37) % 256)), s: floats([0.1, 0.2, 0.3, 0.4]) },
    nodes: [node('MatMulNBits', ['x', 'w', 's'], ['y'], { K: 32, N: 4, bits: 4, block_size: 32, ...more }, { domain: 'com.microsoft' })],
  });

  it('checks the engine that a build writes: weights of few bits stay packed', async () => {
    expect(await check(packed())).toMatchObject({ status: 'passed', tolerance: { rtol: 1e-3 }, notices: [expect.stringContaining('weights of few bits stay packed')] });
  });

  it('says that seeded inputs are no data for a model, and what to give', async () => {
    const beyond = modelBytes({
      inputs: [value('i', 'int64', [64])], outputs: [value('y', 'float32', [64])], initializers: { one: floats([5]) }, nodes: [node('Gather', ['one', 'i'], ['y'])],
    });
    expect(await check(beyond)).toMatchObject({
      status: 'error',
      error: { code: 'DATASET_INVALID', message: 'the model does not take seeded inputs', details: [expect.stringContaining('Gather')], fix: expect.stringContaining('--inputs FILE.npz') },
    });
  });

  it('compares with floats where products may quantize what they read, by the bounds of int8', async () => {
    const rounded = await check(packed({ accuracy_level: 4 }));
    expect(rounded).toMatchObject({ status: 'passed', tolerance: { rtol: 0.1, atol: 0.2 }, notices: [expect.anything(), expect.stringContaining('accuracy_level 4')] });
    // onnxruntime rounds in fact, and the reference does not.
    expect(rounded).toMatchObject({ outputs: [{ maxAbsError: expect.toSatisfy((error: number) => error > 1e-3) }] });
    // The graph that another backend compiles computes in floats, to which the reference gives the bounds of floats.
    const compiled = await check(packed({ accuracy_level: 4 }), {}, inGraph);
    expect(compiled).toMatchObject({ status: 'passed', tolerance: { rtol: 1e-3, atol: 1e-4 } });
  });

  it('gives a model that computes in halves the bounds of fp16, which the reference needs as well', async () => {
    const halves = fromNumbers('float16', [4], [1, 2, 3, 4]);
    const scaled = modelBytes({ inputs: [value('x', 'float16', [1, 4])], outputs: [value('y', 'float16', [1, 4])], initializers: { halves }, nodes: [node('Mul', ['x', 'halves'], ['y'])] });
    expect(await check(scaled)).toMatchObject({ status: 'passed', tolerance: { rtol: 1e-2, atol: 2e-2 } });
    const stored = modelBytes({
      inputs: [value('x', 'float32', [1, 4])], outputs: [value('y', 'float32', [1, 4])], initializers: { halves },
      nodes: [node('Cast', ['halves'], ['floats'], { to: 1 }), node('Mul', ['x', 'floats'], ['y'])],
    });
    expect(await check(stored)).toMatchObject({ status: 'passed', tolerance: { rtol: 1e-3, atol: 1e-4 } });
  });

  it('runs arrays of the user’s own, and compares with those that are named as outputs', async () => {
    const arrays = async (given: Readonly<Record<string, Tensor>>, engineFile?: string) => {
      const folder = await temporaryFolder();
      await writeFile(join(folder, 'relu.onnx'), relu);
      await writeFile(join(folder, 'given.npz'), npzBytes(given));
      const testCase = { ...(await findCases(folder))[0]!, arrays: join(folder, 'given.npz'), ...(engineFile !== undefined && { engineFile }) };
      return checkCase(testCase, settings, { backend: onnxruntimeBackend, referenceBackend: onnxruntimeBackend });
    };
    const three = floats([-1, 2, -3, 4, 1, 1, 1, 1, -1, -1, -1, -1], [3, 4]);
    expect(await arrays({ x: three })).toMatchObject({ status: 'passed', comparedWith: 'reference', outputs: [{ elements: 12 }] });
    expect(await arrays({ anything: three })).toMatchObject({ status: 'passed' });
    expect(await arrays({ x, y: floats([0, 2, 0, 4], [1, 4]) })).toMatchObject({ status: 'passed', comparedWith: 'expected outputs' });
    expect(await arrays({ x, y: floats([0, 2, 0, 5], [1, 4]) })).toMatchObject({ status: 'failed', outputs: [{ mismatches: 1 }] });
    const refused = (message: string) => ({ status: 'error', error: { code: 'DATASET_INVALID', message: expect.stringContaining(message) as string } });
    expect(await arrays({ x, yy: x })).toMatchObject(refused("the model has no input or output 'yy'; did you mean 'y'?"));
    expect(await arrays({ y: x, z: x })).toMatchObject(refused("the model has no input or output 'z'"));
    expect(await arrays({ x: ints([1, 2, 3, 4], [1, 4]) })).toMatchObject(refused("'x' is int64[1,4], and declared as float32[N,4]"));
    const engineFile = join(await temporaryFolder(), 'relu.engine');
    await writeFile(engineFile, await serializeEngine(await compileModel({ modelBytes: relu, modelName: 'relu', folder: undefined, options: buildOptions(), backend: onnxruntimeBackend, context: { device: undefined, signal: undefined, onProgress: undefined }, rebatch: false })));
    expect(await arrays({ x }, engineFile)).toMatchObject({ status: 'passed' });
    expect(await arrays({ x: three }, engineFile)).toMatchObject(refused('the engine takes x float32[1,4], but the arrays are x float32[3,4]'));
  });

  it('brings a model that fixes its batch to the one that is asked for', async () => {
    const fixed = modelBytes({ inputs: [value('x', 'float32', [1, 4])], outputs: [value('y', 'float32', [1, 4])] });
    const asked = { ...settings, rebatch: true, options: buildOptions({ batch: 3 }) };
    expect(await check(fixed, {}, onnxruntimeBackend, asked)).toMatchObject({ status: 'passed', comparedWith: 'reference', outputs: [{ elements: 12 }] });
    // Data have a batch of their own.
    const data = { 'input_0.pb': x, 'output_0.pb': floats([0, 2, 0, 4], [1, 4]) };
    expect(await check(fixed, data, onnxruntimeBackend, asked)).toMatchObject({ status: 'passed', outputs: [{ elements: 4 }] });
  });

  it('makes no inputs that no request may have', async () => {
    const open = modelBytes({ inputs: [value('x', 'float32', ['N', 4])], outputs: [value('y', 'float32', ['N', 4])] });
    const result = await check(open, {}, nullBackend, { ...settings, options: buildOptions({ batch: 200_000_000 }) });
    expect(result).toMatchObject({ status: 'error', error: { code: 'OUT_OF_MEMORY', message: expect.stringContaining('3.0 GiB') as string } });
  });

  it('passes where the outputs are as expected', async () => {
    const result = await check(relu, { 'input_0.pb': x, 'output_0.pb': floats([0, 2, 0, 4], [1, 4]) });
    expect(result).toMatchObject({ status: 'passed', comparedWith: 'expected outputs', outputs: [{ output: 'y', passed: true, elements: 4 }], notices: [] });
  });

  it('asks the graph as it was imported where onnxruntime lacks kernels of an early opset', async () => {
    const nodes = [node('Add', ['x', 'b'], ['y'], { broadcast: 1, axis: 0 })];
    const early = modelBytes({ opset: 6, nodes, inputs: [value('x', 'float32', ['N', 4])], outputs: [value('y', 'float32', ['N', 4])], initializers: { b: floats([1]) } });
    expect(await check(early)).toMatchObject({ status: 'passed', comparedWith: 'reference' });
    expect(await check(early, {}, nullBackend)).toMatchObject({ status: 'failed', comparedWith: 'reference' });
  });

  it('says where the data are not what the model declares', async () => {
    const result = await check(relu, { 'input_0.pb': floats([1], [1]), 'output_0.pb': floats([0, 2, 0, 4], [1, 4]) });
    expect(result).toMatchObject({ status: 'error', error: { code: 'DATASET_INVALID', message: "the test data do not fit the model: input 'x' is float32[1], and declared as float32[N,4]" } });
    expect(await check(relu, { 'input_0.pb': ints([0, 2, 0, 4], [1, 4]), 'output_0.pb': x })).toMatchObject({ status: 'error', error: { message: expect.stringContaining("'x' is int64[1,4]") } });
  });

  it('fails where one element is not', async () => {
    const result = await check(relu, { 'input_0.pb': x, 'output_0.pb': floats([0, 2, 0.5, 4], [1, 4]) });
    expect(result).toMatchObject({ status: 'failed', outputs: [{ mismatches: 1, maxAbsError: 0.5, detail: '[2] is 0, expected 0.5' }] });
  });

  it('asks the reference where nothing is expected', async () => {
    expect(await check(relu)).toMatchObject({ status: 'passed', comparedWith: 'reference' });
    expect(await check(relu, {}, nullBackend)).toMatchObject({ status: 'failed', comparedWith: 'reference' });
  });

  it('takes the shapes that the caller gives where there is no data', async () => {
    const open = modelBytes({ inputs: [value('x', 'float32', ['rows', 'columns'])], outputs: [value('y', 'float32', ['rows', 'columns'])] });
    expect(await check(open)).toMatchObject({ status: 'error' });
    const shaped = { ...settings, options: { ...settings.options, inputShapes: { x: [2, 3] } } };
    expect(await check(open, {}, onnxruntimeBackend, shaped)).toMatchObject({ status: 'passed', outputs: [{ elements: 6 }] });
  });

  it('builds in small inputs that shapes depend on, where the backend needs static shapes', async () => {
    const strict: Backend = { ...onnxruntimeBackend, supports: ({ graph }) => (graph.ok ? [] : graph.unsupported) };
    const slice = modelBytes({
      inputs: [value('x', 'float32', [1, 4]), value('starts', 'int64', [1]), value('ends', 'int64', [1]), value('axes', 'int64', [1])],
      outputs: [value('y', 'float32', [1, 'n'])],
      nodes: [node('Slice', ['x', 'starts', 'ends', 'axes'], ['y'])],
    });
    const files = { 'input_0.pb': x, 'input_1.pb': ints([1]), 'input_2.pb': ints([3]), 'input_3.pb': ints([1]), 'output_0.pb': floats([2, -3], [1, 2]) };
    expect(await check(slice, files, strict)).toMatchObject({
      status: 'passed',
      notices: ['Shapes depend on the values of starts, ends, axes: built in as constants.'],
    });
  });

  it('says why a backend can not', async () => {
    const none: Backend = { ...nullBackend, supports: () => [{ node: 'r', op: 'Relu', reason: 'not today' }] };
    expect(await check(relu, {}, none)).toMatchObject({ status: 'unsupported', reasons: [{ node: 'r', op: 'Relu', reason: 'not today' }] });
  });

  it('runs models with strings unchanged', async () => {
    const strings = (...words: string[]) =>
      onnx.TensorProto.encode({ dataType: 8, dims: [words.length], stringData: words.map((word) => new TextEncoder().encode(word)) }).finish();
    const text = (name: string) => ({ name, type: { tensorType: { elemType: 8, shape: { dim: [{ dimValue: 2 }] } } } });
    const identity = modelBytes({ inputs: [text('x')], outputs: [text('y')], nodes: [node('Identity', ['x'], ['y'])] });
    const { reference: _, ...engineOnly } = nullBackend;
    expect(await check(identity, { 'input_0.pb': strings('é', 'b'), 'output_0.pb': strings('é', 'b') })).toMatchObject({ status: 'passed' });
    expect(await check(identity, { 'input_0.pb': strings('é', 'b'), 'output_0.pb': strings('e', 'b') })).toMatchObject({ status: 'failed' });
    expect(await check(identity, { 'input_0.pb': strings('a', 'b'), 'output_0.pb': strings('a', 'b') }, engineOnly)).toMatchObject({ status: 'unsupported' });
  });

  it('calls a broken model, and broken data, an error', async () => {
    expect(await check(relu.subarray(0, 20))).toMatchObject({ status: 'error', error: { code: 'MODEL_INVALID' } });
    const result = await check(relu, { 'input_0.pb': Uint8Array.of(255, 255), 'output_0.pb': x });
    expect(result).toMatchObject({ status: 'error', error: { code: 'MODEL_INVALID' } });
  });

  it('asks for sizes that the model leaves open', async () => {
    const open = modelBytes({ inputs: [value('x', 'float32', ['N', 'length'])], outputs: [value('y', 'float32', ['N', 'length'])] });
    expect(await check(open)).toMatchObject({ status: 'error', error: { code: 'MODEL_UNSUPPORTED', message: expect.stringContaining('length'), fix: expect.any(String) } });
  });

  it('names an input that the data lacks', async () => {
    const result = await check(relu, { 'output_0.pb': x });
    expect(result).toMatchObject({ status: 'error', error: { code: 'USAGE', details: ['x: expected float32[1,4], found nothing'] } });
  });
});

const conformance = sharedPath('conformance');

describe.skipIf(!conformance)(`ONNX's operator tests on onnxruntime${conformance ? '' : ' (skipped: shared/conformance is not beside the repository)'}`, () => {
  it('never does worse than onnxruntime with the model as it is', { timeout: 300_000 }, async () => {
    const tools = { backend: onnxruntimeBackend, referenceBackend: onnxruntimeBackend };
    /** The model itself as the only thing that may run: what onnxruntime makes of it without us. */
    const bare: Backend = { ...onnxruntimeBackend, supports: () => [], build: (input, context) => onnxruntimeBackend.build({ ...input, graph: { ok: false, unsupported: [] } }, context) };
    const worse: string[] = [];
    let passed = 0;
    for (const testCase of await findCases(conformance!)) {
      const result = await checkCase(testCase, settings, tools);
      if (result.status === 'passed') passed++;
      else if ((await checkCase(testCase, settings, { ...tools, backend: bare })).status === 'passed') worse.push(`${testCase.name}: ${result.status}`);
    }
    expect(worse).toEqual([]);
    expect(passed).toBeGreaterThanOrEqual(850);
  });
});
