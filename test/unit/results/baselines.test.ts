/** Baselines: what is kept, what is refused, and a clear answer for each way in which a file can be wrong. */
import { appendFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { baselineNames, listBaselines, readBaseline, removeBaseline, saveBaseline } from '../../../src/results/baselines.ts';
import { encodeRecord } from '../../../src/results/codec.ts';
import { selectRecords } from '../../../src/results/select.ts';
import { listRuns } from '../../../src/results/store.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { completed, failed, skipped } from '../../helpers/records.ts';

const wanted = { suite: 'resnet50', devices: ['cpu-test-2c'] };

async function withMain(): Promise<{ readonly results: string; readonly path: string }> {
  const results = await temporaryFolder();
  const { places } = await saveBaseline(results, 'main', [completed(), completed({ batch: 2 })], false);
  return { results, path: places[0]!.path };
}

describe('saveBaseline', () => {
  it('keeps what completed, for each device, and says what it left out', async () => {
    const results = await temporaryFolder();
    const records = [completed(), completed({ device: 'gpu-b', variant: 'webgpu/fp32/fusion-on' }), failed({ batch: 2 }), skipped({ batch: 4 })];
    const { places, leftOut } = await saveBaseline(results, 'main', records, false);
    expect(places.map(({ device, cases }) => [device, cases])).toEqual([
      ['cpu-test-2c', 1],
      ['gpu-b', 1],
    ]);
    expect(leftOut).toHaveLength(2);
    expect((await readBaseline(results, 'main', wanted)).records).toEqual([records[0]]);
    expect(await readdir(join(results, 'baselines'))).toEqual(['main']);
    expect(await listRuns(results)).toEqual([]);
  });

  it('refuses to keep nothing, an unfit name, and to overwrite unless forced', async () => {
    const { results, path } = await withMain();
    await expect(saveBaseline(results, 'x', [failed()], false)).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('nothing to save') });
    for (const name of ['', '..', 'a/b', 'Main', '.hidden', 'latest', 'a b']) {
      await expect(saveBaseline(results, name, [completed()], false)).rejects.toMatchObject({ code: 'USAGE' });
    }
    const before = await readFile(path, 'utf8');
    await expect(saveBaseline(results, 'main', [completed()], false)).rejects.toMatchObject({ code: 'USAGE', fix: expect.stringContaining('--force') });
    expect(await readFile(path, 'utf8')).toBe(before);
    await saveBaseline(results, 'main', [completed({ batch: 8 })], true);
    expect((await readBaseline(results, 'main', wanted)).records).toHaveLength(1);
  });

  it('keeps one whole baseline when two are saved at once', async () => {
    const results = await temporaryFolder();
    const sides = [1, 2].map((batch) => [completed({ batch }), completed({ batch: batch * 10 })]);
    await Promise.all(sides.map((records) => saveBaseline(results, 'main', records, true)));
    const kept = (await readBaseline(results, 'main', wanted)).records.map((record) => record.case.id);
    expect(sides.map((records) => records.map((record) => record.case.id))).toContainEqual(kept);
  });
});

