/** Histories: levels named with the run that began them, drawn in one line, read from stored runs. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { historiesOf } from '../../../src/gate/history.ts';
import { METRIC_NAMES, type MetricName } from '../../../src/gate/metrics.ts';
import { describeSpan, renderHistories } from '../../../src/report/history.ts';
import { sparkline } from '../../../src/report/sparkline.ts';
import { encodeRecord } from '../../../src/results/codec.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import { runFilePath } from '../../../src/results/store.ts';
import { changePoints } from '../../../src/stats/change-points.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { readHistory } from '../../../src/workflows/history.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { ACCURACY, completed, failed } from '../../helpers/records.ts';

const runIdOf = (day: number) => `202601${String(day).padStart(2, '0')}T000000Z-00000${day % 10}`;
const run = (day: number, ms: number, batch = 1) =>
  completed({ suite: 'smoke', batch, runId: runIdOf(day), startedAt: `2026-01-${String(day).padStart(2, '0')}T00:00:00.000Z`, latencyMs: [[ms, ms, ms]] });
const wobble = (day: number) => 1 + ((day * 7) % 5) / 1000;
const RUNS = Array.from({ length: 16 }, (_, i) => run(i + 1, (i < 9 ? 10 : 11) * wobble(i)));

describe('historiesOf', () => {
  it('finds the run from which a case was slower', () => {
    const [history] = historiesOf(RUNS, 'latency-p50', 1);
    expect(history?.points).toHaveLength(16);
    expect(history?.changes).toMatchObject([{ at: { runId: runIdOf(10), revision: '0123456789abcdef' }, before: expect.closeTo(10.02, 2), after: expect.closeTo(11.02, 2) }]);
  });

  it('takes a machine whose runs follow each other for no change', () => {
    const random = createRandom(8);
    let state = normal(random);
    const levels = Array.from({ length: 40 }, () => 10 * Math.exp(0.02 * (state = 0.5 * state + Math.sqrt(0.75) * normal(random))));
    expect(changePoints(levels, { seed: 1 })).toEqual([26]);
    const [history] = historiesOf(levels.map((ms, i) => run(i + 1, ms)), 'latency-p50', 1);
    expect(history?.changes).toEqual([]);
  });

  it('keeps cases and devices apart, and leaves out what did not complete', () => {
    const records: BenchRecord[] = [run(1, 10), run(1, 20, 2), failed({ suite: 'smoke' }), completed({ suite: 'smoke', device: 'nvidia-h200' })];
    expect(historiesOf(records, 'throughput', 1).map(({ caseId, device, points }) => [caseId, device, points.length])).toEqual([
      ['onnxruntime/fp32/fusion-on/b1/single-stream', 'cpu-test-2c', 1],
      ['onnxruntime/fp32/fusion-on/b2/single-stream', 'cpu-test-2c', 1],
      ['onnxruntime/fp32/fusion-on/b1/single-stream', 'nvidia-h200', 1],
    ]);
  });
});

describe('metrics of a history', () => {
  const accurate = (day: number, top1Percent: number, sha256: string) => {
    const record = { ...run(day, 10), accuracy: { ...ACCURACY, top1Percent, snrDb: undefined } };
    return { ...record, provenance: { ...record.provenance, model: { ...record.provenance.model, sha256 } } };
  };

  it('are those of the gate; what a record does not tell has no point', () => {
    const valueOf = (metric: MetricName) => historiesOf([accurate(1, 79, 'a')], metric, 1)[0]?.points[0]?.value;
    expect(METRIC_NAMES.map((metric) => [metric, valueOf(metric)])).toEqual([
      ['latency-p50', 10], ['latency-p95', 10], ['latency-p99', 10], ['throughput', expect.closeTo(100, 6)], ['device-time', undefined], ['build-time', 812], ['load-time', 95], ['first-inference', 40],
      ['memory-peak', 250 * 2 ** 20], ['memory-device', undefined], ['engine-bytes', 100 * 2 ** 20], ['top1', 79], ['agreement', 100], ['snr', 150],
    ]);
  });

  it('change by points where differences count, and another model is named', () => {
    const records = Array.from({ length: 16 }, (_, i) => accurate(i + 1, i < 9 ? 80 : 78.5, i < 9 ? 'a' : 'b'));
    expect(renderHistories(historiesOf(records, 'top1', 1))).toContain('top-1 accuracy 80.0 % → 78.5 % (−1.50 points) from run 20260110T000000Z-000000 on, revision 0123456789abcdef, which measured another model\n');
  });
});

describe('renderHistories', () => {
  it('draws a line a case and a sentence a change', () => {
    expect(renderHistories(historiesOf(RUNS, 'latency-p50', 1))).toMatchInlineSnapshot(`
      "case                                         runs  latency p50          last  changes
      ─────────────────────────────────────────────────────────────────────────────────────
      onnxruntime/fp32/fusion-on/b1/single-stream    16  ▁▁▁▁▁▁▁▁▁███████  11.0 ms        1

      onnxruntime/fp32/fusion-on/b1/single-stream: latency p50 10.0 ms → 11.0 ms (+10.0 %) from run 20260110T000000Z-000000 on, revision 0123456789abcdef
      "
    `);
    expect(renderHistories([])).toBe('no completed case has it\n');
    expect(describeSpan('smoke', historiesOf(RUNS, 'latency-p50', 1))).toBe('16 runs of smoke, 2026-01-01 to 2026-01-16');
  });

  it('sparklines span their own range', () => {
    expect(sparkline([1, 2, 3, 4, 5, 6, 7, 8], 40)).toBe('▁▂▃▄▅▆▇█');
    expect(sparkline([9, 9, 1, 8], 2)).toBe('▁█');
    expect(sparkline([5, 5], 9)).toBe('▄▄');
  });
});

describe('readHistory', () => {
  const store = async (results: string, records: readonly BenchRecord[]) => {
    for (const record of records) {
      const path = runFilePath(results, 'smoke', 'cpu-test-2c', record.provenance.runId);
      await mkdir(join(path, '..'), { recursive: true });
      await writeFile(path, `${encodeRecord(record)}\n`);
    }
  };
  const request = { suite: undefined, metric: 'latency-p50', caseFilter: undefined, last: 200 } as const;

  it('reads the stored runs in order, the newest so many, and names those it can’t read', async () => {
    const results = await temporaryFolder();
    await store(results, RUNS);
    expect((await readHistory({ results, ...request })).histories[0]?.changes).toHaveLength(1);
    expect((await readHistory({ results, ...request, last: 4 })).histories[0]?.points.map(({ runId }) => runId)).toEqual([13, 14, 15, 16].map(runIdOf));
    await expect(readHistory({ results, ...request, caseFilter: 'b9' })).rejects.toMatchObject({ code: 'USAGE', message: "no case of suite smoke has 'b9' in its id", details: ['onnxruntime/fp32/fusion-on/b1/single-stream'] });
    await writeFile(runFilePath(results, 'smoke', 'cpu-test-2c', runIdOf(3)), 'no record\n');
    expect((await readHistory({ results, ...request })).notices).toEqual([expect.stringContaining(runIdOf(3))]);
  });

  it('says where there is none', async () => {
    const results = await temporaryFolder();
    await expect(readHistory({ results, ...request })).rejects.toMatchObject({ code: 'RESULTS_NOT_FOUND', fix: expect.stringContaining('measure first') });
  });
});
