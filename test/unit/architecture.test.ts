/** The shape of the house: imports point one way, files stay small, the runtime stands alone. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const src = join(root, 'src');

/** Low to high. A file may import from its own layer and from lower ones. */
const LAYERS: readonly (readonly string[])[] = [
  ['errors.ts', 'entries.ts', 'nearest.ts', 'version.ts', 'load-module.ts', 'system.ts', 'temporary.ts', 'text.ts'],
  ['stats'],
  ['ir'],
  ['ops'],
  ['onnx'],
  ['passes'],
  ['quantize'],
  ['engine'],
  ['backends'],
  ['batcher.ts'],
  ['runtime.ts', 'node.ts'],
  ['plugin.ts', 'plugin-guard.ts', 'plugin-answers.ts', 'plugin-schema.ts', 'plugin-import.ts', 'plugin-peer.ts', 'plugin-source.ts', 'plugin-typescript.ts', 'typescript-hooks.ts', 'registry.ts', 'config.ts'],
  ['suite'],
  ['serve'],
  ['kit'],
  ['measure'],
  ['results'],
  ['gate'],
  ['report'],
  ['index.ts'],
  ['workflows'],
  ['commands'],
  ['cli.ts'],
];

/** Contracts that a lower layer may name as types: what a plugin is made of, and what a measurement becomes. */
const TYPE_CONTRACTS = new Set(['results/record.ts', 'report/reporter.ts', 'suite/source.ts']);

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file));
}

const IMPORT = /^\s*(import|export)\s+(type\s+)?([^;'"]*?from\s+)?['"]([^'"]+)['"]/gm;
const DYNAMIC = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;

interface Specifier {
  readonly specifier: string;
  readonly typeOnly: boolean;
  /** Loaded when it is first asked for. */
  readonly dynamic: boolean;
}

function importsOf(file: string): Specifier[] {
  const text = readFileSync(file, 'utf8');
  return [
    ...[...text.matchAll(IMPORT)].map((match) => ({ specifier: match[4] ?? '', typeOnly: match[2] !== undefined, dynamic: false })),
    ...[...text.matchAll(DYNAMIC)].map((match) => ({ specifier: match[1] ?? '', typeOnly: false, dynamic: true })),
  ];
}

/** What an entry loads: the project's files, and the modules from outside as `file → module`. Text of plugins to be written is no import. */
function reach(entry: string, counts: (specifier: Specifier) => boolean): { readonly files: string[]; readonly outside: string[] } {
  const seen = new Set<string>();
  const outside: string[] = [];
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const found of importsOf(file)) {
      if (found.typeOnly || !counts(found)) continue;
      if (found.specifier.startsWith('.') && found.specifier.endsWith('.js')) continue;
      if (found.specifier.startsWith('.')) visit(resolve(dirname(file), found.specifier));
      else outside.push(`${relative(src, file)} → ${found.specifier}`);
    }
  };
  visit(join(src, entry));
  return { files: [...seen].map((file) => relative(src, file)), outside };
}

function edges(): Import[] {
  return sourceFiles(src).flatMap((file) =>
    importsOf(file)
      .filter(({ specifier }) => specifier.startsWith('.'))
      .map(({ specifier, typeOnly }) => ({
        from: relative(src, file),
        to: relative(src, resolve(dirname(file), specifier)),
        typeOnly,
      })),
  );
}

function layerOf(path: string): number {
  const head = path.split('/')[0] ?? path;
  return LAYERS.findIndex((layer) => layer.includes(head));
}

