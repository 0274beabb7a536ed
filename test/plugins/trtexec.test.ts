/** The trtexec plugin: the tool's formats in both generations, and a stand-in program with its ways to fail. */
import { readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseDevice, parseOutputs, parseProfile, parseTimes, parseVersion } from '../../plugins/trtexec/formats.ts';
import trtexecPlugin, { trtexecBackend } from '../../plugins/trtexec/index.ts';
import { compileModel } from '../../src/backends/compile.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import type { BuildOptions, Engine } from '../../src/engine/engine.ts';
import type { TsrtError } from '../../src/errors.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { parsePlugin } from '../../src/plugin-schema.ts';
import { temporaryFolder } from '../helpers/folder.ts';
import { buildOptions } from '../helpers/options.ts';
import { reluModel } from '../unit/backends/external/model.ts';

const BIN = fileURLToPath(new URL('../fixtures/trtexec/bin', import.meta.url));
const saved = { ...process.env };

beforeEach(() => {
  process.env['PATH'] = `${BIN}${delimiter}${saved['PATH']}`;
  process.env['NODE_PATH'] = fileURLToPath(new URL('../../node_modules', import.meta.url));
});
afterEach(() => {
  for (const key of ['PATH', 'NODE_PATH', 'FAKE_TRTEXEC', 'FAKE_TRTEXEC_LOG']) {
    if (saved[key] === undefined) delete process.env[key];
    else process.env[key] = saved[key];
  }
});

function build(options: Partial<BuildOptions> = {}): Promise<Engine> {
  return compileModel({
    modelBytes: reluModel(),
    modelName: 'relu',
    folder: undefined,
    options: buildOptions({ backend: 'trtexec', ...options }),
    backend: trtexecBackend,
    context: { signal: undefined, onProgress: undefined },
  });
}

async function load(engine: Engine) {
  return trtexecBackend.load(await deserializeEngine(await serializeEngine(engine)), { device: undefined, signal: undefined });
}

const failure = (work: Promise<unknown>): Promise<TsrtError> => work.then(() => expect.unreachable('it should have failed'), (error: unknown) => error as TsrtError);
const X = { x: fromNumbers('float32', [1, 4], [1, -2, 3, -4]) };

