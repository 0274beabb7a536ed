/** From files to a verdict, as the commands go: run, baseline, gate, compare, report. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Comparison } from '../../../src/gate/compare.ts';
import { REPORTERS } from '../../../src/report/reporters.ts';
import { encodeRecord } from '../../../src/results/codec.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import { saveBaseline } from '../../../src/results/baselines.ts';
import { runFilePath } from '../../../src/results/store.ts';
import { deleteBaseline, describeBaselines, saveAsBaseline, showBaseline } from '../../../src/workflows/baseline.ts';
import { compareRecords } from '../../../src/workflows/compare.ts';
import { type GateRequest, runGate } from '../../../src/workflows/gate.ts';
import { publishGate } from '../../../src/workflows/publish-gate.ts';
import { reportRecords, reportRuns } from '../../../src/workflows/report.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { completed, failed } from '../../helpers/records.ts';

/** A name that no suite here has: the default policy is in force. */
const SUITE = 'suite-of-this-test';
const [OLD, NEW] = ['20260101T000000Z-000001', '20260102T000000Z-000002'] as const;
const timings = (ms: number) => [1, 2, 3, 4, 5, 6].map((round) => Array.from({ length: 20 }, (_, i) => ms * (1 + i * 1e-3 + round * 5e-4)));

async function store(results: string, runId: string, records: readonly BenchRecord[]): Promise<void> {
  const path = runFilePath(results, SUITE, 'cpu-test-2c', runId);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, records.map((record) => `${encodeRecord(record)}\n`).join(''));
}

/** Two runs, the older kept as `main`; the newer is `factor` times as slow. */
async function stored(factor: number): Promise<string> {
  const results = await temporaryFolder();
  await store(results, OLD, [completed({ suite: SUITE, runId: OLD, latencyMs: timings(10) }), failed({ suite: SUITE, batch: 2 })]);
  await store(results, NEW, [completed({ suite: SUITE, runId: NEW, latencyMs: timings(10 * factor) })]);
  await saveAsBaseline({ results, name: 'main', source: OLD, suite: undefined, force: false });
  return results;
}

function request(results: string, more: Partial<GateRequest> = {}): GateRequest {
  return {
    results,
    suite: undefined,
    baseline: 'main',
    candidate: 'latest',
    thresholds: [],
    confidence: undefined,
    allowDifferentDevice: false,
    ignoreMissing: false,
    ...more,
  };
}

