/** Plugins' datasets, calibrators and suites where a suite names them. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { Backend } from '../../../src/backends/backend.ts';
import { calibrateRange } from '../../../src/quantize/calibrators.ts';
import { createObserver } from '../../../src/quantize/observer.ts';
import { createRegistry } from '../../../src/registry.ts';
import { openDataset } from '../../../src/suite/datasets.ts';
import { loadSuite, parseSuite } from '../../../src/suite/load.ts';
import type { Reporter } from '../../../src/report/reporter.ts';
import type { Batch, Dataset, DatasetRequest, DatasetSource } from '../../../src/suite/source.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { minimalSuite } from '../suite/helpers.ts';

const picture = { inputs: [{ kind: 'image', preprocess: { crop: { width: 8, height: 8 } } }] };

describe('parts of plugins', () => {
  it('a dataset lists pictures, and the harness decodes them', async () => {
    const folder = await temporaryFolder();
    await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } }).png().toFile(join(folder, 'a.picture'));
    const source: DatasetSource = {
      name: 'odd',
      description: 'files that no folder of pictures would list',
      images: async (place) => ({ images: [{ name: 'a', path: join(place, 'a.picture'), label: 3 }], labelSource: 'labels file', notices: [] }),
    };
    const registry = createRegistry([{ plugin: { name: 'p', version: '1', datasets: [source] }, source: '/p' }]);
    const suite = parseSuite(minimalSuite({ ...picture, dataset: { source: 'odd', path: '.' } }), '/s/suite.json');
    const dataset = await openDataset({
      inputs: suite.inputs,
      bindings: [{ name: 'x', dtype: 'float32', dims: [1, 3, 8, 8] }],
      batch: 1,
      source: registry.dataset(suite.dataset.source!),
      folder,
      classes: 10,
      labelsFile: undefined,
      labelOffset: 0,
      limit: undefined,
      skipBroken: false,
      samples: 1,
      seed: 1,
    });
    const batches = [];
    for await (const batch of dataset.batches()) batches.push(batch);
    expect(batches.map(({ labels, names }) => ({ labels, names }))).toEqual([{ labels: [3], names: ['a'] }]);
    expect(() => registry.dataset('od')).toThrow(/did you mean 'odd'/);
  });

  it.each([
    ['a list in place of the folder', [], ['expected { images, labelSource, notices }, found a list']],
    ['a picture under another key', { images: [{ name: 'a', file: '/a.png', label: 1 }], labelSource: 'none', notices: [] }, ['images[0].file: unknown key; known: name, path, label', 'images[0].path: expected a string, found nothing']],
    ['a label that is a name', { images: [{ name: 'a', path: '/a.png', label: 'cat' }], labelSource: 'none', notices: [] }, ['images[0].label: "cat" is not a class index']],
    ['labels from nowhere, and no notices', { images: [], labelSource: 'folders' }, ['labelSource: "folders" is not one of labels file, folder names, file names, none', 'notices: expected a list, found nothing']],
  ])('a dataset that gives %s is refused under its plugin’s name', async (_, found, details) => {
    const source = datasetOf({ images: async () => found as never });
    await expect(openDataset(requestOf(source, '/'))).rejects.toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'p', details });
  });

  it('a picture that is not there, and a class below zero, are named', async () => {
    const missing = datasetOf({ images: async () => ({ images: [{ name: 'a', path: '/no/a.png', label: 1 }], labelSource: 'none', notices: [] }) });
    await expect(openDataset(requestOf(missing, '/'))).rejects.toMatchObject({ code: 'DATASET_INVALID', message: expect.stringMatching(/^the image a can't be read: ENOENT/) as string });
    await expect(openDataset({ ...requestOf(missing, '/'), labelOffset: -2 })).rejects.toThrow("class 1 of a (-1 with the suite's labelOffset) is below 0");
  });

  const X = { dtype: 'float32', dims: [1, 3, 8, 8], data: new Uint8Array(4 * 3 * 64) };
  const whole = { inputs: { x: X }, count: 1, labels: [1], names: ['a'] };
  it.each([
    ['without its count', { ...whole, count: undefined }, 'count: expected a number from 1 to 1, found nothing'],
    ['of another shape', { ...whole, inputs: { x: { ...X, dims: [2, 3, 8, 8] } } }, 'inputs.x: the model takes float32[1,3,8,8], found float32[2,3,8,8]'],
    ['of bare numbers', { ...whole, inputs: { x: new Float32Array(192) } }, 'inputs.x: the model takes float32[1,3,8,8], found no { dtype, dims, data } with bytes as data'],
    ['without labels', { ...whole, labels: [] }, 'labels: expected one for each of the 1 samples, found 0'],
    ['with a class that there is not', { ...whole, labels: [10] }, "labels[0]: 10 is beyond the model's 10 classes"],
  ])('a batch %s is refused under its plugin’s name', async (_, batch, detail) => {
    const dataset = await openDataset(requestOf(datasetOf({ open: async () => datasetWith([batch]) })));
    await expect(drain(dataset)).rejects.toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'p', details: [detail] });
  });

  it('a dataset of fewer samples than it says, one that throws midway, and nothing at all', async () => {
    const short = await openDataset(requestOf(datasetOf({ open: async () => datasetWith([]) })));
    await expect(drain(short)).rejects.toMatchObject({ plugin: 'p', details: ['size: it says that it holds 1 samples, and yields 0'] });
    const throws: Dataset = { ...datasetWith([]), batches: async function* () { yield* []; throw new Error('boom'); } };
    await expect(drain(await openDataset(requestOf(datasetOf({ open: async () => throws }))))).rejects.toMatchObject({ plugin: 'p', message: 'dataset odd.batches threw: boom' });
    await expect(openDataset(requestOf(datasetOf({ open: async () => undefined as never })))).rejects.toMatchObject({ plugin: 'p', details: ['expected a dataset, found nothing'] });
    await expect(drain(await openDataset(requestOf(datasetOf({ open: async () => datasetWith([whole]) }))))).resolves.toBeUndefined();
  });

  it('a format that gives no text, at once or later, is refused under its plugin’s name', async () => {
    const reporter = (text: unknown): Reporter => ({ name: 'odd', description: '', fileExtension: 'txt', render: () => text as string });
    const rendered = (text: unknown) => createRegistry([{ plugin: { name: 'p', version: '1', reporters: [reporter(text)] }, source: '/p' }]).reporter('odd').render({ suite: 's', records: [], baselineVariant: undefined, color: false, width: 80 });
    expect(rendered('text')).toBe('text');
    expect(() => rendered(5)).toThrow('report format odd.render gives a number, not text');
    await expect(rendered(Promise.resolve('text'))).resolves.toBe('text');
    await expect(rendered(Promise.resolve(5))).rejects.toThrow('report format odd.render gives a number, not text');
    await expect(rendered(Promise.reject(new Error('boom')))).rejects.toMatchObject({ plugin: 'p', message: 'report format odd.render threw: boom' });
  });

  it('a calibrator chooses the range, within what was seen', () => {
    const observer = createObserver();
    observer.add(Float32Array.of(-1, 0, 4));
    const distribution = observer.distribution();
    const options = { method: 'half', scheme: 'affine', percentile: 99 } as const;
    expect(calibrateRange(distribution, { ...options, custom: ({ max }) => ({ low: -9, high: max / 2 }) })).toEqual({ low: -1, high: 2 });
    expect(() => calibrateRange(distribution, { ...options, custom: () => ({ low: 1, high: 2 }) })).toThrow(/in which zero does not lie/);
  });

  it.each<[string, 'probe' | 'supports' | 'build' | 'load', unknown, string[]]>([
    ['nothing of a probe', 'probe', undefined, ['expected { status, … }, found nothing']],
    ['a status that there is not', 'probe', { status: 'ready' }, [`status: "ready" is neither 'available' nor 'unavailable'`]],
    ['a device without a slug', 'probe', { status: 'available', version: '1', devices: [{ name: 'x', kind: 'cpu', description: '' }] }, ['devices[0].slug: expected a string, found nothing']],
    ['no reason', 'probe', { status: 'unavailable', fix: 'x' }, ['reason: expected a string, found nothing']],
    ['true for what it supports', 'supports', true, ['reasons: expected a list, found a boolean']],
    ['a reason in a string', 'supports', ['no Conv'], ['reasons[0]: expected { node, op, reason }, found a string']],
    ['no engine', 'build', undefined, ['expected an engine, found nothing']],
    ['parts in an object', 'build', { header: {}, parts: {} }, ['parts: expected a Map, found an object']],
    ['no session', 'load', undefined, ['expected a session, found nothing']],
    [
      'a session without what is measured',
      'load',
      { run: async () => ({}), dispose: async () => {}, observeMemory: () => ({}), inputs: [], outputs: [], maxInFlight: 0, memory: {} },
      ['prepare: expected a function, found nothing', 'maxInFlight: expected a number of 1 or more, found 0'],
    ],
  ])('a backend that gives %s is refused under its plugin’s name', async (_, method, answer, details) => {
    const backend = { name: 'odd', description: '', probe: async () => answer, supports: () => answer, build: async () => answer, load: async () => answer } as unknown as Backend;
    const found = createRegistry([{ plugin: { name: 'p', version: '1', backends: [backend] }, source: '/p' }]).backend('odd');
    const asked = found[method] as (...parameters: unknown[]) => Promise<unknown>;
    await expect(asked({ header: {}, graph: { ok: false } }, {})).rejects.toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'p', message: `what ${method}() of backend odd gives has mistakes`, details });
  });

  it('a suite is called by its folder’s name', async () => {
    const folder = join(await temporaryFolder(), 'nearby');
    await mkdir(folder);
    await writeFile(join(folder, 'suite.json'), JSON.stringify(minimalSuite({ quantization: { method: 'half' } })));
    const { suites } = createRegistry([{ plugin: { name: 'p', version: '1', suites: [folder] }, source: '/p' }]);
    expect((await loadSuite('nearby', { cwd: '/', plugins: suites })).quantization.method).toBe('half');
  });
});

/** As the registry gives it, of a plugin called p. */
function datasetOf(parts: Pick<DatasetSource, 'images' | 'open'>): DatasetSource {
  return createRegistry([{ plugin: { name: 'p', version: '1', datasets: [{ name: 'odd', description: '', ...parts }] }, source: '/p' }]).dataset('odd');
}

function requestOf(source: DatasetSource, folder?: string): DatasetRequest {
  const { inputs } = parseSuite(minimalSuite(picture), '/s/suite.json');
  const bindings = [{ name: 'x', dtype: 'float32', dims: [1, 3, 8, 8] }] as const;
  return { inputs, bindings, batch: 1, source, folder, classes: 10, labelsFile: undefined, labelOffset: 0, limit: undefined, skipBroken: false, samples: 1, seed: 1 };
}

function datasetWith(batches: readonly unknown[]): Dataset {
  return { description: '', sha256: undefined, size: 1, labelled: 0, notices: [], skipped: [], batches: async function* () { yield* batches as readonly Batch[]; } };
}

async function drain(dataset: Dataset): Promise<void> {
  for await (const _ of dataset.batches());
}
