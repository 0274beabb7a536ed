import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { onnxruntimeBackend } from '../../../src/backends/onnxruntime/onnxruntime.ts';
import { resolveConfig } from '../../../src/config.ts';
import { parseCalibration } from '../../../src/quantize/calibration.ts';
import { openDataset } from '../../../src/suite/datasets.ts';
import { loadSuite } from '../../../src/suite/load.ts';
import { observeActivations } from '../../../src/workflows/calibrate/observe.ts';
import { setApartAsCalibrated } from '../../../src/workflows/calibrate/suite.ts';
import { calibrateCommand, describeCalibration, type CalibrateCommandRequest } from '../../../src/workflows/calibrate/command.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { asHalves, ofHalves, runTwin } from '../../helpers/half-twins.ts';
import { npzBytes } from '../../helpers/npy.ts';
import { net } from '../quantize/networks.ts';

const { onnx } = onnxProto;

async function request(folder: string, over: Partial<CalibrateCommandRequest>): Promise<CalibrateCommandRequest> {
  const { config } = await resolveConfig({ cache: join(folder, 'cache') }, folder);
  return {
    suite: 'suites/smoke', modelFile: undefined, overrides: {}, samples: 4, method: undefined, scheme: undefined, percentile: undefined, out: join(folder, 'c.json'),
    check: undefined, config, signal: new AbortController().signal, onEvent: () => {}, ...over,
  };
}