describe('runGate', () => {
  it('judges the newest run by the policy in force, which it names', async () => {
    expect(await runGate(request(await stored(1)))).toMatchObject({
      verdict: 'passed',
      baseline: 'baseline main',
      candidate: `run ${NEW}`,
      notices: [expect.stringContaining('its policy is unknown and the defaults apply')],
    });
    const slower = await stored(1.2);
    expect((await runGate(request(slower))).verdict).toBe('regressed');
    expect((await runGate(request(slower, { thresholds: ['latency-p50=30', 'throughput=30'] }))).verdict).toBe('passed');
    expect((await runGate(request(slower, { thresholds: ['latency-p50=off', 'throughput=off'] }))).verdict).toBe('passed');
  });

  it('says what would decide, where rounds would', async () => {
    const noisy = (rounds: number) => Array.from({ length: rounds }, (_, round) => Array.from({ length: 20 }, () => 10 + (round % 5)));
    const results = await temporaryFolder();
    const judge = async (before: number, after: number) => {
      await store(results, OLD, [completed({ suite: SUITE, runId: OLD, latencyMs: noisy(before) })]);
      await store(results, NEW, [completed({ suite: SUITE, runId: NEW, latencyMs: noisy(after) })]);
      const { notices } = await saveAsBaseline({ results, name: 'main', source: OLD, suite: undefined, force: true });
      const report = await runGate(request(results));
      expect(report.verdict).toBe('inconclusive');
      return { saved: notices.join('\n'), gated: report.notices.join('\n') };
    };
    const thin = await judge(3, 24);
    expect(thin.saved).toMatch(/with 3 rounds per case.*finds only large changes.*--rounds 24/);
    expect(thin.gated).toMatch(/the baseline has 3 rounds per case.*--rounds 24.*baseline save main --force.*--against REF/);
    const short = await judge(24, 3);
    expect(short.saved).toBe('');
    expect(short.gated).toMatch(/the run has 3 rounds per case: `tsrt-bench gate path\/to\/suite-of-this-test --measure`/);
    expect((await judge(24, 24)).gated).toMatch(/--against REF/);
  });

  it('takes the thresholds of the suite that is named', async () => {
    const folder = await temporaryFolder();
    const file = join(folder, 'suite.json');
    const suite = {
      name: SUITE,
      description: 'x',
      model: { name: 'x', file: 'x.onnx' },
      inputs: [{ kind: 'synthetic', values: { distribution: 'uniform' } }],
      task: { kind: 'raw' },
      variants: [{ backend: 'null' }],
      gate: { thresholds: { 'latency-p50': 50 }, confidence: 0.9 },
    };
    await writeFile(file, JSON.stringify(suite));
    const report = await runGate(request(await stored(1.2), { suite: file }));
    expect(report).toMatchObject({ verdict: 'passed', policy: { confidence: 0.9, thresholds: { 'latency-p50': 50 } }, notices: [] });
  });

  it('has an error of its own status where there is no baseline', async () => {
    const results = await stored(1);
    await expect(runGate(request(results, { baseline: 'prod' }))).rejects.toMatchObject({
      code: 'BASELINE_NOT_FOUND',
      exitStatus: 3,
      fix: expect.stringContaining('choose one of main'),
    });
    await expect(runGate(request(await temporaryFolder()))).rejects.toMatchObject({ code: 'RESULTS_NOT_FOUND', exitStatus: 2 });
  });

  it('says so when a run is compared with itself, or with the baseline that it has just become', async () => {
    const results = await stored(1);
    await saveAsBaseline({ results, name: 'fresh', source: NEW, suite: undefined, force: false });
    const said = `run ${NEW} was compared with itself: measure again (\`tsrt-bench run path/to/${SUITE}\`) for a comparison that says something`;
    expect((await runGate(request(results, { baseline: NEW }))).notices).toContain(said);
    expect((await runGate(request(results, { baseline: 'fresh' }))).notices).toContain(said);
    expect((await runGate(request(results))).notices).not.toContain(said);
    expect((await compareRecords({ results, baseline: 'fresh', candidate: 'latest', suite: undefined, allowDifferentDevice: false })).notices).toContain(said);
  });
});

