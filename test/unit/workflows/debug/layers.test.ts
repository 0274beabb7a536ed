/** `debug layers`: every value of a model that has a name in its file, and the one that a half does not hold. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../../src/ir/tensor.ts';
import { debugLayers, type LayersRequest } from '../../../../src/workflows/debug/layers.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { npzBytes } from '../../../helpers/npy.ts';
import { noDevice } from '../../../helpers/swiftshader.ts';
import { modelBytes, node, value } from '../../onnx/models.ts';

/** x is made large, looked at, and made small again. */
const model = modelBytes({
  inputs: [value('x', 'float32', ['n', 4])],
  outputs: [value('y', 'float32', ['n', 4])],
  nodes: [node('Softmax', ['x'], ['s'], { axis: 1 }), node('Mul', ['s', 'many'], ['large']), node('Relu', ['large'], ['r']), node('Div', ['r', 'many'], ['y'])],
  initializers: { many: fromNumbers('float32', [], [1e6]) },
});

async function request(overrides: Partial<LayersRequest>): Promise<LayersRequest> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'model.onnx'), model);
  await writeFile(join(folder, 'request.npz'), npzBytes({ x: fromNumbers('float32', [3, 4], Array.from({ length: 12 }, (_, i) => i / 4)) }));
  return {
    modelFile: join(folder, 'model.onnx'), backend: 'onnxruntime', plugins: [],
    options: { batch: 2, dims: {}, inputShapes: {}, fusion: 'on', precision: 'fp32', backendOptions: {} },
    rebatch: true, arrays: undefined, seed: 1, device: undefined, minSnrDb: undefined, signal: new AbortController().signal, onEvent: () => {},
    ...overrides,
  };
}

describe('debug layers', () => {
  it('compares every value with the reference, in one engine or in several', async () => {
    const whole = await debugLayers(await request({}));
    expect(whole.values.map(({ value: name, op, type }) => `${name} ${op} ${type}`)).toEqual(['s Softmax float32[2,4]', 'large Mul float32[2,4]', 'r Relu float32[2,4]', 'y Div float32[2,4]']);
    expect([...whole.values, ...whole.outputs].every(({ holds, snrDb }) => holds && (snrDb === undefined || snrDb > 100))).toBe(true);
    const engines: number[] = [];
    const parts = await debugLayers(await request({ portionBytes: 70, onEvent: (event) => event.kind === 'progress' && engines.push(event.total) }));
    expect(parts).toEqual(whole);
    expect(engines).toEqual([2, 2]);
  });

  it('runs arrays of the user\'s own, at their sizes, and refuses a model that is no graph', async () => {
    const base = await request({});
    const { values } = await debugLayers({ ...base, rebatch: false, arrays: join(base.modelFile, '..', 'request.npz') });
    expect(values[0]).toMatchObject({ type: 'float32[3,4]', elements: 12 });
    const unknown = await request({});
    await writeFile(unknown.modelFile, modelBytes({ inputs: [value('x', 'float32', [2])], outputs: [value('y', 'float32', [2])], nodes: [node('Wave', ['x'], ['y'])] }));
    await expect(debugLayers(unknown)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining('Wave') as string });
  });
});

describe.skipIf(noDevice)('debug layers on a device (skipped without SwiftShader)', () => {
  it('names the first value that a half does not hold, and holds that of the same in floats', async () => {
    const halves = await debugLayers(await request({ backend: 'webgpu', device: 'swiftshader', options: { ...(await request({})).options, precision: 'fp16' } }));
    expect(halves.values.find(({ holds }) => !holds)).toMatchObject({ value: 'large', op: 'Mul' });
    expect(halves.values[0]).toMatchObject({ value: 's', holds: true });
    const floats = await debugLayers(await request({ backend: 'webgpu', device: 'swiftshader' }));
    expect(floats.values.filter(({ holds }) => !holds)).toEqual([]);
    expect(floats.outputs).toMatchObject([{ value: 'y', holds: true }]);
  });
});
