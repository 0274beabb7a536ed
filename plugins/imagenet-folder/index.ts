/**
 * ImageNet as it lies on disks: a folder per WordNet id, or the flat validation set, with the class indices that models count by.
 *
 * The harness's own folders count classes by sorting the folders that are there, which is wrong for a subset (Imagenette has ten of
 * the thousand). Here an index file says which class an id is; without one only a complete set of a thousand folders is labelled,
 * in sorted order, which is how torchvision, timm and Keras number them.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { definePlugin, TsrtError, type DatasetSource, type ImageFile, type ImageFolder } from 'tsrt-bench';

const IMAGE = /\.(jpe?g|png|webp)$/i;
const WNID = /^n\d{8}$/;
const CLASSES = 1000;

/** Files that say which class a WordNet id is, by the place of its line or the key of its entry. */
const INDEX_FILES = ['imagenet_class_index.json', 'LOC_synset_mapping.txt', 'synset_words.txt', 'synsets.txt', 'wnids.txt'] as const;
/** Files that say which class a picture of the flat validation set is. */
const PICTURE_FILES = ['LOC_val_solution.csv', 'val.txt'] as const;

function invalid(message: string, place: string, fix: string): TsrtError {
  return new TsrtError('DATASET_INVALID', message, { place, fix, plugin: 'imagenet-folder' });
}

async function images(folder: string): Promise<ImageFolder> {
  const found = await folderWithPictures(folder);
  const index = await readIndex([folder, found]);
  const entries = (await readdir(found, { withFileTypes: true })).map((entry) => entry.name).sort();
  const wnids = entries.filter((name) => WNID.test(name));
  return wnids.length > 0 ? classFolders(found, wnids, index) : flat(found, entries, index);
}

/** The folder itself, or the usual place inside of it. */
async function folderWithPictures(folder: string): Promise<string> {
  for (const place of [folder, ...['val', 'validation', 'ILSVRC/Data/CLS-LOC/val'].map((name) => join(folder, name))]) {
    const names = await readdir(place).catch(() => []);
    if (names.some((name) => WNID.test(name) || IMAGE.test(name))) return place;
  }
  const exists = await stat(folder).catch(() => undefined);
  throw invalid(exists ? 'there are neither WordNet folders nor pictures' : 'there is no such folder', folder, 'pass the folder that holds n01440764 and its like, or the validation pictures');
}

type Index = ReadonlyMap<string, number>;

async function readIndex(folders: readonly string[]): Promise<{ readonly file: string; readonly classes: Index } | undefined> {
  for (const folder of new Set(folders)) {
    for (const name of INDEX_FILES) {
      const file = join(folder, name);
      const text = await readFile(file, 'utf8').catch(() => undefined);
      if (text !== undefined) return { file, classes: name.endsWith('.json') ? jsonIndex(text, file) : lineIndex(text, file) };
    }
  }
  return undefined;
}

/** Keras' `{"0": ["n01440764", "tench"], …}`. */
function jsonIndex(text: string, file: string): Index {
  const fix = 'it should read {"0": ["n01440764", "tench"], …}';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid('the class index is not JSON', file, fix);
  }
  if (typeof value !== 'object' || value === null) throw invalid('the class index is not an object', file, fix);
  return new Map(
    Object.entries(value).map(([key, entry]): [string, number] => {
      const wnid: unknown = Array.isArray(entry) ? entry[0] : entry;
      const label = Number(key);
      if (typeof wnid !== 'string' || !WNID.test(wnid) || !Number.isSafeInteger(label) || label < 0) throw invalid(`the class index has a wrong entry '${key}'`, file, fix);
      return [wnid, label];
    }),
  );
}

/** `n01440764 tench, Tinca tinca`: the class is the place of the line. */
function lineIndex(text: string, file: string): Index {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  return new Map(
    lines.map((line, label): [string, number] => {
      const wnid = line.trim().split(/[\s,]+/, 1)[0]!;
      if (!WNID.test(wnid)) throw invalid(`'${wnid}' is not a WordNet id`, `${file}:${label + 1}`, 'each line starts with an id such as n01440764');
      return [wnid, label];
    }),
  );
}

