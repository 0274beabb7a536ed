/** Reading what models hold, and refusing what is not one: one clear error for every way to be wrong. */
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { toNumbers } from '../../../src/ir/tensor.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { decodeTensor } from '../../../src/onnx/tensor.ts';
import { readTensorFile } from '../../../src/onnx/testdata.ts';
import { encode, floats, ints, modelBytes, modelProto, node, value, type IModel } from './models.ts';

const { onnx } = onnxProto;

function refusal(action: () => unknown): TsrtError {
  const outcome = attempt(action);
  expect(outcome).toBeInstanceOf(TsrtError);
  const error = outcome as TsrtError;
  expect([error.place, error.fix]).not.toContain(undefined);
  return error;
}

function attempt(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}

function refusedBy(bytes: Uint8Array): string {
  const error = refusal(() => readModel(bytes));
  expect(error.code).toBe('MODEL_INVALID');
  return error.message;
}

function expectInvalid(bytes: Uint8Array, message: RegExp): TsrtError {
  const error = refusal(() => readModel(bytes));
  expect(error.code).toBe('MODEL_INVALID');
  expect(error.message).toMatch(message);
  return error;
}

const withGraph = (change: (model: IModel) => void): Uint8Array => {
  const model = modelProto();
  change(model);
  return encode(model);
};

describe('readModel', () => {
  it('gives names, types, opsets, weights and nodes', () => {
    const bytes = modelBytes({
      inputs: [value('x', 'float16', ['N', 3, '', -1]), value('w', 'float32', [2])],
      outputs: [value('y', 'float32', [2])],
      initializers: { w: floats([1, 2]) },
      nodes: [node('Relu', ['w'], ['y']), node('Gelu', ['x'], ['z'], { approximate: 'tanh' }, { domain: 'com.microsoft' })],
      domains: { 'com.microsoft': 1 },
    });
    const model = readModel(bytes);
    expect(model).toMatchObject({ name: 'tested', irVersion: 8, producer: 'test' });
    expect([...model.opsets]).toEqual([['', 22], ['com.microsoft', 1]]);
    expect(model.inputs).toEqual([{ name: 'x', type: { kind: 'tensor', dtype: 'float16', dtypeName: 'float16', dims: ['N', 3, '', ''] } }]);
    expect(model.nodes.map(({ opType, domain, opset }) => [opType, domain, opset])).toEqual([['Relu', '', 22], ['Gelu', 'com.microsoft', 1]]);
    expect(model.nodes[1]!.attributes.get('approximate')).toEqual({ kind: 'string', value: 'tanh' });
  });

  it('keeps raw weights as views of the file', () => {
    const bytes = modelBytes({ initializers: { w: floats([1, 2, 3, 4]) }, nodes: [node('Add', ['x', 'w'], ['y'])] });
    const weight = readModel(bytes).initializers.get('w');
    if (weight?.kind !== 'tensor') throw new Error('w is a tensor');
    expect(weight.tensor.data.buffer).toBe(bytes.buffer);
    expect(toNumbers(weight.tensor)).toEqual([1, 2, 3, 4]);
  });

  it('sorts nodes that are out of order', () => {
    const bytes = modelBytes({ nodes: [node('Relu', ['b'], ['y']), node('Relu', ['a'], ['b']), node('Relu', ['x'], ['a'])] });
    expect(readModel(bytes).nodes.map((item) => item.outputs[0])).toEqual(['a', 'b', 'y']);
  });

  it('saturates the bounds of an old Slice and keeps every bit of a Constant', () => {
    const max = 2n ** 63n - 1n;
    const bits = { low: -1, high: 0x7fffffff, unsigned: false } as unknown as number;
    const wide = (name: string): onnxProto.onnx.IAttributeProto => ({ name, type: 7, ints: [bits] });
    const bytes = modelBytes({
      opset: 9,
      nodes: [node('Slice', ['x'], ['y'], {}, { attribute: [wide('ends')] }), node('Constant', [], ['c'], {}, { attribute: [wide('value_ints')] })],
    });
    const [slice, constant] = readModel(bytes).nodes;
    expect(slice!.attributes.get('ends')).toEqual({ kind: 'ints', value: [Number.MAX_SAFE_INTEGER] });
    const held = constant!.attributes.get('value_ints');
    if (held?.kind !== 'tensor' || held.value.kind !== 'tensor') throw new Error('a tensor');
    expect(new BigInt64Array(held.value.tensor.data.slice().buffer)[0]).toBe(max);
    const other = modelBytes({ nodes: [node('Relu', ['x'], ['y'], {}, { attribute: [wide('axes')] })] });
    expectInvalid(other, /beyond ±2\^53/);
  });

  it('reads defaults of function attributes, which onnx-proto does not know', () => {
    const body = node('LeakyRelu', ['a'], ['b'], {}, { attribute: [{ name: 'alpha', type: 1, refAttrName: 'slope' }] });
    const fn = onnx.FunctionProto.encode(onnx.FunctionProto.create({ name: 'Soft', domain: 'my', input: ['a'], output: ['b'], node: [body], opsetImport: [{ version: 22 }] })).finish();
    const attributeProto = onnx.AttributeProto.encode({ name: 'slope', type: 1, f: 0.25 }).finish();
    const extended = Uint8Array.from([...fn, (11 << 3) | 2, attributeProto.length, ...attributeProto]);
    const model = modelBytes({ nodes: [node('Soft', ['x'], ['y'], {}, { domain: 'my' })], domains: { my: 1 } });
    const field = Uint8Array.from([...model, 0xca, 0x01, extended.length, ...extended]);
    expect(readModel(field).functions[0]).toMatchObject({ name: 'Soft', defaults: new Map([['slope', { kind: 'float', value: 0.25 }]]) });
  });
});

