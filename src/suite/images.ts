/** A folder of images and what is known of their classes. Order is that of the relative paths, by code unit. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { TsrtError } from '../errors.ts';
import { readTextFile } from '../text.ts';

const IMAGE_NAME = /\.(jpe?g|png|webp|gif|tiff?|avif)$/i;
const LABEL_FILES = ['labels.txt', 'labels.csv', 'labels.json'] as const;

/** One picture of a dataset. */
export interface ImageFile {
  /** Path inside the dataset, with forward slashes. */
  readonly name: string;
  readonly path: string;
  /** Class index as the dataset counts, before any offset. */
  readonly label: number | undefined;
}

/** The pictures of a folder, in an order that depends on names alone. */
export interface ImageFolder {
  readonly images: readonly ImageFile[];
  /** Where labels came from. */
  readonly labelSource: 'labels file' | 'folder names' | 'file names' | 'none';
  readonly notices: readonly string[];
}

/** How labels are found. */
export interface ImageFolderOptions {
  /** Labels file, relative to the folder; undefined: labels.txt, .csv or .json where there is one. */
  readonly labelsFile: string | undefined;
  /** Number of classes: folder names in alphabetical order are classes only if there are as many. */
  readonly classes: number | undefined;
}

/** Throws DATASET_INVALID for what is no folder. */
export async function requireImageFolder(folder: string): Promise<void> {
  const info = await stat(folder).catch(() => undefined);
  if (!info?.isDirectory()) {
    throw new TsrtError('DATASET_INVALID', info ? 'the dataset is neither a folder nor a .npz or .npy file' : 'there is no such dataset folder', {
      place: folder,
      fix: 'pass a folder of images, or arrays (.npz), with --dataset, or leave it out for synthetic inputs',
    });
  }
}

/** Lists the images of a folder, at any depth. Throws DATASET_INVALID. */
export async function readImageFolder(folder: string, options: ImageFolderOptions): Promise<ImageFolder> {
  await requireImageFolder(folder);
  const names = (await listFiles(folder)).filter((name) => IMAGE_NAME.test(name));
  if (names.length === 0) {
    throw new TsrtError('DATASET_INVALID', 'the dataset folder holds no images', {
      place: folder,
      fix: 'put .jpg, .png, .webp, .gif, .tiff or .avif files there, at any depth',
    });
  }
  const { labelOf, source, notices } = await findLabels(folder, names, options);
  return {
    images: names.map((name) => ({ name, path: join(folder, name), label: labelOf(name) })),
    labelSource: source,
    notices,
  };
}

/** Relative paths of all files, sorted; links are followed, a folder is entered once. */
async function listFiles(folder: string): Promise<string[]> {
  const seen = new Set<string>();
  const walk = async (path: string, prefix: string): Promise<string[]> => {
    const real = await realpath(path);
    if (seen.has(real)) return [];
    seen.add(real);
    const files: string[] = [];
    for (const entry of (await readdir(path)).filter((name) => !name.startsWith('.')).sort()) {
      const info = await stat(join(path, entry)).catch(() => undefined);
      if (info?.isDirectory()) files.push(...(await walk(join(path, entry), `${prefix}${entry}/`)));
      else if (info?.isFile()) files.push(prefix + entry);
    }
    return files;
  };
  return (await walk(folder, '')).sort();
}

interface Labels {
  readonly source: ImageFolder['labelSource'];
  readonly labelOf: (name: string) => number | undefined;
  readonly notices: readonly string[];
}

async function findLabels(folder: string, names: readonly string[], options: ImageFolderOptions): Promise<Labels> {
  const entries: readonly string[] = await readdir(folder);
  const file = options.labelsFile ?? LABEL_FILES.find((name) => entries.includes(name));
  if (file !== undefined) {
    const path = resolve(folder, file);
    const labels = await readLabelsFile(path);
    const labelOf = (name: string) => labels.get(name) ?? labels.get(basename(name));
    if (!names.some((name) => labelOf(name) !== undefined)) {
      throw new TsrtError('DATASET_INVALID', 'the labels file names none of the images', {
        place: path,
        fix: `write lines such as \`${names[0]} 7\``,
      });
    }
    return { source: 'labels file', labelOf, notices: [] };
  }
  const classNames = [...new Set(names.map(folderOf))].filter((name) => name !== undefined).sort();
  if (classNames.length > 0 && names.every((name) => folderOf(name) !== undefined)) return folderLabels(classNames, options.classes);
  const fromName = (name: string) => {
    const digits = /^(\d+)_/.exec(basename(name))?.[1];
    return digits === undefined ? undefined : Number(digits);
  };
  return { source: names.some((name) => fromName(name) !== undefined) ? 'file names' : 'none', labelOf: fromName, notices: [] };
}

