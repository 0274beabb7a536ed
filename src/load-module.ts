/**
 * Loads a JavaScript file that holds data: its default export. cosmiconfig's own loader tries `require` after a failed
 * `import`, and then reports the second failure in place of the first.
 */
import { pathToFileURL } from 'node:url';

export async function loadModule(file: string): Promise<unknown> {
  const module = (await import(pathToFileURL(file).href)) as { readonly default?: unknown };
  return module.default;
}

/** For cosmiconfig: one loader for every kind of module. */
export const MODULE_LOADERS = { '.js': loadModule, '.mjs': loadModule, '.cjs': loadModule } as const;
