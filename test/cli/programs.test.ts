/** The programs of README.md and docs/runtime.md as they stand, in a folder with the packed tarball installed: in Node on both backends, in a browser with a bundler and without. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { elementCount, fromNumbers, toNumbers, type Dims } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { modulesIn } from '../helpers/bundle.ts';
import { browser, openPage, serve } from '../helpers/browser.ts';
import { groupFolder, temporaryFolder } from '../helpers/folder.ts';
import { type Fence, fencesOf } from '../helpers/fences.ts';
import { runModel } from '../helpers/ort.ts';
import { installPacked } from '../helpers/packed.ts';
import { noDevice } from '../helpers/swiftshader.ts';
import { noise } from '../device/helpers.ts';
import { ints, modelBytes, node, value } from '../unit/onnx/models.ts';
import { workplace, type Workplace } from './cli.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const documents = await Promise.all(['README.md', 'docs/runtime.md'].map((file) => readFile(join(root, file), 'utf8')));
const fences = documents.flatMap(fencesOf);

function fenceOf(file: string): Fence {
  const found = fences.find((fence) => fence.file === file);
  if (!found) throw new Error(`no document has the file ${file}`);
  return found;
}

const IMAGE: Dims = [1, 3, 224, 224];

/** In place of ResNet-50, with its input: a convolution over large strides, a mean, a product. */
function classifier(): Uint8Array {
  const graph = newGraphBuilder('classifier');
  graph.input('input', { dtype: 'float32', dims: IMAGE });
  const weights = (dims: Dims, seed: number): string => graph.constant(fromNumbers('float32', dims, noise(elementCount(dims), seed)));
  const conv = graph.node('Conv', ['input', weights([8, 3, 16, 16], 1), weights([8], 2)], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [16, 16], pads: [0, 0, 0, 0], strides: [16, 16] });
  const mean = graph.node('Flatten', [graph.node('GlobalAveragePool', [graph.node('Relu', [conv], {})], {})], { axis: 1 });
  return exportGraph(graph.finish([graph.node('Gemm', [mean, weights([8, 10], 3), weights([10], 4)], { alpha: 1, beta: 1, transA: 0, transB: 0 }, { outputs: ['scores'] })]));
}

/** The mean of each colour of a picture that comes as bytes. */
function colours(): Uint8Array {
  const graph = newGraphBuilder('colours');
  graph.input('photo', { dtype: 'uint8', dims: [1, 224, 224, 3] });
  const planes = graph.node('Transpose', [graph.node('Cast', ['photo'], { to: 'float32', saturate: 1 })], { perm: [0, 3, 1, 2] });
  return exportGraph(graph.finish([graph.node('Flatten', [graph.node('GlobalAveragePool', [planes], {})], { axis: 1 }, { outputs: ['means'] })]));
}

const VOCABULARY = 64;

