import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { toNumbers } from '../../../src/ir/tensor.ts';
import { openDataset } from '../../../src/suite/datasets.ts';
import type { Batch, Dataset, DatasetRequest } from '../../../src/suite/source.ts';
import { readImageFolder, spread } from '../../../src/suite/images.ts';
import { engineInputs, modelInputs, pixelInputs } from '../../../src/suite/pixels.ts';
import type { ImageInput, SuiteInput } from '../../../src/suite/schema.ts';
import { sharedPath } from '../../helpers/shared.ts';
import { temporaryFolder } from './helpers.ts';

const image: SuiteInput = {
  kind: 'image',
  preprocess: { crop: { width: 4, height: 4 }, color: 'rgb', range: [0, 255], mean: [0, 0, 0], std: [1, 1, 1], layout: 'NCHW' },
};

function requestOf(changes: Partial<DatasetRequest> = {}): DatasetRequest {
  const batch = changes.batch ?? 2;
  return {
    inputs: [image],
    bindings: [{ name: 'x', dtype: 'float32', dims: [batch, 3, 4, 4] }],
    batch,
    folder: undefined,
    classes: 10,
    labelsFile: undefined,
    labelOffset: 0,
    limit: undefined,
    skipBroken: false,
    samples: 5,
    seed: 1,
    ...changes,
  };
}

/** A folder of pictures, each of one grey that tells it apart; `files` maps names to greys, or to the bytes of the file. */
async function folderOf(files: Readonly<Record<string, number | string>>): Promise<string> {
  const folder = await temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    if (typeof content === 'string') await writeFile(join(folder, name), content);
    else await sharp({ create: { width: 5, height: 4, channels: 3, background: { r: content, g: content, b: content } } }).png().toFile(join(folder, name));
  }
  return folder;
}

async function readAll(dataset: Dataset): Promise<Batch[]> {
  const batches: Batch[] = [];
  for await (const batch of dataset.batches()) batches.push(batch);
  return batches;
}

describe('pictures as bytes', () => {
  const preprocess = { ...(image as ImageInput).preprocess, color: 'bgr', range: [0, 1], mean: [0.1, 0.2, 0.3], std: [0.5, 0.6, 0.7] } as const;
  const bgr = { ...image, preprocess } as SuiteInput;
  const pixels = pixelInputs([bgr], [{ name: 'x', dtype: 'float32' }]);

  it.each(['a folder', 'synthetic samples'])('hold the pixels of which the tensors hold the numbers: %s', async (kind) => {
    const folder = kind === 'a folder' ? await folderOf({ 'a.png': 10, 'b.png': 200, 'c.png': 90 }) : undefined;
    const [batch] = await readAll(await openDataset(requestOf({ folder, inputs: [bgr], pictures: true })));
    const [bytes, numbers] = [batch!.pictures!['x']!, toNumbers(batch!.inputs['x']!)];
    expect(bytes).toMatchObject({ dtype: 'uint8', dims: [2, 4, 4, 3] });
    const { scale, shift } = pixels[0]!;
    for (const [i, byte] of bytes.data.entries()) {
      const [n, at, c] = [Math.floor(i / 48), Math.floor(i / 3) % 16, i % 3];
      expect(byte * scale[c]! + shift[c]!).toBeCloseTo(numbers[(n * 3 + c) * 16 + at]!, 5);
    }
    expect(engineInputs({ pixels }, batch!)).toEqual({ x: bytes });
    expect(engineInputs({}, batch!)).toBe(batch!.inputs);
  });

  it('are given only where they are asked for, and missed where an engine needs them', async () => {
    const [batch] = await readAll(await openDataset(requestOf({ inputs: [bgr] })));
    expect(batch!.pictures).toBeUndefined();
    expect(() => engineInputs({ pixels }, batch!)).toThrow('gives no pictures');
  });

  it('are told apart from the model’s own inputs', () => {
    const bound = [{ name: 'x', dtype: 'uint8', dims: [2, 4, 5, 3] }, { name: 'n', dtype: 'int64', dims: [1] }] as const;
    expect(modelInputs({ inputs: bound, pixels })).toEqual([{ name: 'x', dtype: 'float32', dims: [2, 3, 4, 5] }, bound[1]]);
    expect(modelInputs({ inputs: bound })).toEqual(bound);
  });
});

