/**
 * Finds and reads a suite: a folder path, a suite file, an ONNX file in the place of one (or the folder or name that leads to it), or a
 * bare name looked up in `./suites` and then among the suites that ship with the package: that of a folder, or the one that a file in such
 * a folder gives itself. File formats are those of cosmiconfig's loaders.
 */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultLoaders } from 'cosmiconfig';
import { TsrtError } from '../errors.ts';
import { MODULE_LOADERS } from '../load-module.ts';
import { nearest } from '../nearest.ts';
import { readTextFile } from '../text.ts';
import { suiteOfModel } from './of-model.ts';
import { type Suite, type SuiteDefinition, suiteSchema } from './schema.ts';
import { validate } from './validate.ts';

const LOADERS = { '.yaml': defaultLoaders['.yaml'], '.yml': defaultLoaders['.yml'], '.json': defaultLoaders['.json'], ...MODULE_LOADERS } as const;
const MODEL_FILE = '.onnx';
const SUITE_FILES = ['suite.yaml', 'suite.yml', 'suite.json', 'suite.js', 'suite.mjs'] as const;

/** Formats that can be read without running them. */
const DATA_FILES: ReadonlySet<string> = new Set(['.yaml', '.yml', '.json']);

export interface SuiteLookup {
  readonly cwd: string;
  /** Folder of the suites that ship with the package; default: found from this module. */
  readonly bundled?: string;
  /** Folders of the suites that plugins give, by name; nearer than the shipped ones. */
  readonly plugins?: ReadonlyMap<string, string> | undefined;
}

/** A suite that a bare name can reach. */
export interface KnownSuite {
  readonly name: string;
  readonly folder: string;
}

/** Reads the suite called `nameOrPath`, or makes that of an ONNX file. Throws SUITE_NOT_FOUND or SUITE_INVALID. */
export async function loadSuite(nameOrPath: string, lookup: SuiteLookup = { cwd: process.cwd() }): Promise<Suite> {
  const file = await findSuite(nameOrPath, lookup);
  return parseSuite(extname(file) === MODEL_FILE ? suiteOfModel(file) : await readSuiteFile(file), file);
}

/** Whether the path is a file that is read as a model, where a suite may be named too: what no suite file ends in. */
export async function namesModel(path: string): Promise<boolean> {
  const extension = extname(path);
  return extension === MODEL_FILE || (!(extension in LOADERS) && ((await stat(path).catch(() => undefined))?.isFile() ?? false));
}

