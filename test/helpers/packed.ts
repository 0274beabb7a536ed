/** The package as `npm pack` makes it, installed in a folder: its own files from the tarball, its dependencies from this checkout. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));

export interface Packed {
  /** Paths in the tarball. */
  readonly files: readonly string[];
  /** Where the package lies. */
  readonly folder: string;
}

/** Packs the built project and unpacks it under `folder`/node_modules. */
export async function installPacked(folder: string): Promise<Packed> {
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: root, maxBuffer: 2 ** 26 });
  const [packed] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
  const modules = join(folder, 'node_modules');
  const own = join(modules, 'tsrt-bench');
  await mkdir(own, { recursive: true });
  await run('tar', ['-xzf', join(folder, packed.filename), '-C', own, '--strip-components=1']);
  for (const name of await readdir(join(root, 'node_modules'))) {
    if (!name.startsWith('.')) await symlink(join(root, 'node_modules', name), join(modules, name), 'dir');
  }
  return { files: packed.files.map(({ path }) => path), folder: own };
}