describe('publishGate', () => {
  it('writes the file, adds to the summary, and leaves a line for the terminal', async () => {
    const report = await runGate(request(await stored(1.2)));
    const folder = await temporaryFolder();
    const [output, summaryFile] = [join(folder, 'deep', 'gate.xml'), join(folder, 'summary.md')];
    await writeFile(summaryFile, 'before\n');
    const text = await publishGate(report, { format: 'junit', output, summaryFile, color: true });
    expect(text).toMatch(/^REGRESSED: .*\njunit written to .*gate\.xml$/);
    expect(await readFile(output, 'utf8')).toContain('failures="1"');
    expect(await readFile(summaryFile, 'utf8')).toMatch(/^before\n### REGRESSED/);
    await expect(publishGate(report, { format: 'table', output: folder, summaryFile: undefined, color: false })).rejects.toMatchObject({ code: 'RESULTS_UNWRITABLE' });
  });
});

describe('compare, report and baseline', () => {
  it('compares what is named', async () => {
    const results = await stored(1.2);
    const comparison = await compareRecords({ results, baseline: OLD, candidate: NEW, suite: undefined, allowDifferentDevice: false });
    expect(comparison.cases.map(({ pair }) => pair.state)).toEqual(['both']);
    expect(comparison.cases[0]?.changes.find((change) => change.metric === 'latency-p50')).toMatchObject({ ratio: { point: expect.closeTo(1.2, 6) } });
  });

  it('compares the metrics and cases that are asked for, with intervals for as many', async () => {
    const results = await stored(1.2);
    const asked = { results, baseline: OLD, candidate: NEW, suite: undefined, allowDifferentDevice: false };
    const widthOf = ({ cases }: Comparison) => cases[0]?.changes.flatMap((change) => (change.kind === 'sampled' && change.metric === 'latency-p50' ? [change.ratio.high - change.ratio.low] : []))[0];
    const [all, one] = [await compareRecords(asked), await compareRecords({ ...asked, metrics: ['latency-p50', 'top1'], caseFilter: '/b1/' })];
    expect(one.cases.flatMap(({ changes }) => changes.map(({ metric }) => metric))).toEqual(['latency-p50']);
    expect(widthOf(one)).toBeLessThan(widthOf(all)!);
    expect(one.notices).toContain('no case has top-1 accuracy on both sides');
    await expect(compareRecords({ ...asked, caseFilter: 'b9' })).rejects.toMatchObject({ code: 'USAGE', message: `no case of suite ${SUITE} has 'b9' in its id` });
  });

  it('compares with a baseline of several suites what the other side is of', async () => {
    const results = await stored(1.2);
    await saveBaseline(results, 'main', [completed({ suite: 'smoke' })], false);
    const comparison = await compareRecords({ results, baseline: 'main', candidate: NEW, suite: undefined, allowDifferentDevice: false });
    expect(comparison.cases.some(({ pair }) => pair.state === 'both')).toBe(true);
  });

  it('renders what is named, by any reporter', async () => {
    const results = await stored(1);
    const [table] = REPORTERS;
    const shown = await reportRecords({ results, source: OLD, suite: undefined, reporter: table!, baselineVariant: undefined, color: false, width: 120 });
    expect(shown.text).toContain('failed   onnxruntime/fp32/fusion-on/b2/single-stream');
    expect((await reportRuns(results, undefined)).map((run) => run.runId)).toEqual([OLD, NEW]);
  });

  it('shows records in the order of their suite and against its baseline variant, wherever the suite is by now', async () => {
    const results = await temporaryFolder();
    const [slow, fast, odd] = ['onnxruntime/fp32/fusion-on', 'onnxruntime/int8/fusion-on', 'null/fp32/fusion-on'] as const;
    const record = (variant: string, index: number, ms: number) => completed({ suite: SUITE, runId: OLD, variant, inSuite: { index, baseline: variant === slow }, latencyMs: timings(ms) });
    await store(results, OLD, [record(fast, 2, 5), record(slow, 1, 10), record(odd, 0, 1)]);
    const [table] = REPORTERS;
    const asked = { results, source: OLD, suite: undefined, reporter: table!, color: false, width: 160 } as const;
    const rowsOf = (text: string) => text.split('\n').filter((line) => /^(null|onnxruntime)\//.test(line)).map((line) => line.replace(/ .* /, ' '));
    const order = [`${odd} 10.00×`, `${slow} 1.00×`, `${fast} 2.00×`];
    expect(rowsOf((await reportRecords({ ...asked, baselineVariant: undefined })).text)).toEqual(order);
    await saveAsBaseline({ results, name: 'main', source: OLD, suite: undefined, force: false });
    expect(rowsOf((await showBaseline({ home: results, name: 'main', suite: undefined, device: undefined }, { color: false, width: 160 })).parts[0]!.text)).toEqual(order);
    const { cases } = await compareRecords({ results, baseline: 'main', candidate: OLD, suite: undefined, allowDifferentDevice: false });
    expect(cases.map(({ pair }) => pair.caseId)).toEqual([odd, slow, fast].map((variant) => `${variant}/b1/single-stream`));
    await expect(reportRecords({ ...asked, baselineVariant: 'onnxruntime/int9/fusion-on' })).rejects.toMatchObject({
      code: 'USAGE',
      message: `no variant that completed is called 'onnxruntime/int9/fusion-on'; did you mean '${fast}'?`,
    });
    expect(rowsOf((await reportRecords({ ...asked, baselineVariant: 'null' })).text)[1]).toBe(`${slow} 0.10×`);
  });

  it('shows and deletes baselines, never without being told to', async () => {
    const results = await stored(1);
    const choice = { home: results, name: 'main', suite: undefined, device: undefined };
    expect((await showBaseline(choice, { color: false, width: 120 })).parts[0]?.text).toContain('onnxruntime/fp32/fusion-on');
    await expect(deleteBaseline(choice, false)).rejects.toMatchObject({ code: 'USAGE', details: [expect.stringContaining('cpu-test-2c.jsonl')] });
    expect(await describeBaselines(results)).toHaveLength(1);
    expect(await deleteBaseline(choice, true)).toHaveLength(1);
    expect(await describeBaselines(results)).toEqual([]);
  });
});
