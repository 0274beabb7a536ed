/** Modules that a process or a thread of its own begins with, by their place in the bundle (`scripts/bundle.mjs`), whichever form of the project asks. */
import { fileURLToPath } from 'node:url';

/** From `src`, `dist/src` and `dist/bundle` alike. */
const BUNDLE = import.meta.url.endsWith('.ts') ? '../dist/bundle/' : '../bundle/';

/** The path of the built entry. */
export function builtEntry(name: 'measure-worker' | 'kit-worker' | 'verify-worker' | 'serve-worker'): string {
  return fileURLToPath(new URL(`${BUNDLE}${name}.js`, import.meta.url));
}
