/**
 * Collects what plugins add: backends and reporters, in order, conflicts refused.
 *
 * Built-in parts come in by the same path as a user's. Loading a plugin runs its code, so only what the user named is loaded.
 */
import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Backend } from './backends/backend.ts';
import { TsrtError } from './errors.ts';
import type { Plugin } from './plugin.ts';
import { parsePlugin } from './plugin-schema.ts';
import type { Reporter } from './report/reporter.ts';
import { nearest } from './nearest.ts';

/** A plugin and where it came from. */
export interface LoadedPlugin {
  readonly plugin: Plugin;
  /** `built-in`, or the absolute path of the module. */
  readonly source: string;
}

export interface Registry {
  readonly plugins: readonly LoadedPlugin[];
  readonly backends: ReadonlyMap<string, Backend>;
  readonly reporters: ReadonlyMap<string, Reporter>;
  /** Throws BACKEND_UNKNOWN with the nearest known name. */
  backend(name: string): Backend;
  /** Throws USAGE with the nearest known name. */
  reporter(name: string): Reporter;
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
    loaded.push({ plugin: await importPlugin(source), source });
  }
  return createRegistry(loaded);
}

/** Joins plugins into one frozen registry. Two of a name are an error that names both plugins. */
export function createRegistry(plugins: readonly LoadedPlugin[]): Registry {
  const backends = collect(plugins, 'backend', (plugin) => plugin.backends ?? []);
  const reporters = collect(plugins, 'reporter', (plugin) => plugin.reporters ?? []);
  return Object.freeze({
    plugins,
    backends,
    reporters,
    backend: (name: string) => find(backends, name, 'backend', 'BACKEND_UNKNOWN'),
    reporter: (name: string) => find(reporters, name, 'report format', 'USAGE'),
  });
}

function collect<T extends { readonly name: string }>(
  plugins: readonly LoadedPlugin[],
  kind: string,
  pick: (plugin: Plugin) => readonly T[],
): Map<string, T> {
  const owners = new Map<string, string>();
  const parts = new Map<string, T>();
  for (const { plugin } of plugins) {
    for (const part of pick(plugin)) {
      const owner = owners.get(part.name);
      if (owner !== undefined) {
        throw new TsrtError('PLUGIN_INVALID', `two plugins give the ${kind} '${part.name}': ${owner} and ${plugin.name}`, {
          plugin: plugin.name,
          fix: `load only one of them, or rename the ${kind} in yours`,
        });
      }
      owners.set(part.name, plugin.name);
      parts.set(part.name, part);
    }
  }
  return parts;
}

function find<T>(parts: ReadonlyMap<string, T>, name: string, kind: string, code: 'BACKEND_UNKNOWN' | 'USAGE'): T {
  const part = parts.get(name);
  if (part !== undefined) return part;
  const known = [...parts.keys()];
  const guess = nearest(name, known);
  throw new TsrtError(code, `no ${kind} is named '${name}'${guess ? `; did you mean '${guess}'?` : ''}`, {
    fix: `known: ${known.join(', ')}; others come with --plugin PATH`,
  });
}

/** A path if it looks like one or exists, a package resolved from `cwd` otherwise. */
function locatePlugin(name: string, cwd: string): string {
  const path = resolve(cwd, name);
  if (existsSync(path)) return statSync(path).isDirectory() ? folderEntry(path, name) : path;
  try {
    return createRequire(join(cwd, 'package.json')).resolve(name);
  } catch (cause) {
    throw new TsrtError('PLUGIN_INVALID', `no plugin at '${name}': neither a file or folder here nor an installed package`, {
      plugin: name,
      fix: `check the path, or install the package (npm install ${name})`,
      cause,
    });
  }
}

function folderEntry(folder: string, name: string): string {
  const candidates = ['index.js', 'index.mjs', 'dist/index.js', 'plugin.js'].map((file) => join(folder, file));
  try {
    return createRequire(join(folder, 'package.json')).resolve(folder);
  } catch {
    const found = candidates.find((file) => existsSync(file));
    if (found) return found;
    throw new TsrtError('PLUGIN_INVALID', `the plugin folder '${name}' has no entry`, {
      plugin: name,
      place: folder,
      fix: 'give it an index.js or a package.json with "exports" or "main"',
    });
  }
}

async function importPlugin(source: string): Promise<Plugin> {
  let module: { readonly default?: unknown };
  try {
    module = (await import(pathToFileURL(source).href)) as { readonly default?: unknown };
  } catch (cause) {
    throw new TsrtError('PLUGIN_INVALID', `the plugin could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, {
      plugin: source,
      place: source,
      fix: 'mend the error above; a plugin written in TypeScript must be compiled first on Node below 22.18',
      cause,
    });
  }
  return parsePlugin(module.default, source);
}
