/**
 * Where a plugin's code lies and what it is: the name that a user gave to a module, and the hash of what that module loads.
 *
 * A bare name is looked for in `./plugins`, among the plugins that ship with the package, and among installed packages, in this
 * order; nothing is searched for that nobody named.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TsrtError } from './errors.ts';

/** Absolute path of the module that `name` means. Throws PLUGIN_INVALID. */
export function locatePlugin(name: string, cwd: string): string {
  const places = [resolve(cwd, name), ...(isBare(name) ? [join(cwd, 'plugins', name), join(shippedFolder(), name)] : [])];
  const place = places.find((candidate) => existsSync(candidate));
  if (place !== undefined) return statSync(place).isDirectory() ? folderEntry(place, name) : place;
  try {
    return createRequire(join(cwd, 'package.json')).resolve(name);
  } catch (cause) {
    const installed = installedEntry(name, cwd);
    if (installed !== undefined) return installed;
    throw new TsrtError('PLUGIN_INVALID', `no plugin at '${name}': neither a file or folder here, nor in ./plugins, nor an installed package`, {
      plugin: name,
      fix: isBare(name) ? `check the name, install the package (npm install ${name}), or start one: tsrt-bench plugin new ${name}` : 'check the path',
      cause,
    });
  }
}

/** An installed package whose exports have no entry for require: "import" is the usual condition of an ES module. */
function installedEntry(name: string, cwd: string): string | undefined {
  for (let at = cwd; ; at = dirname(at)) {
    const entry = packageEntry(join(at, 'node_modules', name));
    if (entry !== undefined) return realpathSync(entry);
    if (dirname(at) === at) return undefined;
  }
}

function isBare(name: string): boolean {
  return /^[a-z0-9][a-z0-9-]*$/.test(name);
}

/** `plugins` of the package that this module belongs to: beside `src` in the repository, beside `dist/src` and `dist/bundle` when built. */
function shippedFolder(): string {
  return join(dirname(dirname(fileURLToPath(import.meta.url))), 'plugins');
}

const ENTRIES = ['index.js', 'index.mjs', 'index.ts', 'index.mts', 'dist/index.js', 'src/index.ts', 'plugin.js', 'plugin.ts'] as const;

function folderEntry(folder: string, name: string): string {
  try {
    return createRequire(join(folder, 'package.json')).resolve(folder);
  } catch {
    const found = packageEntry(folder) ?? ENTRIES.map((file) => join(folder, file)).find((file) => existsSync(file));
    if (found !== undefined) return found;
    throw new TsrtError('PLUGIN_INVALID', `the plugin folder '${name}' has no entry`, {
      plugin: name,
      place: folder,
      fix: 'give it an index.js or index.ts, or a package.json with "exports" or "main"',
    });
  }
}

/** The "." of a package's exports: a folder is not resolved by its exports, only a package's name is. */
function packageEntry(folder: string): string | undefined {
  const manifest = join(folder, 'package.json');
  if (!existsSync(manifest)) return undefined;
  const { exports } = JSON.parse(readFileSync(manifest, 'utf8')) as { exports?: unknown };
  const root: unknown = typeof exports === 'object' && exports !== null && '.' in exports ? exports['.'] : exports;
  const target = typeof root === 'object' && root !== null ? Object.entries(root).find(([key]) => key === 'import' || key === 'default')?.[1] : root;
  const path = typeof target === 'string' ? join(folder, target) : undefined;
  return path !== undefined && existsSync(path) ? path : undefined;
}

/** Imports by a relative path (CommonJS' too), and files that a module names beside itself: `new URL('./kernel.wgsl', import.meta.url)`. */
const RELATIVE = [/(?:\bfrom|\bimport(?:\.meta\.resolve)?|\brequire(?:\.resolve)?)\s*\(?\s*['"](\.{1,2}\/[^'"]+)['"]/g, /\bnew\s+URL\(\s*['"](\.{0,2}\/?[^'":]+)['"]\s*,\s*import\.meta\.url/g] as const;

/** A module, every file that it imports by a relative path, and the files that these name beside themselves; sorted. */
export function filesOf(entry: string): readonly string[] {
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file) || !existsSync(file) || !statSync(file).isFile()) return;
    seen.add(file);
    if (!/\.[cm]?[jt]s$/.test(file)) return;
    const text = readFileSync(file, 'utf8');
    // CommonJS leaves extensions out.
    for (const pattern of RELATIVE) for (const [, specifier] of text.matchAll(pattern)) for (const ending of ['', '.js', '.cjs', '.json', '/index.js']) visit(resolve(dirname(file), specifier! + ending));
  };
  visit(entry);
  return [...seen].sort();
}

/**
 * SHA-256 of a plugin's files, by name and content. Packages that it imports are not part of it: their versions are its
 * package.json's business.
 */
export function hashPlugin(entry: string): string {
  const total = createHash('sha256');
  for (const file of filesOf(entry)) {
    const name = relative(dirname(entry), file).replaceAll('\\', '/');
    total.update(`${name}\0${createHash('sha256').update(readFileSync(file)).digest('hex')}\n`);
  }
  return total.digest('hex');
}
