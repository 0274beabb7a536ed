/**
 * The worker as real processes start it. Node runs JavaScript only, so the worker and what it imports are compiled first, into
 * a folder of their own: a stale build of the whole project can't make these tests lie.
 */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Compiles the worker; the path of its entry. Type errors are other tests' business. */
export async function buildWorker(): Promise<string> {
  const folder = join(root, 'node_modules', '.cache', 'tsrt-bench-test-worker');
  await mkdir(folder, { recursive: true });
  const config = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: { outDir: join(folder, 'dist'), declaration: false },
    files: [join(root, 'src/measure/worker.ts')],
    include: [],
  };
  const path = join(folder, 'tsconfig.json');
  await writeFile(path, JSON.stringify(config));
  await promisify(execFile)(join(root, 'node_modules', '.bin', 'tsc'), ['-p', path]).catch(() => {});
  return join(folder, 'dist', 'src', 'measure', 'worker.js');
}
