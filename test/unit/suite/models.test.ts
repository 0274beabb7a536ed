import { createHash } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lock } from 'proper-lockfile';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ModelSource } from '../../../src/suite/schema.ts';
import { type ModelProgress, resolveModel } from '../../../src/suite/models.ts';
import { temporaryFolder } from './helpers.ts';
import { sendFile, serve, status } from './server.ts';

const content = Buffer.from('not really a model, but pinned');
const sha256 = createHash('sha256').update(content).digest('hex');
const builder = { name: 'smoke' as const, seed: 1 };
const network = { connectTimeoutMs: 500, stallTimeoutMs: 500, retryPauseMs: 1 };

const suiteOf = (model: ModelSource, folder = '/nowhere') => ({ model, folder });
const pinned = (...urls: string[]) => ({ urls, sha256, bytes: content.length });

describe('resolveModel', () => {
  it("takes the user's file before everything", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'mine.onnx'), content);
    const model = await resolveModel(suiteOf({ name: 'm', builder }), { modelFile: join(folder, 'mine.onnx'), cacheFolder: join(folder, 'cache') });
    expect(model).toEqual({
      name: 'mine',
      path: join(folder, 'mine.onnx'),
      sha256,
      bytes: content.length,
      source: 'file mine.onnx',
      untrained: false,
      notices: [],
    });
    expect(await readdir(folder)).toEqual(['mine.onnx']);
  });

  it("takes the suite's own file next, relative to the suite", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'own.onnx'), content);
    const model = await resolveModel(suiteOf({ name: 'm', file: 'own.onnx', builder }, folder), { cacheFolder: folder });
    expect(model).toMatchObject({ name: 'm', path: join(folder, 'own.onnx'), sha256 });
  });

  it('says which file is missing', async () => {
    const cacheFolder = await temporaryFolder();
    await expect(resolveModel(suiteOf({ name: 'm', builder }), { modelFile: '/no/such.onnx', cacheFolder })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      place: '/no/such.onnx',
    });
    await expect(resolveModel(suiteOf({ name: 'm', builder }), { modelFile: cacheFolder, cacheFolder })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: 'the model is not a file',
    });
  });

  it('downloads once, then uses the cache', async () => {
    const cacheFolder = await temporaryFolder();
    const server = await serve(sendFile(content));
    const progress: ModelProgress[] = [];
    const ask = () => resolveModel(suiteOf({ name: 'm', download: pinned(server.url) }), { cacheFolder, network, onProgress: (step) => progress.push(step) });
    const first = await ask();
    expect(first).toMatchObject({ sha256, source: server.url, untrained: false, notices: [] });
    expect(progress.at(-1)).toEqual({ step: 'download', doneBytes: content.length, totalBytes: content.length });
    expect(await ask()).toEqual(first);
    expect(server.ranges).toHaveLength(1);
  });

  it('fetches a damaged cached file again, and says so', async () => {
    const cacheFolder = await temporaryFolder();
    const server = await serve(sendFile(content));
    const ask = () => resolveModel(suiteOf({ name: 'm', download: pinned(server.url) }), { cacheFolder, network });
    const { path } = await ask();
    await appendFile(path, 'x');
    expect((await ask()).notices).toEqual([expect.stringContaining('damaged')]);
    expect((await readFile(path)).equals(content)).toBe(true);
  });

  it('lets two callers at once download once', async () => {
    const cacheFolder = await temporaryFolder();
    const server = await serve((request, response, call) => void setTimeout(() => sendFile(content)(request, response, call), 50));
    const steps: string[] = [];
    const ask = () =>
      resolveModel(suiteOf({ name: 'm', download: pinned(server.url) }), { cacheFolder, network, onProgress: ({ step }) => steps.push(step) });
    const [a, b] = await Promise.all([ask(), ask()]);
    expect(a).toEqual(b);
    expect(server.ranges).toHaveLength(1);
    expect(steps).toContain('waiting');
    expect(await readdir(join(cacheFolder, 'models'))).toHaveLength(1);
  });

  it('falls to the builder where no mirror can be reached, and says why', async () => {
    const cacheFolder = await temporaryFolder();
    const gone = await serve(status(404));
    const model = await resolveModel(suiteOf({ name: 'm', download: pinned(gone.url, 'http://no-such-host.invalid/'), builder }), { cacheFolder, network });
    expect(model).toMatchObject({ untrained: true, source: 'builder smoke (version 1, seed 1)' });
    expect(model.notices).toEqual([expect.stringMatching(/could not be downloaded \(.*404; no-such-host\.invalid: .*\).*only compares variants/)]);
  });

  it('fails without a builder, with the way out', async () => {
    const cacheFolder = await temporaryFolder();
    await expect(resolveModel(suiteOf({ name: 'm', download: pinned('http://no-such-host.invalid/') }), { cacheFolder, network })).rejects.toMatchObject({
      code: 'MODEL_DOWNLOAD',
      fix: expect.stringContaining('--model FILE'),
    });
  });

  it('never replaces a wrong download by the builder', async () => {
    const cacheFolder = await temporaryFolder();
    const { url } = await serve(sendFile(Buffer.from('also really no model, but wrong').subarray(0, content.length)));
    await expect(resolveModel(suiteOf({ name: 'm', download: pinned(url), builder }), { cacheFolder, network })).rejects.toMatchObject({
      code: 'MODEL_DOWNLOAD',
      message: expect.stringContaining(sha256),
    });
    expect(await readdir(join(cacheFolder, 'models'))).toEqual(expect.not.arrayContaining([expect.stringMatching(/\.onnx$/)]));
  });

  it('builds once per seed and options, and again where the file is cut', async () => {
    const cacheFolder = await temporaryFolder();
    const steps: string[] = [];
    const ask = (change: object = {}) =>
      resolveModel(suiteOf({ name: 'm', builder: { ...builder, ...change } }), { cacheFolder, onProgress: ({ step }) => steps.push(step) });
    const first = await ask();
    const written = steps.length;
    expect(await ask()).toEqual(first);
    expect(steps).toHaveLength(written);
    expect((await ask({ seed: 2 })).sha256).not.toBe(first.sha256);
    expect((await ask({ classes: 11 })).sha256).not.toBe(first.sha256);
    await writeFile(first.path, 'cut');
    expect((await ask()).sha256).toBe(first.sha256);
  });

  it('leaves no temporary files, its own or of processes that died', async () => {
    const cacheFolder = await temporaryFolder();
    await mkdir(join(cacheFolder, 'models'));
    await writeFile(join(cacheFolder, 'models', 'built-smoke-v1-seed1.onnx.12345.tmp'), 'x');
    await expect(resolveModel(suiteOf({ name: 'm', builder }), { cacheFolder, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    await resolveModel(suiteOf({ name: 'm', builder }), { cacheFolder });
    expect(await readdir(join(cacheFolder, 'models'))).toEqual(['built-smoke-v1-seed1.onnx']);
  });

  it('reads what the cache holds without a lock, so that a read-only cache serves', async () => {
    const cacheFolder = await temporaryFolder();
    const steps: string[] = [];
    const ask = () => resolveModel(suiteOf({ name: 'm', builder }), { cacheFolder, onProgress: ({ step }) => steps.push(step) });
    const first = await ask();
    const release = await lock(first.path, { realpath: false });
    onTestFinished(() => release());
    steps.length = 0;
    expect(await ask()).toEqual(first);
    expect(steps).toEqual([]);
  });

  it('says that the cache can not be written', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'file'), '');
    await expect(resolveModel(suiteOf({ name: 'm', builder }), { cacheFolder: join(folder, 'file') })).rejects.toMatchObject({
      code: 'MODEL_DOWNLOAD',
      fix: expect.stringContaining('TSRT_BENCH_CACHE'),
    });
  });
});