function folderOf(name: string): string | undefined {
  return name.includes('/') ? name.split('/')[0] : undefined;
}

function folderLabels(classNames: readonly string[], classes: number | undefined): Labels {
  if (classNames.every((name) => /^\d+$/.test(name))) {
    return { source: 'folder names', labelOf: (name) => Number(folderOf(name)), notices: [] };
  }
  if (classes === undefined || classes === classNames.length) {
    return { source: 'folder names', labelOf: (name) => classNames.indexOf(folderOf(name)!), notices: [] };
  }
  const notice = `the dataset has ${classNames.length} folders but the model has ${classes} classes: labels are not used; name the folders by class index, or add labels.csv`;
  return { source: 'none', labelOf: () => undefined, notices: [notice] };
}

/** `name class` per line (.txt), `name,class` per line with an optional header (.csv), or an object (.json). */
async function readLabelsFile(path: string): Promise<ReadonlyMap<string, number>> {
  const content = await readTextFile(path).catch((cause: unknown) => {
    throw new TsrtError('DATASET_INVALID', "the labels file can't be read", { place: path, fix: 'check its name and that it is readable', cause });
  });
  const labels = new Map<string, number>();
  for (const { name, value, place } of path.endsWith('.json') ? jsonRows(content, path) : textRows(content, path)) {
    const label = Number(value);
    if (value === '' || !Number.isSafeInteger(label) || label < 0) {
      throw new TsrtError('DATASET_INVALID', `'${value}' is not a class index`, { place, fix: 'give each image the index of its class, from 0' });
    }
    labels.set(name, label);
  }
  return labels;
}

interface LabelRow {
  readonly name: string;
  readonly value: string;
  readonly place: string;
}

function jsonRows(content: string, path: string): LabelRow[] {
  let data: unknown;
  try {
    data = JSON.parse(content);
  } catch (cause) {
    throw new TsrtError('DATASET_INVALID', `the labels file is not JSON: ${(cause as Error).message}`, { place: path, fix: 'mend its syntax', cause });
  }
  if (data === null || typeof data !== 'object' || Array.isArray(data)) {
    throw new TsrtError('DATASET_INVALID', 'the labels file is not a JSON object', { place: path, fix: 'write {"image.jpg": 7, …}' });
  }
  return Object.entries(data).map(([name, value]) => ({ name, value: typeof value === 'number' ? String(value) : JSON.stringify(value), place: path }));
}

function textRows(content: string, path: string): LabelRow[] {
  const rows = content.split(/\r?\n/).map((line, index) => {
    // The class is the last field, so that names may hold spaces and commas.
    const cut = path.endsWith('.csv') ? line.lastIndexOf(',') : line.trimEnd().search(/\s+\S+$/);
    const name = line.slice(0, Math.max(cut, 0)).trim().replace(/^"(.*)"$/, '$1');
    return { line, name, value: line.slice(cut + 1).trim(), place: `${path}:${index + 1}` };
  });
  const header = rows[0] !== undefined && path.endsWith('.csv') && !/^\d+$/.test(rows[0].value) ? 1 : 0;
  return rows.slice(header).filter(({ line }) => line.trim() !== '' && !line.startsWith('#'));
}

/** At most `limit` items, spread evenly. */
export function spread<T>(items: readonly T[], limit: number | undefined): readonly T[] {
  if (limit === undefined || limit >= items.length) return items;
  return Array.from({ length: limit }, (_, i) => items[Math.floor((i * items.length) / limit)]!);
}

/** SHA-256 over names, labels, sizes and contents. Files are streamed. */
export async function hashImages(images: readonly ImageFile[], signal?: AbortSignal): Promise<string> {
  const total = createHash('sha256');
  for (const image of images) {
    signal?.throwIfAborted();
    const content = createHash('sha256');
    let bytes = 0;
    try {
      for await (const chunk of createReadStream(image.path)) {
        content.update(chunk as Buffer);
        bytes += (chunk as Buffer).length;
      }
    } catch (cause) {
      throw new TsrtError('DATASET_INVALID', `the image ${image.name} can't be read: ${(cause as Error).message}`, { place: image.path, fix: 'check that the file is there and readable', cause });
    }
    total.update(`${image.name}\0${image.label ?? ''}\0${bytes}\0${content.digest('hex')}\n`);
  }
  return total.digest('hex');
}