/** Every suite that a bare name reaches, nearest folder first; a name in `./suites` hides the shipped one. */
export async function listSuites(lookup: SuiteLookup): Promise<readonly KnownSuite[]> {
  const found = new Map<string, string>(lookup.plugins);
  for (const root of await searchRoots(lookup)) {
    for (const entry of await readdir(root).catch(() => [])) {
      const folder = join(root, entry);
      if (!found.has(entry) && (await suiteFileIn(folder)) !== undefined) found.set(entry, folder);
    }
  }
  return [...found].map(([name, folder]) => ({ name, folder })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A suite from data that was read (or written in a test). `file` is for messages and relative paths. */
export function parseSuite(data: unknown, file: string): Suite {
  const result = validate<SuiteDefinition>(suiteSchema, data);
  if (!result.ok) {
    const count = result.mistakes.length;
    throw new TsrtError('SUITE_INVALID', `the suite has ${count === 1 ? 'a mistake' : `${count} mistakes`}`, {
      place: file,
      details: result.mistakes,
      fix: 'mend the keys named above; the shipped suites are commented examples',
    });
  }
  const sha256 = createHash('sha256').update(JSON.stringify(sortKeys(result.value))).digest('hex');
  return { ...result.value, file, folder: dirname(file), sha256 };
}

async function findSuite(nameOrPath: string, lookup: SuiteLookup): Promise<string> {
  const path = resolve(lookup.cwd, nameOrPath);
  const info = await stat(path).catch(() => undefined);
  if (info?.isFile() && (extname(path) in LOADERS || extname(path) === MODEL_FILE)) return path;
  const here = info?.isDirectory() ? ((await suiteFileIn(path)) ?? (await modelAt(join(path, `model${MODEL_FILE}`)))) : undefined;
  if (here !== undefined) return here;
  if (info === undefined && extname(path) === MODEL_FILE) {
    throw new TsrtError('MODEL_NOT_FOUND', `there is no file ${nameOrPath}`, { place: path, fix: 'check the path: it is relative to the working folder' });
  }
  if (info?.isFile() && path.endsWith('.engine')) {
    throw new TsrtError('SUITE_NOT_FOUND', `${nameOrPath} is an engine, not a suite`, {
      place: path,
      fix: `name a suite, or the model that the engine was built from, which says what its inputs are: SUITE|MODEL.onnx --engine ${nameOrPath}`,
    });
  }

  const known = await listSuites(lookup);
  const name = basename(nameOrPath);
  // `suites/resnet50` means the shipped suite also where the working folder has no suites of its own.
  const reachable = nameOrPath === name || dirname(nameOrPath) === 'suites' || dirname(nameOrPath) === './suites';
  const match = info === undefined && reachable ? known.find((suite) => suite.name === name) : undefined;
  if (match) return (await suiteFileIn(match.folder))!;
  const other = info === undefined && reachable ? ((await fileNamed(name, lookup)) ?? (await modelAt(path + MODEL_FILE))) : undefined;
  if (other !== undefined) return other;

  const guess = nearest(name, known.map((suite) => suite.name));
  const reason = info?.isDirectory() ? `the folder ${nameOrPath} holds no suite file` : `there is no suite '${nameOrPath}'`;
  throw new TsrtError('SUITE_NOT_FOUND', reason, {
    place: path,
    details: known.map((suite) => `${suite.name}: ${suite.folder}`),
    fix: guess === undefined
      ? `name one of ${known.map((suite) => suite.name).join(', ')}, or a folder that holds one of ${SUITE_FILES.join(', ')}; a suite of a plugin comes with --plugin PATH`
      : `did you mean '${guess}'?`,
  });
}

/** The model at a path, as the name that its records have finds it again. */
async function modelAt(path: string): Promise<string | undefined> {
  return (await stat(path).catch(() => undefined))?.isFile() ? path : undefined;
}

/** The file in a suite's folder that gives itself this name, as records of its runs have it; modules are not run to find out. */
async function fileNamed(name: string, lookup: SuiteLookup): Promise<string | undefined> {
  for (const root of await searchRoots(lookup)) {
    for (const folder of await readdir(root).catch(() => [])) {
      for (const entry of await readdir(join(root, folder)).catch(() => [])) {
        if (!DATA_FILES.has(extname(entry))) continue;
        const file = join(root, folder, entry);
        const data: unknown = await readSuiteFile(file).catch(() => undefined);
        if (typeof data === 'object' && data !== null && 'name' in data && data.name === name) return file;
      }
    }
  }
  return undefined;
}

async function suiteFileIn(folder: string): Promise<string | undefined> {
  const entries: readonly string[] = await readdir(folder).catch(() => []);
  const name = SUITE_FILES.find((file) => entries.includes(file));
  return name === undefined ? undefined : join(folder, name);
}

async function searchRoots(lookup: SuiteLookup): Promise<readonly string[]> {
  const bundled = lookup.bundled ?? (await bundledSuites());
  const local = resolve(lookup.cwd, 'suites');
  return bundled === undefined || bundled === local ? [local] : [local, bundled];
}

/** `suites` of the package that this module belongs to; it runs from `src`, `dist/src` and `dist/bundle`. */
async function bundledSuites(): Promise<string | undefined> {
  for (let folder = dirname(fileURLToPath(import.meta.url)); dirname(folder) !== folder; folder = dirname(folder)) {
    const entries: readonly string[] = await readdir(folder).catch(() => []);
    if (entries.includes('package.json') && entries.includes('suites')) return join(folder, 'suites');
  }
  return undefined;
}

async function readSuiteFile(file: string): Promise<unknown> {
  const loader = LOADERS[extname(file) as keyof typeof LOADERS];
  try {
    return await loader(file, await readTextFile(file));
  } catch (cause) {
    const lines = (cause instanceof Error ? cause.message : String(cause)).split('\n').filter((line) => line.trim() !== '');
    // cosmiconfig's loaders put "YAML Error in <file>:" on a line of its own; the place says that already.
    const [reason = 'it cannot be read', ...rest] = lines.length > 1 && lines[0]?.includes(file) ? lines.slice(1) : lines;
    throw new TsrtError('SUITE_INVALID', `the suite file can't be read: ${reason}`, {
      place: file,
      details: rest,
      fix: 'mend the syntax at the place named above',
      cause,
    });
  }
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => [key, sortKeys(item)]));
}
