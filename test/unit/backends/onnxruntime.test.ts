import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import type { Session } from '../../../src/backends/backend.ts';
import { compileModel } from '../../../src/backends/compile.ts';
import { cpuDevice } from '../../../src/backends/cpu.ts';
import { evaluateConstants } from '../../../src/backends/onnxruntime/evaluate.ts';
import { checkFits } from '../../../src/backends/onnxruntime/fits.ts';
import { externalFiles } from '../../../src/backends/onnxruntime/external.ts';
import { onnxruntimeBackend } from '../../../src/backends/onnxruntime/onnxruntime.ts';
import type { BuildOptions, Engine } from '../../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../../src/engine/file.ts';
import { DTYPE_BITS, DTYPES, fromNumbers, toNumbers, typedView, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { buildOptions } from '../../helpers/options.ts';
import { seededRandom } from '../../helpers/random.ts';
import { encode, floats, ints, modelBytes, modelProto, node, value } from '../onnx/models.ts';

const context = { signal: undefined, onProgress: undefined };

function build(bytes: Uint8Array, overrides: Partial<BuildOptions> = {}, folder?: string): Promise<Engine> {
  const options = buildOptions(overrides);
  return compileModel({ modelBytes: bytes, modelName: 'm', folder, options, backend: onnxruntimeBackend, context });
}

/** Through the file form, as a user's engine goes. */
async function load(engine: Engine): Promise<Session> {
  const read = await deserializeEngine(await serializeEngine(engine));
  return onnxruntimeBackend.load(read, { device: undefined, signal: undefined });
}

const open = async (bytes: Uint8Array, overrides: Partial<BuildOptions> = {}, folder?: string) => load(await build(bytes, overrides, folder));

const random = seededRandom(8);
const weights = floats(Array.from({ length: 12 }, () => random() - 0.5), [4, 3]);
const bias = floats([0.25, -1, 2]);

/** y = relu(x·W + b). */
const network = modelBytes({
  inputs: [value('x', 'float32', ['N', 4])],
  outputs: [value('y', 'float32', ['N', 3])],
  initializers: { W: weights, b: bias },
  nodes: [node('MatMul', ['x', 'W'], ['p']), node('Add', ['p', 'b'], ['s']), node('Relu', ['s'], ['y'])],
});

function expected(x: readonly number[]): number[] {
  const [w, b] = [toNumbers(weights), toNumbers(bias)];
  return Array.from({ length: (x.length / 4) * 3 }, (_, i) => {
    const [row, column] = [Math.floor(i / 3), i % 3];
    let sum = b[column]!;
    for (let k = 0; k < 4; k++) sum += x[row * 4 + k]! * w[k * 3 + column]!;
    return Math.max(0, sum);
  });
}

const inputValues = Array.from({ length: 8 }, (_, i) => i / 4 - 1);
const x = { x: floats(inputValues, [2, 4]) };

/** Infinite where the lengths differ. */
function worstError(found: Tensor, wanted: readonly number[]): number {
  const values = toNumbers(found);
  return values.length === wanted.length ? Math.max(...values.map((value, i) => Math.abs(value - wanted[i]!))) : Infinity;
}

describe('checkFits', () => {
  it('says what a request takes and what the machine has', () => {
    const bindings = [{ dtype: 'float32', dims: [2 ** 20, 3, 32, 32] }, { dtype: 'float32', dims: [2 ** 20, 10] }] as const;
    expect(() => checkFits(bindings, 16 * 2 ** 30)).not.toThrow();
    expect(() => checkFits(bindings, 8 * 2 ** 30)).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY', message: 'the inputs and outputs of one request take 12.0 GiB; this machine has 8.0 GiB of memory' }));
  });
});

describe('onnxruntime engines', () => {
  it.each(['on', 'off'] as const)('compute what the model says with fusion %s', async (fusion) => {
    const session = await open(network, { batch: 2, fusion });
    expect(session.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: [2, 4] }]);
    expect(session.outputs).toEqual([{ name: 'y', dtype: 'float32', dims: [2, 3] }]);
    expect(worstError((await session.run(x))['y']!, expected(inputValues))).toBeLessThan(1e-5);
    const execution = await session.prepare(x);
    await execution.execute(3);
    expect(worstError((await execution.download())['y']!, expected(inputValues))).toBeLessThan(1e-5);
    await execution.dispose();
    await session.dispose();
  });

  it('keep zeros around an image out of the padding of a max pool, and transpose a matrix that a vector is multiplied by', async () => {
    const session = await open(
      modelBytes({
        inputs: [value('x', 'float32', [1, 1, 2, 3]), value('a', 'float32', [2, 3])],
        outputs: [value('y', 'float32', [1, 1, 3, 4]), value('p', 'float32', [3])],
        initializers: { pads: ints([0, 0, 1, 1, 0, 0, 1, 1]), v: floats([1, 10]) },
        nodes: [
          node('Pad', ['x', 'pads'], ['padded']),
          node('MaxPool', ['padded'], ['y'], { kernel_shape: [2, 2] }),
          node('Transpose', ['a'], ['t'], { perm: [1, 0] }),
          node('MatMul', ['t', 'v'], ['p']),
        ],
      }),
    );
    const outputs = await session.run({ x: floats([-1, -2, -3, -4, -5, -6], [1, 1, 2, 3]), a: floats([1, 2, 3, 4, 5, 6], [2, 3]) });
    expect(toNumbers(outputs['y']!)).toEqual([0, 0, 0, 0, 0, -1, -2, 0, 0, 0, 0, 0]);
    expect(toNumbers(outputs['p']!)).toEqual([41, 52, 63]);
    await session.dispose();
  });

  it('are the same bytes for the same inputs', async () => {
    expect(await serializeEngine(await build(network))).toEqual(await serializeEngine(await build(network)));
  });

  it('carry the compiled graph: passes, layers with their origins and cost, weights by the byte', async () => {
    const { header } = await build(network, { batch: 2, fusion: 'off' });
    expect(header.notices).toEqual([]);
    expect(header.passes.length).toBeGreaterThan(0);
    expect(header.layers.map(({ kind }) => kind)).toEqual(['MatMul', 'Add', 'Relu']);
    expect(header.layers[0]).toMatchObject({ name: 'MatMul_of_p', origins: ['MatMul_of_p'], flops: 2 * 2 * 4 * 3, precision: 'float32' });
    // p and s are alive together, so are s and y; x is staging.
    expect(header.memory).toEqual({ weightBytes: (12 + 3) * 4, activationBytes: 2 * 24, workspaceBytes: 0, stagingBytes: 32 + 24 });
  });

  it('run with every option of the backend', async () => {
    const backendOptions = { threads: 1, executionMode: 'parallel', memoryArena: false, memoryPattern: false, spinning: false };
    const session = await open(network, { batch: 2, backendOptions });
    const { y } = await session.run(x);
    expect(worstError(y!, expected(inputValues))).toBeLessThan(1e-5);
  });

  it('take inputs that lie unaligned in memory', async () => {
    const session = await open(network, { batch: 2 });
    const shifted = new Uint8Array(33);
    shifted.set(x.x.data, 1);
    const { y } = await session.run({ x: { ...x.x, data: shifted.subarray(1) } });
    expect(worstError(y!, expected(inputValues))).toBeLessThan(1e-5);
  });

  it('time their layers', async () => {
    const engine = await build(network, { batch: 2, fusion: 'off' });
    const session = await onnxruntimeBackend.load(engine, { device: undefined, signal: undefined });
    const times = await session.profile!(x);
    expect(times.map(({ layer }) => layer)).toEqual(engine.header.layers.map(({ name }) => name));
    expect(times.every(({ durationNs }) => durationNs >= 0)).toBe(true);
  });

  it('refuse to run when disposed of, and may be disposed of twice', async () => {
    const session = await open(network, { batch: 2 });
    await session.dispose();
    await session.dispose();
    await expect(session.run(x)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('refuse inputs that do not fit, before anything runs', async () => {
    const session = await open(network, { batch: 2 });
    await expect(session.run({ x: floats([1], [1]) })).rejects.toMatchObject({
      code: 'USAGE',
      details: ['x: expected float32[2,4], found float32[1]'],
    });
  });
});

describe('onnxruntime dtypes', () => {
  const carried = DTYPES.filter((dtype) => dtype !== 'bfloat16');

  it.each(carried)('carry %s bit by bit', async (dtype) => {
    const bytes = modelBytes({
      inputs: [value('x', dtype, [1, 4])],
      outputs: [value('y', dtype, [1, 4]), value('z', dtype, [2, 2])],
      initializers: { shape: fromNumbers('int64', [2], [2, 2]) },
      nodes: [node('Identity', ['x'], ['y']), node('Reshape', ['x', 'shape'], ['z'])],
    });
    const session = await open(bytes);
    const data = Uint8Array.from({ length: DTYPE_BITS[dtype] / 2 }, (_, i) => (dtype === 'bool' ? i % 2 : (i * 29 + 3) % 120));
    const tensor = { dtype, dims: [1, 4], data };
    const outputs = await session.run({ x: tensor });
    expect(typedView(outputs['y']!)).toEqual(typedView(tensor));
    expect(outputs['z']).toMatchObject({ dtype, dims: [2, 2] });
    expect(typedView(outputs['z']!)).toEqual(typedView(tensor));
  });

  it('say that bfloat16 is not carried', async () => {
    const bytes = modelBytes({ inputs: [value('x', 'bfloat16', [4])], outputs: [value('y', 'bfloat16', [4])] });
    await expect(build(bytes)).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      details: expect.arrayContaining(["binding 'x': onnxruntime-node has no bfloat16 tensors"]),
    });
  });
});