describe('calibrate', () => {
  it('writes a cache that it then finds to fit, and the same one each time', async () => {
    const folder = await temporaryFolder();
    const result = await calibrateCommand(await request(folder, { method: 'entropy' }));
    expect(result).toMatchObject({ kind: 'calibrated', method: 'entropy', samples: 4 });
    const text = await readFile(join(folder, 'c.json'), 'utf8');
    expect(Object.keys(parseCalibration(text, 'c.json').tensors)).toHaveLength(result.kind === 'calibrated' ? result.tensors : 0);
    await calibrateCommand(await request(folder, { method: 'entropy' }));
    expect(await readFile(join(folder, 'c.json'), 'utf8')).toBe(text);
    // As an editor of Windows saves it.
    await writeFile(join(folder, 'c.json'), `\uFEFF${text}`);
    const checked = await calibrateCommand(await request(folder, { check: join(folder, 'c.json') }));
    expect(checked).toMatchObject({ kind: 'checked', samples: 4 });
    expect(describeCalibration(checked).join('\n')).toContain('seen         4 samples');
  });

  it('takes one sample at a time of a model that is fixed at one', async () => {
    const folder = await temporaryFolder();
    const { b, conv, weight } = net();
    const x = b.input('x', { dtype: 'float32', dims: [1, 3, 4, 4] });
    // Rows are batch × pixels, written into the shape: no other batch fits.
    const rows = b.node('Reshape', [b.node('Transpose', [conv(x, 8, 1)], { perm: [0, 2, 3, 1] }), b.constant(fromNumbers('int64', [2], [16, 8]))], { allowzero: 0 });
    const joined = b.node('MatMul', [b.node('Transpose', [rows], { perm: [1, 0] }), weight(16, 4)], {});
    await writeFile(join(folder, 'fixed.onnx'), exportGraph(b.finish([b.node('Relu', [joined], {}, { outputs: ['y'] })])));
    const suite = {
      name: 'fixed', description: 'one sample at a time', model: { name: 'fixed', file: 'fixed.onnx' }, inputs: [{ kind: 'synthetic', values: { distribution: 'uniform', low: -1, high: 1 } }], task: { kind: 'raw' },
      variants: [{ backend: 'onnxruntime', precision: 'int8' }],
    };
    await writeFile(join(folder, 'suite.yaml'), JSON.stringify(suite));
    expect(await calibrateCommand(await request(folder, { suite: folder, samples: 3 }))).toMatchObject({ kind: 'calibrated', samples: 3 });
  });

  it('takes a model without a suite, with arrays as its samples and the sizes that it leaves open', async () => {
    const folder = await temporaryFolder();
    const { b, weight } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 5, 8] });
    const bytes = exportGraph(b.finish([b.node('MatMul', [x, weight(8, 4)], {}, { outputs: ['y'] })]));
    const model = onnx.ModelProto.decode(bytes);
    model.graph!.input![0]!.type!.tensorType!.shape!.dim = [{ dimParam: 'N' }, { dimParam: 'steps' }, { dimValue: 8 }];
    model.graph!.output![0]!.type!.tensorType!.shape!.dim = [{ dimParam: 'N' }, { dimParam: 'steps' }, { dimValue: 4 }];
    await writeFile(join(folder, 'open.onnx'), onnx.ModelProto.encode(model).finish());
    const dataset = join(folder, 'samples.npz');
    await writeFile(dataset, npzBytes({ x: fromNumbers('float32', [3, 5, 8], Float32Array.from({ length: 120 }, (_, i) => i / 10)) }));
    const suite = join(folder, 'open.onnx');
    const none = await request(folder, { suite, samples: undefined, overrides: { dims: { steps: 5 } } });
    await expect(calibrateCommand(none)).rejects.toMatchObject({ code: 'SUITE_INVALID', fix: expect.stringContaining('--dataset FILE.npz') as string });
    const result = await calibrateCommand({ ...none, overrides: { dataset, dims: { steps: 5 } } });
    expect(result).toMatchObject({ kind: 'calibrated', samples: 3 });
    const { tensors } = parseCalibration(await readFile(join(folder, 'c.json'), 'utf8'), 'c.json');
    expect(tensors['x']).toMatchObject({ seen: { low: 0, high: expect.closeTo(11.9, 5) as number } });
    await expect(calibrateCommand({ ...none, overrides: { dataset } })).rejects.toMatchObject({ fix: expect.stringContaining('--dim steps=N') as string });
  });

  it('takes a model whose one product reads its input, and sizes that say another batch than it would choose', async () => {
    const folder = await temporaryFolder();
    const { b, weight } = net();
    const x = b.input('x', { dtype: 'float32', dims: [3, 8] });
    await writeFile(join(folder, 'one.onnx'), exportGraph(b.finish([b.node('MatMul', [x, weight(8, 4)], {}, { outputs: ['y'] })])));
    const suite = {
      name: 'one', description: 'a single product', model: { name: 'one', file: 'one.onnx' }, inputs: [{ kind: 'synthetic', values: { distribution: 'uniform', low: -1, high: 1 } }], task: { kind: 'raw' },
      inputShapes: { x: [3, 8] }, variants: [{ backend: 'onnxruntime', precision: 'int8' }],
    };
    await writeFile(join(folder, 'suite.yaml'), JSON.stringify(suite));
    expect(await calibrateCommand(await request(folder, { suite: folder, samples: 6 }))).toMatchObject({ kind: 'calibrated', samples: 6, tensors: expect.any(Number) });
  });

  it.each(['rows', 'p2o.DynamicDimension.0'])('takes the batch that a whole shape gives for the dimension %s', async (leading) => {
    const folder = await temporaryFolder();
    const { b, weight } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 8] });
    const model = onnx.ModelProto.decode(exportGraph(b.finish([b.node('MatMul', [x, weight(8, 4)], {}, { outputs: ['y'] })])));
    model.graph!.input![0]!.type!.tensorType!.shape!.dim = [{ dimParam: leading }, { dimValue: 8 }];
    model.graph!.output![0]!.type!.tensorType!.shape!.dim = [{ dimParam: leading }, { dimValue: 4 }];
    await writeFile(join(folder, 'open.onnx'), onnx.ModelProto.encode(model).finish());
    const dataset = join(folder, 'samples.npz');
    await writeFile(dataset, npzBytes({ x: fromNumbers('float32', [4, 8], Float32Array.from({ length: 32 }, (_, i) => i / 10)) }));
    const result = await calibrateCommand(await request(folder, { suite: join(folder, 'open.onnx'), samples: undefined, overrides: { dataset, inputShapes: { x: [1, 8] } } }));
    expect(result).toMatchObject({ kind: 'calibrated', samples: 4 });
  });

  it('takes a model in float16, of which int8 is that of the same model in float32', async () => {
    const [exact, rounded] = [await runTwin('float32', onnxruntimeBackend), await runTwin('float16', onnxruntimeBackend)];
    expect([...rounded.header.inputs, ...rounded.header.outputs].map(({ dtype }) => dtype)).toEqual(['float16', 'float16']);
    const { 'x/float32': x, ...others } = rounded.calibration.tensors;
    expect({ x, ...others }).toEqual(exact.calibration.tensors);
    expect(rounded.y).toEqual(asHalves(exact.y));
  });

  it('refuses weights in halves where the pass that widens them is left out', async () => {
    const refused = observeActivations({
      model: { name: 'half', bytes: exportGraph(ofHalves('float16')), folder: '' }, options: { fusion: 'on', disabledPasses: ['halves-as-float32'], dims: {}, inputShapes: {} },
      scheme: 'affine', equalization: false, openDataset: () => Promise.reject(new Error('no samples are asked for')), signal: undefined, onProgress: () => {},
    });
    await expect(refused).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: "half can't be calibrated: its weights are float16, and int8 is made of float32: leave the pass halves-as-float32 in" });
  });

  it('names an input in bfloat16, which onnxruntime does not bind', async () => {
    const { b } = net();
    const graph = b.finish([b.node('Relu', [b.input('x', { dtype: 'bfloat16', dims: [2] })], {})]);
    await expect(openGraph(graph)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: 'onnxruntime-node has no bfloat16 tensors', details: ['x'] });
  });

  it('says why a model in float64 is none for it', async () => {
    const [folder, dtype, reason] = [await temporaryFolder(), 'float64', 'no convolution or matrix product'] as const;
    const { b } = net();
    const x = b.node('Cast', [b.input('x', { dtype: 'float32', dims: [1, 8] })], { to: dtype, saturate: 1 });
    const product = b.node('MatMul', [x, b.constant(fromNumbers(dtype, [8, 4], Array.from({ length: 32 }, (_, i) => i / 32)))], {});
    await writeFile(join(folder, 'half.onnx'), exportGraph(b.finish([b.node('Cast', [product], { to: 'float32', saturate: 1 }, { outputs: ['y'] })])));
    const suite = {
      name: 'half', description: 'weights of another type', model: { name: 'half', file: 'half.onnx' }, inputs: [{ kind: 'synthetic', values: { distribution: 'uniform', low: -1, high: 1 } }], task: { kind: 'raw' },
      variants: [{ backend: 'onnxruntime', precision: 'int8' }],
    };
    await writeFile(join(folder, 'suite.yaml'), JSON.stringify(suite));
    await expect(calibrateCommand(await request(folder, { suite: folder }))).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining(reason) });
  });

  it.each([
    [{ method: 'percentile', percentile: '0' }, 'USAGE'],
    [{ method: 'percentile', percentile: 'most' }, 'USAGE'],
    [{ percentile: '99.9' }, 'USAGE'],
    [{ check: 'nowhere.json' }, 'CALIBRATION_INVALID'],
    [{ suite: 'no-such-suite' }, 'SUITE_NOT_FOUND'],
  ] as const)('%j is an error to mend', async (over, code) => {
    const folder = await temporaryFolder();
    await expect(calibrateCommand(await request(folder, over))).rejects.toMatchObject({ code, fix: expect.any(String) });
  });
});

