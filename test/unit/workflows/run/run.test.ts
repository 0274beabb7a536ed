/** Whole runs on the null backend, in real worker processes: what no single stage can show. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../../../src/config.ts';
import type { RunEvent } from '../../../../src/workflows/events.ts';
import type { RunRequest, RunResult } from '../../../../src/workflows/run/request.ts';
import { runSuite } from '../../../../src/workflows/run/run.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';

const SUITE = {
  name: 'nulls',
  description: 'made-up answers on a fake clock',
  model: { name: 'smoke', builder: { name: 'smoke' } },
  inputs: [{ kind: 'synthetic', values: { distribution: 'normal' } }],
  task: { kind: 'classification' },
  variants: [{ backend: 'null' }],
  measure: { rounds: 2, timeMs: 20, isolation: 'case' },
  accuracy: { samples: 3 },
};

interface Place {
  readonly folder: string;
  run(changes?: Partial<RunRequest>, plugins?: readonly string[]): Promise<RunResult & { readonly events: readonly RunEvent[] }>;
}

async function place(suite: Readonly<Record<string, unknown>> = SUITE): Promise<Place> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'suite.json'), JSON.stringify(suite));
  return {
    folder,
    async run(changes = {}, plugins = []) {
      const events: RunEvent[] = [];
      const result = await runSuite({
        suite: join(folder, 'suite.json'),
        settings: await resolveConfig({ results: join(folder, 'results'), cache: join(folder, 'cache'), plugins }, folder),
        overrides: {},
        modelFile: undefined,
        limit: undefined,
        device: undefined,
        resume: false,
        signal: new AbortController().signal,
        onEvent: (event) => events.push(event),
        ...changes,
      });
      return { ...result, events };
    },
  };
}

const built = fileURLToPath(new URL('../../../../dist/src/backends/null/null.js', import.meta.url));

/** A plugin whose backend is the null backend with some parts replaced. */
async function plugin(folder: string, parts: string): Promise<string> {
  const path = join(folder, 'plugin.mjs');
  await writeFile(
    path,
    `import { nullBackend } from ${JSON.stringify(built)};
     export default { name: 'odd', version: '1', backends: [{ ...nullBackend, name: 'odd', ${parts} }] };`,
  );
  return path;
}