describe('outputs whose length the data decide', () => {
  it('are compiled, bound by what they can be at most, and as long as they are', async () => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', ['N', 4])], outputs: [value('y', 'int64', [2, 'found'])], nodes: [node('Relu', ['x'], ['r']), node('NonZero', ['r'], ['y'])] });
    const engine = await build(bytes, { batch: 2 });
    expect(engine.header.notices).toEqual([]);
    expect(engine.header.outputs).toEqual([{ name: 'y', dtype: 'int64', dims: [2, 8], dynamic: true }]);
    const { y } = await (await load(engine)).run({ x: floats([-1, 1, 0, 0, 0, 0, 5, -3], [2, 4]) });
    expect(y!.dims).toEqual([2, 2]);
    expect(toNumbers(y!)).toEqual([0, 1, 1, 2]);
  });
});

describe('weights of few bits', () => {
  const packed = (rows: number | string) => modelBytes({
    opset: 17, domains: { 'com.microsoft': 1 }, inputs: [value('x', 'float32', [rows, 32])], outputs: [value('y', 'float32', [rows, 4])],
    initializers: { w: fromNumbers('uint8', [4, 1, 16], Array.from({ length: 64 }, (_, i) => (i * 37) % 256)), s: floats([0.1, 0.2, 0.3, 0.4]) },
    nodes: [node('MatMulNBits', ['x', 'w', 's'], ['y'], { K: 32, N: 4, bits: 4, block_size: 32 }, { domain: 'com.microsoft' })],
  });

  it('stay packed, so that the time is that of their kernels', async () => {
    const engine = await build(packed('N'), { batch: 2 });
    expect(engine.header.notices).toEqual([expect.stringContaining('its weights of few bits stay packed')]);
    expect(engine.header.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: [2, 32] }]);
  });

  it('leave what is declared of outputs to a trial, for which a mask is full', async () => {
    // The cache has 6 rows, and of 4 tokens more rows than the 4 that the exporter thought of.
    const model = modelBytes({
      opset: 17, domains: { 'com.microsoft': 1 },
      inputs: [value('x', 'float32', [1, 4, 32]), value('attention_mask', 'int64', [1, 4]), ...['k', 'v'].map((name) => value(name, 'float32', [1, 1, 6, 8]))],
      outputs: [value('y', 'float32', [1, 4, 8]), ...['ks', 'vs'].map((name) => value(name, 'float32', [1, 1, 'total', 8]))],
      initializers: {
        w: fromNumbers('uint8', [24, 1, 16], Array.from({ length: 384 }, (_, i) => (i * 37) % 256)), s: floats(Array.from({ length: 24 }, () => 0.1)),
        one: ints([1]), four: fromNumbers('int32', [], [4]),
      },
      nodes: [
        node('MatMulNBits', ['x', 'w', 's'], ['qkv'], { K: 32, N: 24, bits: 4, block_size: 32 }, { domain: 'com.microsoft' }),
        node('ReduceSum', ['attention_mask', 'one'], ['sum']), node('Sub', ['sum', 'one'], ['last']), node('Cast', ['last'], ['lengths'], { to: 6 }),
        node('GroupQueryAttention', ['qkv', '', '', 'k', 'v', 'lengths', 'four'], ['y', 'ks', 'vs'], { num_heads: 1, kv_num_heads: 1 }, { domain: 'com.microsoft' }),
      ],
    });
    const { outputs } = (await build(model)).header;
    expect(outputs.map(({ name, dims }) => [name, dims])).toEqual([['y', [1, 4, 8]], ['ks', [1, 1, 6, 8]], ['vs', [1, 1, 6, 8]]]);
  });

  it('are floats where the file fixes another size than is asked for', async () => {
    expect((await build(packed(1), { batch: 2 })).header.layers.map(({ kind }) => kind)).toEqual(['MatMul']);
  });
});

