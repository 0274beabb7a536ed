/** Frozen inputs, against onnxruntime on the model as it was. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { toNumbers } from '../../../src/ir/tensor.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { freezeModel } from '../../../src/workflows/freeze.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { encode, floats, ints, modelBytes, modelProto, node, value, type ModelParts } from '../onnx/models.ts';
import { disagreement, runOnnx } from '../onnx/run.ts';

/** Enlarges a picture to a size that is an input, by a factor that is one too. */
const RESIZING: ModelParts = {
  inputs: [value('x', 'float32', [1, 1, 2, 3]), value('size', 'int64', [4]), value('gain', 'float32', [])],
  outputs: [value('y', 'float32', [1, 1, 'h', 'w'])],
  nodes: [node('Resize', ['x', '', '', 'size'], ['r'], { mode: 'linear' }), node('Mul', ['r', 'gain'], ['y'])],
};
const X = floats([1, 2, 3, 4, 5, 6], [1, 1, 2, 3]);

async function frozen(bytes: Uint8Array, ...values: string[]) {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'm.onnx'), bytes);
  const result = await freezeModel({ model: join(folder, 'm.onnx'), values, output: join(folder, 'f.onnx') });
  return { result, folder, bytes: new Uint8Array(await readFile(join(folder, 'f.onnx'))) };
}

describe('freeze', () => {
  it('makes shapes known that a value decides, and what the model computes stays', async () => {
    const whole = modelBytes(RESIZING);
    expect(importGraph(readModel(whole)).ok).toBe(false);
    const { result, bytes } = await frozen(whole, 'size=1,1,4,6', 'gain=-0.5');
    expect(result.inputs).toEqual(['x']);
    expect(result.frozen).toEqual([
      { name: 'size', dtype: 'int64', dims: [4], values: [1, 1, 4, 6] },
      { name: 'gain', dtype: 'float32', dims: [], values: [-0.5] },
    ]);
    const imported = importGraph(readModel(bytes));
    expect(imported.ok && imported.graph.types.get('y')?.dims).toEqual([1, 1, 4, 6]);
    const expected = await runOnnx(whole, { x: X, size: ints([1, 1, 4, 6]), gain: floats([-0.5], []) });
    expect(disagreement((await runOnnx(bytes, { x: X }))['y']!, expected['y']!)).toBe(0);
  });

  it('takes a value in place of the one that the file gives, and open sizes from the number of elements', async () => {
    const parts: ModelParts = {
      inputs: [value('x', 'float32', ['N']), value('scale', 'float32', ['N']), value('on', 'bool', [])],
      outputs: [value('y', 'float32', ['N'])],
      initializers: { bias: floats([1, 1]) },
      nodes: [node('Add', ['x', 'bias'], ['b']), node('Mul', ['b', 'scale'], ['m']), node('Where', ['on', 'm', 'x'], ['y'])],
    };
    const proto = modelProto(parts);
    proto.graph!.input!.push(value('bias', 'float32', [2]));
    const { bytes } = await frozen(encode(proto), 'scale=2,3', 'on=true');
    expect(toNumbers((await runOnnx(bytes, { x: floats([1, 2]) }))['y']!)).toEqual([4, 9]);
    expect(readModel(bytes).inputs.map(({ name }) => name)).toEqual(['x']);
  });

  it('refuses values for several open sizes, which they could fill in many ways', async () => {
    const mask = modelBytes({ inputs: [value('x', 'float32', [2]), value('mask', 'int64', ['batch', 'length'])], outputs: [value('y', 'float32', [2])], nodes: [node('Relu', ['x'], ['y'])] });
    await expect(frozen(mask, 'mask=1,1')).rejects.toThrow("input 'mask' is int64[batch,length], and values can fill one open size only");
  });

  it('keeps fields that no schema here knows', async () => {
    // Field 500 of the model: three bytes.
    const extra = new Uint8Array([0xa2, 0x1f, 3, 7, 8, 9]);
    const { bytes } = await frozen(new Uint8Array([...modelBytes(RESIZING), ...extra]), 'size=1,1,4,6', 'gain=2');
    expect(Buffer.from(bytes).includes(Buffer.from(extra))).toBe(true);
    expect(readModel(bytes).initializers.size).toBe(2);
  });

  it.each([
    [['size'], /takes NAME=V/],
    [['=1'], /takes NAME=V/],
    [['siz=1,1,4,6'], /no input 'siz'/],
    [['size=1,1,4'], /int64\[4\], which 3 values can't fill/],
    [['gain=1,2'], /float32\[\], which 2 values/],
    [['size=1,1,4.5,6'], /'4.5' is not int64/],
    [['gain=fast'], /'fast' is not float32/],
    [['gain=1e60'], /1e60 is not a value of input 'gain'/],
    [['gain='], /'' is not float32/],
    [['gain=1', 'gain=2'], /twice/],
    [['gain=1', 'size=1,1,4,6', 'x=1,2,3,4,5,6'], /no input left/],
  ] as const)('%j is a mistake, and nothing is written', async (values, message) => {
    const folder = await temporaryFolder();
    const model = join(folder, 'm.onnx');
    await writeFile(model, modelBytes(RESIZING));
    const output = join(folder, 'f.onnx');
    const thrown = await freezeModel({ model, values, output }).catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(TsrtError);
    expect(thrown).toMatchObject({ code: 'USAGE', message: expect.stringMatching(message), fix: expect.stringMatching(/./) });
    await expect(readFile(output)).rejects.toThrow('ENOENT');
  });

  it('keeps the model, and its weights where they are found', async () => {
    const folder = await temporaryFolder();
    const model = join(folder, 'm.onnx');
    const proto = modelProto({ ...RESIZING, initializers: {} });
    const external = onnxProto.onnx.TensorProto.create({ name: 'w', dims: [1], dataType: 1, dataLocation: 1, externalData: [{ key: 'location', value: 'w.bin' }] });
    proto.graph!.initializer!.push(external);
    await writeFile(model, encode(proto));
    await writeFile(join(folder, 'w.bin'), new Uint8Array(4));
    const request = { model, values: ['gain=1'], output: model };
    await expect(freezeModel(request)).rejects.toMatchObject({ code: 'USAGE', message: 'the output is the model itself' });
    await expect(freezeModel({ ...request, output: join(folder, 'sub', 'f.onnx') })).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('w.bin') });
    expect((await freezeModel({ ...request, output: join(folder, 'f.onnx') })).inputs).toEqual(['x', 'size']);
  });
});