/** One layer as onnxruntime-genai's builder writes it: heads of 16, two of queries and one of keys and values, products with weights of 4 bits. */
function decoder(): Uint8Array {
  const domain = 'com.microsoft';
  const packed = (name: string, columns: number) => ({
    [`${name}.weight`]: fromNumbers('uint8', [columns, 1, 16], Array.from({ length: columns * 16 }, (_, i) => (i * 151 + columns) % 256)),
    [`${name}.scales`]: fromNumbers('float32', [columns], noise(columns, columns).map((value) => 0.05 + 0.02 * value)),
  });
  const product = (name: string, data: string, output: string, N: number) => node('MatMulNBits', [data, `${name}.weight`, `${name}.scales`], [output], { K: 32, N, bits: 4, block_size: 32 }, { domain });
  const angles = (turn: (angle: number) => number) => fromNumbers('float32', [64, 8], Array.from({ length: 512 }, (_, i) => turn(Math.floor(i / 8) * 100 ** (-(i % 8) / 8))));
  const cache = (name: string, length: string) => ['key', 'value'].map((part) => value(`${name}.0.${part}`, 'float32', ['batch_size', 1, length, 16]));
  return modelBytes({
    opset: 17, domains: { [domain]: 1 },
    inputs: [value('input_ids', 'int64', ['batch_size', 'sequence_length']), value('attention_mask', 'int64', ['batch_size', 'total_sequence_length']), ...cache('past_key_values', 'past_sequence_length')],
    outputs: [value('logits', 'float32', ['batch_size', 'sequence_length', VOCABULARY]), ...cache('present', 'total_sequence_length')],
    initializers: {
      table: fromNumbers('float32', [VOCABULARY, 32], noise(VOCABULARY * 32, 7)), gain: fromNumbers('float32', [32], new Float32Array(32).fill(1)), one: ints([1]), last: fromNumbers('int64', [], [1]),
      cos: angles(Math.cos), sin: angles(Math.sin), ...packed('qkv', 64), ...packed('out', 32), ...packed('head', VOCABULARY),
    },
    nodes: [
      node('ReduceSum', ['attention_mask', 'one'], ['sum']), node('Sub', ['sum', 'one'], ['before']), node('Cast', ['before'], ['seqlens_k'], { to: 6 }),
      node('Shape', ['attention_mask'], ['sizes']), node('Gather', ['sizes', 'last'], ['length']), node('Cast', ['length'], ['total'], { to: 6 }),
      node('Gather', ['table', 'input_ids'], ['tokens']), node('SimplifiedLayerNormalization', ['tokens', 'gain'], ['normed'], { axis: -1 }),
      product('qkv', 'normed', 'rows', 64),
      node('GroupQueryAttention', ['rows', '', '', 'past_key_values.0.key', 'past_key_values.0.value', 'seqlens_k', 'total', 'cos', 'sin'], ['attended', 'present.0.key', 'present.0.value'], { num_heads: 2, kv_num_heads: 1, do_rotary: 1 }, { domain }),
      product('out', 'attended', 'projected', 32), node('SkipSimplifiedLayerNormalization', ['tokens', 'projected', 'gain'], ['hidden'], {}, { domain }),
      product('head', 'hidden', 'logits', VOCABULARY),
    ],
  });
}

/** What onnxruntime goes on with, a whole request for each token. */
async function continued(prompt: readonly number[], length: number): Promise<readonly number[]> {
  const tokens = [...prompt];
  while (tokens.length < length) {
    const row = (numbers: readonly number[]) => fromNumbers('int64', [1, tokens.length], numbers);
    const empty = fromNumbers('float32', [1, 1, 0, 16], []);
    const request = { input_ids: row(tokens), attention_mask: row(tokens.map(() => 1)), 'past_key_values.0.key': empty, 'past_key_values.0.value': empty };
    const scores = toNumbers((await runModel(decoder(), new Map(Object.entries(request)))).get('logits')!).slice(-VOCABULARY);
    tokens.push(classOf(scores));
  }
  return tokens.slice(prompt.length);
}

/** What onnxruntime gives for a picture of one value. */
async function scoresOf(value: number): Promise<number[]> {
  const picture = fromNumbers('float32', IMAGE, new Float32Array(elementCount(IMAGE)).fill(value));
  return toNumbers((await runModel(classifier(), new Map([['input', picture]]))).get('scores')!);
}

const classOf = (scores: readonly number[]): number => scores.indexOf(Math.max(...scores));

/** The numbers that a program printed as an array. */
const numbersIn = (text: string): number[] => [...text.matchAll(/-?\d+(?:\.\d+)?(?:e-?\d+)?/g)].map(([digits]) => Number(digits));

/** The largest difference; of lists of other lengths, what no bound allows. */
function distance(found: readonly number[], expected: readonly number[]): number {
  return found.length === expected.length ? Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) : Number.POSITIVE_INFINITY;
}

const makeFolder = groupFolder();
let place: Workplace;
beforeAll(async () => {
  place = await workplace('node_modules/tsrt-bench/bin/run.js', await makeFolder());
  await installPacked(place.folder);
  for (const { file, text } of fences) if (file !== undefined) await place.write(file, text);
  await place.write('resnet50.onnx', classifier());
  await place.write('photo.onnx', colours());
  const picture = sharp({ create: { width: 300, height: 260, channels: 3, background: { r: 10, g: 200, b: 60 } } });
  await place.write('photo.jpg', await picture.jpeg({ quality: 100 }).toBuffer());
});