async function classFolders(folder: string, wnids: readonly string[], index: Awaited<ReturnType<typeof readIndex>>): Promise<ImageFolder> {
  const classes = index?.classes ?? (wnids.length === CLASSES ? new Map(wnids.map((wnid, label) => [wnid, label])) : undefined);
  const unknown = classes && wnids.find((wnid) => !classes.has(wnid));
  if (unknown !== undefined && index) throw invalid(`the class index does not have ${unknown}`, index.file, 'take the index of the same set of classes');
  const lists = await Promise.all(
    wnids.map(async (wnid): Promise<ImageFile[]> => {
      const names = (await readdir(join(folder, wnid))).filter((name) => IMAGE.test(name)).sort();
      return names.map((name) => ({ name: `${wnid}/${name}`, path: join(folder, wnid, name), label: classes?.get(wnid) }));
    }),
  );
  const found = lists.flat();
  if (found.length === 0) throw invalid('the folders hold no pictures', folder, 'put .jpg, .jpeg, .png or .webp files there');
  const notice = `${wnids.length} of ${CLASSES} classes and no index file: labels are not used; put ${INDEX_FILES[0]} or ${INDEX_FILES[1]} beside the folders`;
  return { images: found, labelSource: classes ? (index ? 'labels file' : 'folder names') : 'none', notices: classes ? [] : [notice] };
}

async function flat(folder: string, entries: readonly string[], index: Awaited<ReturnType<typeof readIndex>>): Promise<ImageFolder> {
  const labels = await pictureLabels(folder, index);
  const found = entries.filter((name) => IMAGE.test(name)).map((name): ImageFile => ({ name, path: join(folder, name), label: labels?.get(name.replace(/\.[^.]+$/, '')) }));
  const missing = labels && found.find(({ label }) => label === undefined);
  if (missing) throw invalid(`there is no label for ${missing.name}`, folder, `check ${PICTURE_FILES.join(' or ')}`);
  const notice = `a flat folder without ${PICTURE_FILES.join(' or ')}: labels are not used`;
  return { images: found, labelSource: labels ? 'labels file' : 'none', notices: labels ? [] : [notice] };
}

/** Classes by a picture's name without its ending. */
async function pictureLabels(folder: string, index: Awaited<ReturnType<typeof readIndex>>): Promise<ReadonlyMap<string, number> | undefined> {
  for (const place of [folder, join(folder, '..')]) {
    for (const name of PICTURE_FILES) {
      const file = join(place, name);
      const text = await readFile(file, 'utf8').catch(() => undefined);
      if (text === undefined) continue;
      const rows = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('ImageId,'));
      return new Map(rows.map((row, number) => pictureLabel(row, `${file}:${number + 1}`, index?.classes)));
    }
  }
  return undefined;
}

/** `ILSVRC2012_val_00000001.JPEG 65` (Caffe's val.txt), or `ILSVRC2012_val_00048981,n03995372 85 1 499 272` (Kaggle's solution). */
function pictureLabel(row: string, place: string, classes: Index | undefined): [string, number] {
  const [name = '', value = ''] = row.split(/[\s,]+/, 2);
  if (/^\d+$/.test(value)) return [name.replace(/\.[^.]+$/, ''), Number(value)];
  const label = classes?.get(value);
  if (WNID.test(value) && label === undefined) throw invalid(`which class ${value} is, no index file says`, place, `put ${INDEX_FILES[1]} beside it`);
  if (label === undefined) throw invalid(`'${value}' is not a class`, place, 'a line gives a picture and its class');
  return [name.replace(/\.[^.]+$/, ''), label];
}

export const imagenetFolder: DatasetSource = {
  name: 'imagenet-folder',
  description: 'ImageNet: folders by WordNet id, or the flat validation set, with an index file',
  images: (folder) => images(folder),
};

export default definePlugin({ name: 'imagenet-folder', version: '0.1.0', datasets: [imagenetFolder] });
