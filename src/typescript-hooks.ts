/**
 * Module hooks that read TypeScript on a Node that does not: types are blanked out by the compiler that Node itself uses for it since
 * 22.18 (swc's strip-only mode), so that a plugin means the same on every Node, and lines and columns stay those of its file.
 *
 * Runs in the hooks' own thread (`module.register`): it can't see anything of the tool, and sends source text back.
 */
import { readFile } from 'node:fs/promises';
import type { LoadHook } from 'node:module';
import { fileURLToPath } from 'node:url';
import { transformSync } from '@swc/wasm-typescript';

/** Node refuses TypeScript in installed packages, so that none is published; so does this. */
const OURS = /^file:(?!.*\/node_modules\/).*\.m?ts$/;

export const load: LoadHook = async (url, context, next) => {
  const [place] = url.split(/[?#]/) as [string];
  if (!OURS.test(place)) return next(url, context);
  const file = fileURLToPath(place);
  return { format: 'module', source: strip(await readFile(file, 'utf8'), file), shortCircuit: true };
};

function strip(source: string, file: string): string {
  try {
    return transformSync(source, { mode: 'strip-only', module: true, filename: file }).code;
  } catch (error) {
    // The compiler throws plain objects: what it found, and where.
    const { message, startLine } = error as { readonly message?: string; readonly startLine?: number };
    throw new SyntaxError(`${message ?? String(error)} (${file}${startLine === undefined ? '' : `:${startLine}`})`);
  }
}