describe('image datasets', () => {
  it('give batches in order of the names, the last one filled up', async () => {
    const folder = await folderOf({ '2_c.png': 30, '0_a.png': 10, '1_b.png': 20 });
    const dataset = await openDataset(requestOf({ folder, labelOffset: 1 }));
    expect(dataset).toMatchObject({ size: 3, labelled: 3, notices: [] });
    expect(dataset.description).toBe(`${basename(folder)} (3 images, labels from file names, sha256 ${dataset.sha256})`);
    const batches = await readAll(dataset);
    expect(batches.map(({ count, labels, names }) => ({ count, labels, names }))).toEqual([
      { count: 2, labels: [1, 2], names: ['0_a.png', '1_b.png'] },
      { count: 1, labels: [3], names: ['2_c.png'] },
    ]);
    const greys = batches.map(({ inputs }) => [inputs['x']!.dims, toNumbers(inputs['x']!)[0], toNumbers(inputs['x']!)[48]]);
    expect(greys).toEqual([[[2, 3, 4, 4], 10, 20], [[2, 3, 4, 4], 30, 30]]);
  });

  it('can be read twice, and hash names, labels and contents', async () => {
    const folder = await folderOf({ '0_a.png': 10, '1_b.png': 20 });
    const dataset = await openDataset(requestOf({ folder }));
    expect(await readAll(dataset)).toEqual(await readAll(dataset));
    expect((await openDataset(requestOf({ folder }))).sha256).toBe(dataset.sha256);
    for (const other of [{ '0_a.png': 10, '1_b.png': 21 }, { '0_a.png': 10, '2_b.png': 20 }, { '0_a.png': 10 }]) {
      expect((await openDataset(requestOf({ folder: await folderOf(other) }))).sha256).not.toBe(dataset.sha256);
    }
  });

  it.each([['labels.json', '{"a.png": 7}'], ['labels.txt', 'a.png 7']])('take a byte order mark before %s', async (name, text) => {
    const [batch] = await readAll(await openDataset(requestOf({ folder: await folderOf({ 'a.png': 1, [name]: `\uFEFF${text}` }) })));
    expect(batch?.labels).toEqual([7]);
  });

  it('take a limit, spread evenly', async () => {
    expect(spread([0, 1, 2, 3, 4, 5], 3)).toEqual([0, 2, 4]);
    expect(spread([0, 1], 3)).toEqual([0, 1]);
    const folder = await folderOf({ '0.png': 1, '1.png': 2, '2.png': 3, '3.png': 4 });
    const [batch] = await readAll(await openDataset(requestOf({ folder, limit: 2 })));
    expect(batch?.names).toEqual(['0.png', '2.png']);
  });

  it('convert to the dtype of the model', async () => {
    const folder = await folderOf({ 'a.png': 200 });
    const bindings = [{ name: 'x', dtype: 'uint8' as const, dims: [1, 3, 4, 4] }];
    const [batch] = await readAll(await openDataset(requestOf({ folder, batch: 1, bindings })));
    expect(batch?.inputs['x']).toMatchObject({ dtype: 'uint8', data: new Uint8Array(48).fill(200) });
    expect(batch?.labels).toEqual([undefined]);
  });

  it('name a broken image, or leave it out and count it', async () => {
    const folder = await folderOf({ '0_a.png': 10, '1_bad.png': 'no picture', '2_c.png': 30 });
    await expect(readAll(await openDataset(requestOf({ folder })))).rejects.toMatchObject({
      code: 'DATASET_INVALID',
      message: expect.stringContaining('1_bad.png'),
      place: join(folder, '1_bad.png'),
      fix: expect.stringContaining('skipBroken'),
    });
    const dataset = await openDataset(requestOf({ folder, skipBroken: true }));
    expect((await readAll(dataset)).map(({ names }) => names)).toEqual([['0_a.png', '2_c.png']]);
    expect(dataset.skipped).toEqual(['1_bad.png']);
  });

  it('refuse a folder in which nothing can be decoded', async () => {
    const dataset = await openDataset(requestOf({ folder: await folderOf({ 'a.png': 'x' }), skipBroken: true }));
    await expect(readAll(dataset)).rejects.toMatchObject({ code: 'DATASET_INVALID', message: expect.stringContaining('none of the 1') });
  });

  it('stop when asked to', async () => {
    const dataset = await openDataset(requestOf({ folder: await folderOf({ 'a.png': 1 }) }));
    await expect(dataset.batches(AbortSignal.abort())[Symbol.asyncIterator]().next()).rejects.toThrow(/abort/i);
  });

  it.each([
    ['no folder', undefined, /no such dataset folder/],
    ['no images', { 'readme.txt': 'x' }, /holds no images/],
    ['a class beyond the model', { '10_a.png': 1 }, /class 10 of 10_a\.png is beyond the model's 10 classes/],
    ['labels of other files', { 'a.png': 1, 'labels.txt': 'b.png 1' }, /names none of the images/],
    ['a label that is no number', { 'a.png': 1, 'labels.csv': 'file,class\na.png,cat\n' }, /'cat' is not a class index/],
    ['a labels file that is no JSON', { 'a.png': 1, 'labels.json': '{' }, /the labels file is not JSON/],
    ['a labels file of the wrong kind', { 'a.png': 1, 'labels.json': '[1]' }, /the labels file is not a JSON object/],
  ])('refuse %s', async (_what, files, expected) => {
    const folder = files === undefined ? '/nowhere/at/all' : await folderOf(files as unknown as Record<string, number | string>);
    await expect(openDataset(requestOf({ folder }))).rejects.toMatchObject({ code: 'DATASET_INVALID', message: expect.stringMatching(expected) });
  });
});

describe('labels', () => {
  const labelsOf = async (files: Readonly<Record<string, number | string>>, classes?: number) => {
    const found = await readImageFolder(await folderOf(files), { labelsFile: undefined, classes });
    return { source: found.labelSource, labels: found.images.map(({ label }) => label), notices: found.notices };
  };

  it.each([
    ['a text file', { 'labels.txt': '# ours\nmy photo.png 3\nb.png\t4\r\n\n' }],
    ['a table with a header', { 'labels.csv': 'file,class\nb.png,4\n"my photo.png",3\n' }],
    ['a table without one', { 'labels.csv': 'b.png,4\nmy photo.png,3\n' }],
    ['an object', { 'labels.json': '{"my photo.png": 3, "b.png": 4}' }],
  ])('come from %s before anything else', async (_what, file) => {
    const files = { ...(file as unknown as Record<string, string>), 'b.png': 1, 'my photo.png': 2, '7_c.png': 3 };
    expect(await labelsOf(files)).toEqual({ source: 'labels file', labels: [undefined, 4, 3], notices: [] });
  });

  it('come from folders named by index', async () => {
    expect(await labelsOf({ '12/9_a.png': 1, '3/b.png': 2 })).toMatchObject({ source: 'folder names', labels: [12, 3] });
  });

  it('come from the order of folders where there are as many as classes', async () => {
    const files = { 'n02/a.png': 1, 'n01/b.png': 2, 'n01/deep/c.png': 3 };
    expect(await labelsOf(files, 2)).toMatchObject({ source: 'folder names', labels: [0, 0, 1] });
    const { source, labels, notices } = await labelsOf(files, 1000);
    expect({ source, labels }).toEqual({ source: 'none', labels: [undefined, undefined, undefined] });
    expect(notices[0]).toContain('2 folders but the model has 1000 classes');
  });

  it('come from leading digits, and may be missing', async () => {
    expect(await labelsOf({ '007_cat.png': 1, 'dog.png': 2 })).toMatchObject({ source: 'file names', labels: [7, undefined] });
    expect(await labelsOf({ 'dog.png': 2 })).toMatchObject({ source: 'none', labels: [undefined] });
  });

  it('survive a folder that links to itself', async () => {
    const folder = await folderOf({ 'a/1_x.png': 1 });
    await symlink(folder, join(folder, 'a', 'loop'));
    expect((await readImageFolder(folder, { labelsFile: undefined, classes: undefined })).images.map(({ name }) => name)).toEqual(['a/1_x.png']);
  });
});

describe('synthetic datasets', () => {
  const tokens: SuiteInput = { kind: 'synthetic', values: { distribution: 'integers', low: 5, high: 9 } };
  const ones: SuiteInput = { kind: 'synthetic', name: 'mask', values: { distribution: 'constant', value: 1 } };
  const textRequest = (batch: number, seed = 1) =>
    requestOf({
      inputs: [tokens, ones],
      bindings: [
        { name: 'ids', dtype: 'int64', dims: [batch, 50] },
        { name: 'mask', dtype: 'int64', dims: [batch, 50] },
      ],
      batch,
      seed,
    });
  const rows = async (request: DatasetRequest, name: string) =>
    (await readAll(await openDataset(request))).flatMap(({ inputs, count }) => {
      const numbers = toNumbers(inputs[name]!);
      const size = numbers.length / request.batch;
      return Array.from({ length: count }, (_, i) => numbers.slice(i * size, (i + 1) * size));
    });

  it('stay in their range and differ between samples and seeds', async () => {
    const ids = await rows(textRequest(2), 'ids');
    expect(ids).toHaveLength(5);
    expect([...new Set(ids.flat())].sort()).toEqual([5, 6, 7, 8]);
    expect(ids[0]).not.toEqual(ids[1]);
    expect(await rows(textRequest(2, 2), 'ids')).not.toEqual(ids);
    expect(new Set((await rows(textRequest(2), 'mask')).flat())).toEqual(new Set([1]));
  });

  it('are the same samples whatever the batch', async () => {
    expect(await rows(textRequest(4), 'ids')).toEqual(await rows(textRequest(1), 'ids'));
    expect(await rows(requestOf({ batch: 3 }), 'x')).toEqual(await rows(requestOf({ batch: 1 }), 'x'));
  });

  it('are drawn by the types of a model whose suite says nothing of them', async () => {
    const bindings = [
      { name: 'x', dtype: 'float32' as const, dims: [4, 400] },
      { name: 'ids', dtype: 'int64' as const, dims: [4, 30] },
      { name: 'attention_mask', dtype: 'int64' as const, dims: [4, 30] },
      { name: 'scale', dtype: 'float16' as const, dims: [2] },
    ];
    const request = requestOf({ inputs: [], bindings, batch: 4 });
    const x = (await rows(request, 'x')).flat();
    expect(Math.abs(x.reduce((sum, value) => sum + value, 0) / x.length)).toBeLessThan(0.1);
    expect(x.reduce((sum, value) => sum + value * value, 0) / x.length).toBeCloseTo(1, 0);
    expect(new Set((await rows(request, 'ids')).flat())).toEqual(new Set([0, 1]));
    expect(new Set((await rows(request, 'attention_mask')).flat())).toEqual(new Set([1]));
  });

  it('make pictures that use the range and are smooth', async () => {
    const preprocess = { ...image.preprocess, crop: { width: 64, height: 64 } };
    const bindings = [{ name: 'x', dtype: 'float32' as const, dims: [1, 3, 64, 64] }];
    const [picture] = await rows(requestOf({ inputs: [{ ...image, preprocess }], bindings, batch: 1 }), 'x');
    const spreadOf = (values: readonly number[]) => Math.max(...values) - Math.min(...values);
    expect(Math.min(...picture!)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...picture!)).toBeLessThanOrEqual(255);
    expect(spreadOf(picture!)).toBeGreaterThan(60);
    const steps = picture!.slice(1, 64).map((value, i) => Math.abs(value - picture![i]!));
    expect(steps.reduce((a, b) => a + b, 0) / steps.length).toBeLessThan(12);
  });

  it.each([
    ['too few inputs', requestOf({ inputs: [image, image] }), /describes 2 inputs, but the model has 1 \(x\)/],
    ['a name that the model lacks', requestOf({ inputs: [{ ...image, name: 'y' }] }), /has no input 'y'; it has x/],
    ['another dtype', requestOf({ inputs: [{ ...image, dtype: 'float16' }] }), /'x' is float32 in the model, but float16/],
    [
      'another picture size',
      requestOf({ bindings: [{ name: 'x', dtype: 'float32', dims: [2, 3, 8, 8] }] }),
      /preprocessing gives \[2,3,4,4\], but the model's input 'x' is \[2,3,8,8\]/,
    ],
  ])('refuse %s', async (_what, request, expected) => {
    await expect(openDataset(request)).rejects.toMatchObject({ code: 'SUITE_INVALID', message: expect.stringMatching(expected) });
  });

  it('refuse a folder of images for a model of text', async () => {
    await expect(openDataset({ ...textRequest(1), folder: '/tmp' })).rejects.toMatchObject({ code: 'DATASET_INVALID' });
  });
});

const photos = sharedPath('data', 'imagenet-sample');

describe.skipIf(photos === undefined)('sample photographs (skipped where the folder of samples is not beside the repository)', () => {
  it('are read with their labels', async () => {
    const preprocess = { ...image.preprocess, resize: { shortSide: 256, kernel: 'linear' as const }, crop: { width: 224, height: 224 } };
    const bindings = [{ name: 'x', dtype: 'float32' as const, dims: [4, 3, 224, 224] }];
    const dataset = await openDataset(requestOf({ inputs: [{ ...image, preprocess }], bindings, batch: 4, folder: photos, classes: 1000, limit: 6 }));
    const batches = await readAll(dataset);
    expect(dataset).toMatchObject({ size: 6, labelled: 6 });
    for (const { names, labels } of batches) expect(labels).toEqual(names.map((name) => Number(name.slice(0, 3))));
  });
});
