/** The shape of the house: imports point one way, files stay small, the runtime stands alone. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const src = join(root, 'src');

/** Low to high. A file may import from its own layer and from lower ones. */
const LAYERS: readonly (readonly string[])[] = [
  ['errors.ts', 'nearest.ts', 'version.ts', 'load-module.ts'],
  ['stats'],
  ['ir'],
  ['ops'],
  ['onnx'],
  ['passes'],
  ['quantize'],
  ['engine'],
  ['backends'],
  ['runtime.ts'],
  ['plugin.ts', 'plugin-guard.ts', 'plugin-schema.ts', 'plugin-source.ts', 'plugin-typescript.ts', 'typescript-hooks.ts', 'registry.ts', 'config.ts'],
  ['suite'],
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

function importsOf(file: string): { readonly specifier: string; readonly typeOnly: boolean }[] {
  const text = readFileSync(file, 'utf8');
  return [
    ...[...text.matchAll(IMPORT)].map((match) => ({ specifier: match[4] ?? '', typeOnly: match[2] !== undefined })),
    ...[...text.matchAll(DYNAMIC)].map((match) => ({ specifier: match[1] ?? '', typeOnly: false })),
  ];
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
    const seen = new Set<string>();
    const outside: string[] = [];
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const { specifier, typeOnly } of importsOf(file)) {
        if (typeOnly) continue;
        if (specifier.startsWith('.')) visit(resolve(dirname(file), specifier));
        else outside.push(`${relative(src, file)} → ${specifier}`);
      }
    };
    visit(join(src, 'runtime.ts'));
    const files = [...seen].map((file) => relative(src, file));
    expect(outside).toEqual([]);
    expect(files).toContain('backends/webgpu/session.ts');
    expect(files.filter((file) => /^(onnx|passes|ops|quantize|suite|measure|commands)\//.test(file))).toEqual([]);
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