describe('files that are no model', () => {
  const text = (content: string): Uint8Array => new TextEncoder().encode(content);
  it.each([
    ['nothing', new Uint8Array(), /empty/],
    ['text', text('hello, I am not a model\n'), /a text file/],
    ['JSON', text('{"model": 1}'), /JSON/],
    ['HTML', text('<!DOCTYPE html><html><body>404</body></html>'), /HTML page/],
    ['a Git LFS pointer', text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'), /Git LFS pointer/],
    ['a zip', Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 0, 0), /zip archive/],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0), /gzip/],
    ['TFLite', Uint8Array.of(28, 0, 0, 0, 0x54, 0x46, 0x4c, 0x33), /TensorFlow Lite/],
    ['noise', Uint8Array.from({ length: 64 }, (_, i) => (i * 151 + 7) & 255), /cut short or damaged|no graph/],
    ['a length of 2 GB', Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0x07, 0x0a), /cut short or damaged/],
    ['a varint without end', new Uint8Array(40).fill(0xff), /cut short or damaged/],
    ['millions of empty nodes', millions(0x0a, 0x00), /more than 4194304 fields/],
    ['a tensor of many dimensions', packed(0x0a, 300_000), /300000 dimensions/],
    ['a tensor of many values too many', packed(0x3a, 300_000), /1 int64 elements has 300000 values/],
    ['messages nested without end', nested(200_000), /nested too deeply/],
    ['groups nested without end', Uint8Array.from({ length: 200_000 }, (_, i) => (i % 2 === 0 ? 0xf3 : 0x01)), /nested too deeply/],
  ])('%s', (_, bytes, message) => {
    expect(refusedBy(bytes)).toMatch(message);
  });

  it('every truncation of a model', () => {
    const bytes = modelBytes({ initializers: { w: floats([1, 2, 3, 4]) }, nodes: [node('Add', ['x', 'w'], ['y'])] });
    for (let length = 0; length < bytes.length; length++) expect(refusal(() => readModel(bytes.subarray(0, length))).code).toBe('MODEL_INVALID');
  });
});

/** A model of IR version 8 and opset 22 whose graph has these bytes. */
function aroundGraph(graph: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(0x08, 8, 0x42, 2, 0x10, 22, 0x3a, ...varint(graph.length)), graph]);
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

/** The same field 2.2 million times. */
function millions(tag: number, length: number): Uint8Array {
  return aroundGraph(Buffer.alloc(4_400_000, Uint8Array.of(tag, length)));
}

/** An initializer 'w' of type int64[1] with a packed field of `count` ones. */
function packed(tag: number, count: number): Uint8Array {
  const head = [...(tag === 0x0a ? [] : [0x0a, 1, 1]), 0x10, 7, 0x42, 1, 0x77, tag, ...varint(count)];
  const tensor = Buffer.concat([Uint8Array.from(head), new Uint8Array(count).fill(1)]);
  return aroundGraph(Buffer.concat([Uint8Array.of(0x2a, ...varint(tensor.length)), tensor]));
}

