/**
 * Collects what plugins add, in order, conflicts refused.
 *
 * Built-in parts come in by the same path as a user's. Loading a plugin runs its code, so only what the user named is loaded.
 */
import { statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Backend } from './backends/backend.ts';
import { TsrtError } from './errors.ts';
import { opTitle, type CustomOp, type PluginStamp, type RegisteredOp } from './ir/custom.ts';
import { nearest } from './nearest.ts';
import type { Calibrator, Plugin } from './plugin.ts';
import { checkedBackend, checkedDataset, checkedReporter } from './plugin-answers.ts';
import { guardBackend, guarded } from './plugin-guard.ts';
import { hashPlugin, locatePlugin } from './plugin-source.ts';
import type { Reporter } from './report/reporter.ts';
import type { DatasetSource } from './suite/source.ts';

/** A plugin and where it came from. */
export interface LoadedPlugin {
  readonly plugin: Plugin;
  /** `built-in`, or the absolute path of the module. */
  readonly source: string;
  /** Hash of its code; '' for the built-in parts. */
  readonly sha256?: string;
}

export interface Registry {
  readonly plugins: readonly LoadedPlugin[];
  /** Plugins that the user named, as engines record them. */
  readonly stamps: readonly PluginStamp[];
  readonly ops: readonly RegisteredOp[];
  readonly backends: ReadonlyMap<string, Backend>;
  readonly reporters: ReadonlyMap<string, Reporter>;
  readonly datasets: ReadonlyMap<string, DatasetSource>;
  readonly calibrators: ReadonlyMap<string, Calibrator>;
  /** Suites by name, with their folders. */
  readonly suites: ReadonlyMap<string, string>;
  /** Throws BACKEND_UNKNOWN with the nearest known name. */
  backend(name: string): Backend;
  /** Throws USAGE with the nearest known name. */
  reporter(name: string): Reporter;
  /** Throws USAGE with the nearest known name. */
  dataset(name: string): DatasetSource;
  /** Throws USAGE with the nearest known name. */
  calibrator(name: string): Calibrator;
}

export interface RegistryOptions {
  /** The project's own parts, as a plugin like any other. */
  readonly builtIn: Plugin;
  /** Paths (files or folders, relative to `cwd`) and package names, in the order in which they are loaded. */
  readonly plugins: readonly string[];
  readonly cwd?: string;
}

/** Loads the named plugins and joins them with the built-in parts. A plugin named twice is loaded once. */
export async function loadRegistry(options: RegistryOptions): Promise<Registry> {
  const cwd = options.cwd ?? process.cwd();
  const loaded: LoadedPlugin[] = [{ plugin: options.builtIn, source: 'built-in' }];
  for (const name of options.plugins) {
    const source = locatePlugin(name, cwd);
    if (loaded.some((other) => other.source === source)) continue;
    // The schemas are loaded with the first plugin: a worker process without any starts without them.
    const { importPlugin } = await import('./plugin-import.ts');
    loaded.push({ plugin: await importPlugin(source), source, sha256: hashPlugin(source) });
  }
  return createRegistry(loaded);
}

/** A part with the plugin that gave it; undefined for the project's own. */
interface Owned<T> {
  readonly part: T;
  readonly owner: PluginStamp | undefined;
}

/** Joins plugins into one frozen registry. Two of a name are an error that names both plugins. */
export function createRegistry(plugins: readonly LoadedPlugin[]): Registry {
  checkNames(plugins);
  const stamps = plugins.flatMap((entry) => stampOf(entry) ?? []);
  const ops = collectOps(plugins);
  const backends = collect(plugins, 'backend', nameOf, ({ backends: own = [] }) => own);
  const parts = <T extends { readonly name: string }>(kind: string, pick: (plugin: Plugin) => readonly T[], checked: (part: T, plugin: string) => T = (part) => part): ReadonlyMap<string, T> =>
    mapValues(collect(plugins, kind, nameOf, pick), ({ part, owner }) => (owner ? guarded(checked(part, owner.name), owner.name, `${kind} ${part.name}`) : part));
  const reporters = parts('report format', ({ reporters: own = [] }) => own, checkedReporter);
  const datasets = parts('dataset', ({ datasets: own = [] }) => own, checkedDataset);
  const calibrators = parts('calibrator', ({ calibrators: own = [] }) => own);
  const guardedBackends = mapValues(backends, ({ part, owner }) => guardBackend(owner ? checkedBackend(part, owner.name) : part, owner, { stamps, ops }));
  return Object.freeze({
    plugins,
    stamps,
    ops,
    backends: guardedBackends,
    reporters,
    datasets,
    calibrators,
    suites: collectSuites(plugins),
    backend: (name: string) => find(guardedBackends, name, 'backend', 'BACKEND_UNKNOWN'),
    reporter: (name: string) => find(reporters, name, 'report format', 'USAGE'),
    dataset: (name: string) => find(datasets, name, 'dataset', 'USAGE'),
    calibrator: (name: string) => find(calibrators, name, 'calibrator', 'USAGE'),
  });
}

