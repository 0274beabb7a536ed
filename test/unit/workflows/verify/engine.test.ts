/** Engine files as what is verified: checked as they are, refused by the name of what differs, built again where asked. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { compileModel } from '../../../../src/backends/compile.ts';
import { onnxruntimeBackend } from '../../../../src/backends/onnxruntime/onnxruntime.ts';
import type { Engine, EngineHeader } from '../../../../src/engine/engine.ts';
import { serializeEngine } from '../../../../src/engine/file.ts';
import { TsrtError } from '../../../../src/errors.ts';
import type { Registry } from '../../../../src/registry.ts';
import { openRegistry } from '../../../../src/workflows/registry.ts';
import { checkCase } from '../../../../src/workflows/verify/check.ts';
import { engineCase, type EngineQuestion } from '../../../../src/workflows/verify/engine.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { buildOptions } from '../../../helpers/options.ts';
import { modelBytes, node, value } from '../../onnx/models.ts';

let folder: string;
let registry: Registry;
let engine: Engine;
let against: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  registry = await openRegistry([]);
  against = join(folder, 'relu.onnx');
  const bytes = modelBytes();
  await writeFile(against, bytes);
  engine = await compileModel({
    modelBytes: bytes,
    modelName: 'relu',
    folder,
    options: buildOptions(),
    backend: onnxruntimeBackend,
    context: { signal: undefined, onProgress: undefined },
  });
});

/** An engine file with some of its header replaced. */
async function file(name: string, header: Partial<EngineHeader> = {}): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, await serializeEngine({ ...engine, header: { ...engine.header, ...header } }));
  return path;
}

const ask = (engineFile: string, question: Partial<EngineQuestion> = {}) =>
  engineCase({ engineFile, against, rebuild: false, device: undefined, registry, ...question });

async function errorOf(action: Promise<unknown>): Promise<TsrtError> {
  const error: unknown = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof TsrtError)) throw new Error(`expected a TsrtError, got ${String(error)}`, { cause: error });
  return error;
}

const check = async (path: string, question: Partial<EngineQuestion> = {}) => {
  const { testCase, options } = await ask(path, question);
  const settings = { tolerance: { rtol: undefined, atol: undefined }, options, rebatch: false, device: undefined, seed: 0 };
  return checkCase(testCase, settings, { backend: registry.backend(options.backend), referenceBackend: onnxruntimeBackend });
};

describe('verifying an engine file', () => {
  it('runs the engine as it is and compares with the model', async () => {
    expect(await check(await file('relu.engine'))).toMatchObject({ name: 'relu.engine', status: 'passed', comparedWith: 'reference' });
  });

  it('does run the engine, not the model: one of another model fails, and the difference is told', async () => {
    const other = join(folder, 'other.onnx');
    await writeFile(other, modelBytes({ nodes: [node('Neg', ['x'], ['y'])] }));
    const path = await file('foreign.engine');
    expect(await check(path, { against: other })).toMatchObject({ status: 'failed' });
    expect((await ask(path, { against: other })).notices).toEqual(['foreign.engine was built from another model file than other.onnx']);
  });

  it.each([6, 3, 1])('compares an engine of batch %i with the model at its own of 2, in portions', async (batch) => {
    const [fixed, path] = [join(folder, 'fixed.onnx'), join(folder, 'batched.engine')];
    const bytes = modelBytes({ inputs: [value('x', 'float32', [2, 4])], outputs: [value('y', 'float32', [2, 4])], nodes: [node('Softmax', ['x'], ['y'], { axis: 1 })] });
    await writeFile(fixed, bytes);
    const batched = await compileModel({ modelBytes: bytes, modelName: 'fixed', folder, options: { ...buildOptions(), batch }, backend: onnxruntimeBackend, context: { signal: undefined, onProgress: undefined } });
    await writeFile(path, await serializeEngine(batched));
    expect(await check(path, { against: fixed })).toMatchObject({ status: 'passed', comparedWith: 'reference', outputs: [{ output: 'y', elements: 4 * batch }] });
  });

  it('asks for the model, since an engine holds no answers', async () => {
    const error = await errorOf(ask(await file('relu.engine'), { against: undefined }));
    expect(error).toMatchObject({ code: 'USAGE', fix: expect.stringContaining('--against relu.onnx') });
  });

  it('refuses an engine of another version or device by the name of what differs, and builds it again where asked', async () => {
    const path = await file('old.engine', { tool: { name: 'tsrt-bench', version: '99.1.0' }, requires: { model: 'another processor' } });
    const error = await errorOf(ask(path));
    expect(error).toMatchObject({ code: 'ENGINE_INCOMPATIBLE', place: path, fix: expect.stringContaining('--rebuild') });
    expect(error.details).toEqual([expect.stringMatching(/^tool version: engine 99\.1\.0, here /), expect.stringMatching(/^model: engine another processor, here /)]);
    const rebuilt = await ask(path, { rebuild: true });
    expect(rebuilt.testCase.engineFile).toBeUndefined();
    expect(rebuilt.options).toEqual(engine.header.options);
    expect(rebuilt.notices).toEqual([expect.stringContaining('old.engine was built again: tool version')]);
    expect(await check(path, { rebuild: true })).toMatchObject({ name: 'old.engine', status: 'passed' });
  });

  it('says what is wrong with a file, and with which', async () => {
    const broken = join(folder, 'broken.engine');
    await writeFile(broken, (await serializeEngine(engine)).subarray(0, 200));
    expect(await errorOf(ask(broken))).toMatchObject({ code: 'ENGINE_INVALID', place: broken });
    const missing = join(folder, 'missing.engine');
    expect(await errorOf(ask(missing))).toMatchObject({ code: 'MODEL_NOT_FOUND', place: missing });
  });
});