describe('a suite that names a cache', () => {
  it('sets apart as many samples as the cache was calibrated on', async () => {
    const folder = await temporaryFolder();
    await calibrateCommand(await request(folder, { samples: 5 }));
    const suite = await loadSuite('suites/smoke', { cwd: process.cwd() });
    const named = (calibration: string) => setApartAsCalibrated({ ...suite, quantization: { ...suite.quantization, calibration } }, true);
    expect((await named(join(folder, 'c.json'))).quantization.samples).toBe(5);
    expect(await setApartAsCalibrated(suite, true)).toBe(suite);
  });

  it('is refused where the cache is missing and a build wants it', async () => {
    const suite = await loadSuite('suites/smoke', { cwd: process.cwd() });
    const lacking = { ...suite, quantization: { ...suite.quantization, calibration: 'nowhere.json' } };
    await expect(setApartAsCalibrated(lacking, true)).rejects.toMatchObject({ code: 'CALIBRATION_INVALID', fix: expect.stringContaining(suite.file) });
    expect(await setApartAsCalibrated(lacking, false)).toBe(lacking);
  });
});

describe('the parts of a dataset', () => {
  it('are disjoint, and together the whole', async () => {
    const folder = await temporaryFolder();
    for (let i = 0; i < 11; i++) {
      await writeFile(join(folder, `${String(i).padStart(3, '0')}_x.png`), await sharp({ create: { width: 8, height: 8, channels: 3, background: { r: i, g: 0, b: 0 } } }).png().toBuffer());
    }
    const names = async (take: 'calibration' | 'rest' | undefined, calibrationSamples = 3): Promise<string[]> => {
      const dataset = await openDataset({
        inputs: [{ kind: 'image', preprocess: { crop: { width: 8, height: 8 }, color: 'rgb', range: [0, 1], mean: [0, 0, 0], std: [1, 1, 1], layout: 'NCHW' } }],
        bindings: [{ name: 'x', dtype: 'float32', dims: [2, 3, 8, 8] }],
        batch: 2, folder, classes: undefined, labelsFile: undefined, labelOffset: 0, limit: undefined, skipBroken: false, samples: 1, seed: 1,
        part: take && { take, calibrationSamples },
      });
      const found: string[] = [];
      for await (const batch of dataset.batches()) found.push(...batch.names);
      return found;
    };
    const [all, some, rest] = [await names(undefined), await names('calibration'), await names('rest')];
    expect(some).toHaveLength(3);
    expect([...some, ...rest].sort()).toEqual(all);
    expect(await names('calibration', 100)).toHaveLength(5);
  });
});