describe('readBaseline', () => {
  it('answers each missing part with what there is', async () => {
    const { results } = await withMain();
    await expect(readBaseline(results, 'other', wanted)).rejects.toMatchObject({ code: 'BASELINE_NOT_FOUND', fix: expect.stringContaining('known: main') });
    await expect(readBaseline(results, 'main', { suite: 'smoke' })).rejects.toMatchObject({ code: 'BASELINE_NOT_FOUND', message: expect.stringContaining('it has resnet50') });
    await expect(readBaseline(results, 'main', { suite: 'resnet50', devices: ['nvidia-h200'] })).rejects.toMatchObject({
      code: 'BASELINE_NOT_FOUND',
      message: expect.stringContaining('no records of nvidia-h200; it has cpu-test-2c'),
      fix: expect.stringContaining('baseline save main'),
    });
  });

  it('asks which suite is meant where a baseline has several', async () => {
    const { results } = await withMain();
    await saveBaseline(results, 'main', [completed({ suite: 'smoke' })], false);
    await expect(readBaseline(results, 'main')).rejects.toMatchObject({ code: 'USAGE', message: expect.stringMatching(/has several suites: (resnet50, smoke|smoke, resnet50)/), fix: expect.stringContaining('--suite') });
    expect((await readBaseline(results, 'main', { suite: 'smoke' })).records).toHaveLength(1);
  });

  it('answers each broken file in its own way', async () => {
    const { results, path } = await withMain();
    const good = await readFile(path, 'utf8');
    const cases: readonly (readonly [text: string, message: RegExp, place: RegExp])[] = [
      ['', /is empty/, /cpu-test-2c\.jsonl$/],
      [good.slice(0, -40), /is cut off/, /cpu-test-2c\.jsonl$/],
      [good.slice(0, 40), /is cut off/, /cpu-test-2c\.jsonl$/],
      [`${good}{"x":\n`, /not JSON/, /:3$/],
      [good.replaceAll('"schemaVersion":1', '"schemaVersion":9'), /schema version 9/, /:1$/],
      [`${good}${encodeRecord(completed({ device: 'gpu-b' }))}\n`, /for cpu-test-2c holds records of cpu-test-2c, gpu-b/, /cpu-test-2c\.jsonl$/],
      [`${encodeRecord(completed({ device: 'gpu-b' }))}\n`, /for cpu-test-2c holds records of gpu-b/, /cpu-test-2c\.jsonl$/],
      [`${good}${encodeRecord(completed({ suite: 'smoke' }))}\n`, /several suites: resnet50, smoke/, /cpu-test-2c\.jsonl$/],
    ];
    for (const [text, message, place] of cases) {
      await writeFile(path, text);
      await expect(readBaseline(results, 'main', wanted)).rejects.toMatchObject({
        code: 'RESULTS_INVALID',
        message: expect.stringMatching(message),
        place: expect.stringMatching(place),
        fix: expect.stringMatching(/./),
      });
    }
  });
});

describe('listBaselines and removeBaseline', () => {
  it('lists all, the broken ones with the reason', async () => {
    const { results, path } = await withMain();
    const later = completed({ startedAt: '2026-02-01T00:00:00.000Z', runId: '20260201T000000Z-b00000', device: 'gpu-b' });
    await saveBaseline(results, 'v1', [later], false);
    await appendFile(path, 'oops\n');
    expect(await listBaselines(results)).toEqual([
      expect.objectContaining({ name: 'main', status: 'unreadable', error: expect.objectContaining({ place: `${path}:3` }) }),
      expect.objectContaining({ name: 'v1', suite: 'resnet50', device: 'gpu-b', cases: 1, measuredAt: '2026-02-01T00:00:00.000Z', tool: later.provenance.tool }),
    ]);
    expect(await listBaselines(await temporaryFolder())).toEqual([]);
  });

  it('deletes a part or all, broken or not', async () => {
    const { results, path } = await withMain();
    await saveBaseline(results, 'main', [completed({ device: 'gpu-b' })], false);
    await writeFile(path, 'broken');
    expect(await removeBaseline(results, 'main', { devices: ['cpu-test-2c'] })).toEqual([path]);
    expect(await baselineNames(results)).toEqual(['main']);
    expect(await removeBaseline(results, 'main')).toHaveLength(1);
    expect(await baselineNames(results)).toEqual([]);
    await expect(removeBaseline(results, 'main')).rejects.toMatchObject({ code: 'BASELINE_NOT_FOUND' });
  });

  it('is found by name among the sources', async () => {
    const { results } = await withMain();
    expect((await selectRecords('main', { results })).label).toBe('baseline main');
    expect((await selectRecords('baseline:main', { results, suite: 'resnet50' })).records).toHaveLength(2);
  });
});
