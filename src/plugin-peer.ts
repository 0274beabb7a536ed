/** Whether a plugin was written for this tsrt-bench: the range in the peerDependencies of its package.json, which npm holds to only where it installs the plugin. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TsrtError } from './errors.ts';
import { TOOL_VERSION } from './version.ts';

/** Throws PLUGIN_INVALID for a plugin that asks for another version. */
export function checkPeer(source: string, version: string = TOOL_VERSION): void {
  const manifest = manifestOf(source);
  const range = manifest && peerRange(manifest);
  if (range === undefined || satisfies(version, range)) return;
  throw new TsrtError('PLUGIN_INVALID', `the plugin needs tsrt-bench ${range}, but this is ${version}`, {
    plugin: source,
    place: manifest!,
    fix: 'install a version of the plugin for this tsrt-bench, or the tsrt-bench that it needs; if the plugin is yours and works with both, widen the range in its peerDependencies',
  });
}

function manifestOf(source: string): string | undefined {
  for (let folder = dirname(source); ; folder = dirname(folder)) {
    const file = join(folder, 'package.json');
    if (existsSync(file)) return file;
    if (dirname(folder) === folder) return undefined;
  }
}

function peerRange(manifest: string): string | undefined {
  try {
    const { peerDependencies } = JSON.parse(readFileSync(manifest, 'utf8')) as { peerDependencies?: { readonly 'tsrt-bench'?: unknown } };
    const range = peerDependencies?.['tsrt-bench'];
    return typeof range === 'string' ? range : undefined;
  } catch {
    return undefined;
  }
}

const COMPARATOR = /^(\^|~|>=|<=|>|<|=)?v?(\d+|[x*])(?:\.(\d+|[x*]))?(?:\.(\d+|[x*]))?(?:[-+].*)?$/i;

/** npm's ranges (https://github.com/npm/node-semver#ranges) but hyphens; what is not understood, such as `workspace:*`, is taken to fit. */
export function satisfies(version: string, range: string): boolean {
  const numbers = version.split(/[-+]/)[0]!.split('.').map(Number);
  return range.split('||').some((part) => part.trim().replace(/([<>=^~])\s+/g, '$1').split(/\s+/).every((one) => fits(numbers, one)));
}

function fits(version: readonly number[], comparator: string): boolean {
  const [, sign = '=', ...parts] = COMPARATOR.exec(comparator) ?? [];
  const given = parts.map((part) => (part === undefined || /[x*]/i.test(part) ? undefined : Number(part)));
  const named = given.includes(undefined) ? given.indexOf(undefined) : given.length;
  if (named === 0) return true;
  const low = given.map((part) => part ?? 0);
  if (sign === '<') return order(version, low) < 0;
  if (sign === '>=') return order(version, low) >= 0;
  // The first number that must stay: of ^ the first that is not 0, of ~ the minor one, else the last that is named.
  const nonZero = low.findIndex((part) => part !== 0);
  const kept = Math.min(named - 1, sign === '^' ? (nonZero < 0 ? named - 1 : nonZero) : sign === '~' ? 1 : named - 1);
  const next = low.map((part, index) => (index < kept ? part : index === kept ? part + 1 : 0));
  if (sign === '>') return order(version, next) >= 0;
  if (sign === '<=') return order(version, next) < 0;
  return order(version, low) >= 0 && order(version, next) < 0;
}

function order(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((part, index) => part !== b[index]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}
