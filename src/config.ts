/**
 * Configuration: flags over file over defaults, with the origin of every value.
 *
 * The file is found by cosmiconfig from the working folder upwards: `tsrt-bench.config.{json,yaml,js,mjs,cjs}`, `.tsrt-benchrc`
 * (JSON or YAML, with or without extension), or the key `tsrt-bench` of package.json.
 */
import { dirname, join, resolve } from 'node:path';
import { cosmiconfig, type CosmiconfigResult, defaultLoaders } from 'cosmiconfig';
import envPaths from 'env-paths';
import { z } from 'zod';
import { PRECISIONS, type Precision } from './engine/engine.ts';
import { TsrtError } from './errors.ts';
import { MODULE_LOADERS } from './load-module.ts';
import { withoutMark } from './text.ts';
import { nearest } from './nearest.ts';

const positiveInt = z.number().int().positive();

/** A list that may be written as a single value, as in suites. */
function oneOrMore<T extends z.ZodType>(item: T) {
  return z.preprocess((value) => (value === undefined || Array.isArray(value) ? value : [value]), z.array(item).optional());
}

/** Keys of the file; each is optional there. Paths in the file are relative to the file. */
const fileSchema = z.strictObject({
  plugins: oneOrMore(z.string().min(1)),
  results: z.string().min(1).optional(),
  store: z.string().min(1).optional(),
  cache: z.string().min(1).optional(),
  backend: oneOrMore(z.string().min(1)),
  precision: oneOrMore(z.enum(PRECISIONS)),
  batch: oneOrMore(positiveInt),
  rounds: positiveInt.optional(),
  timeMs: positiveInt.optional(),
  seed: z.number().int().nonnegative().optional(),
});

type FileConfig = z.infer<typeof fileSchema>;

/** The settings in force. Undefined: the suite decides. */
export interface Config {
  /** Plugin paths (absolute where they are paths) and package names. */
  readonly plugins: readonly string[];
  /** Folder of records and baselines. */
  readonly results: string;
  /** Where baselines are: a folder, or a URL (results/stores/store.ts). Default: `baselines` in the results. */
  readonly store: string;
  /** Folder of downloaded and built models and engines. */
  readonly cache: string;
  readonly backend: readonly string[] | undefined;
  readonly precision: readonly Precision[] | undefined;
  readonly batch: readonly number[] | undefined;
  readonly rounds: number | undefined;
  readonly timeMs: number | undefined;
  readonly seed: number;
}

/** Where a value came from: a flag, a file's path, an environment variable's name, or the defaults. */
export type Origin = 'flag' | 'default' | 'suite' | `file ${string}` | `environment ${string}`;

export interface ResolvedConfig {
  readonly config: Config;
  readonly origins: Readonly<Record<keyof Config, Origin>>;
}

export type ConfigFlags = { readonly [K in keyof Config]?: Config[K] | undefined };

/** Joins flags, the nearest file and the defaults. `environment` gives TSRT_BENCH_CACHE, TSRT_BENCH_RESULTS and TSRT_BENCH_STORE. */
export async function resolveConfig(
  flags: ConfigFlags,
  cwd: string,
  environment: Readonly<Record<string, string | undefined>> = {},
): Promise<ResolvedConfig> {
  const file = await readConfigFile(cwd);
  const defaults: Config = {
    plugins: [],
    results: resolve(cwd, 'results'),
    store: '',
    cache: envPaths('tsrt-bench', { suffix: '' }).cache,
    backend: undefined,
    precision: undefined,
    batch: undefined,
    rounds: undefined,
    timeMs: undefined,
    seed: 1,
  };
  const fromEnvironment: ConfigFlags = {
    cache: environment['TSRT_BENCH_CACHE'] || undefined,
    results: environment['TSRT_BENCH_RESULTS'] || undefined,
    store: environment['TSRT_BENCH_STORE'] || undefined,
  };
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const key of Object.keys(defaults) as (keyof Config)[]) {
    const [value, origin] =
      flags[key] !== undefined && !(Array.isArray(flags[key]) && flags[key].length === 0)
        ? [flags[key], 'flag' as const]
        : fromEnvironment[key] !== undefined
          ? [fromEnvironment[key], `environment TSRT_BENCH_${key.toUpperCase()}` as const]
          : file?.values[key] !== undefined
            ? [file.values[key], `file ${file.path}` as const]
            : [defaults[key], defaults[key] === undefined ? ('suite' as const) : ('default' as const)];
    values[key] = isPath(key, value) ? resolve(cwd, value) : value;
    origins[key] = origin;
  }
  if (origins['store'] === 'default') values['store'] = join(String(values['results']), BASELINES_FOLDER);
  // Every name on this list was built from the keys of `defaults`, so the shapes are those of Config.
  return Object.freeze({
    config: Object.freeze(values) as unknown as Config,
    origins: Object.freeze(origins) as Readonly<Record<keyof Config, Origin>>,
  });
}

