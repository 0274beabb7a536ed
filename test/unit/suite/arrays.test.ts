import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromNumbers, toNumbers, type Tensor } from '../../../src/ir/tensor.ts';
import { openDataset, requireDataset } from '../../../src/suite/datasets.ts';
import type { SuiteInput } from '../../../src/suite/schema.ts';
import type { Batch, Dataset, DatasetRequest } from '../../../src/suite/source.ts';
import { npyBytes, npzBytes } from '../../helpers/npy.ts';
import { temporaryFolder } from './helpers.ts';

/** A model of two inputs, one with samples along its first axis and one that all of them share. */
const bindings = [
  { name: 'x', dtype: 'float32', dims: [2, 2] },
  { name: 'table', dtype: 'float32', dims: [3] },
] as const;
const x = fromNumbers('float32', [5, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
const table = fromNumbers('float32', [3], [7, 8, 9]);
const labels = fromNumbers('int64', [5], [0, 1, 2, 3, 4]);

function requestOf(folder: string, changes: Partial<DatasetRequest> = {}): DatasetRequest {
  return { inputs: [], bindings, batch: 2, folder, classes: 5, labelsFile: undefined, labelOffset: 0, limit: undefined, skipBroken: false, samples: 5, seed: 1, ...changes };
}

async function archiveOf(arrays: Readonly<Record<string, Tensor>>): Promise<string> {
  const path = join(await temporaryFolder(), 'samples.npz');
  await writeFile(path, npzBytes(arrays));
  return path;
}

async function readAll(dataset: Dataset): Promise<Batch[]> {
  const batches: Batch[] = [];
  for await (const batch of dataset.batches()) batches.push(batch);
  return batches;
}

const firsts = (batches: readonly Batch[]) => batches.map(({ inputs }) => [0, 2].map((at) => toNumbers(inputs['x']!)[at]));

describe('a dataset of arrays', () => {
  it('gives samples in order with their labels, the last batch filled up', async () => {
    const path = await archiveOf({ x, table, labels });
    const dataset = await openDataset(requestOf(path));
    expect(dataset).toMatchObject({ size: 5, labelled: 5, description: `samples.npz (5 samples, labels from the array labels, sha256 ${dataset.sha256})` });
    const batches = await readAll(dataset);
    expect(batches.map(({ count, labels: found, names }) => ({ count, found, names }))).toEqual([
      { count: 2, found: [0, 1], names: ['sample 0', 'sample 1'] },
      { count: 2, found: [2, 3], names: ['sample 2', 'sample 3'] },
      { count: 1, found: [4], names: ['sample 4'] },
    ]);
    expect(firsts(batches)).toEqual([[0, 1], [2, 3], [4, 4]]);
    expect(batches[2]!.inputs['table']).toEqual(table);
    expect(await readAll(dataset)).toEqual(batches);
  });

  it('is the same from a folder, which is read where it is asked for', async () => {
    const folder = join(await temporaryFolder(), 'samples');
    await mkdir(folder);
    for (const [name, tensor] of Object.entries({ x, table, labels })) await writeFile(join(folder, `${name}.npy`), npyBytes(tensor));
    const [ofFolder, ofArchive] = [await openDataset(requestOf(folder)), await openDataset(requestOf(await archiveOf({ x, table, labels })))];
    expect(await readAll(ofFolder)).toEqual(await readAll(ofArchive));
    expect(ofFolder.labelled).toBe(5);
  });

  it('falls into a part for calibration and the rest, and takes a limit', async () => {
    const path = await archiveOf({ x, table });
    const of = async (changes: Partial<DatasetRequest>) => (await readAll(await openDataset(requestOf(path, changes)))).flatMap(({ names }) => names);
    const [calibration, rest] = [await of({ part: { take: 'calibration', calibrationSamples: 2 } }), await of({ part: { take: 'rest', calibrationSamples: 2 } })];
    expect(calibration).toEqual(['sample 0', 'sample 2']);
    expect([...calibration, ...rest].sort()).toEqual([0, 1, 2, 3, 4].map((index) => `sample ${index}`));
    expect(await of({ limit: 3 })).toEqual(['sample 0', 'sample 1', 'sample 3']);
  });

  it('hashes names, contents and which samples are taken', async () => {
    const hashOf = async (arrays: Readonly<Record<string, Tensor>>, changes: Partial<DatasetRequest> = {}) => (await openDataset(requestOf(await archiveOf(arrays), changes))).sha256;
    const hashes = await Promise.all([
      hashOf({ x, table }),
      hashOf({ x, table, labels }),
      hashOf({ x: fromNumbers('float32', [5, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]), table }),
      hashOf({ x, table }, { limit: 3 }),
    ]);
    expect(new Set(hashes).size).toBe(4);
    expect(await hashOf({ x, table })).toBe(hashes[0]);
  });

  it('lets the suite describe what no array is for, and feeds an only input whatever the array is called', async () => {
    const inputs: SuiteInput[] = bindings.map(({ name }) => ({ name, kind: 'synthetic', values: { distribution: 'constant', value: 5 } }));
    const [first] = await readAll(await openDataset(requestOf(await archiveOf({ x }), { inputs })));
    expect([toNumbers(first!.inputs['x']!), toNumbers(first!.inputs['table']!)]).toEqual([[0, 0, 1, 1], [5, 5, 5]]);
    const file = join(await temporaryFolder(), 'validation.npy');
    await writeFile(file, npyBytes(x));
    expect(firsts(await readAll(await openDataset(requestOf(file, { bindings: [bindings[0]] }))))).toEqual([[0, 1], [2, 3], [4, 4]]);
  });

  it('takes labels of the name that the suite gives, moved by its offset', async () => {
    const path = await archiveOf({ x, table, y: fromNumbers('int32', [5], [0, 1, 2, 3, 4]) });
    const batches = await readAll(await openDataset(requestOf(path, { labelsFile: 'y.npy', labelOffset: 1, classes: 6 })));
    expect(batches.flatMap((batch) => batch.labels)).toEqual([1, 2, 3, 4, 5]);
    await expect(openDataset(requestOf(path, { labelsFile: 'z' }))).rejects.toMatchObject({ message: "no array is called 'z', the suite's name for the labels" });
  });

  it.each<[string, Readonly<Record<string, Tensor>>, string, string]>([
    ['another type', { x: fromNumbers('float64', [5, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), table }, "the input 'x' takes float32[samples,2], but the array is float64[5,2]", "save array.astype('float32')"],
    ['other sizes', { x: fromNumbers('float32', [1, 3], [0, 0, 1]), table }, "the input 'x' takes float32[samples,2], but the array is float32[1,3]", '--dim NAME=N'],
    ['a misspelt name', { xs: x, table }, "the model has no input 'xs'; it has x, table", "did you mean 'x'?"],
    ['an input without an array', { x }, "there is no array for the input 'table'", 'add an array of that name, float32[3]'],
    ['no samples', { x: fromNumbers('float32', [0, 2], []), table }, 'the arrays hold no samples', 'save at least one'],
    ['fewer labels than samples', { x, table, labels: fromNumbers('int64', [4], [0, 1, 2, 3]) }, 'x holds 5 samples, but labels holds 4', 'save as many of each'],
    ['labels that are no integers', { x, table, labels: fromNumbers('float32', [5], [0, 1, 2, 3, 4]) }, 'labels are one class index for each sample, but the array is float32[5]', 'argmax'],
    ['a label beyond the classes', { x, table, labels: fromNumbers('int64', [5], [0, 1, 2, 3, 5]) }, "class 5 of sample 4 is beyond the model's 5 classes", 'labelOffset'],
  ])('is refused for %s', async (_, arrays, message, fix) => {
    await expect(openDataset(requestOf(await archiveOf(arrays)))).rejects.toMatchObject({ code: 'DATASET_INVALID', message, fix: expect.stringContaining(fix) as string });
  });

  it('is refused where an engine takes pictures as bytes', async () => {
    const image: SuiteInput = { kind: 'image', preprocess: { crop: { width: 4, height: 4 }, color: 'rgb', range: [0, 1], mean: [0, 0, 0], std: [1, 1, 1], layout: 'NCHW' } };
    const path = await archiveOf({ image: fromNumbers('float32', [1, 3, 4, 4], new Float32Array(48)) });
    const request = requestOf(path, { inputs: [image], bindings: [{ name: 'image', dtype: 'float32', dims: [1, 3, 4, 4] }], batch: 1 });
    expect((await openDataset(request)).size).toBe(1);
    await expect(openDataset({ ...request, pictures: true })).rejects.toMatchObject({ message: "an engine takes 'image' as pictures, which an array can't hold" });
  });

  it('is looked for before there is a model', async () => {
    await expect(requireDataset(join(await temporaryFolder(), 'none.npz'))).rejects.toMatchObject({ message: 'there is no such file of arrays' });
    await expect(requireDataset(await archiveOf({ x }))).resolves.toBeUndefined();
  });
});
