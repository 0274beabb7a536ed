/** What users install: the tarball holds what it should and nothing else, and its types resolve in a strict project. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modulesIn } from '../helpers/bundle.ts';
import { installPacked, type Packed } from '../helpers/packed.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));

/** A consumer as strict as they come: for Node alone, or with the DOM, where TypeScript has WebGPU's types. */
const tsconfig = (lib: readonly string[]) => ({
  compilerOptions: { module: 'nodenext', moduleResolution: 'nodenext', target: 'es2023', lib, strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, verbatimModuleSyntax: true, noEmit: true, declaration: true, skipLibCheck: false, types: ['node'] },
  include: ['consumer.ts'],
});

const CONSUMER = `
import { buildReport, constant, defineOp, definePlugin, either, formula, fromNumbers, moduleGraph, named, number, op as pattern, scalar, ShapeError, TsrtError, value, type Backend, type CustomOp, type Plugin, type Reporter, type Tensor } from 'tsrt-bench';
import { openEngine, type OpenOptions } from 'tsrt-bench/node';
import { deserializeEngine, loadEngine, openDevice, type Session, typedView } from 'tsrt-bench/runtime';

const op: CustomOp = defineOp({
  domain: 'd',
  name: 'Scale',
  dtypes: ['float32'],
  attributes: { by: { type: 'float', default: 1 }, how: { type: 'string', choices: ['up', 'down'], default: 'up' } },
  inputs: [{ name: 'x', dims: 'any' }],
  outputs: ['y'],
  infer({ attrs, inputs: [x] }) {
    const how: 'up' | 'down' = attrs.how;
    if (!x || how === 'down') throw new ShapeError('no');
    return [x];
  },
  reference: ({ attrs, inputs: [x] }) => [x!.values.map((value) => value * attrs.by)],
  expression: ({ attrs, inputs: [x] }) => formula.mul(x!, attrs.by),
});
// @ts-expect-error -- an attribute that the schema lacks
defineOp({ ...op, attributes: { by: { type: 'float' } }, reference: ({ attrs }) => [[attrs.nosuch]] });

const plugin: Plugin = definePlugin({ name: 'p', version: '1.0.0', ops: [op] });
const tensor: Tensor = fromNumbers('float32', [1], [1]);
export async function use(bytes: Uint8Array, adapter: Parameters<typeof openDevice>[0]): Promise<Session> {
  return loadEngine(await deserializeEngine(bytes), await openDevice(adapter));
}
export const opened = (options: OpenOptions): Promise<Session> => openEngine(new URL('./model.engine', import.meta.url), options);
export type Parts = [Backend, Reporter];
// What is inferred from the public API can be named in declarations.
export const patterns = { constant, either, named, number, pattern, scalar, value };
export const found = pattern('Mul', value('x'), constant('c'));
export const sum = formula.add;
export const report = { buildReport, moduleGraph };
export const codeOf = (error: TsrtError) => [error.code, error.exitStatus] as const;
export async function measured(session: Session) {
  const answer = await session.run({ x: tensor });
  const { tactics, passes, layers, options, memory } = session.header;
  const times = [await session.peaks?.(), await session.yardstick?.(), await session.profile?.({ x: tensor }), session.loadSteps, session.observeMemory()] as const;
  return { view: typedView(answer['y']!), dims: tensor.dims, device: session.device, tactics, passes, layers, options, memory, times };
}
export { plugin, tensor, TsrtError };
`;