describe('models that the IR can not hold', () => {
  /** A node that reads what another found has no static shape. */
  const nodes = [node('NonZero', ['x'], ['found']), node('Neg', ['found'], ['y'])];
  const negated = modelBytes({ inputs: [value('x', 'float32', ['N', 4])], outputs: [value('y', 'int64', [2, 'found'])], nodes });

  it('run unchanged, and the engine says so', async () => {
    const engine = await build(negated, { batch: 2 });
    expect(engine.header.notices).toEqual([expect.stringContaining("Neg 'Neg_of_y': the length of its input 'found' depends on the data of NonZero")]);
    expect(engine.header.outputs).toEqual([{ name: 'y', dtype: 'int64', dims: [2, 0], dynamic: true }]);
    const { y } = await (await load(engine)).run({ x: floats([0, 1, 0, 0, 0, 0, 5, 0], [2, 4]) });
    expect(y!.dims).toEqual([2, 2]);
    expect(toNumbers(y!)).toEqual([-0, -1, -1, -2].map((value) => value + 0));
  });

  it('are refused with onnxruntime’s reason where it can not load them either', async () => {
    const bytes = modelBytes({ domains: { strange: 1 }, nodes: [node('Riddle', ['x'], ['y'], {}, { domain: 'strange' })] });
    await expect(build(bytes)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', details: [expect.stringContaining('Riddle')] });
  });

  it('can not be given another size than they fix', async () => {
    const fixed = modelBytes({
      inputs: [value('x', 'float32', [2, 4])],
      outputs: [value('y', 'int64', [2, 'found'])],
      nodes,
    });
    await expect(build(fixed, { batch: 3 })).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      details: ['x: the model has float32[2,4], asked for float32[3,4]'],
    });
  });
});

