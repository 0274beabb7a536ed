/**
 * Data that is too large for the repository and lies beside it, where it is there at all. Tests that need it skip without
 * it, with the reason in their title.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The path of something in the folder `shared` beside the repository, or undefined where it is not there. */
export function sharedPath(...parts: readonly string[]): string | undefined {
  const path = fileURLToPath(new URL(`../../../shared/${parts.join('/')}`, import.meta.url));
  return existsSync(path) ? path : undefined;
}
