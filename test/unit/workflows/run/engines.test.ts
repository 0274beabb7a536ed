import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { nullBackend } from '../../../../src/backends/null/null.ts';
import type { Backend } from '../../../../src/backends/backend.ts';
import type { Precision } from '../../../../src/engine/engine.ts';
import { TsrtError } from '../../../../src/errors.ts';
import type { DType } from '../../../../src/ir/tensor.ts';
import { createRegistry } from '../../../../src/registry.ts';
import { expandCases } from '../../../../src/suite/expand.ts';
import { parseSuite } from '../../../../src/suite/load.ts';
import { resolveModel } from '../../../../src/suite/models.ts';
import { createProbe } from '../../../../src/workflows/probe.ts';
import { buildEngines, engineKey } from '../../../../src/workflows/run/engines.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { modelBytes, value } from '../../onnx/models.ts';

async function outcomeOf(changes: Partial<Backend>, options: { readonly batch?: number; readonly precision?: Precision; readonly bytes?: Uint8Array; readonly dims?: Readonly<Record<string, number>> } = {}) {
  const folder = await temporaryFolder();
  const suite = parseSuite(
    {
      name: 'engines',
      description: 'one case',
      model: { name: 'smoke', builder: { name: 'smoke' } },
      inputs: [{ kind: 'synthetic', values: { distribution: 'normal' } }],
      task: { kind: 'raw' },
      variants: [{ backend: 'fake', precision: options.precision ?? 'fp32' }],
      batches: options.batch ?? 1,
    },
    join(folder, 'suite.yaml'),
  );
  const model = await resolveModel(suite, { cacheFolder: folder });
  const backend: Backend = { ...nullBackend, name: 'fake', ...changes };
  const cases = expandCases(suite, { dims: options.dims }, { cores: 2 });
  const outcomes = await buildEngines({
    cases,
    model: { name: model.name, bytes: options.bytes ?? (await readFile(model.path)), path: model.path },
    registry: createRegistry([{ plugin: { name: 'p', version: '1', backends: [backend] }, source: 'built-in' }]),
    probe: createProbe(),
    calibration: async () => undefined,
    folder: join(folder, 'engines'),
    signal: new AbortController().signal,
    onEvent: () => {},
  });
  return outcomes.get(engineKey(cases[0]!.variant))!;
}

describe('buildEngines', () => {
  it('writes an engine file whose hash the record will carry', async () => {
    const outcome = await outcomeOf({});
    expect(outcome).toMatchObject({ status: 'built', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
    if (outcome.status === 'built') expect(outcome.bytes).toBeGreaterThan(0);
  });

  it('skips what a backend lacks, with the reason and the way out', async () => {
    expect(await outcomeOf({ probe: async () => ({ status: 'unavailable', reason: 'no adapter', fix: 'buy one' }) })).toMatchObject({
      status: 'skipped',
      reason: 'fake: no adapter',
      fix: 'buy one',
    });
    expect(await outcomeOf({ supports: () => [{ node: 'n', op: 'If', reason: 'control flow' }] })).toMatchObject({
      status: 'skipped',
      reason: expect.stringMatching(/If 'n': control flow/) as string,
    });
  });

  it('takes a backend whose probe throws for one that is not there', async () => {
    expect(await outcomeOf({ probe: () => Promise.reject(new Error('driver broken')) })).toMatchObject({ status: 'skipped', reason: 'fake: driver broken' });
  });

  it('makes a failure of a build that throws', async () => {
    expect(await outcomeOf({ build: () => Promise.reject(new Error('boom')) })).toMatchObject({ status: 'failed', error: { code: 'INTERNAL', message: 'boom' } });
    const full = new TsrtError('OUT_OF_MEMORY', 'no memory', { fix: 'less' });
    expect(await outcomeOf({ build: () => Promise.reject(full) })).toMatchObject({ status: 'failed', error: { code: 'OUT_OF_MEMORY', fix: 'less' } });
  });

  it('refuses inputs that no worker can be handed', async () => {
    // 3 × 32 × 32 floats are 12 KiB: 200,000 of them are 2.3 GiB.
    expect(await outcomeOf({}, { batch: 200_000 })).toMatchObject({ status: 'failed', error: { code: 'OUT_OF_MEMORY', message: expect.stringMatching(/2\.3 GiB/) as string } });
  });

  it('skips a case of no elements, on which kernels of onnxruntime end the process', async () => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', ['N', 'T'])], outputs: [value('y', 'float32', ['N', 'T'])] });
    const outcome = await outcomeOf({}, { bytes, dims: { T: 0 } });
    expect(outcome).toMatchObject({ status: 'skipped', reason: "the inputs of the model have no elements: 'x' is [1,0]", fix: expect.stringContaining('--dim') as string });
  });

  it.each(['fp16', 'int8', 'mixed'] as const)('fails an engine that was asked for in %s and runs floats', async (precision) => {
    const layer = { name: 'conv', kind: 'Conv', origins: ['conv'], bytes: 0 };
    const claiming = (dtype: DType): Partial<Backend> => ({
      supports: () => [],
      async build(input, context) {
        const { header, parts } = await nullBackend.build(input, context);
        return { header: { ...header, layers: [{ ...layer, precision: dtype, flops: 900 }, { ...layer, precision: 'float32', flops: 100 }] }, parts };
      },
    });
    expect(await outcomeOf(claiming('float32'), { precision })).toMatchObject({
      status: 'failed',
      error: { code: 'PRECISION_UNPROVEN', message: `the engine was requested in ${precision}, but runs 100 % float32`, fix: expect.stringContaining(precision === 'fp16' ? 'in f32 are Conv. Recurrent layers' : 'take another backend') as string },
    });
    expect(await outcomeOf(claiming(precision === 'fp16' ? 'float16' : 'int8'), { precision })).toMatchObject({ status: 'built' });
  });

  it('ends the run where the model is no model, and names the file', async () => {
    const error = await outcomeOf({}, { bytes: Buffer.from('Dear diary') }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'MODEL_INVALID', place: expect.stringMatching(/built-smoke-.*\.onnx$/) as string });
  });
});
