/** The gate's verdicts: a truth table over metrics and states, with timings whose answer is known. */
import { describe, expect, it } from 'vitest';
import { comparePairs } from '../../../src/gate/compare.ts';
import { exitStatusOf, judge, type GateReport } from '../../../src/gate/judge.ts';
import { METRIC_NAMES } from '../../../src/gate/metrics.ts';
import { pairCases } from '../../../src/gate/pair.ts';
import { DEFAULT_POLICY, type GatePolicy } from '../../../src/gate/policy.ts';
import { compareTimed } from '../../../src/gate/timed.ts';
import type { AccuracyReading, BenchRecord } from '../../../src/results/record.ts';
import type { RecordSet } from '../../../src/results/store.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { ACCURACY, aborted, completed, failed, skipped, type CompletedOptions } from '../../helpers/records.ts';

function set(label: string, records: readonly BenchRecord[]): RecordSet {
  return { label, suite: records[0]?.case.suite ?? 'resnet50', records, paths: [`${label}.jsonl`], notices: [] };
}

function gate(baseline: readonly BenchRecord[], candidate: readonly BenchRecord[], policy: Partial<GatePolicy> = {}): GateReport {
  const full = { ...DEFAULT_POLICY, ...policy };
  const pairing = pairCases(set('before', baseline), set('after', candidate), { allowDifferentDevice: false });
  const comparison = comparePairs(pairing, { baseline: 'before', candidate: 'after' }, { ...full, metrics: METRIC_NAMES.filter((metric) => metric !== 'device-time' || full.thresholds[metric] !== undefined) });
  return judge(comparison, full);
}

/** Rounds around `centreMs`, each sample off by up to `noisePercent`. */
function timings(centreMs: number, noisePercent: number, { rounds = 5, samples = 40, seed = 1 } = {}): number[][] {
  const random = createRandom(seed);
  const sample = () => centreMs * (1 + (random.uniform() - 0.5) * 2 * (noisePercent / 100));
  return Array.from({ length: rounds }, () => Array.from({ length: samples }, sample));
}

const onlyP50: Partial<GatePolicy> = { thresholds: { 'latency-p50': 5 } };

describe('resident memory', () => {
  const MIB = 2 ** 20;
  const memory: Partial<GatePolicy> = { thresholds: { 'memory-peak': 5 } };
  it.each([
    { name: 'a few MiB more of a small process', baseline: 60 * MIB, candidate: 67 * MIB, verdict: 'passed' },
    { name: 'a few MiB less of a small process', baseline: 60 * MIB, candidate: 53 * MIB, verdict: 'passed' },
    { name: 'more than identical processes differ', baseline: 60 * MIB, candidate: 69 * MIB, verdict: 'regressed' },
    { name: 'much, but a small share', baseline: 1000 * MIB, candidate: 1040 * MIB, verdict: 'passed' },
    { name: 'much, and a large share', baseline: 1000 * MIB, candidate: 1060 * MIB, verdict: 'regressed' },
  ])('$name: $verdict', ({ baseline, candidate, verdict }) => {
    const peak = (bytes: number) => completed({ residentPeakBytes: bytes });
    expect(gate([peak(baseline)], [peak(candidate)], memory).verdict).toBe(verdict);
  });
});