describe('architecture', () => {
  it('has a layer for every file', () => {
    expect(sourceFiles(src).map((file) => relative(src, file)).filter((file) => layerOf(file) < 0)).toEqual([]);
  });

  it('imports point one way', () => {
    const all = edges();
    expect(all.length).toBeGreaterThan(50);
    const upward = all.filter((edge) => layerOf(edge.to) > layerOf(edge.from) && !(edge.typeOnly && TYPE_CONTRACTS.has(edge.to)));
    expect(upward.map((edge) => `${edge.from} → ${edge.to}`)).toEqual([]);
  });

  it('statistics know nothing of the rest', () => {
    expect(edges().filter((edge) => edge.from.startsWith('stats/') && !edge.to.startsWith('stats/'))).toEqual([]);
  });

  const plugins = join(root, 'plugins');
  it.skipIf(!existsSync(plugins))('plugins use the public API alone (skipped without a folder plugins)', () => {
    const wrong = sourceFiles(plugins).flatMap((file) =>
      importsOf(file)
        .filter(({ specifier }) => specifier.startsWith('.') && !resolve(dirname(file), specifier).startsWith(plugins))
        .map(({ specifier }) => `${relative(root, file)} → ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  it('the runtime stands alone: no compiler, no Node module, no package', () => {
    const { files, outside } = reach('runtime.ts', () => true);
    expect(outside).toEqual([]);
    expect(files).toContain('backends/webgpu/session.ts');
    expect(files.filter((file) => /^(onnx|passes|ops|quantize|suite|measure|commands)\//.test(file))).toEqual([]);
  });

  const packages = (outside: readonly string[]): string[] => [...new Set(outside.map((line) => line.split(' → ')[1]!).filter((name) => !name.startsWith('node:')))].sort();

  it.each([
    // Every command starts with all of their declarations.
    { what: 'the command line', entry: 'commands/index.ts', loads: 'commands/run.ts', without: /^(onnx|ops|passes\/(?!names)|backends|suite|kit|measure|workflows\/(?!plugin-template))/, packages: ['@oclif/core', 'fastest-levenshtein'] },
    // One is started for each case and round, and what it holds counts as the engine's memory.
    { what: 'a measuring process', entry: 'measure/worker.ts', loads: 'backends/webgpu/session.ts', without: /^(onnx|ops|passes|quantize|commands|workflows|suite|results|kit)\/|\/(lower|kernels|tactics|wgsl)\//, packages: ['env-paths', 'fastest-levenshtein', 'tinybench'] },
    // Of the backends, a program loads those whose engines it opens, which start without the compiler as the measuring process does.
    { what: "a user's program", entry: 'node.ts', loads: 'engine/read.ts', without: /^(?!node\.ts|batcher\.ts|backends\/(inputs|loop)\.ts|errors\.ts|version\.ts|engine\/|ir\/(tensor|few-bits)\.ts)/, packages: [] },
  ])('$what starts without the compiler and without packages that it may not need', ({ entry, loads, without, packages: expected }) => {
    const { files, outside } = reach(entry, ({ dynamic }) => !dynamic);
    expect(files).toContain(loads);
    expect(files.filter((file) => without.test(file))).toEqual([]);
    expect(packages(outside)).toEqual(expected);
  });

  it('files stay within 450 lines', () => {
    const long = sourceFiles(src)
      .map((file) => ({ file: relative(src, file), lines: readFileSync(file, 'utf8').split('\n').length }))
      .filter(({ lines }) => lines > 450);
    expect(long).toEqual([]);
  });

  it('states the version that package.json states', async () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    const { TOOL_VERSION } = await import('../../src/version.ts');
    expect(TOOL_VERSION).toBe(manifest.version);
  });
});

describe('benchmarks and scripts', () => {
  const IMPORTED = /import\s+\{([^}]+)\}\s+from\s+['"]\.\.\/(?:\.\.\/)?dist\/src\/([^'"]+)\.js['"]|\{([^{}]+)\}\s+=\s+await\s+import\(['"]\.\.\/(?:\.\.\/)?dist\/src\/([^'"]+)\.js['"]\)/g;
  const files = ['bench', 'scripts'].flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.mjs')).map((file) => join(folder, file)));

  // They run by hand, on machines that are dear: not there should it show that a name is gone.
  it('import names that the built code has', () => {
    const missing: string[] = [];
    let found = 0;
    for (const file of files) {
      for (const [, names, path, awaited, dynamic] of readFileSync(join(root, file), 'utf8').matchAll(IMPORTED)) {
        const source = readFileSync(join(src, `${path ?? dynamic}.ts`), 'utf8');
        for (const name of (names ?? awaited)!.split(',').map((part) => part.trim().split(/\s+as\s+|\s*:\s*/)[0]!).filter(Boolean)) {
          found++;
          const isExported = new RegExp(`export\\s+(?:async\\s+)?(?:const|let|function\\*?|class)\\s+${name}\\b|export\\s+\\{[^}]*\\b${name}\\b`).test(source);
          if (!isExported) missing.push(`${file}: ${name} of ${path ?? dynamic}`);
        }
      }
    }
    expect(missing).toEqual([]);
    expect(found).toBeGreaterThan(80);
  });
});
