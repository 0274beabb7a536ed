/**
 * TypeScript plugins on every Node of `engines`: Node's own type stripping where it has that (22.18 and later), else the same compiler in
 * the same mode by module hooks, registered once and only when a plugin needs them.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { basename, dirname, join } from 'node:path';

/** Whether a module's name says TypeScript. */
export function isTypescript(file: string): boolean {
  return /\.[cm]?ts$/.test(file);
}

let ready = false;

/** Makes `import` of a TypeScript file work in this process. */
export function readTypescript(): void {
  // Under a test runner that reads TypeScript itself, this very module is one.
  if (ready || ('typescript' in process.features && Boolean(process.features.typescript)) || isTypescript(import.meta.url)) return;
  register('./typescript-hooks.js', import.meta.url);
  ready = true;
}

/** `file:line` of a SyntaxError, which Node leaves out for modules: the files are parsed again by a compiler that says it. */
export async function syntaxPlace(error: unknown, files: readonly string[]): Promise<string | undefined> {
  if (!(error instanceof SyntaxError)) return undefined;
  const { transformSync } = await import('@swc/wasm-typescript');
  for (const file of files.filter((name) => /\.[cm]?[jt]s$/.test(name))) {
    try {
      transformSync(await readFile(file, 'utf8'), { mode: 'strip-only', module: true });
    } catch (mistake) {
      const { startLine } = mistake as { readonly startLine?: number };
      if (startLine !== undefined) return `${file}:${startLine}`;
    }
  }
  return undefined;
}

/** The way out of what an import of a plugin's module raised, where it is one of the known ones. */
export function importFix(error: unknown, source: string): string | undefined {
  const text = error instanceof Error ? error.message : String(error);
  if (/Cannot use import statement outside a module|Unexpected token 'export'|Cannot use 'import.meta' outside a module/.test(text)) return moduleFix(source);
  if (/Cannot find package 'tsrt-bench'/.test(text)) return 'install tsrt-bench where the plugin finds it: npm install tsrt-bench, in its folder or one above';
  if (/strip-only mode|stripping types is currently unsupported/i.test(text)) return 'TypeScript is read by leaving the types out: no enums, parameter properties or namespaces (tsc --erasableSyntaxOnly finds them), and JavaScript in installed packages';
  if (/Unknown file extension/.test(text)) return 'a plugin is a module (.js, .mjs, .ts, .mts) or a folder with one';
  const [, module, name] = /requested module '([^']+)' does not provide an export named '([^']+)'/.exec(text) ?? [];
  if (name !== undefined) return `'${module}' has no value '${name}': if it is a type, write import type { ${name} } (tsc --verbatimModuleSyntax finds these)`;
  const [, missing] = /Cannot find module '([^']+)'/.exec(text) ?? [];
  if (missing !== undefined && !/\.[cm]?[jt]s(on)?$/.test(missing)) return 'write relative imports with their extension, such as ./part.ts';
  return undefined;
}

/** `npm init` of today writes "type": "commonjs", by which Node reads every .js file below as CommonJS. */
function moduleFix(source: string): string {
  const manifest = nearestManifest(dirname(source));
  return `a plugin is an ES module, and ${manifest ?? 'no package.json'} makes it CommonJS: set "type": "module" there (npm pkg set type=module), or give the plugin's folder a package.json that says so, or name the file ${basename(source, '.js')}.mjs`;
}

function nearestManifest(folder: string): string | undefined {
  const manifest = join(folder, 'package.json');
  if (existsSync(manifest)) return manifest;
  return dirname(folder) === folder ? undefined : nearestManifest(dirname(folder));
}