describe('timed metrics', () => {
  it.each([
    { name: 'equal, little noise', factor: 1, noise: 1, verdict: 'passed', sentence: /within the 5 % allowed$/ },
    { name: '+3 %, little noise: significant but small', factor: 1.03, noise: 1, verdict: 'passed', sentence: /rose by 3\.\d+ %.*within/ },
    { name: '+10 %, little noise', factor: 1.1, noise: 1, verdict: 'regressed', sentence: /^latency p50 rose by (9\.\d+|10(\.\d+)?) % \(95 % interval \+\d+\.\d to \+\d+\.\d %\), beyond chance and not within the 5 % allowed$/ },
    { name: '−10 %, little noise', factor: 0.9, noise: 1, verdict: 'improved', sentence: /fell by .* for the better, beyond chance$/ },
    { name: '+5 %, much noise: on the threshold', factor: 1.05, noise: 30, verdict: 'inconclusive', sentence: /too noisy to tell: .* may exceed the 5 % allowed$/ },
    { name: 'equal, noise far above the threshold', factor: 1, noise: 90, verdict: 'inconclusive', sentence: /too noisy to tell/ },
  ])('$name → $verdict', ({ factor, noise, verdict, sentence }) => {
    const before = completed({ latencyMs: timings(10, noise, { seed: 1 }) });
    const after = completed({ latencyMs: timings(10 * factor, noise, { seed: 2 }) });
    const [one] = gate([before], [after], onlyP50).cases;
    expect(one).toMatchObject({ state: 'both', verdict });
    expect(one?.reason).toMatch(sentence);
  });

  it('does not pass by luck: an interval far wider than the threshold may lie below it', () => {
    // Most rounds were slow before and none after, as a busy machine gives them.
    const rounds = (levels: readonly number[]) => completed({ latencyMs: levels.map((level) => [level, level, level]) });
    const [one] = gate([rounds([10, 18, 30, 22, 26, 14, 19, 24])], [rounds([9.9, 10.1, 10.2, 9.8, 10, 10.3, 9.7, 10])], { thresholds: { 'latency-p50': 5 }, falseAlarms: 1e-6 }).cases;
    expect(one).toMatchObject({ verdict: 'inconclusive', reason: expect.stringContaining('too noisy to tell: the interval is wider than the 5 % allowed') });
  });

  it('judges what the device takes by its own clock, where it tells', () => {
    const told = (deviceMs: number, seed: number) => {
      const record = completed({ latencyMs: timings(10, 40, { seed, rounds: 10 }) });
      return { ...record, rounds: record.rounds.map((round, i) => ({ ...round, deviceNs: deviceMs * 1e6 * (1 + 0.001 * ((i * seed) % 5)) })) };
    };
    const policy = { thresholds: { 'device-time': 5 } };
    expect(gate([told(2, 1)], [told(2.4, 2)], policy).cases[0]).toMatchObject({ verdict: 'regressed', reason: expect.stringMatching(/^device time rose by (19|20)/) });
    expect(gate([told(2, 1)], [told(2, 2)], policy).cases[0]).toMatchObject({ verdict: 'passed' });
    // A threshold for what a side does not tell is no pass; what neither tells leaves a case to its other metrics.
    const silent = completed({ latencyMs: timings(10, 1, { seed: 1, rounds: 10 }) });
    expect(gate([silent], [told(2, 1)], policy).cases[0]).toMatchObject({ verdict: 'inconclusive', reason: expect.stringContaining('a side does not tell what its device takes') });
    expect(gate([silent], [silent], policy).cases[0]).toMatchObject({ verdict: 'inconclusive', reason: 'no metric of the policy was measured on both sides' });
    expect(gate([silent], [silent], { thresholds: { 'device-time': 5, 'latency-p50': 5 } }).cases[0]).toMatchObject({ verdict: 'passed' });
  });

  it('pairs what the device takes by the rounds in which both sides tell it', () => {
    const told = (missing: number, deviceMs: number) => {
      const record = completed({ latencyMs: timings(10, 1, { rounds: 9 }) });
      return { ...record, rounds: record.rounds.map((round, i) => (i === missing ? round : { ...round, deviceNs: deviceMs * 1e6 * (1 + i / 10) })) };
    };
    const levels = { confidence: 0.95, doubtShare: 1, falseAlarms: 0.005, alarmShare: 1, family: 1 };
    const change = compareTimed('device-time', told(0, 2), told(7, 2.2), 'interleaved', levels);
    expect(change).toMatchObject({ kind: 'sampled', rounds: 7 });
    expect(change.kind === 'sampled' && change.ratio.point).toBeCloseTo(1.1, 9);
  });

  it('judges throughput the other way round', () => {
    const policy = { thresholds: { throughput: 5 } };
    const [slow, fast] = [completed({ latencyMs: timings(12, 1) }), completed({ latencyMs: timings(10, 1) })];
    expect(gate([fast], [slow], policy).cases[0]).toMatchObject({ verdict: 'regressed', reason: expect.stringMatching(/^throughput fell by .*interval −\d/) });
    expect(gate([slow], [fast], policy).cases[0]).toMatchObject({ verdict: 'improved', reason: expect.stringMatching(/^throughput rose by .*interval \+\d/) });
  });

  it('believes no interval from too few rounds, nor a tail from too few samples', () => {
    const twice = [completed({ latencyMs: timings(10, 1, { rounds: 2 }) }), completed({ latencyMs: timings(20, 1, { rounds: 2 }) })] as const;
    expect(gate([twice[0]], [twice[1]], onlyP50).cases[0]).toMatchObject({ verdict: 'inconclusive', reason: expect.stringContaining('2 rounds; a verdict needs 3') });
    const tails = completed({ latencyMs: timings(10, 1, { samples: 10 }) });
    expect(gate([tails], [tails], { thresholds: { 'latency-p99': 5 } }).cases[0]).toMatchObject({
      verdict: 'inconclusive',
      reason: expect.stringMatching(/rests on 50 samples; this percentile needs \d{3}/),
    });
  });

  it('does not divide by zero where the clock saw nothing', () => {
    const nothing = completed({ latencyMs: [[0, 0], [0, 0], [0, 0]] });
    expect(gate([nothing], [nothing], onlyP50)).toMatchObject({ verdict: 'inconclusive', cases: [{ reason: expect.stringContaining('zero') }] });
  });

  it('says the same each time', () => {
    const sides = [[completed({ latencyMs: timings(10, 20) })], [completed({ latencyMs: timings(11, 20, { seed: 2 }) })]] as const;
    expect(gate(...sides)).toEqual(gate(...sides));
  });
});