/** ModelProto.graph (7) → node (1) → attribute (5) → g (6) → node … */
function nested(depth: number): Uint8Array {
  const tags = [0x3a, 0x0a, 0x2a, 0x32];
  const bytes: number[] = [];
  for (let level = 0; level < depth; level++) bytes.push(level === 0 ? tags[0]! : tags[1 + ((level - 1) % 3)]!, 0xff, 0xff, 0xff, 0x7f);
  return Uint8Array.from(bytes);
}

describe('models that contradict themselves', () => {
  const relu = node('Relu', ['x'], ['y']);
  it.each<[string, Uint8Array, RegExp]>([
    ['no graph', withGraph((model) => void (model.graph = null)), /holds no graph/],
    ['no IR version', withGraph((model) => void (model.irVersion = 0)), /IR version 0/],
    ['no opset', withGraph((model) => void (model.opsetImport = [])), /no operator set/],
    ['opset 0', modelBytes({ opset: 0 }), /version 0/],
    ['a domain that is not imported', modelBytes({ nodes: [node('Relu', ['x'], ['y'], {}, { domain: 'other' })] }), /'other', which the model does not import/],
    ['no outputs', modelBytes({ outputs: [] }), /no outputs/],
    ['one output twice', modelBytes({ outputs: [value('y', 'float32', ['N', 4]), value('y', 'float32', ['N', 4])] }), /the graph lists it twice/],
    ['two inputs of one name', modelBytes({ inputs: [value('x', 'float32', [1]), value('x', 'float32', [1])] }), /no name of its own/],
    ['an output that nothing produces', modelBytes({ outputs: [value('z', 'float32', [1])] }), /nothing produces the output 'z'/],
    ['an input that nothing produces', modelBytes({ nodes: [node('Relu', ['ghost'], ['y'])] }), /reads the value 'ghost'/],
    ['a value produced twice', modelBytes({ nodes: [relu, relu] }), /'y' is produced twice/],
    ['a node that produces an input', modelBytes({ nodes: [relu, node('Relu', ['y'], ['x'])] }), /'x' is produced twice/],
    ['a cycle', modelBytes({ nodes: [node('Add', ['x', 'b'], ['a']), node('Relu', ['a'], ['b']), node('Relu', ['b'], ['y'])] }), /cycle through .*Relu_of_b.*Add_of_a/],
    ['a node that reads itself', modelBytes({ nodes: [node('Add', ['x', 'y'], ['y'])] }), /cycle through node 'Add_of_y'/],
    ['a node without an op', modelBytes({ nodes: [node('', ['x'], ['y'])] }), /no op type/],
    ['an attribute twice', modelBytes({ nodes: [node('Relu', ['x'], ['y'], {}, { attribute: [{ name: 'a', type: 2 }, { name: 'a', type: 2 }] })] }), /'a' twice/],
    ['an attribute of no type', modelBytes({ nodes: [node('Relu', ['x'], ['y'], {}, { attribute: [{ name: 'a', type: 99 as 1 }] })] }), /no known type/],
    ['a negative dimension', modelBytes({ inputs: [value('x', 'float32', [-7])] }), /dimension is -7/],
  ])('%s', (_, bytes, message) => {
    expect(refusedBy(bytes)).toMatch(message);
  });

  it.each<[string, onnxProto.onnx.ITensorProto, RegExp]>([
    ['too few bytes', { dims: [3], dataType: 1, rawData: new Uint8Array(8) }, /needs 12 bytes and has 8/],
    ['too many values', { dims: [1], dataType: 1, floatData: [1, 2] }, /1 float32 elements has 2 values/],
    ['no values', { dims: [2 ** 31], dataType: 1 }, /has 0 values/],
    ['a negative dimension', { dims: [-1, 4], dataType: 1 }, /negative dimension -1/],
    ['dimensions that overflow', { dims: [2 ** 40, 2 ** 40], dataType: 1 }, /more elements than any memory/],
    ['a zero that hides an absurd dimension', { dims: [0, 2 ** 50], dataType: 1 }, /more elements than any memory/],
    ['no element type', { dims: [1], floatData: [1] }, /no element type/],
    ['65 dimensions', { dims: Array.from({ length: 65 }, () => 1), dataType: 1, floatData: [1] }, /65 dimensions/],
  ])('an initializer with %s', (_, tensor, message) => {
    const error = expectInvalid(withGraph((model) => void (model.graph!.initializer = [{ name: 'w', ...tensor }])), message);
    expect(error.place).toBe(`initializer 'w'`);
  });

  it('cuts and cleans names in messages', () => {
    const error = expectInvalid(modelBytes({ nodes: [node('Relu', [`\x1b[31m${'a'.repeat(5000)}`], ['y'])] }), /'·\[31maaa/);
    expect(error.message.length).toBeLessThan(300);
  });
});

describe('tensors', () => {
  it.each<[string, onnxProto.onnx.ITensorProto, readonly number[]]>([
    ['float_data', { dataType: 1, dims: [2], floatData: [0.5, -2] }, [0.5, -2]],
    ['double_data', { dataType: 11, dims: [1], doubleData: [0.1] }, [0.1]],
    ['int64_data', { dataType: 7, dims: [2], int64Data: [-5, 2 ** 40] }, [-5, 2 ** 40]],
    ['uint64_data as uint32', { dataType: 12, dims: [1], uint64Data: [4294967295] }, [4294967295]],
    ['int32_data as int8', { dataType: 3, dims: [2], int32Data: [-128, 127] }, [-128, 127]],
    ['int32_data as uint16', { dataType: 4, dims: [1], int32Data: [65535] }, [65535]],
    ['int32_data as float16', { dataType: 10, dims: [2], int32Data: [0x3c00, 0xc000] }, [1, -2]],
    ['int32_data as bfloat16', { dataType: 16, dims: [1], int32Data: [0x3f80] }, [1]],
    ['int32_data as bool', { dataType: 9, dims: [3], int32Data: [0, 1, 5] }, [0, 1, 1]],
    ['int32_data as float8e4m3fn', { dataType: 17, dims: [2], int32Data: [0x38, 0xb8] }, [1, -1]],
    ['int32_data as int4, two to a number', { dataType: 22, dims: [3], int32Data: [0x8f, 0x07] }, [-1, -8, 7]],
    ['raw uint2', { dataType: 25, dims: [5], rawData: Uint8Array.of(0xe4, 0x02) }, [0, 1, 2, 3, 2]],
    ['raw bool', { dataType: 9, dims: [2], rawData: Uint8Array.of(7, 0) }, [1, 0]],
    ['a scalar', { dataType: 6, rawData: Uint8Array.of(3, 0, 0, 0) }, [3]],
    ['an empty tensor', { dataType: 1, dims: [0, 4] }, []],
  ])('%s', (_, proto, expected) => {
    const decoded = decodeTensor(onnx.TensorProto.decode(onnx.TensorProto.encode(proto).finish()), 'test');
    if (decoded.kind !== 'tensor') throw new Error('a tensor');
    expect(toNumbers(decoded.tensor)).toEqual(expected);
  });

  it('names types that the project does not hold', () => {
    expect(decodeTensor({ dataType: 14, dims: [2], rawData: new Uint8Array(16) }, 'test')).toEqual({ kind: 'unsupported', dtype: 'complex64', dims: [2] });
    expect(decodeTensor({ dataType: 77, dims: [3] }, 'test')).toMatchObject({ dtype: 'type 77' });
    const strings = decodeTensor({ dataType: 8, dims: [1], stringData: [new TextEncoder().encode('é')] }, 'test');
    expect(strings).toEqual({ kind: 'strings', dims: [1], strings: ['é'] });
  });

  it('reads test data: tensors, sequences, optionals', () => {
    const tensor = onnx.TensorProto.encode({ dataType: 1, dims: [1], floatData: [3] }).finish();
    expect(readTensorFile(tensor)).toMatchObject({ kind: 'tensor', tensor: { dtype: 'float32', dims: [1] } });
    const field = Uint8Array.of((3 << 3) | 2, tensor.length, ...tensor);
    const sequence = Uint8Array.of(...field, ...field);
    expect(readTensorFile(sequence, 'sequence')).toMatchObject({ kind: 'sequence', items: [{ kind: 'tensor' }, { kind: 'tensor' }] });
    expect(readTensorFile(field, 'optional')).toMatchObject({ kind: 'optional', value: { kind: 'tensor' } });
    expect(readTensorFile(new Uint8Array(), 'optional')).toEqual({ kind: 'optional', value: undefined });
    expect(refusal(() => readTensorFile(Uint8Array.of(0xff, 0xff))).code).toBe('MODEL_INVALID');
  });
});

describe('external data', () => {
  const root = mkdtempSync(join(tmpdir(), 'tsrt-onnx-'));
  const folder = join(root, 'model');
  beforeAll(() => {
    mkdirSync(join(folder, 'parts'), { recursive: true });
    writeFileSync(join(folder, 'weights.bin'), new Uint8Array(Float32Array.of(0, 1, 2, 3).buffer));
    writeFileSync(join(folder, 'parts', 'w.bin'), new Uint8Array(Float32Array.of(9).buffer));
    writeFileSync(join(root, 'secret.bin'), new Uint8Array(64));
    symlinkSync(join(root, 'secret.bin'), join(folder, 'link.bin'));
    symlinkSync(join(folder, 'weights.bin'), join(folder, 'inside.bin'));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const external = (entries: Record<string, string>, dims: number[] = [2], count = 1): Uint8Array =>
    withGraph((model) => {
      model.graph!.initializer = Array.from({ length: count }, (_, index) => ({
        name: `w${index}`,
        dims,
        dataType: 1,
        dataLocation: 1,
        externalData: Object.entries(entries).map(([key, text]) => ({ key, value: text })),
      }));
    });
  const weight = (bytes: Uint8Array): readonly number[] => {
    const held = readModel(bytes, { folder }).initializers.get('w0');
    if (held?.kind !== 'tensor') throw new Error('a tensor');
    return toNumbers(held.tensor);
  };

  it('reads the ranges that tensors name', () => {
    expect(weight(external({ location: 'weights.bin', offset: '4', length: '8' }))).toEqual([1, 2]);
    expect(weight(external({ location: 'weights.bin' }))).toEqual([0, 1]);
    expect(weight(external({ location: 'parts/w.bin' }, [1]))).toEqual([9]);
    expect(weight(external({ location: 'inside.bin' }, [4]))).toEqual([0, 1, 2, 3]);
  });

  it('shares a range that several tensors name', () => {
    const model = readModel(external({ location: 'weights.bin' }, [4], 50), { folder });
    const values = [...model.initializers.values()].map((held) => (held.kind === 'tensor' ? held.tensor.data.buffer : undefined));
    expect(new Set(values).size).toBe(1);
  });

  it.each<[string, Record<string, string>, RegExp]>([
    ['a parent folder', { location: '../secret.bin' }, /outside the model's folder/],
    ['a parent folder, later', { location: 'parts/../../secret.bin' }, /outside the model's folder/],
    ['a parent folder, with backslashes', { location: '..\\secret.bin' }, /outside the model's folder/],
    ['an absolute path', { location: '/etc/passwd' }, /outside the model's folder/],
    ['a drive', { location: 'C:\\secret.bin' }, /outside the model's folder/],
    ['a symbolic link', { location: 'link.bin' }, /symbolic link/],
    ['a NUL', { location: 'a\0b' }, /no usable location/],
    ['nothing', {}, /no usable location/],
    ['a missing file', { location: 'none.bin' }, /'none.bin' is missing/],
    ['a folder', { location: 'parts' }, /not a regular file/],
    ['a range past the end', { location: 'weights.bin', offset: '12' }, /needs bytes 12 to 20 of 'weights.bin', which has 16/],
    ['another length', { location: 'weights.bin', length: '4' }, /gives 4 bytes for a tensor of 8/],
    ['a negative offset', { location: 'weights.bin', offset: '-4' }, /offset '-4'/],
    ['an absurd offset', { location: 'weights.bin', offset: '99999999999999999999' }, /offset '9+'/],
  ])('refuses %s', (_, entries, message) => {
    const error = refusal(() => readModel(external(entries), { folder }));
    expect(error.code).toBe('MODEL_INVALID');
    expect(error.message).toMatch(message);
  });

  it('refuses ranges that overlap and a model without a folder', () => {
    const overlapping = withGraph((model) => {
      model.graph!.initializer = [0, 4].map((offset) => ({ name: `w${offset}`, dims: [3], dataType: 1, dataLocation: 1, externalData: [{ key: 'location', value: 'weights.bin' }, { key: 'offset', value: `${offset}` }] }));
    });
    expect(refusal(() => readModel(overlapping, { folder })).message).toMatch(/overlap/);
    expect(refusal(() => readModel(external({ location: 'weights.bin' }))).message).toMatch(/without its folder/);
  });
});

describe('no Long leaves the reader', () => {
  it('in attributes, dimensions and data', () => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', ['N', 4])], initializers: { s: ints([2, 2]) }, nodes: [node('Reshape', ['x', 's'], ['r'], { allowzero: 1 }), node('Transpose', ['r'], ['y'], { perm: [1, 0] })] });
    expect(JSON.stringify(readModel(bytes), (_, item) => (item instanceof Map ? [...item] : item))).not.toMatch(/"low"|"unsigned"/);
  });
});