/** As results/names.ts has it, which lies above this layer; a test holds the two together. */
const BASELINES_FOLDER = 'baselines';

const isUrl = (text: string): boolean => /^[a-z][a-z0-9+.-]+:\/\//i.test(text);

function isPath(key: keyof Config, value: unknown): value is string {
  return typeof value === 'string' && value !== '' && (key === 'results' || key === 'cache' || (key === 'store' && !isUrl(value)));
}

/** The places that the documentation names; the folder `.config` and TypeScript files are left out. */
const SEARCH_PLACES = [
  'package.json',
  ...['', '.json', '.yaml', '.yml', '.js', '.cjs', '.mjs'].map((ending) => `.tsrt-benchrc${ending}`),
  ...['.json', '.yaml', '.yml', '.js', '.cjs', '.mjs'].map((ending) => `tsrt-bench.config${ending}`),
];

const LOADERS = { ...MODULE_LOADERS, '.json': (path: string, text: string): unknown => defaultLoaders['.json'](path, withoutMark(text)) };

async function readConfigFile(cwd: string): Promise<{ readonly path: string; readonly values: FileConfig } | undefined> {
  let found: CosmiconfigResult;
  try {
    found = await cosmiconfig('tsrt-bench', { searchPlaces: [...SEARCH_PLACES], loaders: LOADERS, searchStrategy: 'global', stopDir: resolve('/') }).search(cwd);
  } catch (cause) {
    const place = cause instanceof Error && 'filepath' in cause ? String(cause.filepath) : undefined;
    throw new TsrtError('CONFIG_INVALID', `the configuration can't be read: ${cause instanceof Error ? cause.message : String(cause)}`, {
      ...(place !== undefined && { place }),
      fix: 'mend the file named above, or move it away to run with the defaults',
      cause,
    });
  }
  if (!found || found.isEmpty) return undefined;
  const parsed = fileSchema.safeParse(found.config);
  if (!parsed.success) {
    throw new TsrtError('CONFIG_INVALID', 'the configuration has mistakes', {
      place: found.filepath,
      details: parsed.error.issues.flatMap(describeIssue),
      fix: 'mend the keys above; `tsrt-bench run --print-config` shows what is in force',
    });
  }
  return { path: found.filepath, values: absolutePaths(parsed.data, dirname(found.filepath)) };
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const place = issue.path.join('.') || 'the file';
  if (issue.code !== 'unrecognized_keys') return [`${place}: ${issue.message}`];
  const known = Object.keys(fileSchema.shape);
  return issue.keys.map((key) => {
    const guess = nearest(key, known);
    return `${key}: unknown key; ${guess ? `did you mean '${guess}'?` : `known: ${known.join(', ')}`}`;
  });
}

/** Paths in a file mean places beside the file, wherever the command runs. */
function absolutePaths(values: FileConfig, folder: string): FileConfig {
  return {
    ...values,
    ...(values.results !== undefined && { results: resolve(folder, values.results) }),
    ...(values.store !== undefined && { store: isUrl(values.store) ? values.store : resolve(folder, values.store) }),
    ...(values.cache !== undefined && { cache: resolve(folder, values.cache) }),
    ...(values.plugins !== undefined && {
      plugins: values.plugins.map((plugin) => (plugin.startsWith('.') ? resolve(folder, plugin) : plugin)),
    }),
  };
}
