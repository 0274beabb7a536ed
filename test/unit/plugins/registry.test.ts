/** Plugins loaded: order, names, conflicts, unknown keys, hashes, and errors that say whose code raised them. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { nullBackend } from '../../../src/backends/null/null.ts';
import { TsrtError } from '../../../src/errors.ts';
import { defineOp, definePlugin, type Plugin } from '../../../src/plugin.ts';
import { importFix, syntaxPlace } from '../../../src/plugin-typescript.ts';
import { filesOf, hashPlugin } from '../../../src/plugin-source.ts';
import { createRegistry, loadRegistry } from '../../../src/registry.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

const builtIn: Plugin = { name: 'tsrt-bench', version: '0', backends: [nullBackend] };

const op = (name: string, opset?: readonly [number, number]) =>
  defineOp({
    domain: 'd',
    name,
    dtypes: ['float32'],
    attributes: {},
    inputs: [{ name: 'x', dims: 'any' }],
    outputs: ['y'],
    infer: ({ inputs: [x] }) => [x!],
    reference: ({ inputs: [x] }) => [x!.values],
    ...(opset && { opset }),
  });

const loaded = (...plugins: readonly Plugin[]) => plugins.map((plugin) => ({ plugin, source: `/${plugin.name}.js`, sha256: 'aa' }));
const joined = (...plugins: readonly Plugin[]) => createRegistry([{ plugin: builtIn, source: 'built-in' }, ...loaded(...plugins)]);

async function thrown(work: () => unknown): Promise<TsrtError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof TsrtError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a registry', () => {
  it('keeps the order and says whose each part is', () => {
    const registry = joined(definePlugin({ name: 'b', version: '1.0.0', ops: [op('Two'), op('One')] }), definePlugin({ name: 'a', version: '2.0.0', ops: [op('Three')] }));
    expect(registry.ops.map(({ op: { name }, plugin }) => `${name} of ${plugin.name} ${plugin.version} ${plugin.sha256}`)).toEqual(['Two of b 1.0.0 aa', 'One of b 1.0.0 aa', 'Three of a 2.0.0 aa']);
    expect(registry.stamps.map(({ name }) => name)).toEqual(['b', 'a']);
  });

  it.each<[string, readonly Plugin[], RegExp, string]>([
    ['two plugins of a name', [{ name: 'a', version: '1' }, { name: 'a', version: '2' }], /two plugins are called 'a'/, 'a'],
    ['one op in two plugins', [{ name: 'a', version: '1', ops: [op('One')] }, { name: 'b', version: '1', ops: [op('One')] }], /two plugins give the op 'd.One': a and b/, 'b'],
    ['opsets that overlap', [{ name: 'a', version: '1', ops: [op('One', [1, 4])] }, { name: 'b', version: '1', ops: [op('One', [4, 9])] }], /for the same opsets: a and b/, 'b'],
    ["a backend's name taken", [{ name: 'a', version: '1', backends: [nullBackend] }], /two plugins give the backend 'null': tsrt-bench and a/, 'a'],
    ['a suite that is no folder', [{ name: 'a', version: '1', suites: ['./nowhere'] }], /a suite of the plugin is not a folder/, 'a'],
  ])('refuses %s', async (_, plugins, message, owner) => {
    const error = await thrown(() => joined(...plugins));
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: 'PLUGIN_INVALID', plugin: owner });
  });

  it('takes one op for two ranges of opsets', () => {
    expect(joined({ name: 'a', version: '1', ops: [op('One', [1, 3]), op('One', [4, 9])] }).ops).toHaveLength(2);
  });

  it('puts the plugin’s name on what its code throws, frozen or not, at once or later', async () => {
    const reporter = Object.freeze({ name: 'r', description: '', fileExtension: 'txt', render: () => ((undefined as unknown as { x: string }).x) });
    const backend = { ...nullBackend, name: 'mine', probe: () => Promise.reject(new Error('no driver')) };
    const registry = joined({ name: 'p', version: '1', reporters: [reporter], backends: [backend] });
    expect(await thrown(() => registry.reporter('r').render({} as never))).toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'p', message: expect.stringMatching(/^report format r.render threw: Cannot read/) as string });
    expect(await thrown(() => registry.backend('mine').probe())).toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'p', message: 'backend mine.probe threw: no driver' });
    const batches = async function* () { yield* []; throw new Error('disk on fire'); };
    const read = joined({ name: 'q', version: '1', datasets: [{ name: 'd', description: '', open: async () => ({ description: '', sha256: undefined, size: 0, labelled: 0, notices: [], skipped: [], batches }) }] });
    const rows = await read.dataset('d').open!({} as never);
    expect(await thrown(async () => { for await (const row of rows.batches()) expect(row).toBeUndefined(); })).toMatchObject({ code: 'PLUGIN_FAILED', plugin: 'q', message: expect.stringMatching(/disk on fire/) as string });
    expect(await registry.backend('null').probe()).toMatchObject({ status: 'available' });
  });
});

describe('loading', () => {
  const plugin = (body: string) => `export default { name: 'p', version: '1.0.0', ${body} };`;

  async function place(files: Readonly<Record<string, string>>): Promise<string> {
    const folder = await temporaryFolder();
    for (const [file, text] of Object.entries(files)) {
      await mkdir(join(folder, file, '..'), { recursive: true });
      await writeFile(join(folder, file), text);
    }
    return folder;
  }

  const load = (cwd: string, ...plugins: readonly string[]) => loadRegistry({ builtIn, plugins, cwd });

  it('finds a file, a folder, a name in ./plugins and a package, each once', async () => {
    const cwd = await place({
      'plugins/one/index.js': "export default { name: 'one', version: '1' };",
      'two.mjs': "export default { name: 'two', version: '1' };",
      'node_modules/three/package.json': '{ "name": "three", "type": "module", "exports": "./main.js" }',
      'node_modules/three/main.js': "export default { name: 'three', version: '1' };",
      'node_modules/@acme/five/package.json': '{ "name": "@acme/five", "type": "module", "exports": { ".": { "types": "./main.d.ts", "import": "./main.js" } } }',
      'node_modules/@acme/five/main.js': "export default { name: 'five', version: '1' };",
      'four/package.json': '{ "type": "module", "exports": { ".": { "import": "./lib.js" } } }',
      'four/lib.js': "export default { name: 'four', version: '1' };",
    });
    const registry = await load(cwd, 'three', 'one', './two.mjs', './plugins/one', 'four', '@acme/five');
    expect(registry.stamps.map(({ name }) => name)).toEqual(['three', 'one', 'two', 'four', 'five']);
  });

  it('finds those that ship with the package by their name, and only where they are named', async () => {
    const cwd = await temporaryFolder();
    expect((await load(cwd)).stamps).toEqual([]);
    expect((await load(cwd, 'snake')).stamps.map(({ name }) => name)).toEqual(['snake']);
  });

  it('names the unknown key, with its place and the nearest known one', async () => {
    const cwd = await place({
      'a.mjs': plugin('reporter: []'),
      'b.mjs': plugin("ops: [{ domain: 'd', name: 'X', dtypes: ['float32'], attributes: {}, inputs: [], outputs: ['y'], infer() {}, reference() {}, kernel: [] }]"),
      'c.mjs': plugin("ops: [{ domain: 'd', name: 'X', dtypes: ['float33'], attributes: { a: { type: 'int', maximum: 3 } }, inputs: [], outputs: [], infer() {} }]"),
    });
    expect(await thrown(() => load(cwd, './a.mjs'))).toMatchObject({ code: 'PLUGIN_INVALID', plugin: 'p', details: ["reporter: unknown key; did you mean 'reporters'?"] });
    expect(await thrown(() => load(cwd, './b.mjs'))).toMatchObject({ details: ["ops.0.kernel: unknown key; did you mean 'kernels'?"] });
    const { details } = await thrown(() => load(cwd, './c.mjs'));
    for (const part of ['ops.0.dtypes.0', 'ops.0.attributes.a.maximum', 'ops.0.outputs', 'ops.0.reference']) expect(details.join('\n')).toContain(part);
  });

  it('says what is wrong with a module that throws, is none, or is not there', async () => {
    const cwd = await place({ 'throws.mjs': "throw new Error('no licence');", 'none.mjs': 'export const x = 1;' });
    expect(await thrown(() => load(cwd, './throws.mjs'))).toMatchObject({ message: expect.stringMatching(/no licence/) as string, place: expect.stringMatching(/throws\.mjs:1:7/) as string });
    expect((await thrown(() => load(cwd, './none.mjs'))).message).toMatch(/does not export a plugin/);
    expect(await thrown(() => load(cwd, 'nosuch-plugin'))).toMatchObject({ code: 'PLUGIN_INVALID', fix: expect.stringMatching(/plugin new nosuch-plugin/) as string });
  });

  it('hashes a module with what it imports by relative paths', async () => {
    const cwd = await place({ 'index.js': "import { x } from './lib/x.js';\nexport default x;", 'lib/x.js': 'export const x = 1;', 'other.js': '' });
    const before = hashPlugin(join(cwd, 'index.js'));
    await writeFile(join(cwd, 'other.js'), 'changed');
    expect(hashPlugin(join(cwd, 'index.js'))).toBe(before);
    await writeFile(join(cwd, 'lib/x.js'), 'export const x = 2;');
    expect(hashPlugin(join(cwd, 'index.js'))).not.toBe(before);
    await rm(cwd, { recursive: true });
  });

  it('hashes what CommonJS requires, with and without an extension, and programs named beside a module', async () => {
    const cwd = await place({ 'index.cjs': "const { x } = require('./lib');\nmodule.exports = x;", 'lib.js': "require('./deep/index.json');", 'deep/index.json': '1', 'index.mjs': "new URL('./engine.py', import.meta.url); import.meta.resolve('./part.mjs');", 'engine.py': '', 'part.mjs': '' });
    expect(filesOf(join(cwd, 'index.cjs')).map((file) => file.slice(cwd.length + 1))).toEqual(['deep/index.json', 'index.cjs', 'lib.js']);
    expect(filesOf(join(cwd, 'index.mjs')).map((file) => file.slice(cwd.length + 1))).toEqual(['engine.py', 'index.mjs', 'part.mjs']);
  });

  it('leads what a module prints away from standard output, and says of CommonJS in what way it is', async () => {
    const cwd = await place({ 'prints.mjs': `process.stdout.write('from the module');\n${plugin('')}`, 'package.json': '{ "type": "commonjs" }', 'index.js': plugin('') });
    const printed: string[] = [];
    const { write } = process.stdout;
    process.stdout.write = ((text: string) => printed.push(text) > 0) as typeof write;
    try {
      await load(cwd, './prints.mjs');
    } finally {
      process.stdout.write = write;
    }
    expect(printed).toEqual([]);
    expect(importFix(new SyntaxError("Unexpected token 'export'"), join(cwd, 'index.js'))).toMatch(/npm pkg set type=module.*name the file index\.mjs/);
  });

  it('names keys that parts lack, operands that collide, and patterns and sizes that lead nowhere', async () => {
    const one = (part: string): string => plugin(`ops: [{ domain: 'd', name: 'X', dtypes: ['float32'], attributes: {}, inputs: [{ name: 'x', dims: ['n'] }], outputs: ['y'], infer() {}, reference() {}, ${part} }]`);
    const cases: readonly (readonly [string, string])[] = [
      [plugin("reporters: [{ name: 'r', description: '', fileExtension: 'txt', render() {}, rendr() {} }]"), "reporters.0.rendr: unknown key; did you mean 'render'?"],
      [one("domain: '', name: 'Relu'"), "ops.0.name: Relu is a standard op, which a plugin can't replace"],
      [one("domain: 'ai.onnx'"), "ops.0.domain: ONNX's own domain is written ''"],
      [one("outputs: ['x']"), "ops.0.outputs.0: a second operand is called 'x'"],
      [one('sizes: { m: [1, 2] }'), 'ops.0.sizes.m: no input has a dimension of this name'],
      [one("kernels: [{ dtypes: ['float16'], emit() {} }]"), 'ops.0.kernels.0.dtypes: the op does not take float16'],
      [one("int8: { output: 'own', inputs: [1] }"), 'ops.0.int8.inputs: there is no input 1'],
      [one("patterns: [{ name: 'p', match: { kind: 'op', op: 'Sigmiod', inputs: [{ kind: 'value', name: 'x' }] }, inputs: ['z'] }]"), "'Sigmiod' is not an op of the graph; did you mean 'Sigmoid'?"],
    ];
    for (const [index, [text, wanted]] of cases.entries()) {
      const cwd = await place({ [`${index}.mjs`]: text });
      expect((await thrown(() => load(cwd, `./${index}.mjs`))).details.join('\n')).toContain(wanted);
    }
  });

  it('says in which line of which file a mistake of syntax is, and what a default out of its own range is', async () => {
    const cwd = await place({ 'index.js': "import './part.js';\nexport default {};", 'part.js': 'export const x = 1;\nexport const y = [1;\n', 'range.mjs': plugin("ops: [{ domain: 'd', name: 'X', dtypes: ['float32'], attributes: { a: { type: 'int', max: 3, default: 4 } }, inputs: [], outputs: ['y'], infer() {}, reference() {} }]") });
    expect((await thrown(() => load(cwd, './range.mjs'))).details).toEqual(['ops.0.attributes.a.default: the schema asks for a whole number up to 3, found 4']);
    expect(await syntaxPlace(new SyntaxError('Unexpected token'), filesOf(join(cwd, 'index.js')))).toBe(`${join(cwd, 'part.js')}:2`);
  });

  it('reads TypeScript where Node does', async () => {
    const folder = fileURLToPath(new URL('../../../plugins/rotary', import.meta.url));
    expect((await load(folder, './index.ts')).stamps[0]?.name).toBe('rotary');
  });
});