describe('exact metrics', () => {
  const memory: Partial<GatePolicy> = { thresholds: { 'memory-peak': 5 } };
  const peak = (residentPeakBytes: number) => completed({ residentPeakBytes });

  it('memory: a byte over the budget is a byte too many', () => {
    expect(gate([peak(1_000_000_000)], [peak(1_050_000_000)], memory).verdict).toBe('passed');
    expect(gate([peak(1_000_000_000)], [peak(1_050_000_001)], memory).verdict).toBe('regressed');
    expect(gate([peak(1_000_000_000)], [peak(900_000_000)], memory).cases[0]?.verdict).toBe('improved');
  });

  it('device memory goes by the threshold of peak memory, and only where both sides can tell', () => {
    const [small, large] = [completed({ deviceBytes: 1000 }), completed({ deviceBytes: 1100 })];
    expect(gate([small], [large], memory).cases[0]).toMatchObject({ verdict: 'regressed', reason: expect.stringContaining('device memory rose by 10 %') });
    expect(gate([small], [completed()], memory).cases[0]).toMatchObject({ verdict: 'inconclusive', reason: expect.stringContaining('only the baseline') });
  });

  const accuracy = (parts: Partial<AccuracyReading>): CompletedOptions => ({ accuracy: { ...ACCURACY, ...parts } });
  it.each([
    { change: { top1Percent: 78.7 }, verdict: 'passed' },
    { change: { top1Percent: 78.6 }, verdict: 'regressed' },
    { change: { top1Percent: 80 }, verdict: 'improved' },
    { change: { agreementPercent: 99.4 }, verdict: 'regressed' },
    { change: { samples: 50 }, verdict: 'inconclusive' },
    { change: { inputs: 'synthetic' }, verdict: 'inconclusive' },
    { change: { top1Percent: undefined }, verdict: 'inconclusive' },
  ])('accuracy $change → $verdict', ({ change, verdict }) => {
    const policy = { thresholds: { top1: 0.5, agreement: 0.5 } };
    expect(gate([completed(accuracy({}))], [completed(accuracy(change))], policy).cases[0]?.verdict).toBe(verdict);
  });

  it('SNR: identical outputs can only get worse, outputs that are no numbers are the worst', () => {
    const policy = { thresholds: { snr: 3 } };
    const snr = (snrDb: number | undefined) => [completed(accuracy({ snrDb }))];
    expect(gate(snr(undefined), snr(undefined), policy).verdict).toBe('passed');
    expect(gate(snr(undefined), snr(96), policy).verdict).toBe('regressed');
    expect(gate(snr(96), snr(NaN), policy).verdict).toBe('regressed');
    expect(gate(snr(96), snr(94), policy).verdict).toBe('passed');
  });
});

