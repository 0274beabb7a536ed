/**
 * Baselines in a folder: `<name>/<suite>/<device>.jsonl`, small in number and made to be committed. A file is written beside and
 * renamed. What it replaced is kept in `<device>.previous/<run>.jsonl`, the newest few, beside the history of all.
 */
import { appendFile, copyFile, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, unreadable, unwritable } from '../errors.ts';
import { takeLock } from '../lock.ts';
import { folders, recordFiles } from '../store.ts';
import { type BaselineFile, type BaselinePlace, type BaselineStore, taken, type UpdateEntry } from './contract.ts';

/** Superseded files that are kept of each place. */
export const KEPT_VERSIONS = 10;

const HISTORY = 'history.ndjson';

/** The store in `root`, which need not exist yet. */
export function folderStore(root: string): BaselineStore {
  const names = (): Promise<string[]> => folders(root);
  const places = async (name?: string): Promise<BaselinePlace[]> => {
    const found: BaselinePlace[] = [];
    for (const each of name === undefined ? await names() : [name]) {
      for (const suite of (await folders(join(root, each))).filter((folder) => !folder.endsWith(PREVIOUS))) {
        for (const file of await recordFiles(join(root, each, suite))) {
          found.push({ name: each, suite, device: file.slice(0, -'.jsonl'.length), path: join(root, each, suite, file) });
        }
      }
    }
    return found;
  };
  const locked = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const held = await takeLock(join(root, `.${name}.lock`), `baseline '${name}'`, 10);
    return work().finally(held.release);
  };
  return {
    label: root,
    names,
    places,
    read: (place) => readFile(place.path).catch((error: unknown) => Promise.reject(unreadable(error, place.path))),
    replace: (name, files, force) =>
      locked(name, async () => {
        const targets = files.map((file) => ({ file, place: { name, suite: file.suite, device: file.device, path: join(root, name, file.suite, `${file.device}.jsonl`) } }));
        const existing = new Set((await places(name)).map(({ path }) => path));
        const conflicts = targets.filter(({ place }) => existing.has(place.path)).map(({ place }) => place);
        if (conflicts.length > 0 && !force) throw taken(name, conflicts);
        await replaceFiles(targets);
        return targets.map(({ place }) => place);
      }),
    remove: (name, gone) =>
      locked(name, async () => {
        for (const { path } of gone) {
          await rm(path);
          await rm(previousOf(path), { recursive: true, force: true });
          // Empty folders go too; one that is not empty stays, which is what the failure means.
          for (const folder of [dirname(path), dirname(dirname(path))]) await rmdir(folder).catch(() => undefined);
        }
      }),
    history: (place) => readHistory(place.path),
  };
}

const PREVIOUS = '.previous';

function previousOf(path: string): string {
  return path.replace(/\.jsonl$/, PREVIOUS);
}

type Target = { readonly file: BaselineFile; readonly place: BaselinePlace };

/** All new files are whole on disk before the first takes its place. */
async function replaceFiles(targets: readonly Target[]): Promise<void> {
  const written: { readonly temporary: string; readonly target: Target }[] = [];
  try {
    for (const target of targets) {
      const temporary = join(dirname(target.place.path), `.${target.place.device}.${process.pid}.tmp`);
      written.push({ temporary, target });
      await writeWhole(temporary, target.file.text);
    }
    for (const { temporary, target } of written) {
      await keepPrevious(target.place.path, await lastRun(target.place.path));
      await rename(temporary, target.place.path);
      await mkdir(previousOf(target.place.path), { recursive: true });
      await appendFile(join(previousOf(target.place.path), HISTORY), `${JSON.stringify(target.file.entry)}\n`);
    }
  } catch (error) {
    const place = written.at(-1)?.target.place.path ?? '';
    for (const { temporary } of written) await rm(temporary, { force: true }).catch(() => undefined);
    throw unwritable(error, place);
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text, { flush: true });
}

async function lastRun(path: string): Promise<string | undefined> {
  return (await readHistory(path)).at(-1)?.runId;
}

async function keepPrevious(path: string, runId: string | undefined): Promise<void> {
  const folder = previousOf(path);
  const replaced = await stat(path).catch(() => undefined);
  if (!replaced) return;
  await mkdir(folder, { recursive: true });
  await copyFile(path, join(folder, `${replaced.mtime.toISOString().replace(/[-:]|\.\d+/g, '')}-${runId ?? 'unknown'}.jsonl`));
  const kept = (await readdir(folder)).filter((file) => file.endsWith('.jsonl')).sort();
  for (const file of kept.slice(0, -KEPT_VERSIONS)) await rm(join(folder, file));
}

/** A line that can't be read is left out: the history explains, nothing rests on it. */
async function readHistory(path: string): Promise<UpdateEntry[]> {
  const file = join(previousOf(path), HISTORY);
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return '';
    throw unreadable(error, file);
  });
  return text.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line) as UpdateEntry];
    } catch {
      return [];
    }
  });
}
