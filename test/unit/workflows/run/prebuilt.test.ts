/** Engine files measured as variants of a run: under their own ids, as they are, refused all at once before anything runs. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../../../src/backends/compile.ts';
import { nullBackend } from '../../../../src/backends/null/null.ts';
import { resolveConfig } from '../../../../src/config.ts';
import type { BuildOptions, EngineHeader } from '../../../../src/engine/engine.ts';
import { serializeEngine } from '../../../../src/engine/file.ts';
import { sha256Hex } from '../../../../src/engine/sha256.ts';
import { TsrtError } from '../../../../src/errors.ts';
import type { BenchRecord } from '../../../../src/results/record.ts';
import type { RunRequest, RunResult } from '../../../../src/workflows/run/request.ts';
import { runSuite } from '../../../../src/workflows/run/run.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { buildOptions } from '../../../helpers/options.ts';
import { modelBytes } from '../../onnx/models.ts';

const SUITE = {
  name: 'nulls',
  description: 'made-up answers on a fake clock',
  model: { name: 'small', file: 'model.onnx' },
  inputs: [{ kind: 'synthetic', values: { distribution: 'normal' } }],
  task: { kind: 'raw' },
  variants: [{ backend: 'null', precision: ['fp16'] }],
  measure: { rounds: 1, timeMs: 20, isolation: 'case' },
  accuracy: { samples: 1 },
};

interface Place {
  readonly folder: string;
  engine(name: string, options?: Partial<BuildOptions>, header?: Partial<EngineHeader>): Promise<string>;
  run(changes: Partial<RunRequest>): Promise<RunResult>;
}

async function place(): Promise<Place> {
  const folder = await temporaryFolder();
  const bytes = modelBytes();
  await writeFile(join(folder, 'suite.json'), JSON.stringify(SUITE));
  await writeFile(join(folder, 'model.onnx'), bytes);
  return {
    folder,
    async engine(name, options = {}, header = {}) {
      const built = await compileModel({
        modelBytes: bytes,
        modelName: 'small',
        folder,
        options: buildOptions({ backend: 'null', ...options }),
        backend: nullBackend,
        context: { signal: undefined, onProgress: undefined },
      });
      const path = join(folder, name);
      await writeFile(path, await serializeEngine({ ...built, header: { ...built.header, ...header } }));
      return path;
    },
    run: async (changes) =>
      runSuite({
        suite: join(folder, 'suite.json'),
        settings: await resolveConfig({ results: join(folder, 'results'), cache: join(folder, 'cache'), plugins: [] }, folder),
        overrides: {},
        modelFile: undefined,
        limit: undefined,
        device: undefined,
        resume: false,
        signal: new AbortController().signal,
        onEvent: () => {},
        ...changes,
      }),
  };
}

const idsOf = (records: readonly BenchRecord[]) => records.map((record) => `${record.status} ${record.case.id}`);

async function errorOf(action: Promise<unknown>): Promise<TsrtError> {
  const error: unknown = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof TsrtError)) throw new Error(`expected a TsrtError, got ${String(error)}`, { cause: error });
  return error;
}

describe('run --engine', () => {
  it('measures the files and nothing else, under the ids of their variants', async () => {
    const { engine, run } = await place();
    const files = [await engine('a.engine'), await engine('b.engine', { batch: 8, precision: 'int8' })];
    const { records } = await run({ engineFiles: files });
    expect(idsOf(records)).toEqual(['completed null/fp32/fusion-on/b1/single-stream', 'completed null/int8/fusion-on/b8/single-stream']);
    expect(records[0]).toMatchObject({ build: { buildMs: 0, engineFile: 'a.engine' } });
  });

  it('records the hash of the very file', async () => {
    const { engine, run } = await place();
    const file = await engine('a.engine');
    const { records } = await run({ engineFiles: [file] });
    expect(records[0]).toMatchObject({ build: { engineSha256: await sha256Hex(await readFile(file)) } });
  });

  it('tells files of one variant apart, and measures backends beside them where asked', async () => {
    const { engine, run } = await place();
    const files = [await engine('a.engine'), await engine('b.engine')];
    const { records } = await run({ engineFiles: files, overrides: { backend: ['null'] } });
    expect(idsOf(records)).toEqual([
      'completed null/fp32/fusion-on/b1/single-stream',
      'completed null/fp32/fusion-on/b.engine/b1/single-stream',
      'completed null/fp16/fusion-on/b1/single-stream',
    ]);
    expect(records[2]).not.toHaveProperty('build.engineFile');
  });

  it('refuses what does not fit, all at once and by name, and builds it again where asked', async () => {
    const { engine, run } = await place();
    const files = [
      await engine('old.engine', { batch: 2 }, { tool: { name: 'tsrt-bench', version: '99.0.0' } }),
      await engine('foreign.engine', { batch: 4 }, { model: { name: 'small', sha256: 'f'.repeat(64) } }),
      await engine('fine.engine'),
    ];
    const error = await errorOf(run({ engineFiles: files }));
    expect(error).toMatchObject({ code: 'ENGINE_INCOMPATIBLE', fix: expect.stringContaining('--rebuild') });
    expect(error.details).toEqual([
      expect.stringMatching(/^old\.engine: tool version: engine 99\.0\.0, here /),
      expect.stringMatching(/^foreign\.engine: model: engine ffffffffffffffff, here [0-9a-f]{16}$/),
    ]);
    const { records, notices } = await run({ engineFiles: files, rebuild: true });
    expect(records.map(({ status }) => status)).toEqual(['completed', 'completed', 'completed']);
    expect(records.map((record) => record.status === 'completed' && record.build.engineFile)).toEqual([undefined, undefined, 'fine.engine']);
    expect(notices.filter((text) => text.includes('built again'))).toHaveLength(2);
  });

  it('refuses flags that say how to build', async () => {
    const { engine, run } = await place();
    const error = await errorOf(run({ engineFiles: [await engine('a.engine')], overrides: { fusion: ['off'], batch: [8] } }));
    expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining('--fusion, --batch say') });
    const sizes = await errorOf(run({ engineFiles: [await engine('b.engine')], overrides: { dims: { sequence: 64 }, inputShapes: {} } }));
    expect(sizes).toMatchObject({ code: 'USAGE', message: expect.stringContaining('--dim says') });
  });

  it('does not resume with another engine', async () => {
    const { engine, run } = await place();
    await run({ engineFiles: [await engine('a.engine')] });
    expect(idsOf((await run({ engineFiles: [await engine('a.engine')], resume: true })).records)).toHaveLength(1);
    const changed = await engine('a.engine', {}, { notices: ['changed'] });
    expect(await errorOf(run({ engineFiles: [changed], resume: true }))).toMatchObject({ code: 'USAGE', message: expect.stringContaining('another a.engine') });
  });

  it('names the file that is broken', async () => {
    const { folder, run } = await place();
    const file = join(folder, 'broken.engine');
    await writeFile(file, 'nothing of the kind');
    expect(await errorOf(run({ engineFiles: [file] }))).toMatchObject({ code: 'ENGINE_INVALID', place: file });
  });
});