describe('runSuite', () => {
  it('fills a batch that the dataset does not, and counts only real samples', async () => {
    const { records } = await (await place()).run({ overrides: { batch: [8] } });
    expect(records).toMatchObject([{ status: 'completed', accuracy: { samples: 3, agreementPercent: 100 } }]);
  });

  it('measures without a reference, and the record says that the answer is unchecked', async () => {
    const { folder, run } = await place();
    const path = await plugin(folder, "reference: async () => { throw new Error('no memory for it'); }");
    const { records } = await run({ overrides: { backend: ['odd'] } }, [path]);
    expect(records).toMatchObject([{ status: 'completed', accuracy: undefined }]);
    const texts = records[0]!.warnings.flatMap((warning) => (warning.kind === 'notice' ? [warning.text] : []));
    expect(texts).toContainEqual(expect.stringMatching(/accuracy is unknown: backend odd\.reference threw: no memory for it/));
    expect(texts).toContainEqual(expect.stringMatching(/answer is unchecked: backend odd\.reference threw: no memory for it/));
  });

  it('gives an engine of another output shape no timing', async () => {
    const { folder, run } = await place();
    const path = await plugin(
      folder,
      `load: async (engine, options) => {
        const session = await nullBackend.load(engine, options);
        return { ...session, run: async (inputs) => Object.fromEntries(Object.entries(await session.run(inputs)).map(([name, t]) => [name, { ...t, dims: [...t.dims, 1] }])) };
      }`,
    );
    const { records } = await run({ overrides: { backend: ['odd'] } }, [path]);
    expect(records).toMatchObject([{ status: 'failed', stage: 'answer', cause: 'wrong-answer', rounds: [] }]);
    const unassessed = await run({ accuracy: false, overrides: { backend: ['odd'] } }, [path]);
    expect(unassessed.records).toMatchObject([{ status: 'failed', stage: 'answer', cause: 'wrong-answer', rounds: [] }]);
  });

  it('leaves the accuracy run out where it is asked to', async () => {
    const { events, records } = await (await place()).run({ accuracy: false });
    expect(records).toMatchObject([{ status: 'completed', accuracy: undefined }]);
    expect(events.filter((event) => event.kind === 'stage' && event.stage === 'accuracy')).toEqual([]);
  });

  it('asks for an unknown backend before it makes a model', async () => {
    const { folder, run } = await place();
    await expect(run({ overrides: { backend: ['nul'] } })).rejects.toMatchObject({ code: 'BACKEND_UNKNOWN' });
    expect(await readdir(folder)).toEqual(['suite.json']);
  });

  it('looks for the dataset before it makes a model', async () => {
    const { folder, run } = await place();
    await expect(run({ overrides: { dataset: join(folder, 'photos') } })).rejects.toMatchObject({ code: 'DATASET_INVALID', place: join(folder, 'photos') });
    expect(await readdir(folder)).toEqual(['suite.json']);
  });

  it('leaves no file where it is interrupted before a case has ended', async () => {
    const { folder, run } = await place();
    const controller = new AbortController();
    const result = await run({
      signal: controller.signal,
      onEvent: (event) => {
        if (event.kind === 'stage' && event.stage === 'build') controller.abort();
      },
    });
    expect(result).toMatchObject({ interrupted: true, files: [], records: [] });
    expect(await readdir(join(folder, 'results', 'nulls'))).toEqual([]);
    const before = new AbortController();
    before.abort();
    await expect((await place()).run({ signal: before.signal })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  it('says where accuracy stood when it was stopped', async () => {
    const controller = new AbortController();
    const { notices, interrupted, records, stagesMs } = await (await place()).run({
      signal: controller.signal,
      onEvent: (event) => {
        if (event.kind === 'progress' && event.stage === 'accuracy') controller.abort();
      },
    });
    expect({ interrupted, records, notices }).toEqual({
      interrupted: true,
      records: [],
      notices: ['accuracy was stopped after 1 of 3 samples, where it stood at: null/fp32/fusion-on as fp32 in 100 %, the same numbers as fp32'],
    });
    expect(Object.keys(stagesMs)).toEqual(['model', 'build', 'accuracy']);
  });

  it('resumes with more time, and not as another experiment', async () => {
    const two = { ...SUITE, variants: [{ backend: 'null', precision: ['fp32', 'fp16'] }] };
    const { run } = await place(two);
    const controller = new AbortController();
    const first = await run({
      overrides: { budgetMs: 60_000 },
      signal: controller.signal,
      onEvent: (event) => {
        if (event.kind === 'record') controller.abort();
      },
    });
    expect(first.interrupted).toBe(true);
    await expect(run({ resume: true, overrides: { rounds: 5 } })).rejects.toMatchObject({ code: 'USAGE', message: expect.stringMatching(/the suite or its overrides/) as string });
    const resumed = await run({ resume: true, overrides: { budgetMs: 120_000 } });
    expect(resumed.runId).toBe(first.runId);
    expect(resumed.records.map((record) => record.status)).toEqual(['completed', 'completed']);
    expect((await readFile(resumed.files[0]!, 'utf8')).trim().split('\n').length).toBeGreaterThanOrEqual(2);
  });

  it('builds and assesses no engine again when it resumes, unless its file is another one, and keeps none when it is done', async () => {
    const { folder, run } = await place({ ...SUITE, variants: [{ backend: 'odd', precision: ['fp32', 'fp16'] }], measure: { ...SUITE.measure, builds: 1 } });
    const log = join(folder, 'built.txt');
    const path = await plugin(folder, `build: async (...args) => { (await import('node:fs')).appendFileSync(${JSON.stringify(log)}, '.'); return nullBackend.build(...args); }`);
    const builds = async (): Promise<number> => (await readFile(log, 'utf8')).length;
    let assessed = 0;
    const interrupt = async (resume: boolean, stage: 'accuracy' | 'build' | 'measure' = 'measure'): Promise<RunResult> => {
      const controller = new AbortController();
      const onEvent = (event: RunEvent): void => {
        if (event.kind === 'progress' && event.stage === stage) controller.abort();
        if (event.kind === 'progress' && event.stage === 'accuracy') assessed++;
      };
      return run({ resume, signal: controller.signal, onEvent }, [path]);
    };
    const first = await interrupt(false);
    const once = await builds();
    expect([first.interrupted, once]).toEqual([true, 2]);
    expect(first.notices.at(-1)).toMatch(/^the engines \(\d+\.\d MiB\) are kept in the cache folder until this suite's next run; --resume uses them$/);
    assessed = 0;
    const again = await interrupt(true);
    expect([again.interrupted, again.runId, await builds(), assessed]).toEqual([true, first.runId, once, 0]);
    // Cut off again before anything is measured, or before its first record: the run that can be resumed loses nothing.
    await interrupt(true, 'build');
    expect(await builds()).toBe(once);
    await interrupt(false, 'accuracy');
    expect(await builds()).toBe(once + 2);
    expect((await interrupt(true)).runId).toBe(first.runId);
    expect(await builds()).toBe(once + 2);
    const kept = join(folder, 'cache', 'interrupted', 'nulls');
    await writeFile(join(kept, '0.engine'), 'something else');
    const done = await run({ resume: true }, [path]);
    expect(done.records).toMatchObject([{ status: 'completed', accuracy: { samples: 3 } }, { status: 'completed', accuracy: { samples: 3 } }]);
    expect([await builds(), await readdir(join(folder, 'cache', 'interrupted'))]).toEqual([once + 3, []]);
    // Another run has nothing to do with them.
    await interrupt(false);
    await run({}, [path]);
    expect(await builds()).toBe(once + 3 + 2 + 2);
  });

  it('keeps what reached no device under one of its own backend, and names every file', async () => {
    const { folder, run } = await place({ ...SUITE, variants: [{ backend: 'null' }, { backend: 'odd' }] });
    const path = await plugin(folder, "probe: async () => ({ status: 'available', version: '1', devices: [{ slug: 'odd-chip', kind: 'fake', description: '', properties: {} }] }), supports: () => [{ node: 'n', op: 'o', reason: 'not mine' }]");
    const { records, files } = await run({}, [path]);
    expect(records.map(({ status, provenance }) => [status, provenance.environment.device.slug])).toEqual([['completed', 'null'], ['skipped', 'odd-chip']]);
    expect(files.map((file) => basename(dirname(file))).sort()).toEqual(['null', 'odd-chip']);
  });

  it('loads an engine first where a GPU’s driver compiles it', async () => {
    const { folder, run } = await place({ ...SUITE, variants: [{ backend: 'odd' }], measure: { ...SUITE.measure, rounds: 1 } });
    const path = await plugin(folder, "compilesAtLoad: true, probe: async () => ({ status: 'available', version: '1', devices: [{ slug: 'null', kind: 'gpu', description: '', properties: {} }] })");
    const { records } = await run({ accuracy: false }, [path]);
    expect(records).toMatchObject([{ status: 'completed', build: { loadFirstMs: expect.any(Number) } }]);
  });

  it('states speed-ups against what was measured, where the first variant was not', async () => {
    const { folder, run } = await place({ ...SUITE, variants: [{ backend: 'odd' }, { backend: 'null' }] });
    const path = await plugin(folder, "probe: async () => { throw new Error('no driver'); }");
    const { records, baselineVariant } = await run({}, [path]);
    expect(records).toMatchObject([{ status: 'skipped', reason: 'odd: backend odd.probe threw: no driver' }, { status: 'completed' }]);
    expect(records.map(({ inSuite }) => inSuite)).toEqual([{ index: 0, baseline: false }, { index: 1, baseline: false }]);
    expect(baselineVariant).toBe('null/fp32/fusion-on');
  });
});
