/** The imagenet-folder plugin on small folders in every layout. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import plugin, { imagenetFolder } from '../../plugins/imagenet-folder/index.ts';
import { parsePlugin } from '../../src/plugin-schema.ts';
import { temporaryFolder } from '../helpers/folder.ts';

async function tree(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  return folder;
}

async function labels(files: Readonly<Record<string, string>>) {
  const { images, labelSource, notices } = await imagenetFolder.images!(await tree(files), { labelsFile: undefined, classes: 1000 });
  return { labels: Object.fromEntries(images.map(({ name, label }) => [name, label])), labelSource, notices };
}

const PAIR = { 'n02102040/b.JPEG': '', 'n01440764/a.JPEG': '', 'n01440764/notes.txt': '' };

describe('the imagenet-folder plugin', () => {
  it('is a plugin', () => expect(parsePlugin(plugin, 'plugins/imagenet-folder')).toBe(plugin));

  it.each([
    ['imagenet_class_index.json', '{"0": ["n01440764", "tench"], "217": ["n02102040", "English_springer"]}', 217],
    ['LOC_synset_mapping.txt', 'n01440764 tench, Tinca tinca\nn01443537 goldfish\nn02102040 springer\n', 2],
    ['wnids.txt', 'n02102040\r\nn01440764\r\n', 0],
  ])('takes the classes of a subset from %s', async (file, text, springer) => {
    const found = await labels({ ...PAIR, [file]: text });
    expect(found).toEqual({ labels: { 'n01440764/a.JPEG': file === 'wnids.txt' ? 1 : 0, 'n02102040/b.JPEG': springer }, labelSource: 'labels file', notices: [] });
  });

  it('labels a complete set by sorted ids, and looks below for val', async () => {
    const ids = Array.from({ length: 1000 }, (_, i) => `n${String(10_000_000 + 7 * i)}`);
    const found = await labels(Object.fromEntries(ids.map((id) => [`val/${id}/x.jpg`, ''])));
    expect(found.labelSource).toBe('folder names');
    expect([found.labels[`${ids[0]}/x.jpg`], found.labels[`${ids[999]}/x.jpg`]]).toEqual([0, 999]);
  });

  it('uses no labels of a subset without an index, and says so', async () => {
    const found = await labels(PAIR);
    expect(found).toMatchObject({ labelSource: 'none', notices: [expect.stringContaining('2 of 1000 classes')] });
    expect(Object.values(found.labels)).toEqual([undefined, undefined]);
  });

  it('reads the flat validation set by both label files', async () => {
    const pictures = { 'ILSVRC2012_val_00000001.JPEG': '', 'ILSVRC2012_val_00000002.JPEG': '' };
    const caffe = await labels({ ...pictures, 'val.txt': 'ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n' });
    expect(Object.values(caffe.labels)).toEqual([65, 970]);
    const kaggle = await labels({
      ...pictures,
      'LOC_val_solution.csv': 'ImageId,PredictionString\nILSVRC2012_val_00000002,n01443537 1 2 3 4 \nILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 1 2 3 4 \n',
      'LOC_synset_mapping.txt': 'n01440764 tench\nn01443537 goldfish\n',
    });
    expect(Object.values(kaggle.labels)).toEqual([0, 1]);
    expect(await labels(pictures)).toMatchObject({ labelSource: 'none', notices: [expect.stringContaining('val.txt')] });
  });

  it.each([
    [{ ...PAIR, 'wnids.txt': 'n01440764\n' }, /does not have n02102040/],
    [{ ...PAIR, 'wnids.txt': 'tench\n' }, /'tench' is not a WordNet id/],
    [{ ...PAIR, 'imagenet_class_index.json': '{"x": ["n01440764"]}' }, /wrong entry 'x'/],
    [{ ...PAIR, 'imagenet_class_index.json': '{' }, /the class index is not JSON/],
    [{ 'a.jpg': '', 'val.txt': 'b.jpg 1\n' }, /no label for a.jpg/],
    [{ 'a.jpg': '', 'LOC_val_solution.csv': 'a,n01440764 1\n' }, /no index file says/],
    [{ 'a.jpg': '', 'val.txt': 'a.jpg cat\n' }, /'cat' is not a class/],
    [{ 'readme.txt': '' }, /neither WordNet folders nor pictures/],
    [{ 'n01440764/readme.txt': '' }, /no pictures/],
  ])('refuses what is broken: %j', async (files, message) => {
    await expect(labels(files)).rejects.toMatchObject({ code: 'DATASET_INVALID', message: expect.stringMatching(message), fix: expect.any(String), place: expect.any(String) });
  });
});
