/**
 * The packages of a checkout. Where its lock file is that of the working tree, the working tree's node_modules are linked:
 * nothing is fetched, and both sides run the very same files. Else the lock file's own package manager installs.
 */
import { existsSync } from 'node:fs';
import { lstat, readdir, readFile, realpath, symlink } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { runCommand } from './command.ts';

const INSTALLERS: Readonly<Record<string, string>> = {
  'npm-shrinkwrap.json': 'npm ci --no-audit --no-fund',
  'package-lock.json': 'npm ci --no-audit --no-fund',
  'pnpm-lock.yaml': 'pnpm install --frozen-lockfile',
  'yarn.lock': 'yarn install --frozen-lockfile',
  'bun.lock': 'bun install --frozen-lockfile',
  'bun.lockb': 'bun install --frozen-lockfile',
};

export interface InstallRequest {
  /** Tops of the user's working tree and of the checkout. */
  readonly root: string;
  readonly checkout: string;
  /** The project's folder within both. */
  readonly prefix: string;
  readonly at: string;
  readonly signal: AbortSignal;
}

/** What was done, as a sentence for the report; undefined where nothing was to be done. */
export async function installPackages({ root, checkout, prefix, at, signal }: InstallRequest): Promise<string | undefined> {
  const home = packageHome(checkout, prefix);
  if (home === undefined) return undefined;
  const folder = join(checkout, home);
  const lock = Object.keys(INSTALLERS).find((name) => existsSync(join(folder, name)));
  const decisive = lock ?? 'package.json';
  if (await sameText(join(root, home, decisive), join(folder, decisive))) {
    const borrowed = await foreignLink(root, join(root, home, 'node_modules'));
    if (borrowed === undefined) {
      await linkModules(root, checkout, home, prefix);
      return undefined;
    }
  }
  const command = lock === undefined ? 'npm install --no-audit --no-fund --no-package-lock' : INSTALLERS[lock]!;
  await runCommand(command, { folder, at, signal }, 'name a revision whose packages can still be installed, or compare engine files');
  return `the packages of ${at} were installed with \`${command}\``;
}

/** The nearest folder with a lock file, from the project's upwards; else the nearest with a package.json. Relative. */
function packageHome(checkout: string, prefix: string): string | undefined {
  const folders: string[] = [];
  for (let folder = join(checkout, prefix); ; folder = dirname(folder)) {
    folders.push(relative(checkout, folder));
    if (resolve(folder) === resolve(checkout)) break;
  }
  const has = (...names: readonly string[]) => folders.find((folder) => names.some((name) => existsSync(join(checkout, folder, name))));
  return has(...Object.keys(INSTALLERS)) ?? has('package.json');
}

/** A package that is a link into the working tree (a workspace, a `file:` dependency): it is the candidate's, not the revision's. */
async function foreignLink(root: string, modules: string): Promise<string | undefined> {
  const top = await realpath(root);
  for (const name of await entriesOf(modules)) {
    const path = join(modules, name);
    if (!(await lstat(path)).isSymbolicLink()) continue;
    const target = await realpath(path).catch(() => '');
    if (target.startsWith(top + sep) && !target.includes(`${sep}node_modules${sep}`)) return name;
  }
  return undefined;
}

async function entriesOf(modules: string): Promise<readonly string[]> {
  const names = (await readdir(modules).catch(() => [])).filter((name) => !name.startsWith('.'));
  const nested = await Promise.all(
    names.map(async (name) => (name.startsWith('@') ? (await readdir(join(modules, name))).map((inner) => join(name, inner)) : [name])),
  );
  return nested.flat();
}

/** From the packages' home down to the project: workspaces keep modules of their own. */
async function linkModules(root: string, checkout: string, home: string, prefix: string): Promise<void> {
  for (let folder = join(checkout, prefix); ; folder = dirname(folder)) {
    const place = relative(checkout, folder);
    const [from, to] = [join(root, place, 'node_modules'), join(folder, 'node_modules')];
    if (existsSync(from) && !existsSync(to)) await symlink(from, to, 'junction');
    if (resolve(folder) === resolve(checkout, home)) return;
  }
}

async function sameText(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => readFile(path, 'utf8').catch(() => undefined)));
  return one !== undefined && one === other;
}
