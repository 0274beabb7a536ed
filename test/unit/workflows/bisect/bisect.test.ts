/** Bisections on the null backend's fake clock: what changed is known, so is the answer. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../../../src/config.ts';
import { buildSmoke } from '../../../../src/suite/builders/smoke.ts';
import { renderBisect } from '../../../../src/report/bisect.ts';
import { bisect } from '../../../../src/workflows/bisect/bisect.ts';
import type { BisectReport, BisectRequest, BisectSubject } from '../../../../src/workflows/bisect/request.ts';
import { buildEngineFile } from '../../../../src/workflows/build.ts';
import { openSide, type SideRequest } from '../../../../src/workflows/paired/side.ts';
import { openRegistry } from '../../../../src/workflows/registry.ts';
import { engineWorkers } from '../../../helpers/engine-workers.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { nullBuild } from '../../../helpers/measure.ts';

const SUITE = {
  name: 'nulls',
  description: 'made-up answers on a fake clock',
  model: { name: 'smoke', builder: { name: 'smoke' } },
  inputs: [{ kind: 'synthetic', values: { distribution: 'normal' } }],
  task: { kind: 'classification' },
  variants: [{ backend: 'null', backendOptions: { latencyNs: 1_000_000, jitter: 0.001 } }],
  measure: { rounds: 3, timeMs: 20, builds: 1 },
  accuracy: { samples: 3 },
};

const settingsIn = (folder: string) => resolveConfig({ results: join(folder, 'results'), cache: join(folder, 'cache') }, folder);

function requestIn(folder: string, settings: Awaited<ReturnType<typeof settingsIn>>): SideRequest {
  const { signal } = new AbortController();
  return { suite: join(folder, 'suite.json'), settings, overrides: {}, modelFile: undefined, device: undefined, signal, onEvent: () => {} };
}

async function place(suite: Readonly<Record<string, unknown>> = SUITE) {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'suite.json'), JSON.stringify(suite));
  const settings = await settingsIn(folder);
  return {
    folder,
    search(subject: BisectSubject, more: Partial<BisectRequest> = {}): Promise<BisectReport> {
      return bisect({
        ...requestIn(folder, settings),
        subject,
        metric: 'latency-p50',
        threshold: undefined,
        confidence: undefined,
        caseId: undefined,
        rounds: 12,
        fresh: false,
        services: engineWorkers(),
        ...more,
      });
    },
  };
}

const changes = (...words: string[]): BisectSubject => ({ kind: 'changes', changes: words });
const SEEDS = (from: number, count: number) => Array.from({ length: count }, (_, i) => `seed=${from + i}`);

describe('bisect', () => {
  test('names the change that made it slower, and what was compared', async () => {
    const { search } = await place();
    const report = await search(changes(...SEEDS(2, 5), 'latencyPerItemNs=100000', ...SEEDS(7, 3)));
    expect(report).toMatchObject({ outcome: { kind: 'found', index: 6 }, direction: 'worse', interrupted: false });
    expect(report.answer).toMatch(/^latency p50 of null\/\S+ rose with '\+ latencyPerItemNs=100000', state 7 of 10; with '\+ seed=6'/);
    expect(report.probes[0]).toMatchObject({ index: 9, verdict: 'changed' });
    expect(report.probes.length).toBeLessThanOrEqual(report.errors.probes);
    expect(report.errors).toMatchObject({ falseAlarms: expect.any(Number), missed: expect.closeTo(0.025, 6) });
    expect(renderBisect(report)).toContain(report.answer);
  });

  test('a change for the better is found as well', async () => {
    const { search } = await place();
    const report = await search(changes('seed=2', 'precision=fp16', 'seed=3', 'seed=4'));
    expect(report).toMatchObject({ outcome: { kind: 'found', index: 2 }, direction: 'better' });
    expect(report.answer).toContain('fell');
  });

  test('states that fail are skipped, and the answer is the range they leave', async () => {
    const { search } = await place();
    const report = await search(changes('seed=2', 'fault=error', 'latencyPerItemNs=200000', 'fault=none', 'seed=3'));
    expect(report).toMatchObject({ outcome: { kind: 'range', after: 1, upTo: 4 } });
    expect(report.answer).toContain('2 states between could not be decided');
    expect(report.probes.filter(({ verdict }) => verdict === 'skipped').map(({ index }) => index).sort()).toEqual([2, 3]);
  });

  test('ends that do not differ, and ends that can not be compared', async () => {
    const { search } = await place();
    expect(await search(changes('seed=2', 'seed=3'))).toMatchObject({ outcome: { kind: 'no-change' }, caseId: undefined, probes: [{ verdict: 'unchanged' }] });
    const broken = await search(changes('seed=2', 'fault=error'));
    expect(broken).toMatchObject({ outcome: { kind: 'undecided' } });
    expect(broken.answer).toMatch(/now fails .*as asked/);
  });

  test('a first state that can not be built is an error, not a skip', async () => {
    const { search } = await place({ ...SUITE, variants: [{ backend: 'null', backendOptions: { fault: 'error', faultAt: 'build' } }] });
    await expect(search(changes('seed=2'))).rejects.toMatchObject({ code: 'BASELINE_INCOMPARABLE', details: [expect.stringContaining('as asked')] });
  });

  test('results that can not be kept are said before anything is measured', async () => {
    const { folder, search } = await place();
    await writeFile(join(folder, 'results'), 'a file');
    const said: string[] = [];
    const onEvent: BisectRequest['onEvent'] = (event) => void (event.kind === 'notice' && said.push(event.text));
    await expect(search(changes('seed=2'), { onEvent })).rejects.toMatchObject({ code: 'RESULTS_UNWRITABLE' });
    expect(said.filter((text) => text.startsWith('probe'))).toEqual([]);
  });

  test('of several cases the one that differs most is followed, or the one that is asked for', async () => {
    const suite = { ...SUITE, variants: [{ backend: 'null', backendOptions: { latencyNs: [1_000_000, 9_000_000], jitter: 0.001 } }] };
    const { search } = await place(suite);
    const found = await search(changes('seed=2', 'latencyPerItemNs=500000'));
    expect(found.caseId).toContain('latencyNs-1000000');
    expect(found.outcome).toEqual({ kind: 'found', index: 2 });
    const asked = await search(changes('seed=2', 'latencyPerItemNs=500000'), { caseId: found.caseId!.replace('latencyNs-1000000', 'latencyNs-9000000'), threshold: 3 });
    expect(asked).toMatchObject({ outcome: { kind: 'found', index: 2 }, threshold: 3 });
    await expect(search(changes('seed=2'), { caseId: 'null/fp32' })).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('an exact metric needs no statistics', async () => {
    const { search } = await place();
    const report = await search(changes('latencyNs=1000001', 'latencyNs=1000002', 'latencyNs=123456789', 'latencyNs=123456780'), { metric: 'engine-bytes', threshold: 0 });
    expect(report).toMatchObject({ outcome: { kind: 'found', index: 3 }, probes: [{ change: { kind: 'exact', metric: 'engine-bytes' } }, {}, {}] });
  });
});

describe('states that are files', () => {
  test('engine files of the suite’s model, whatever their options', async () => {
    const { search, folder } = await place();
    const { model } = await openSide(requestIn(folder, await settingsIn(folder)));
    const registry = await openRegistry([]);
    const build = async (name: string, latencyNs: number): Promise<string> => {
      const options = { ...nullBuild({ latencyNs }), batch: 1, dims: {}, inputShapes: {} };
      return (await buildEngineFile({ model: model.path, options, output: join(folder, `${name}.engine`), registry, device: undefined, signal: undefined })).file;
    };
    const files = [await build('a', 1_000_000), await build('b', 1_010_000), await build('c', 1_500_000), await build('d', 1_510_000)];
    const report = await search({ kind: 'engines', files });
    expect(report).toMatchObject({ subject: 'engines', outcome: { kind: 'found', index: 2 }, direction: 'worse' });
    expect(report.answer).toContain(files[2]);
  });

  test('models, each with the suite’s own options', async () => {
    const { search, folder } = await place();
    const write = async (name: string, classes: number): Promise<string> => {
      const file = join(folder, name);
      await writeFile(file, Buffer.concat([...buildSmoke({ seed: 1, classes }).chunks()]));
      return file;
    };
    // The null engine's size is its header's, which names the outputs' sizes.
    const files = [await write('a.onnx', 10), await write('b.onnx', 11), await write('c.onnx', 1000), await write('d.onnx', 1001)];
    const report = await search({ kind: 'models', files }, { metric: 'engine-bytes', threshold: 0 });
    expect(report).toMatchObject({ subject: 'models', outcome: { kind: 'found', index: 2 } });
  });
});

describe('a search that is kept', () => {
  const question = changes(...SEEDS(2, 4), 'latencyPerItemNs=100000', ...SEEDS(6, 2));

  test('is taken over whole: nothing is measured again', async () => {
    const { search } = await place();
    const first = await search(question);
    const services = engineWorkers();
    const again = await search(question, { services });
    expect(again).toMatchObject({ outcome: first.outcome, probes: first.probes, threshold: first.threshold });
    expect(again.notices).toContainEqual(expect.stringMatching(/earlier search: \d comparisons;/));
    expect(services.launches).toEqual([]);
    const fresh = await search(question, { services, fresh: true });
    expect(fresh.outcome).toEqual(first.outcome);
    expect(services.launches.length).toBeGreaterThan(0);
  });

  test('ends that could not be compared are tried again', async () => {
    const { search } = await place();
    const services = engineWorkers();
    const ask = () => search(changes('seed=2', 'fault=error'), { services });
    expect(await ask()).toMatchObject({ outcome: { kind: 'undecided' } });
    const { length } = services.launches;
    expect(await ask()).toMatchObject({ outcome: { kind: 'undecided' }, notices: expect.not.arrayContaining([expect.stringContaining('earlier search')]) });
    expect(services.launches.length).toBe(2 * length);
  });

  test('goes on where it was interrupted, with the comparisons that were finished', async () => {
    const { search, folder } = await place();
    const controller = new AbortController();
    const stopped = await search(question, {
      signal: controller.signal,
      onEvent: (event) => {
        if (event.kind === 'notice' && event.text.startsWith('probe 2')) controller.abort();
      },
    });
    expect(stopped).toMatchObject({ interrupted: true, outcome: { kind: 'probe' }, probes: [{ index: 7 }] });
    const whole = await search(question);
    expect(whole).toMatchObject({ outcome: { kind: 'found', index: 5 }, interrupted: false });
    expect(whole.probes[0]).toEqual(stopped.probes[0]);
    expect(await readdir(join(folder, 'results', 'bisect'))).toHaveLength(1);
  });

  test('another question does not take it over; a damaged file is said to be', async () => {
    const { search } = await place();
    const first = await search(changes('seed=2', 'latencyPerItemNs=100000'));
    const other = await search(changes('seed=3', 'latencyPerItemNs=100000'));
    expect(other.stateFile).not.toBe(first.stateFile);
    await writeFile(first.stateFile, (await readFile(first.stateFile, 'utf8')).slice(0, 100));
    await expect(search(changes('seed=2', 'latencyPerItemNs=100000'))).rejects.toMatchObject({ code: 'RESULTS_INVALID', fix: expect.stringContaining('--fresh') });
  });
});

describe('what is no search', () => {
  test.each([
    { subject: changes('seed'), says: /'seed' is not a change/ },
    { subject: changes('precision=fp166'), says: /did you mean 'fp16'/ },
    { subject: changes('batch=8'), says: /the work/ },
    { subject: { kind: 'models', files: ['/nowhere/a.onnx', '/nowhere/b.onnx'] } as const, says: /can't be read/ },
    { subject: { kind: 'engines', files: ['/nowhere/a.engine', '/nowhere/b.engine'] } as const, says: /no such engine file/ },
  ])('$subject', async ({ subject, says }) => {
    const { search } = await place();
    await expect(search(subject)).rejects.toThrow(says);
  });
});