describe('states', () => {
  const other = completed({ batch: 2 });
  it.each([
    { name: 'fails now', baseline: [completed()], candidate: [failed()], state: 'broken', verdict: 'regressed', reason: /now fails \(out-of-memory at measure\): the worker ran out/ },
    { name: 'was skipped', baseline: [completed()], candidate: [skipped()], state: 'broken', verdict: 'inconclusive', reason: /was skipped now: no adapter/ },
    { name: 'was cut off', baseline: [completed()], candidate: [aborted()], state: 'broken', verdict: 'inconclusive', reason: /cut off now/ },
    { name: 'is gone', baseline: [completed(), other], candidate: [other], state: 'missing', verdict: 'inconclusive', reason: /did not run it$/ },
    { name: 'is new', baseline: [other], candidate: [other, completed()], state: 'new', verdict: 'passed', reason: /nothing to compare it with/ },
    { name: 'is new and fails', baseline: [other], candidate: [other, failed()], state: 'new', verdict: 'inconclusive', reason: /a new case, and it failed/ },
    { name: 'is new and skipped', baseline: [other], candidate: [other, skipped()], state: 'new', verdict: 'passed', reason: /skipped/ },
    { name: 'is new and cut off', baseline: [other], candidate: [other, aborted()], state: 'new', verdict: 'inconclusive', reason: /^cut off before it was measured/ },
    { name: 'failed in the baseline too', baseline: [other, failed()], candidate: [other, failed()], state: 'new', verdict: 'inconclusive', reason: /failed/ },
  ])('a case that $name → $verdict', ({ baseline, candidate, state, verdict, reason }) => {
    const one = gate(baseline, candidate).cases.find((one) => one.caseId.includes('/b1/'));
    expect(one).toMatchObject({ state, verdict });
    expect(one?.reason).toMatch(reason);
  });

  it('ignores missing cases where the policy does', () => {
    expect(gate([completed(), other], [other], { missing: 'ignored' }).verdict).toBe('passed');
  });

  it('does not pass where nothing was compared', () => {
    expect(gate([completed()], [other], { missing: 'ignored' })).toMatchObject({ verdict: 'inconclusive', notices: [expect.stringContaining('nothing to compare')] });
    expect(gate([completed()], [completed()], { thresholds: {} })).toMatchObject({ verdict: 'inconclusive', cases: [{ reason: expect.stringContaining('no metric of the policy') }] });
  });

  it('one regressed case outweighs all else, inconclusive outweighs passed', () => {
    const slow = completed({ batch: 2, latencyMs: timings(20, 1) });
    const fast = completed({ batch: 2, latencyMs: timings(10, 1) });
    expect(gate([completed(), fast], [skipped(), slow], onlyP50).verdict).toBe('regressed');
    expect(gate([completed(), fast], [skipped(), fast], onlyP50).verdict).toBe('inconclusive');
    expect(gate([completed(), slow], [completed(), fast], onlyP50).verdict).toBe('passed');
  });

  it('has an exit status for each verdict', () => {
    expect(exitStatusOf('passed', 'fail')).toBe(0);
    expect(exitStatusOf('regressed', 'pass')).toBe(1);
    expect(exitStatusOf('inconclusive', 'fail')).toBe(4);
    expect(exitStatusOf('inconclusive', 'pass')).toBe(0);
  });
});

describe('pairCases', () => {
  const pair = (baseline: readonly BenchRecord[], candidate: readonly BenchRecord[], allowDifferentDevice = false) =>
    pairCases(set('before', baseline), set('after', candidate), { allowDifferentDevice });

  it('never compares devices silently', () => {
    const [here, there] = [completed(), completed({ device: 'nvidia-h200' })];
    expect(() => pair([there], [here])).toThrow(
      expect.objectContaining({ code: 'BASELINE_INCOMPARABLE', exitStatus: 3, message: expect.stringContaining('nvidia-h200'), details: [here.case.id] }),
    );
    expect(pair([there], [here], true).notices[0]).toMatch(/^DIFFERENT DEVICES: .* nvidia-h200, .* cpu-test-2c/);
    expect(pair([there, here], [here])).toMatchObject({ pairs: [{ baseline: { provenance: { environment: { device: { slug: 'cpu-test-2c' } } } } }] });
  });

  it('refuses other suites', () => {
    expect(() => pair([completed({ suite: 'smoke' })], [completed()])).toThrow(expect.objectContaining({ code: 'BASELINE_INCOMPARABLE' }));
  });

  it('names what else changed, and how far the machine drifted', () => {
    const before = completed();
    const { provenance } = completed({ yardstickNs: 1.2e6 });
    const environment = { ...provenance.environment, node: '22.1.0', packages: { 'onnxruntime-node': '1.31.0' } };
    const model = { ...provenance.model, sha256: 'c'.repeat(64) };
    const after = { ...completed({ yardstickNs: 1.2e6 }), provenance: { ...provenance, model, environment } };
    expect(pair([before], [after]).notices).toEqual([
      'the model changed: resnet50-v1-7 (aaaaaaaaaaaa) → resnet50-v1-7 (cccccccccccc)',
      'Node.js changed: 20.20.2 → 22.1.0',
      'the packages changed: onnxruntime-node=1.30.0 → onnxruntime-node=1.31.0',
      expect.stringContaining('the machine itself ran 20.0 % slower'),
    ]);
    expect(pair([before], [before]).notices).toEqual([]);
  });
});

