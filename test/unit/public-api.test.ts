/** The public API is documented: every name that the package exports has a docstring where it is declared. */
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const src = fileURLToPath(new URL('../../src/', import.meta.url));

/** Names with the files that declare them, through files that only pass them on. */
function exportsOf(file: string): { readonly name: string; readonly file: string }[] {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(/export (?:type )?\{([^}]*)\} from '([^']+)'/g)].flatMap(([, names, from]) =>
    names!
      .split(',')
      .map((name) => name.trim().replace(/^type /, '').split(' as ')[0]!)
      .filter(Boolean)
      .map((name) => ({ name, file: resolve(dirname(file), from!) })),
  );
}

/** The comment above a declaration; '' for none, undefined where the file does not declare it. */
function docstring(name: string, file: string): string | undefined {
  const text = readFileSync(file, 'utf8');
  const found = new RegExp(`(?:(/\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/)\\n)?export (?:async )?(?:const|function|class|interface|type) ${name}\\b`).exec(text);
  if (found) return found[1] ?? '';
  const passedOn = exportsOf(file).find((entry) => entry.name === name);
  return passedOn && docstring(passedOn.name, passedOn.file);
}

describe.each(['index.ts', 'node.ts', 'runtime.ts'])('%s', (entry) => {
  const exported = exportsOf(join(src, entry));
  const docs = exported.map(({ name, file }) => ({ name, doc: docstring(name, file) }));

  it('exports names that are declared somewhere, each with a docstring', () => {
    expect(exported.length).toBeGreaterThan(10);
    expect(docs.filter(({ doc }) => doc === undefined).map(({ name }) => name)).toEqual([]);
    expect(docs.filter(({ doc }) => doc === '').map(({ name }) => name)).toEqual([]);
    expect(docs.filter(({ doc }) => doc !== undefined && doc.length < 25).map(({ name, doc }) => `${name}: ${doc}`)).toEqual([]);
  });
});