describe('external data', () => {
  const { EXTERNAL } = onnxProto.onnx.TensorProto.DataLocation;
  const offsets = floats([10, 20, 30, 40]);

  /** y = −NonZero(x + w), w in another file. */
  function external(location: string): Uint8Array {
    const proto = modelProto({
      inputs: [value('x', 'float32', [1, 4])],
      outputs: [value('y', 'int64', [2, 'found']), value('sum', 'float32', [1, 4])],
      nodes: [node('Add', ['x', 'w'], ['sum']), node('NonZero', ['sum'], ['found']), node('Neg', ['found'], ['y'])],
    });
    const entries = [{ key: 'location', value: location }, { key: 'offset', value: '4' }, { key: 'length', value: '16' }];
    proto.graph!.initializer = [{ name: 'w', dataType: 1, dims: [4], dataLocation: EXTERNAL, externalData: entries }];
    return encode(proto);
  }

  it('is carried by the engine of a model that runs unchanged', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'w.bin'), Buffer.concat([new Uint8Array(4), offsets.data]));
    const engine = await build(external('w.bin'), {}, folder);
    expect([...engine.parts.keys()]).toEqual(['model.onnx', 'external/w.bin']);
    const session = await load(engine);
    const { y, sum } = await session.run({ x: floats([-10, 1, 2, -40], [1, 4]) });
    expect(toNumbers(sum!)).toEqual([0, 21, 32, 0]);
    expect(toNumbers(y!)).toEqual([0, 0, -1, -2]);
  });

  it('is mapped by the reference, and refused where it is no part of an engine file', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'w.bin'), Buffer.concat([new Uint8Array(4), offsets.data]));
    const reference = await onnxruntimeBackend.reference!({ bytes: external('w.bin'), folder });
    const outputs = await reference.run(new Map([['x', { kind: 'tensor', tensor: floats([-10, 1, 2, -40], [1, 4]) }]]));
    expect(outputs.get('sum')).toMatchObject({ tensor: { data: floats([0, 21, 32, 0]).data } });
    await reference.dispose();
    expect(() => externalFiles(external('w.bin'), folder, 19)).toThrow('its data file w.bin takes 20 bytes: a part of an engine file has at most 19');
  });

  it.each(['../secret.bin', '/etc/hostname', 'link/secret.bin'])('is refused outside the model’s folder: %s', async (location) => {
    const outside = await temporaryFolder();
    const folder = join(outside, 'models');
    await mkdir(folder);
    await writeFile(join(outside, 'secret.bin'), new Uint8Array(64));
    await symlink(outside, join(folder, 'link'));
    await expect(build(external(location), {}, folder)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await expect(onnxruntimeBackend.reference!({ bytes: external(location), folder })).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });
});

