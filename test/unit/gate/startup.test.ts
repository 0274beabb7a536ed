/** Build time, load time and first inference: what each round's fresh process gives, watched unless a threshold names it. */
import { describe, expect, it } from 'vitest';
import { comparePairs } from '../../../src/gate/compare.ts';
import { judge, type GateReport } from '../../../src/gate/judge.ts';
import { METRIC_NAMES } from '../../../src/gate/metrics.ts';
import { pairCases } from '../../../src/gate/pair.ts';
import { DEFAULT_POLICY, thresholdOf, type GatePolicy } from '../../../src/gate/policy.ts';
import { effectiveFamily } from '../../../src/gate/series.ts';
import type { Design } from '../../../src/gate/timed.ts';
import type { BenchRecord, CompletedRecord } from '../../../src/results/record.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { completed } from '../../helpers/records.ts';

interface Starts {
  readonly rounds?: number;
  readonly loadMs?: number;
  readonly firstRunMs?: number;
  readonly noise?: number;
  readonly buildsMs?: readonly number[];
  readonly seed?: number;
}

/** A record whose rounds are fresh processes that took about so long to start. */
function started({ rounds = 16, loadMs = 200, firstRunMs = 40, noise = 0.05, buildsMs, seed = 1 }: Starts = {}): CompletedRecord {
  const random = createRandom(seed);
  const latencyMs = Array.from({ length: rounds }, () => [10, 10.1, 10.2].map((ms) => ms * Math.exp(0.002 * normal(random))));
  const record = completed({ latencyMs });
  const around = (ms: number) => ms * Math.exp(noise * normal(random));
  const build = buildsMs ? { ...record.build, buildsMs } : record.build;
  return { ...record, build, rounds: record.rounds.map((round) => ({ ...round, start: { loadMs: around(loadMs), firstRunMs: around(firstRunMs) } })) };
}

const set = (label: string, records: readonly BenchRecord[]) => ({ label, suite: 'resnet50', records, paths: [label], notices: [] });

function gate(baseline: CompletedRecord, candidate: CompletedRecord, thresholds: GatePolicy['thresholds'] = DEFAULT_POLICY.thresholds, design: Design = 'interleaved'): GateReport {
  const policy = { ...DEFAULT_POLICY, thresholds };
  const metrics = METRIC_NAMES.filter((metric) => thresholdOf(policy, metric) !== undefined);
  const pairing = pairCases(set('a', [baseline]), set('b', [candidate]), { allowDifferentDevice: false });
  return judge(comparePairs(pairing, { baseline: 'a', candidate: 'b' }, { ...policy, metrics, design }), policy);
}

const verdictOf = (report: GateReport, metric: string) => report.cases[0]?.metrics.find((one) => one.metric === metric);