describe('what trtexec writes', () => {
  const old = '[\n  { "startInMs" : 1.5, "endInMs" : 1.75, "startComputeMs" : 1.75, "endComputeMs" : 2.5, "startOutMs" : 2.5, "endOutMs" : 2.625, "inMs" : 0.25, "computeMs" : 0.75, "outMs" : 0.125, "latencyMs" : 1.125, "endToEndMs" : 1.3 }\n]';
  const today = '[\n  { "startEnqMs" : 1, "endEnqMs" : 2, "startH2dMs" : 1.5, "endH2dMs" : 1.75, "startComputeMs" : 1.75, "endComputeMs" : 2.5, "startD2hMs" : 2.5, "endD2hMs" : 2.625, "h2dMs" : 0.25, "computeMs" : 0.75, "d2hMs" : 0.125, "latencyMs" : 1.125 }\n]';

  it.each([['before 8.5', old], ['since 8.5', today]])('times, %s', (_, text) => {
    expect(parseTimes(text)).toEqual([{ computeMs: 0.75, latencyMs: 1.125 }]);
  });

  it('has numbers that JSON lacks', () => {
    expect(parseProfile('[\n  { "count" : 10 }\n, { "name" : "a: nan, b", "timeMs" : 0, "averageMs" : 0, "medianMs" : 0, "percentage" : -nan }\n]')).toEqual([{ layer: 'a: nan, b', durationNs: 0 }]);
    const y = { name: 'y', dtype: 'float32', dims: [1, 3], dynamic: false } as unknown as Parameters<typeof parseOutputs>[1][number];
    expect([...toNumbers(parseOutputs('[ { "name" : "y", "dimensions" : "1x3", "values" : [ inf, -inf, -nan ] } ]', [y])['y']!)]).toEqual([Infinity, -Infinity, NaN]);
  });

  it.each([['[]', /empty/], ['[ { "latencyMs" : 1 } ]', /no computeMs.* in entry 0/], ['[ { "computeMs" : 1,', /is not JSON/], ['{}', /is not a list/]])('times that are none: %s', (text, message) => {
    expect(() => parseTimes(text)).toThrow(message);
  });

  it('the profile, with its head', () => {
    const text = '[\n  { "count" : 1000 }\n, { "name" : "conv1 + relu", "timeMs" : 12.5, "averageMs" : 0.0125, "medianMs" : 0.012, "percentage" : 100 }\n]';
    expect(parseProfile(text)).toEqual([{ layer: 'conv1 + relu', durationNs: 12_500 }]);
    expect(() => parseProfile('[ { "count" : 1 } ]')).toThrow(/no layers/);
  });

  it('outputs, by name and shape', () => {
    const bindings = [{ name: 'y', dtype: 'float32', dims: [1, 2] }] as const;
    expect(toNumbers(parseOutputs('[ { "name" : "y", "dimensions" : "1x2", "values" : [ 0.5, 2 ] } ]', bindings)['y']!)).toEqual([0.5, 2]);
    expect(() => parseOutputs('[ { "name" : "z", "dimensions" : "1x2", "values" : [ 0.5, 2 ] } ]', bindings)).toThrow(/lack 'y'/);
    expect(() => parseOutputs('[ { "name" : "y", "dimensions" : "2x1", "values" : [ 0.5, 2 ] } ]', bindings)).toThrow(/\[2,1\], not \[1,2\]/);
  });

  it('versions and devices', () => {
    expect(['8601', '8503', '100300', '101401'].map((digits) => parseVersion(`&&&& RUNNING TensorRT.trtexec [TensorRT v${digits}] # trtexec`))).toEqual(['8.6.1', '8.5.3', '10.3.0', '10.14.1']);
    expect(parseDevice('[I] Selected Device: NVIDIA H200\n[I] Compute')).toBe('NVIDIA H200');
  });
});