describe('throughput of rounds whose processes took turns', () => {
  /** 16 rounds of 40 slices of five executions; `stalls` of them take `longer` milliseconds more. */
  function turns({ stalls, longer, factor = 1, seed }: { readonly stalls: number; readonly longer: number; readonly factor?: number; readonly seed: number }) {
    const random = createRandom(seed);
    const latencyMs = Array.from({ length: 16 }, () => {
      const level = factor * Math.exp(0.005 * normal(random));
      return Array.from({ length: 200 }, () => level * Math.exp(0.01 * normal(random)) + (random.uniform() < stalls ? longer : 0));
    });
    const record = completed({ latencyMs });
    const slicesOf = (samplesNs: readonly number[]) => Array.from({ length: 40 }, (_, i) => ({ samples: 5, elapsedNs: samplesNs.slice(5 * i, 5 * i + 5).reduce((sum, ns) => sum + ns, 0) }));
    return { ...record, rounds: record.rounds.map((round) => ({ ...round, slices: slicesOf(round.samplesNs) })) };
  }
  const judged = (baseline: Parameters<typeof turns>[0], candidate: Parameters<typeof turns>[0]) => {
    const policy: GatePolicy = { ...DEFAULT_POLICY, thresholds: { throughput: 5 }, watched: {} };
    const pairing = pairCases(set('before', [turns(baseline)]), set('after', [turns(candidate)]), { allowDifferentDevice: false });
    return judge(comparePairs(pairing, { baseline: 'before', candidate: 'after' }, { ...policy, metrics: ['throughput'], design: 'interleaved' }), policy).cases[0];
  };
  const still = { stalls: 0, longer: 0, seed: 1 };

  it.each([
    { name: 'a fiftieth of the executions stall: a sixth of it is lost', candidate: { stalls: 0.02, longer: 10, seed: 2 }, verdict: 'regressed', reason: /^throughput fell by 1[4-9].* beyond chance .*; by whole rounds/ },
    { name: 'a rare short stall', candidate: { stalls: 0.02, longer: 1, seed: 2 }, verdict: 'passed', reason: /within the 5 % allowed$/ },
    { name: 'stalls that are gone', baseline: { stalls: 0.02, longer: 10, seed: 1 }, candidate: { ...still, seed: 2 }, verdict: 'passed', reason: /within the 5 % allowed$/ },
    { name: 'both stall alike', baseline: { stalls: 0.02, longer: 10, seed: 1 }, candidate: { stalls: 0.02, longer: 10, seed: 2 }, verdict: 'passed', reason: /within the 5 % allowed$/ },
    { name: 'all is slower', candidate: { stalls: 0, longer: 0, factor: 1.1, seed: 2 }, verdict: 'regressed', reason: /^throughput fell by 9.* allowed$/ },
  ])('$name: $verdict', ({ baseline = still, candidate, verdict, reason }) => {
    expect(judged(baseline, candidate)).toMatchObject({ verdict, reason: expect.stringMatching(reason) });
  });

  it('identical sides that neighbours stall raise no alarm', () => {
    const verdicts = Array.from({ length: 60 }, (_, i) => judged({ stalls: 0.01, longer: 30, seed: 2 * i }, { stalls: 0.01, longer: 30, seed: 2 * i + 1 })?.verdict);
    expect(verdicts.filter((verdict) => verdict === 'regressed')).toEqual([]);
    expect(verdicts.filter((verdict) => verdict === 'passed').length).toBeGreaterThan(50);
  });
});