describe('load time and first inference', () => {
  it('a load that takes half as long again fails the gate, with ratio, interval and reason', () => {
    const report = gate(started(), started({ loadMs: 320, seed: 2 }));
    expect(report.verdict).toBe('regressed');
    expect(verdictOf(report, 'load-time')).toMatchObject({ verdict: 'regressed', watched: true, threshold: 25, reason: expect.stringMatching(/^load time rose by \d+\.\d+ % \(95 % interval \+\d.* %\), beyond chance and not within the 25 % allowed$/) });
    expect(verdictOf(report, 'first-inference')).toMatchObject({ verdict: 'passed' });
    expect(verdictOf(report, 'latency-p50')).toMatchObject({ verdict: 'passed', watched: false });
  });

  it('a first inference that became faster is an improvement', () => {
    const report = gate(started(), started({ firstRunMs: 20, seed: 2 }));
    expect(report.cases[0]).toMatchObject({ verdict: 'improved', reason: expect.stringMatching(/^first inference fell by/) });
  });

  it('what can’t be told is said; it decides nothing unless a threshold names it', () => {
    const [before, after] = [started({ noise: 0.8 }), started({ noise: 0.8, seed: 2 })];
    const watched = gate(before, after);
    expect(verdictOf(watched, 'load-time')).toMatchObject({ verdict: 'inconclusive' });
    expect(watched.verdict).toBe('passed');
    expect(gate(before, after, { ...DEFAULT_POLICY.thresholds, 'load-time': 25 }).verdict).toBe('inconclusive');
    expect(verdictOf(gate(before, after, { ...DEFAULT_POLICY.thresholds, 'load-time': undefined }), 'load-time')).toBeUndefined();
  });

  it('a few milliseconds are nothing, whatever their share', () => {
    const report = gate(started({ loadMs: 4, firstRunMs: 0.5 }), started({ loadMs: 9, firstRunMs: 2, seed: 2 }));
    expect(report.verdict).toBe('passed');
    expect(verdictOf(report, 'load-time')?.reason).toBe('load time differs by less than 10 ms, which is too little to count');
  });

  it('another day may move a start by more than the yardsticks see', () => {
    const report = gate(started(), started({ loadMs: 250, noise: 0.01, seed: 2 }), { 'load-time': 10 }, 'stored');
    expect(verdictOf(report, 'load-time')?.change).toMatchObject({ session: { shift: 0, allowance: expect.closeTo(0.105, 2) } });
    expect(gate(started(), started({ loadMs: 220, noise: 0.01, seed: 2 }), { 'load-time': 10 }, 'stored').verdict).toBe('inconclusive');
  });

  it('takes the rounds whose process was fresh on both sides', () => {
    const kept = started({ rounds: 6 });
    const once = { ...kept, rounds: kept.rounds.map(({ start, ...round }, i) => (i === 0 && start ? { ...round, start } : round)) };
    const verdict = verdictOf(gate(once, once, { 'load-time': 25 }), 'load-time');
    expect(verdict).toMatchObject({ verdict: 'inconclusive', reason: 'load time was measured in 1 round; a verdict needs 3 on both sides' });
    expect(verdictOf(gate(completed(), completed(), { 'load-time': 25 }), 'load-time')?.reason).toMatch(/no starts of processes on record/);
  });
});

describe('build time', () => {
  const threshold = { 'build-time': 30 };

  it('three builds can show a gross change, and say that they are too few for another', () => {
    const built = (centre: number) => started({ buildsMs: [centre * 1.01, centre, centre * 0.99] });
    expect(verdictOf(gate(built(1000), built(3000), threshold), 'build-time')).toMatchObject({ verdict: 'regressed', change: { design: 'stored', rounds: 3 } });
    const slower = verdictOf(gate(built(1000), built(1500), threshold), 'build-time');
    expect(slower).toMatchObject({ verdict: 'inconclusive', reason: expect.stringMatching(/too few builds to tell \(3; \d could\)/) });
    expect(verdictOf(gate(built(1000), built(1010), threshold), 'build-time')).toMatchObject({
      verdict: 'inconclusive',
      reason: expect.stringMatching(/^build time differs by less than 50 ms, but 3 builds do not exclude \d+ ms$/),
    });
    const many = (centre: number) => started({ buildsMs: Array.from({ length: 16 }, (_, i) => centre + (i % 3)) });
    expect(verdictOf(gate(many(100), many(110), threshold), 'build-time')).toMatchObject({ verdict: 'passed', reason: 'build time differs by less than 50 ms, which is too little to count' });
  });

  it('a single build, or an engine that was not built here, can’t be judged', () => {
    const once = started({ buildsMs: [1000] });
    expect(verdictOf(gate(once, started({ buildsMs: [2000] }), threshold), 'build-time')?.reason).toBe('build time was measured in 1 build; a verdict needs 3 on both sides');
    expect(verdictOf(gate(once, started(), threshold), 'build-time')).toMatchObject({ verdict: 'inconclusive', reason: expect.stringContaining('not built in this run') });
    expect(verdictOf(gate(once, started()), 'build-time')).toBeUndefined();
  });
});

describe('effectiveFamily', () => {
  it('holds the rate: the shares of all metrics add up to one', () => {
    const metrics = METRIC_NAMES;
    const timed = ['latency-p50', 'latency-p95', 'latency-p99', 'throughput', 'device-time', 'build-time', 'load-time', 'first-inference'] as const;
    const cases = 12;
    const sum = timed.reduce((total, metric) => total + cases / effectiveFamily(metric, cases * timed.length, metrics), 0);
    expect(sum).toBeCloseTo(1, 12);
    expect(effectiveFamily('latency-p50', 24, ['latency-p50', 'throughput', 'top1'])).toBe(24);
    expect(effectiveFamily('load-time', 3, ['load-time'])).toBe(3);
  });
});
