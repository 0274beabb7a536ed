/** Engines opened in a program of Node's: each built-in backend by its files, and what is refused with which way out. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { BACKENDS } from '../../src/backends/built-in.ts';
import { compileModel } from '../../src/backends/compile.ts';
import { nullBackend } from '../../src/backends/null/null.ts';
import type { EngineHeader } from '../../src/engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { fromNumbers, openEngine, toNumbers, type Session, type TsrtError } from '../../src/node.ts';
import { TOOL_VERSION } from '../../src/version.ts';
import { temporaryFolder } from '../helpers/folder.ts';
import { buildOptions } from '../helpers/options.ts';

/** Relu of four numbers, built for a backend; `change` is what the header has otherwise. */
async function engineBytes(name: string, change: Partial<EngineHeader> = {}): Promise<Uint8Array> {
  const graph = newGraphBuilder('small');
  graph.input('x', { dtype: 'float32', dims: [4] });
  const engine = await compileModel({
    modelBytes: exportGraph(graph.finish([graph.node('Relu', ['x'], {}, { outputs: ['y'] })])),
    modelName: 'small',
    folder: undefined,
    options: buildOptions({ backend: name, backendOptions: name === 'webgpu' ? { portable: true } : {} }),
    backend: BACKENDS.find((backend: Backend) => backend.name === name)!,
    context: { signal: undefined, onProgress: undefined },
  });
  return serializeEngine({ ...engine, header: { ...engine.header, ...change } });
}

async function engineFile(name: string, change?: Partial<EngineHeader>): Promise<string> {
  const file = join(await temporaryFolder(), 'small.engine');
  await writeFile(file, await engineBytes(name, change));
  return file;
}

async function answerOf(session: Session): Promise<number[]> {
  const { y } = await session.run({ x: fromNumbers('float32', [4], [-1, 2, -3, 4]) });
  await session.dispose();
  return toNumbers(y!);
}

describe('openEngine', () => {
  it('knows every built-in backend', async () => {
    for (const { name } of BACKENDS) {
      // A name that no device has: each backend that is asked says so, or that it has none at all.
      await expect(openEngine(await engineBytes(name), { device: 'no such device' })).rejects.toMatchObject({ code: expect.stringMatching(/^(USAGE|BACKEND_UNAVAILABLE)$/) as string });
    }
  });

  it('takes a path, a URL, bytes, a buffer and an engine that was read', async () => {
    const file = await engineFile('onnxruntime');
    const bytes = await engineBytes('onnxruntime');
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
    for (const source of [file, pathToFileURL(file), bytes, buffer, await deserializeEngine(bytes)]) expect(await answerOf(await openEngine(source))).toEqual([0, 2, 0, 4]);
  });

  it("finds the device of onnxruntime by its name, a part of it or its index, and refuses another's", async () => {
    const bytes = await engineBytes('onnxruntime');
    const session = await openEngine(bytes);
    const { slug } = session.device;
    await session.dispose();
    for (const device of [slug, slug.slice(0, 3), '0']) expect(await answerOf(await openEngine(bytes, { device }))).toEqual([0, 2, 0, 4]);
    await expect(openEngine(bytes, { device: 'nvidia-h200' })).rejects.toMatchObject({ code: 'USAGE', message: "onnxruntime has no device 'nvidia-h200'", fix: expect.stringContaining(slug) as string });
  });

  it('runs the ops of plugins, which are in the engine', async () => {
    const bytes = await engineBytes('onnxruntime', { plugins: [{ name: 'wave', version: '1.0.0', sha256: 'ab'.repeat(32) }] });
    expect(await answerOf(await openEngine(bytes))).toEqual([0, 2, 0, 4]);
  });

  it('refuses what is not there, is damaged or is no engine, with the name of the file', async () => {
    const folder = await temporaryFolder();
    const missing = join(folder, 'missing.engine');
    await expect(openEngine(missing)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND', place: missing, fix: 'give a file that `tsrt-bench build` wrote' });
    const damaged = join(folder, 'damaged.engine');
    const bytes = await engineBytes('onnxruntime');
    await writeFile(damaged, bytes.with(bytes.length - 1, 7));
    await expect(openEngine(damaged)).rejects.toMatchObject({ code: 'ENGINE_INVALID', place: damaged, message: expect.stringContaining('SHA-256') as string, fix: 'Build the engine again: tsrt-bench build.' });
    await expect(openEngine(Uint8Array.of(1, 2, 3))).rejects.toMatchObject({ code: 'ENGINE_INVALID', place: undefined });
  });

  it('refuses another version before its options are read, and another device, by what differs', async () => {
    const options = buildOptions({ backendOptions: { optionOfTomorrow: true } });
    const newer = await engineFile('onnxruntime', { tool: { name: 'tsrt-bench', version: '99.0.0' }, options });
    await expect(openEngine(newer)).rejects.toMatchObject({
      code: 'ENGINE_INCOMPATIBLE',
      message: `the engine of small was not built for tsrt-bench ${TOOL_VERSION}`,
      place: newer,
      details: [`tool version: engine 99.0.0, here ${TOOL_VERSION}`],
      fix: expect.stringContaining('tsrt-bench build') as string,
    });
    const elsewhere = await engineFile('null', { requires: { adapter: 'other' } });
    await expect(openEngine(elsewhere)).rejects.toMatchObject({ code: 'ENGINE_INCOMPATIBLE', place: elsewhere, details: ['adapter: engine other, here missing'] });
  });

  it("refuses an engine of a plugin's backend and names the plugin", async () => {
    const file = await engineFile('null', { backend: 'trtexec', plugins: [{ name: 'tensorrt', version: '1.0.0', sha256: 'ab'.repeat(32) }] });
    const error = await openEngine(file).catch((reason: unknown) => reason as TsrtError);
    expect(error).toMatchObject({ code: 'ENGINE_INCOMPATIBLE', place: file, fix: expect.stringContaining('tsrt-bench run --engine --plugin tensorrt') as string });
    expect((error as TsrtError).message).toBe('the engine of small is for the backend trtexec, of the plugin tensorrt, but openEngine has only onnxruntime, webgpu, null');
    // Not a property of every object.
    await expect(openEngine(await engineBytes('null', { backend: 'constructor' }))).rejects.toMatchObject({ code: 'ENGINE_INCOMPATIBLE' });
  });

  it('stops by its signal: before it reads, while it does, and where the engine is loaded meanwhile', async () => {
    const reason = new Error('enough');
    await expect(openEngine('missing.engine', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const reading = new AbortController();
    const opening = openEngine(await engineFile('null'), { signal: reading.signal });
    reading.abort(reason);
    await expect(opening).rejects.toBe(reason);

    const loading = new AbortController();
    const load = nullBackend.load.bind(nullBackend);
    const disposed = vi.fn();
    const spy = vi.spyOn(nullBackend, 'load').mockImplementation(async (engine, options) => {
      const session = await load(engine, options);
      loading.abort(reason);
      return { ...session, dispose: async () => disposed() };
    });
    onTestFinished(() => spy.mockRestore());
    await expect(openEngine(await engineBytes('null'), { signal: loading.signal })).rejects.toBe(reason);
    expect(disposed).toHaveBeenCalledOnce();
    expect(spy).toHaveBeenCalledOnce();
  });
});
