/** `gate --update`: what becomes the baseline after a review, and what never does. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { baselineHistory, readBaseline, saveBaseline } from '../../../src/results/baselines.ts';
import { encodeRecord } from '../../../src/results/codec.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import { runFilePath } from '../../../src/results/store.ts';
import { judgeRecords } from '../../../src/workflows/gate.ts';
import { updateBaseline, type UpdateRequest } from '../../../src/workflows/gate-update.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { completed, failed } from '../../helpers/records.ts';

const [OLD, NEW] = ['20260131T080509Z-aaaaaa', '20260201T080509Z-bbbbbb'];
const SUITE = 'unlisted';
const timings = (ms: number) => [1, 2, 3, 4, 5, 6, 7].map((round) => Array.from({ length: 20 }, (_, i) => ms * (1 + i * 1e-3 + (round % 3) * 5e-4)));
const old = (batch: number, ms = 10) => completed({ suite: SUITE, runId: OLD, batch, latencyMs: timings(ms) });
const now = (batch: number, ms = 10) => completed({ suite: SUITE, runId: NEW, startedAt: '2026-02-01T08:05:09.000Z', batch, latencyMs: timings(ms) });

async function judged(baseline: readonly BenchRecord[], candidate: readonly BenchRecord[]) {
  const results = await temporaryFolder();
  const path = runFilePath(results, SUITE, 'cpu-test-2c', NEW);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, candidate.map((record) => `${encodeRecord(record)}\n`).join(''));
  await saveBaseline(results, 'main', baseline, false);
  const request = { results, suite: undefined, baseline: 'main', candidate: 'latest', thresholds: [], confidence: undefined, allowDifferentDevice: false, ignoreMissing: false };
  const update = async (more: Partial<UpdateRequest> = {}) => updateBaseline(await judgeRecords(request), { home: results, name: 'main', accept: [], force: false, ...more });
  const runs = async () => (await readBaseline(results, 'main', { suite: SUITE })).records.map(({ case: { id }, provenance: { runId } }) => `${/b\d+/.exec(id)?.[0]} ${runId.slice(-6)}`);
  return { results, update, runs };
}

describe('updateBaseline', () => {
  it('takes a run that passed, says what moved, and keeps the history', async () => {
    const { results, update, runs } = await judged([old(1), old(2)], [now(1), now(2, 8), now(4)]);
    const outcome = await update();
    expect(outcome).toMatchObject({ name: 'main', accepted: [], places: [{ device: 'cpu-test-2c', cases: 3 }] });
    expect(outcome.changes).toEqual([expect.stringMatching(/b2\/.*: improved: latency p50 fell by 20 %/), expect.stringMatching(/b2\/.*: improved: throughput rose/), expect.stringMatching(/b4\/.*: new/)]);
    expect(await runs()).toEqual(['b1 bbbbbb', 'b2 bbbbbb', 'b4 bbbbbb']);
    const [history] = await baselineHistory(results, 'main');
    expect(history?.updates).toMatchObject([{ runId: OLD, cases: 2 }, { runId: NEW, cases: 3, verdict: 'passed', changes: outcome.changes }]);
    await expect(update()).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('is already this run') });
  });

  it('what regressed must be named, or forced', async () => {
    const { results, update, runs } = await judged([old(1), old(2), old(4)], [now(1), now(2, 13), now(4, 13)]);
    await expect(update()).rejects.toMatchObject({
      code: 'USAGE',
      message: 'the baseline is not updated: 2 of 3 cases did not pass',
      details: [expect.stringMatching(/^regressed .*b2.*latency p50 rose by 30 %/), expect.stringContaining('b4')],
      fix: expect.stringMatching(/--accept CASE.*--force/),
    });
    await expect(update({ accept: ['/b2/'] })).rejects.toMatchObject({ message: 'the baseline is not updated: 1 of 3 cases did not pass' });
    await expect(update({ accept: ['nothing-like-it'] })).rejects.toMatchObject({ message: "no case id contains 'nothing-like-it'", details: expect.arrayContaining([expect.stringContaining('b2')]) });
    expect(await runs()).toEqual(['b1 aaaaaa', 'b2 aaaaaa', 'b4 aaaaaa']);
    expect((await update({ accept: ['/b2/', '/b4/'] })).accepted).toHaveLength(2);
    expect(await runs()).toEqual(['b1 bbbbbb', 'b2 bbbbbb', 'b4 bbbbbb']);
    expect((await baselineHistory(results, 'main'))[0]?.updates.at(-1)).toMatchObject({ verdict: 'regressed', forced: true });
  });

  it('a case that fails now is never taken, forced or not', async () => {
    const { update, runs } = await judged([old(1), old(2)], [now(1), failed({ suite: SUITE, runId: NEW, batch: 2 })]);
    await expect(update({ force: true })).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('a case of the baseline did not complete'), fix: expect.stringContaining('baseline save main --force') });
    expect(await runs()).toEqual(['b1 aaaaaa', 'b2 aaaaaa']);
  });

  it('a case that did not run keeps what it had', async () => {
    const { update, runs } = await judged([old(1), old(2)], [now(1)]);
    expect((await update()).changes).toEqual([expect.stringMatching(/b2\/.*kept as it was/)]);
    expect(await runs()).toEqual(['b1 bbbbbb', 'b2 aaaaaa']);
  });

  it('refuses where nothing was compared, and where the baseline changed since it was judged', async () => {
    const apart = await judged([old(1)], [now(2)]);
    await expect(apart.update({ force: true })).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('no case was compared') });
    const { results } = await judged([old(1)], [now(1)]);
    const request = { results, suite: undefined, baseline: 'main', candidate: 'latest', thresholds: [], confidence: undefined, allowDifferentDevice: false, ignoreMissing: false };
    const before = await judgeRecords(request);
    await saveBaseline(results, 'main', [completed({ suite: SUITE, runId: '20260115T000000Z-cccccc', latencyMs: timings(10) })], true);
    await expect(updateBaseline(before, { home: results, name: 'main', accept: [], force: true })).rejects.toMatchObject({ code: 'RESULTS_LOCKED', fix: expect.stringContaining('gate again') });
  });
});