describe('the package', () => {
  let packed: Packed;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-package-'));
    packed = await installPacked(folder);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('holds the built code, the suites, the plugins and the documents, and nothing else', () => {
    const known = [/^(package\.json|README\.md|CHANGELOG\.md|LICENSE|action\.yml|bin\/run\.js)$/, /^dist\/(bundle\/([\w-]+\.js|LICENSE-zod)|src\/[\w./-]+\.d\.ts|plugins\/[\w./-]+\.(js|d\.ts))$/, /^plugins\/\w+\/\w+\.py$/, /^docs\/[\w./-]+\.(md|json|onnx)$/, /^suites\/[\w-]+\/(suite\.(yaml|js|json)|(targets|batches)\.yaml)$/];
    expect(packed.files.filter((file) => !known.some((pattern) => pattern.test(file)))).toEqual([]);
    expect(packed.files.filter((file) => /\.test\.|\.map$|(^|\/)test\//.test(file))).toEqual([]);
    for (const wanted of ['dist/src/index.d.ts', 'dist/bundle/index.js', 'dist/bundle/node.js', 'dist/bundle/runtime.js', 'dist/bundle/kit-worker.js', 'dist/bundle/measure-worker.js', 'dist/bundle/serve-worker.js', 'dist/bundle/side-worker.js', 'dist/bundle/verify-worker.js', 'dist/bundle/typescript-hooks.js', 'dist/plugins/rotary/index.js', 'plugins/pytorch/driver.py', 'docs/plugins/wave.onnx', 'bin/run.js']) {
      expect(packed.files).toContain(wanted);
    }
  });

  it('names every package that its code imports as a dependency', async () => {
    const manifest = JSON.parse(await readFile(join(packed.folder, 'package.json'), 'utf8')) as { dependencies: Record<string, string>; name: string };
    const foreign = new Set<string>();
    for (const file of packed.files.filter((name) => name.endsWith('.js'))) {
      const text = await readFile(join(packed.folder, file), 'utf8');
      for (const [, specifier] of text.matchAll(/^(?:import|export)\b(?:[^'"\n]*\bfrom)?\s*['"]([@\w][\w@/.:-]*)['"];?$/gm)) {
        const [scope, name] = specifier!.split('/');
        const module = specifier!.startsWith('@') ? `${scope}/${name}` : scope!;
        if (!module.startsWith('node:') && module !== manifest.name && !(module in manifest.dependencies)) foreign.add(`${module} in ${file}`);
      }
    }
    expect([...foreign]).toEqual([]);
  });

  it.each([
    { entry: 'measure-worker', packages: ['env-paths', 'fastest-levenshtein', 'tinybench'] },
    { entry: 'commands', packages: ['@oclif/core', 'fastest-levenshtein'] },
    { entry: 'node', packages: [] },
  ])('starts $entry from few files, and from no package that its sources do without', async ({ entry, packages }) => {
    const files = new Set<string>();
    const found = new Set<string>();
    const modules = new Set<string>();
    const visit = async (file: string): Promise<void> => {
      if (files.has(file)) return;
      files.add(file);
      const text = await readFile(join(packed.folder, 'dist/bundle', file), 'utf8');
      for (const module of modulesIn(text)) modules.add(module);
      // In double quotes, as the bundler writes them: single ones are in the text of plugins to be written.
      for (const [, specifier] of text.matchAll(/^(?:import|export)\b(?:[^'"\n]*\bfrom)? ?"([^"]+)";$/gm)) {
        if (specifier!.startsWith('./')) await visit(specifier!.slice(2));
        else if (!specifier!.startsWith('node:')) found.add(specifier!);
      }
    };
    await visit(`${entry}.js`);
    expect([...found].sort()).toEqual(packages);
    expect(files.size).toBeLessThan(40);
    // zod lies in the bundle, for those that read what users wrote; the compiler, for those that compile.
    expect([...modules].filter((module) => /^node_modules\/|^dist\/src\/(onnx|ops|backends\/webgpu\/lower)\//.test(module))).toEqual([]);
  });

  it.each<[string, readonly string[], string]>([
    ['for Node alone', ['es2023'], CONSUMER],
    ['with the DOM', ['es2023', 'dom'], `${CONSUMER}export const open = async (gpu: GPU) => openDevice(await gpu.requestAdapter());\nexport const read = async (response: Response) => deserializeEngine(response.body ?? (await response.blob()));\n`],
  ])('has types that resolve under strict and nodenext, %s', async (_, lib, consumer) => {
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(tsconfig(lib)));
    await writeFile(join(folder, 'consumer.ts'), consumer);
    const { stdout } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]).catch((error: { stdout: string }) => error);
    // With skipLibCheck off: onnx-proto's declarations are broken (they name a Long that they do not import), so that no type of ours may lead there.
    expect(stdout).toBe('');
  });
});