async function command(...words: string[]): Promise<void> {
  const { status, stderr } = await place.run(...words);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

/** A document's command that begins so, with more words at its end. */
async function build(beginning: string, ...more: string[]): Promise<void> {
  const wanted = fences.find(({ language, text }) => language === 'sh' && text.startsWith(beginning));
  if (!wanted) throw new Error(`no document has the command ${beginning}`);
  const [, , ...words] = wanted.text.replace(/#.*/, '').trim().split(/\s+/);
  await command(...words, ...more);
}

const execute = promisify(execFile);

describe.each([
  { backend: 'onnxruntime', flags: [], env: {}, loads: ['onnxruntime-common', 'onnxruntime-node'] },
  { backend: 'webgpu', flags: ['--backend', 'webgpu', '--device', 'swiftshader'], env: { TSRT_BENCH_SWIFTSHADER: '1' }, loads: ['webgpu'] },
])('in Node on $backend (webgpu: skipped without SwiftShader)', ({ backend, flags, env, loads }) => {
  const skipped = backend === 'webgpu' && noDevice;
  const program = (words: readonly string[], more = {}) => execute(process.execPath, words, { cwd: place.folder, env: { ...process.env, ...env, ...more } });
  beforeAll(async () => {
    if (skipped) return;
    await build('npx tsrt-bench build resnet50.onnx --output resnet50.engine', ...flags);
    await build('npx tsrt-bench build resnet50.onnx --batch 8', ...flags);
    await command('build', 'photo.onnx', '--output', 'photo.engine', ...flags);
  });

  it.skipIf(skipped)('app.mjs and classify.mjs give what onnxruntime gives', async () => {
    const expected = await scoresOf(0);
    expect(distance(numbersIn((await program(['app.mjs'])).stdout), expected)).toBeLessThan(1e-4);
    expect((await program(['classify.mjs'])).stdout).toMatch(new RegExp(`^(cpu-.*|swiftshader): class ${classOf(expected)}\n$`));
  });

  it.skipIf(skipped)('several.mjs, batched.mjs, prepared.mjs and photo.mjs, too', async () => {
    const firsts = await Promise.all(Array.from({ length: 10 }, async (_, i) => (await scoresOf(i / 8))[0]!));
    expect(distance(numbersIn((await program(['several.mjs'])).stdout), firsts.slice(0, 8))).toBeLessThan(1e-3);
    expect(distance(numbersIn((await program(['batched.mjs'])).stdout), firsts)).toBeLessThan(1e-3);
    expect(distance(numbersIn((await program(['prepared.mjs'])).stdout), (await scoresOf(0)).slice(0, 3))).toBeLessThan(1e-4);
    expect(distance(numbersIn((await program(['photo.mjs'])).stdout), [10, 200, 60])).toBeLessThan(2);
  });

  it.skipIf(skipped)('loads what the backend needs, without the compiler', async () => {
    const folder = await temporaryFolder();
    await program(['classify.mjs'], { NODE_V8_COVERAGE: folder });
    const reports = await Promise.all((await readdir(folder)).map(async (file) => JSON.parse(await readFile(join(folder, file), 'utf8')) as { readonly result: readonly { readonly url: string }[] }));
    const urls = reports.flatMap(({ result }) => result.map(({ url }) => url));
    const files = urls.filter((url) => /\/tsrt-bench\/dist\//.test(url));
    const own = (await Promise.all(files.map((url) => readFile(new URL(url), 'utf8')))).flatMap(modulesIn).map((module) => module.replace('dist/src/', ''));
    expect(own).toContain(`backends/${backend}/${backend}.js`);
    expect(own.filter((file) => /^(onnx|passes|ops|quantize|suite|measure|workflows|commands)\/|\/(lower|kernels|tactics)\//.test(file))).toEqual([]);
    const packages = new Set([...urls, ...own].flatMap((from) => /(?:^|\/)node_modules\/(?!tsrt-bench)([^/]+)\//.exec(from)?.[1] ?? []));
    expect(['onnxruntime-common', 'onnxruntime-node', 'webgpu', 'protobufjs', 'onnx-proto', 'zod'].filter((name) => packages.has(name))).toEqual(loads);
  });
});

it('generate.mjs goes on as onnxruntime does without padding, the prompt on onnxruntime and the tokens on webgpu (where SwiftShader is)', async () => {
  await place.write('decoder.onnx', decoder());
  await build('npx tsrt-bench build decoder.onnx --dim sequence_length=8');
  await build('npx tsrt-bench build decoder.onnx --dim sequence_length=1', ...(noDevice ? [] : ['--backend', 'webgpu', '--device', 'swiftshader']));
  const { stdout } = await execute(process.execPath, ['generate.mjs'], { cwd: place.folder, env: { ...process.env, TSRT_BENCH_SWIFTSHADER: '1' } });
  expect(numbersIn(stdout)).toEqual(await continued([5, 17, 30, 42, 9], 32));
});

it('refused.mjs says what is wrong and what to do', async () => {
  const { stderr } = await execute(process.execPath, ['refused.mjs'], { cwd: place.folder });
  expect(stderr).toBe('ENGINE_INVALID\nthis is not a valid engine file: it does not start with the signature of one\nBuild the engine again: tsrt-bench build.\n');
});

it('an engine runs in a worker thread', async () => {
  await build('npx tsrt-bench build resnet50.onnx --output resnet50.engine');
  const start = "new (require('node:worker_threads').Worker)('./classify.mjs')";
  expect((await execute(process.execPath, ['-e', start], { cwd: place.folder })).stdout).toMatch(new RegExp(`: class ${classOf(await scoresOf(0))}\n$`));
});

/** Shows a page in a frame and posts what it answers. */
const FRAME = `<!doctype html><iframe src="/index.html"></iframe><script type="module">
const answerOf = () => document.querySelector('iframe').contentDocument?.querySelector('#answer')?.textContent;
while (!answerOf()) await new Promise((resolve) => setTimeout(resolve, 50));
await fetch('/answer', { method: 'POST', body: JSON.stringify(answerOf()) });
</script>`;

/** What the page shows, with the files of these folders: the first that has one. */
async function shownBy(...folders: readonly string[]): Promise<string> {
  const { url, answer } = await serve<string>(async (path) => {
    if (path === '/frame') return FRAME;
    const file = folders.map((folder) => join(folder, normalize(path))).find((each) => existsSync(each));
    return file === undefined ? undefined : readFile(file);
  });
  const { ended } = await openPage(browser!, `${url}frame`);
  return Promise.race([answer, ended]);
}

describe.skipIf(browser === undefined)('in a browser (skipped without Chromium)', () => {
  beforeAll(() => build('npx tsrt-bench build resnet50.onnx --backend webgpu --option portable=true'));

  it('index.html runs as it stands', async () => {
    expect(await shownBy(place.folder)).toBe(`swiftshader: class ${classOf(await scoresOf(0))}`);
  });

  it('index.html runs bundled by Vite, without the import map', async () => {
    const page = fenceOf('index.html').text.replace(/^<script type="importmap">.*\n/m, '');
    await place.write('bundled/index.html', page);
    await place.write('bundled/public/portable.engine', await readFile(join(place.folder, 'portable.engine')));
    await execute(process.execPath, [join(root, 'node_modules/vite/bin/vite.js'), 'build'], { cwd: join(place.folder, 'bundled') });
    expect(await shownBy(join(place.folder, 'bundled/dist'))).toBe(`swiftshader: class ${classOf(await scoresOf(0))}`);
  });

  it('index.html says why an engine is refused', async () => {
    await place.write('damaged/portable.engine', 'no engine');
    expect(await shownBy(join(place.folder, 'damaged'), place.folder)).toBe((await execute(process.execPath, ['refused.mjs'], { cwd: place.folder })).stderr.replace('ENGINE_INVALID\n', '').trim());
  });
});