function stampOf({ plugin: { name, version }, source, sha256 = '' }: LoadedPlugin): PluginStamp | undefined {
  return source === 'built-in' ? undefined : { name, version, sha256 };
}

function nameOf({ name }: { readonly name: string }): string {
  return name;
}

/** Ops of one name may share the opsets of their domain among them, without an overlap. */
function collectOps(plugins: readonly LoadedPlugin[]): readonly RegisteredOp[] {
  const key = (op: CustomOp): string => (op.opset ? `${opTitle(op)} (opset ${op.opset.join(' to ')})` : opTitle(op));
  const ops = [...collect(plugins, 'op', key, ({ ops: own = [] }) => own).values()].flatMap(({ part, owner }) => (owner ? [{ op: part, plugin: owner }] : []));
  const span = ({ opset }: CustomOp): readonly [number, number] => opset ?? [0, Number.POSITIVE_INFINITY];
  for (const [index, entry] of ops.entries()) {
    const other = ops.slice(0, index).find(({ op }) => opTitle(op) === opTitle(entry.op) && span(op)[0] <= span(entry.op)[1] && span(entry.op)[0] <= span(op)[1]);
    if (!other) continue;
    throw new TsrtError('PLUGIN_INVALID', `two plugins give the op '${opTitle(entry.op)}' for the same opsets: ${other.plugin.name} and ${entry.plugin.name}`, {
      plugin: entry.plugin.name,
      fix: 'load only one of them, or give each its `opset` range',
    });
  }
  return ops;
}

function checkNames(plugins: readonly LoadedPlugin[]): void {
  const known = new Map<string, LoadedPlugin>();
  for (const entry of plugins) {
    const { name } = entry.plugin;
    const other = known.get(name);
    if (other) {
      throw new TsrtError('PLUGIN_INVALID', `two plugins are called '${name}'`, {
        plugin: name,
        details: [other, entry].map(({ plugin, source }) => `${plugin.version}: ${source}`),
        fix: 'load only one of them, or rename yours',
      });
    }
    known.set(name, entry);
  }
}

function collect<T>(plugins: readonly LoadedPlugin[], kind: string, keyOf: (part: T) => string, pick: (plugin: Plugin) => readonly T[]): Map<string, Owned<T>> {
  const owners = new Map<string, string>();
  const parts = new Map<string, Owned<T>>();
  for (const entry of plugins) {
    const { plugin } = entry;
    for (const part of pick(plugin)) {
      const key = keyOf(part);
      const owner = owners.get(key);
      if (owner !== undefined) {
        throw new TsrtError('PLUGIN_INVALID', owner === plugin.name ? `the plugin gives the ${kind} '${key}' twice` : `two plugins give the ${kind} '${key}': ${owner} and ${plugin.name}`, {
          plugin: plugin.name,
          fix: `load only one of them, or rename the ${kind} in yours`,
        });
      }
      owners.set(key, plugin.name);
      parts.set(key, { part, owner: stampOf(entry) });
    }
  }
  return parts;
}

function mapValues<T, U>(map: ReadonlyMap<string, T>, change: (value: T) => U): ReadonlyMap<string, U> {
  return new Map([...map].map(([key, value]) => [key, change(value)]));
}

/** Suites by the names of their folders; a path is relative to the plugin's module. */
function collectSuites(plugins: readonly LoadedPlugin[]): ReadonlyMap<string, string> {
  const suites = collect<{ readonly folder: string }>(plugins, 'suite', ({ folder }) => basename(folder), ({ suites: own = [], name }) => {
    const { source } = plugins.find((entry) => entry.plugin.name === name)!;
    return own.map((place) => {
      const folder = place instanceof URL || place.startsWith('file:') ? fileURLToPath(place) : resolve(dirname(source), place);
      if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
        throw new TsrtError('PLUGIN_INVALID', `a suite of the plugin is not a folder`, { plugin: name, place: folder, fix: 'name folders that hold a suite.yaml each' });
      }
      return { folder: folder.replace(/[\\/]+$/, '') };
    });
  });
  return mapValues(suites, ({ part }) => part.folder);
}

function find<T>(parts: ReadonlyMap<string, T>, name: string, kind: string, code: 'BACKEND_UNKNOWN' | 'USAGE'): T {
  const part = parts.get(name);
  if (part !== undefined) return part;
  const known = [...parts.keys()];
  const guess = nearest(name, known);
  throw new TsrtError(code, `no ${kind} is named '${name}'${guess ? `; did you mean '${guess}'?` : ''}`, {
    fix: `known: ${known.join(', ') || 'none'}; others come with --plugin PATH`,
  });
}
