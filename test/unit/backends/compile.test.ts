import { describe, expect, it } from 'vitest';
import { compileModel, readBuildInput, type CompileStep } from '../../../src/backends/compile.ts';
import { nullBackend } from '../../../src/backends/null/null.ts';
import type { Backend } from '../../../src/backends/backend.ts';
import { buildOptions } from '../../helpers/options.ts';
import { ints, modelBytes, node, value } from '../onnx/models.ts';

const context = { signal: undefined, onProgress: undefined };
const options = buildOptions({ backend: 'null' });
const request = (modelBytes: Uint8Array) => ({ modelBytes, modelName: 'm', folder: undefined, options, context });

/** Supports nothing that the IR can't hold. */
const strict: Backend = { ...nullBackend, name: 'strict', supports: ({ graph }) => (graph.ok ? [] : graph.unsupported) };

describe('compileModel', () => {
  it('gives an engine and says how long each step took', async () => {
    const steps: CompileStep[] = [];
    const engine = await compileModel({
      ...request(modelBytes()),
      backend: nullBackend,
      onStep: (step, durationMs) => {
        expect(durationMs).toBeGreaterThanOrEqual(0);
        steps.push(step);
      },
    });
    expect(steps).toEqual(['read', 'import', 'build']);
    expect(engine.header.model).toEqual({ name: 'm', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(engine.header.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: [1, 4] }]);
  });

  it('says of a size for a dimension that the model does not have that it changes nothing', async () => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', ['batch', 4])], outputs: [value('y', 'float32', ['batch', 4])] });
    const notices = async (dims: Readonly<Record<string, number>>) => (await compileModel({ ...request(bytes), options: { ...options, dims }, backend: nullBackend })).header.notices;
    expect((await notices({ btach: 2 })).join(' ')).toContain("no open dimension 'btach' (it has 'batch')");
    expect((await notices({ batch: 1 })).join(' ')).not.toContain('open dimension');
  });

  it('says what an absurd batch would take, and does not blame the file', async () => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', ['batch', 4])], outputs: [value('y', 'float32', ['batch', 4])] });
    const compile = (batch: number) => compileModel({ ...request(bytes), options: { ...options, batch }, backend: nullBackend });
    await expect(compile(4 * 2 ** 30)).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: expect.stringContaining('64.0 GiB') as string, fix: expect.stringContaining('--batch') as string });
    const own = modelBytes({ inputs: [value('x', 'float32', [4 * 2 ** 30, 4])], outputs: [value('y', 'float32', [4 * 2 ** 30, 4])] });
    await expect(compileModel({ ...request(own), rebatch: false, backend: nullBackend })).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });

  it('refuses a batch that a size contradicts, and takes the size for it where none was asked for', async () => {
    const open = modelBytes({ inputs: [value('x', 'float32', ['batch', 4])], outputs: [value('y', 'float32', ['batch', 4])] });
    const fixed = modelBytes({ inputs: [value('x', 'float32', [1, 4])], outputs: [value('y', 'float32', [1, 4])] });
    const steps = modelBytes({ inputs: [value('x', 'float32', ['steps', 4])], outputs: [value('y', 'float32', ['steps', 4])] });
    const build = (bytes: Uint8Array, over: Partial<typeof options>, rebatch = true) => compileModel({ ...request(bytes), options: { ...options, ...over }, rebatch, backend: nullBackend }).then(({ header }) => [header.options.batch, header.inputs[0]!.dims[0]]);
    const refused = expect.objectContaining({ code: 'MODEL_UNSUPPORTED', message: 'the batch is given as 2 and, by the size of a dimension, as 8' }) as Error;
    await expect(build(open, { batch: 2, dims: { batch: 8 } })).rejects.toEqual(refused);
    for (const bytes of [open, fixed]) await expect(build(bytes, { batch: 2, inputShapes: { x: [8, 4] } })).rejects.toEqual(refused);
    expect(await build(open, { dims: { batch: 8 } }, false)).toEqual([8, 8]);
    for (const bytes of [open, fixed]) expect(await build(bytes, { inputShapes: { x: [8, 4] } }, false)).toEqual([8, 8]);
    expect(await build(open, { batch: 8, inputShapes: { x: [8, 4] } })).toEqual([8, 8]);
    // Whether these are the batch nobody knows.
    expect(await build(steps, { inputShapes: { x: [8, 4] } })).toEqual([1, 8]);
  });

  it('says of a precision that it is one, and how to have it', async () => {
    const picky: Backend = { ...nullBackend, name: 'picky', supports: ({ model }) => [{ node: model.name, op: 'precision', reason: 'int8 needs a calibration: give it with --calibration' }] };
    await expect(compileModel({ ...request(modelBytes()), backend: picky })).rejects.toMatchObject({
      message: "the backend picky can't build m in the precision that was asked for",
      details: ['int8 needs a calibration: give it with --calibration'],
      fix: expect.stringContaining('tsrt-bench calibrate') as string,
    });
  });

  it('reports everything unsupported at once', async () => {
    const bytes = modelBytes({
      outputs: [value('y', 'int64', [2, 'n']), value('z', 'int64', [2, 'm'])],
      nodes: [node('NonZero', ['x'], ['found']), node('Neg', ['found'], ['y']), node('Relu', ['x'], ['r']), node('Abs', ['found'], ['z'])],
    });
    await expect(compileModel({ ...request(bytes), backend: strict })).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      details: [expect.stringContaining("Neg 'Neg_of_y'"), expect.stringContaining("Abs 'Abs_of_z'")],
    });
  });

  it.each([['com.microsoft', true], ['ai.onnx.ml', true], ['my.ops', false]])('names onnxruntime for an op that it has: %s', async (domain, has) => {
    const own = (...inputs: string[]) => modelBytes({ domains: { [domain]: 1 }, outputs: [value('y', 'float32', ['M'])], nodes: [...inputs.map((input) => node('Relu', [input], ['r'])), node('Mystery', [inputs.length > 0 ? 'r' : 'x'], ['y'], {}, { domain })] });
    const fixes = [own('x'), own()].map((bytes) => compileModel({ ...request(bytes), backend: { ...strict, name: 'webgpu' } }).catch((error: unknown) => (error as { fix: string }).fix));
    for (const [index, way] of ['--fallback onnxruntime', '--backend onnxruntime'].entries()) {
      expect(await fixes[index]).toContain(`plugin new NAME --op ${domain}.Mystery`);
      expect(((await fixes[index]) as string).includes(way)).toBe(has);
    }
  });

  it('calls a file that is no model invalid', async () => {
    await expect(compileModel({ ...request(new TextEncoder().encode('hello')), backend: strict })).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });

  it('replaces a fixed batch only where it may', async () => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', [2, 4])], outputs: [value('y', 'float32', [2, 4])] });
    const again = await readBuildInput(request(bytes));
    expect(again.model.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: [1, 4] }]);
    const kept = await readBuildInput({ ...request(bytes), rebatch: false });
    expect(kept.model.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: [2, 4] }]);
    expect([again.options.batch, kept.options.batch]).toEqual([1, 2]);
  });

  it('builds in the values of inputs that shapes depend on', async () => {
    const bytes = modelBytes({
      inputs: [value('x', 'float32', [2, 6]), value('shape', 'int64', [2])],
      outputs: [value('y', 'float32', ['a', 'b'])],
      nodes: [node('Reshape', ['x', 'shape'], ['y'])],
    });
    expect((await readBuildInput({ ...request(bytes), rebatch: false })).graph.ok).toBe(false);
    const { graph } = await readBuildInput({ ...request(bytes), rebatch: false, inputValues: new Map([['shape', ints([3, 4])]]) });
    expect(graph).toMatchObject({ ok: true, graph: { inputs: ['x'] } });
  });
});
