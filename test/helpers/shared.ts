/**
 * Data that is too large for the repository and lies beside it, where it is there at all. Tests that need it skip without
 * it, with the reason in their title.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The path of something in the folder `shared` beside the repository, or undefined where it is not there. */
export function sharedPath(...parts: readonly string[]): string | undefined {
  const path = fileURLToPath(new URL(`../../../shared/${parts.join('/')}`, import.meta.url));
  return existsSync(path) ? path : undefined;
}

/** A real network of that folder, which is unpacked into the user's cache the first time; undefined where it is not there, or can't be unpacked. */
export function sharedModel(name: string): string | undefined {
  const folder = join(homedir(), '.cache', 'tsrt-bench-test-models');
  const path = join(folder, `${name}.onnx`);
  const unpack = sharedPath('models', 'unpack.sh');
  if (!existsSync(path) && unpack !== undefined) spawnSync('bash', [unpack, folder]);
  return existsSync(path) ? path : undefined;
}