describe('onnxruntime refusals', () => {
  it('name a precision that is not built', async () => {
    await expect(build(network, { precision: 'int8' })).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', details: [expect.stringContaining('int8')] });
  });

  it('name a wrong option', async () => {
    await expect(build(network, { backendOptions: { thread: 2 } })).rejects.toMatchObject({
      code: 'USAGE',
      details: ["thread: no such option; did you mean 'threads'?"],
    });
  });

  it('name a device that is not there', async () => {
    const engine = await build(network);
    await expect(onnxruntimeBackend.load(engine, { device: 'abacus', signal: undefined })).rejects.toMatchObject({ code: 'USAGE' });
    const session = await onnxruntimeBackend.load(engine, { device: cpuDevice().slug, signal: undefined });
    expect(session.device.kind).toBe('cpu');
  });

  it.each([
    ['no model', new Map()],
    ['a broken model', new Map([['model.onnx', Uint8Array.of(1, 2, 3)]])],
  ])('call an engine with %s invalid', async (_, parts) => {
    const engine = { ...(await build(network)), parts };
    await expect(onnxruntimeBackend.load(engine, { device: undefined, signal: undefined })).rejects.toMatchObject({ code: 'ENGINE_INVALID' });
  });
});

describe('onnxruntime probe', () => {
  it('finds the processor', async () => {
    const availability = await onnxruntimeBackend.probe();
    expect(availability).toMatchObject({ status: 'available', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
    expect(cpuDevice().slug).toMatch(/^cpu-[a-z0-9]+(-[a-z0-9]+)*-\d+c$/);
  });
});

describe('evaluateConstants', () => {
  it('gives the outputs of a graph without inputs', async () => {
    const builder = newGraphBuilder('constants');
    const a = builder.constant(fromNumbers('int64', [2], [3, 4]), 'a');
    const b = builder.constant(fromNumbers('int64', [2], [10, 20]), 'b');
    const sum = builder.node('Add', [a, b], {});
    const result = await evaluateConstants(builder.finish([sum]));
    expect(toNumbers(result.get(sum)!)).toEqual([13, 24]);
    expect(result.get(sum)!.dtype satisfies DType).toBe('int64');
  });
});
