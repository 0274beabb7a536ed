/** Plugins from the command line: TypeScript on this Node, engines that need plugins, suites of plugins, the suites of the shipped ops. */
import { copyFile, mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { noDevice } from '../helpers/swiftshader.ts';
import { type Workplace, workplace } from './cli.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

const WAVE = `
import { defineOp, definePlugin, formula as f, type CustomOp } from 'tsrt-bench';
import { wave as reference } from './formula.ts';

const wave: CustomOp = defineOp({
  domain: 'com.acme',
  name: 'Wave',
  dtypes: ['float32'],
  attributes: { gain: { type: 'float', default: 0.5, min: 0, max: 4 } },
  inputs: [{ name: 'x', dims: 'any' }],
  outputs: ['y'],
  infer: ({ inputs: [x] }) => [x!],
  reference: ({ attrs, inputs: [x] }) => [reference(x!, attrs)],
  expression: ({ attrs, inputs: [x] }) => f.add(x!, f.mul(f.sin(x!), attrs.gain)),
  tolerance: { float32: { absolute: 4 * 2 ** -11 } },
});

export default definePlugin({ name: 'wave', version: '0.1.0', ops: [wave] });
`;

const FORMULA = `
import type { ReferenceTensor } from 'tsrt-bench';
export interface Gain { readonly gain: number }
export const wave = (x: ReferenceTensor, { gain }: Gain): Float64Array => x.values.map((v: number) => v + gain * Math.sin(v));
`;

/** A folder with the tool where plugins find it, the model of the tutorial, and a plugin in two files of TypeScript. */
async function withWave(): Promise<Workplace> {
  const place = await workplace();
  await mkdir(join(place.folder, 'node_modules'));
  await symlink(root, join(place.folder, 'node_modules/tsrt-bench'), 'dir');
  await copyFile(join(root, 'docs/plugins/wave.onnx'), join(place.folder, 'wave.onnx'));
  await place.write('wave/index.ts', WAVE);
  await place.write('wave/formula.ts', FORMULA);
  return place;
}

/** The backend of docs/plugins.md, as it stands there. */
async function addPlain(place: Workplace): Promise<void> {
  const text = await readFile(join(root, 'docs/plugins.md'), 'utf8');
  for (const [, file, code] of text.matchAll(/^```ts file=(plain\/\S+)\n(.*?)^```$/gms)) await place.write(file!, code!);
}

const SUITE = `
name: wave
description: a model with an op of a plugin
model: { name: wave, file: ./wave.onnx }
inputs: [{ kind: synthetic, values: { distribution: normal } }]
task: { kind: raw }
variants: [{ backend: onnxruntime }, { backend: plain }]
measure: { rounds: 2, timeMs: 20 }
accuracy: { samples: 2, minSnrDb: 60 }
`;

describe('a plugin in TypeScript', () => {
  it('passes the kit, and its op and backend run in workers', async () => {
    const place = await withWave();
    await addPlain(place);
    await place.write('suite.yaml', SUITE);
    expect(await place.runApart('plugin', 'test', './wave', '--effort', '0.1')).toMatchObject({ status: 0, stdout: expect.stringMatching(/onnxruntime +passed/) as string });
    const { status, stdout } = await place.run('run', './suite.yaml', '--plugin', './wave', '--plugin', './plain');
    expect(status).toBe(0);
    expect(stdout.match(/^(onnxruntime|plain)\/fp32\S+ +1 +[\d.]+ /gm)).toHaveLength(2);
    expect(await place.run('verify', 'wave.onnx', '--backend', 'plain', '--plugin', './wave', '--plugin', './plain')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^1 passed/) as string });
  });

  it('says what can’t be left out, and where', async () => {
    const place = await withWave();
    const refused = async (file: string, text: string) => {
      await place.write('wave/index.ts', WAVE);
      await place.write('wave/formula.ts', FORMULA);
      await place.write(file, text);
      const { status, stderr } = await place.runApart('plugins', '--plugin', './wave');
      expect(status).toBe(2);
      return stderr;
    };
    expect(await refused('wave/formula.ts', `${FORMULA}enum Kind { A }\n`)).toMatch(/enum is not supported in strip-only mode[\s\S]*--erasableSyntaxOnly/);
    expect(await refused('wave/index.ts', WAVE.replace('type CustomOp', 'CustomOp'))).toMatch(/does not provide an export named 'CustomOp'[\s\S]*import type \{ CustomOp \}/);
    expect(await refused('wave/index.ts', WAVE.replace('./formula.ts', './formula'))).toMatch(/Cannot find module[\s\S]*with their extension/);
    expect(await refused('wave/index.ts', WAVE.replace("from 'tsrt-bench'", "from 'tsrt-bench-elsewhere'"))).toMatch(/Cannot find package 'tsrt-bench-elsewhere'/);
  });

  it('names the line of its own file where its code throws', async () => {
    const place = await withWave();
    await place.write('wave/formula.ts', FORMULA.replace('x.values.map', '(x as any).nosuch.map'));
    const { status, stdout } = await place.run('plugin', 'test', './wave', '--effort', '0.1');
    expect(status).toBe(1);
    expect(stdout).toMatch(/FAILED .*\breference\b.*: .*threw: .*wave\/formula\.ts:4:/);
  });
});