describe.skipIf(process.platform === 'win32')('the trtexec plugin with a stand-in program', () => {
  it('is a plugin, and available by both programs', async () => {
    expect(parsePlugin(trtexecPlugin, 'plugins/trtexec')).toBe(trtexecPlugin);
    expect(await trtexecBackend.probe()).toMatchObject({ status: 'available', version: '10.3.0', devices: [{ slug: 'nvidia-h200', properties: { tensorrt: '10.3.0' } }] });
    process.env['PATH'] = '/nowhere';
    expect(await trtexecBackend.probe()).toMatchObject({ status: 'unavailable', reason: expect.stringContaining('no such program'), fix: expect.stringContaining('TensorRT') });
  });

  it.each(['8401', '8601', '100300'])('builds, runs, executes and profiles: TensorRT v%s', async (version) => {
    process.env['FAKE_TRTEXEC'] = version;
    const engine = await build();
    expect(engine.header.requires).toEqual({ tensorrt: parseVersion(`[TensorRT v${version}]`), device: 'NVIDIA H200' });
    const session = await load(engine);
    expect(toNumbers((await session.run(X))['y']!)).toEqual([1, 0, 3, 0]);
    const execution = await session.prepare(X);
    const start = session.clock!.now();
    await execution.execute(2);
    const took = Number(session.clock!.now() - start) / 1e6;
    // The first two of its samples, 1 and 1.125 ms, and what passes between requests.
    expect(took).toBeGreaterThanOrEqual(2.125);
    expect(took).toBeLessThan(50);
    expect(toNumbers((await execution.download())['y']!)).toEqual([1, 0, 3, 0]);
    expect(session.observeMemory().deviceBytes).toBe(33 * 2 ** 20);
    expect((await session.profile!(X)).map(({ durationNs }) => durationNs)).toEqual([500_000, 1_000_000]);
    await session.dispose();
    await expect(session.run(X)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('starts trtexec once for as many samples as it gives, and again for other inputs', async () => {
    const log = join(await temporaryFolder(), 'log');
    process.env['FAKE_TRTEXEC_LOG'] = log;
    const session = await load(await build());
    const runs = (): number => readFileSync(log, 'utf8').split('\n').filter((line) => line.includes('--loadEngine')).length;
    for (let i = 0; i < 4; i++) await session.run(X);
    expect(runs()).toBe(1);
    await session.run(X);
    expect(runs()).toBe(2);
    expect(toNumbers((await session.run({ x: fromNumbers('float32', [1, 4], [-1, 2, 0, 5]) }))['y']!)).toEqual([0, 2, 0, 5]);
    expect(runs()).toBe(3);
    await session.dispose();
  });

  it('maps options to arguments', async () => {
    const argsOf = async (options: Partial<BuildOptions>): Promise<string> =>
      ((await build(options)).header.backendData as { arguments: string[] }).arguments.join(' ');
    expect(await argsOf({})).toBe('--noTF32 --builderOptimizationLevel=3 --skipInference --profilingVerbosity=detailed');
    expect(await argsOf({ precision: 'fp16', workspaceBytes: 2 ** 30, backendOptions: { tf32: true, level: 5 } })).toBe('--fp16 --builderOptimizationLevel=5 --skipInference --memPoolSize=workspace:1024 --profilingVerbosity=detailed');
    expect(await argsOf({ precision: 'fp16', backendOptions: { best: true } })).toContain('--best');
    process.env['FAKE_TRTEXEC'] = '8503';
    expect(await argsOf({})).toBe('--noTF32 --buildOnly --profilingVerbosity=detailed');
    expect(await failure(build({ precision: 'int8' }))).toMatchObject({ code: 'MODEL_UNSUPPORTED', details: [expect.stringContaining('scales of its own')] });
  });

  it.each([
    ['parse', 'MODEL_UNSUPPORTED', /while building/, /No importer registered for op: Snake/],
    ['memory', 'OUT_OF_MEMORY', /while building/, /OutOfMemory/],
    ['no-engine', 'BACKEND_FAILED', /saved no engine/, undefined],
  ])('a build that fails: %s', async (fault, code, message, detail) => {
    process.env['FAKE_TRTEXEC'] = `100300 ${fault}`;
    const error = await failure(build());
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    if (detail) expect(error.details.join()).toMatch(detail);
  });

  it.each([
    ['crash', /ended by SIGSEGV while timing/],
    ['no-times', /wrote no times/],
    ['no-samples', /times are empty/],
    ['cut', /times is not JSON/],
    ['short', /hold 3 values of 'y', not 4/],
  ])('a run that fails: %s', async (fault, message) => {
    const session = await load(await build());
    for (let i = 0; i < 4; i++) await session.run(X);
    // The samples are used up: the next request needs another run, and finds the files of the last one gone.
    process.env['FAKE_TRTEXEC'] = `100300 ${fault}`;
    expect(await failure(session.run(X))).toMatchObject({ code: 'BACKEND_FAILED', plugin: 'trtexec', message: expect.stringMatching(message) });
    await session.dispose();
  });

  it('an abort ends a build, and a plan of another TensorRT is refused', async () => {
    process.env['FAKE_TRTEXEC'] = '100300 hang';
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('enough')), 500);
    const input = compileModel({ modelBytes: reluModel(), modelName: 'relu', folder: undefined, options: buildOptions({ backend: 'trtexec' }), backend: trtexecBackend, context: { signal: abort.signal, onProgress: undefined } });
    await expect(input).rejects.toThrow('enough');
    process.env['FAKE_TRTEXEC'] = '100300';
    const engine = await build();
    process.env['FAKE_TRTEXEC'] = '100900';
    expect(await failure(load(engine))).toMatchObject({ code: 'ENGINE_INCOMPATIBLE', details: ['tensorrt: engine 10.3.0, here 10.9.0'] });
  });
});