describe('a plugin whose parts are no good company', () => {
  it('one that ends the process fails, and so does the command', async () => {
    const place = await workplace();
    await place.write('p/index.mjs', "export default { name: 'p', version: '1.0.0', reporters: [{ name: 'quits', description: '', fileExtension: 'txt', render: () => process.exit(0) }] };");
    expect(await place.runApart('plugin', 'test', './p')).toMatchObject({ status: 1, stdout: expect.stringMatching(/^FAILED reporter quits: the process died \(exit 0\)$/m) as string });
  });

  it('a signal ends the check of one that never comes to an end', async () => {
    const place = await workplace();
    await place.write('p/index.mjs', "console.error('loaded'); export default { name: 'p', version: '1.0.0', calibrators: [{ name: 'loops', description: '', range() { for (;;); } }] };");
    const { status, stdout, stderr } = await place.start(['plugin', 'test', './p', '--timeout', '10m'], (text, kill) => {
      if (text.includes('loaded')) setTimeout(() => kill('SIGTERM'), 1000);
    });
    expect({ status, stdout }).toEqual({ status: 130, stdout: '' });
    expect(stderr).toMatch(/interrupted before the end/);
  });
});

describe('an engine that needs a plugin', () => {
  it('is refused before anything runs, with the flag that is missing; changed code asks for a rebuild', async () => {
    const place = await withWave();
    await place.write('suite.yaml', SUITE);
    expect((await place.run('build', 'wave.onnx', '--plugin', './wave', '--output', 'w.engine')).status).toBe(0);
    for (const words of [['run', './suite.yaml', '--engine', 'w.engine'], ['verify', 'w.engine', '--against', 'wave.onnx']]) {
      const { status, stderr } = await place.run(...words);
      expect(status).toBe(2);
      expect(stderr).toMatch(/w\.engine needs a plugin that is not loaded: wave[\s\S]*--plugin wave/);
    }
    await place.write('wave/formula.ts', `${FORMULA}// changed\n`);
    const changed = await place.runApart('verify', 'w.engine', '--against', 'wave.onnx', '--plugin', './wave');
    expect(changed).toMatchObject({ status: 2, stderr: expect.stringMatching(/its code has changed since the engine was built[\s\S]*--rebuild/) as string });
  });
});

describe('a suite of a plugin', () => {
  it('is found by run, report, baseline and gate', async () => {
    const place = await workplace();
    await place.write('p/index.mjs', "export default { name: 'p', version: '1.0.0', suites: ['./suites/tiny'] };");
    await place.write('p/suites/tiny/suite.yaml', SUITE.replace('name: wave', 'name: tiny').replace('file: ./wave.onnx', 'builder: { name: smoke }').replace('[{ backend: onnxruntime }, { backend: plain }]', "[{ backend: 'null' }]").replace('rounds: 2', 'rounds: 3').replace(', minSnrDb: 60', ''));
    expect((await place.run('run', 'tiny', '--plugin', './p')).status).toBe(0);
    expect((await place.run('baseline', 'save', 'main')).status).toBe(0);
    expect((await place.run('report', '--suite', 'tiny', '--plugin', './p')).stdout).toMatch(/suite tiny/);
    const gate = await place.run('gate', 'tiny', '--plugin', './p');
    expect(gate.stderr).toBe('');
    expect(gate.stdout).not.toMatch(/can't be found here/);
    expect(await place.run('gate', 'tiny')).toMatchObject({ status: 2, stderr: expect.stringMatching(/no suite 'tiny'[\s\S]*--plugin PATH/) as string });
  });
});

describe('the suites of the shipped ops', () => {
  const SHORT = ['--batch', '1', '--rounds', '2', '--time', '20ms'] as const;

  it.each([['rotary-attention', 'rotary'], ['deform-conv', 'deform-conv'], ['snake-vocoder', 'snake']])('%s runs on onnxruntime, right by the op’s reference', async (suite, plugin) => {
    const place = await workplace();
    const { status, stdout } = await place.run('run', `suites/${suite}`, '--plugin', plugin, '--backend', 'onnxruntime', ...SHORT);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^onnxruntime\/fp32\S+ +1 +[\d.]+ /m);
  });

  it.skipIf(noDevice)('deform-conv runs on webgpu, by the plugin’s kernel (skipped without SwiftShader)', async () => {
    const place = await workplace();
    const { status, stdout } = await place.runApart('run', 'suites/deform-conv', '--plugin', 'deform-conv', '--backend', 'webgpu', '--device', 'swiftshader', ...SHORT);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^webgpu\/fp32\S+ +1 +[\d.]+ /m);
  });

  it('without the plugin says which op is missing', async () => {
    const place = await workplace();
    const { stdout } = await place.run('run', 'suites/rotary-attention', '--backend', 'onnxruntime', ...SHORT);
    expect(stdout).toMatch(/tsrt:Rotary[\s\S]*--plugin PATH/);
  });
});
