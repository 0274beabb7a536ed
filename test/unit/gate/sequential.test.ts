/** The gate's promises on simulated rounds: few false alarms over many cases and several looks, and changes that are found. */
import { describe, expect, it } from 'vitest';
import type { Comparison } from '../../../src/gate/compare.ts';
import { judge, type CaseVerdict } from '../../../src/gate/judge.ts';
import { DEFAULT_POLICY, type GatePolicy } from '../../../src/gate/policy.ts';
import { isOpen, levelsOf, looksUpTo, PAIRED_LOOKS, planLooks } from '../../../src/gate/sequential.ts';
import { NO_SESSION_EFFECT } from '../../../src/gate/session.ts';
import { inferRatio } from '../../../src/gate/timed.ts';
import { createRandom, normal, type Random } from '../../../src/stats/random.ts';
import { completed } from '../../helpers/records.ts';

const CASES = 12;
const policy: GatePolicy = { ...DEFAULT_POLICY, thresholds: { 'latency-p50': 5 } };
const looks = planLooks(PAIRED_LOOKS);
const pair = { state: 'both', caseId: 'one', baseline: completed(), candidate: completed() } as const;

type Draw = (random: Random) => number;

/** One case through all looks; what it took, too. */
function gate(random: Random, noise: Draw, change: number): { readonly verdict: CaseVerdict['verdict']; readonly rounds: number } {
  const rounds = looks.at(-1)!.rounds;
  const drift = Array.from({ length: rounds }, () => 0.05 * normal(random));
  const before = drift.map((level) => level + noise(random));
  const after = drift.map((level) => level + noise(random) + Math.log1p(change));
  for (const look of looks) {
    const logs = { before: before.slice(0, look.rounds), after: after.slice(0, look.rounds) };
    const inferred = inferRatio(logs, 'interleaved', NO_SESSION_EFFECT, { ...policy, ...levelsOf(look, CASES) });
    const timed = { kind: 'sampled', metric: 'latency-p50', baseline: 1, candidate: 1, rounds: look.rounds, samples: 1000, design: 'interleaved', session: NO_SESSION_EFFECT, ...inferred } as const;
    const comparison: Comparison = { suite: '', baseline: '', candidate: '', notices: [], cases: [{ pair, changes: [timed] }] };
    const answer = judge(comparison, policy).cases[0]!;
    if (!isOpen(answer) || look === looks.at(-1)) return { verdict: answer.verdict, rounds: look.rounds };
  }
  throw new Error('there is no look');
}

const NOISES: readonly { readonly name: string; readonly noise: (scale: number) => Draw }[] = [
  { name: 'normal', noise: (scale) => (random) => scale * normal(random) },
  { name: 'two modes', noise: (scale) => (random) => scale * (0.55 * normal(random) + (random.uniform() < 0.3 ? 1.82 : 0)) },
  { name: 'slowed rounds', noise: (scale) => (random) => scale * (0.71 * normal(random) + (random.below(12) === 0 ? -1.77 * Math.log1p(-random.uniform()) : 0)) },
];

describe.each(NOISES)('under noise: $name', ({ noise }) => {
  it('suites of identical engines seldom raise an alarm, however often they are looked at', () => {
    const random = createRandom(1);
    const suites = 300;
    let alarms = 0;
    for (let suite = 0; suite < suites; suite++) {
      const verdicts = Array.from({ length: CASES }, () => gate(random, noise(0.05), 0).verdict);
      if (verdicts.includes('regressed')) alarms++;
    }
    // At 1 %, 8 and more of 300 come about once in 84 tries.
    expect(alarms).toBeLessThan(8);
  });

  it.each([
    { change: 0.05, scale: 0.02, verdict: 'regressed' },
    { change: 0.1, scale: 0.05, verdict: 'regressed' },
    { change: -0.05, scale: 0.02, verdict: 'improved' },
  ] as const)('$change at a noise of $scale is found in nine of ten gates', ({ change, scale, verdict }) => {
    const random = createRandom(2);
    const runs = 300;
    let found = 0;
    for (let run = 0; run < runs; run++) if (gate(random, noise(scale), change).verdict === verdict) found++;
    expect(found / runs).toBeGreaterThanOrEqual(0.9);
  });

  it('quiet cases end at the first look, noisy ones never pass for a chance', () => {
    const random = createRandom(3);
    const quiet = Array.from({ length: 50 }, () => gate(random, noise(0.005), 0));
    expect(quiet.filter(({ verdict }) => verdict === 'passed').length).toBeGreaterThanOrEqual(49);
    expect(quiet.reduce((sum, { rounds }) => sum + rounds, 0) / 50).toBeLessThan(13);
    const loud = Array.from({ length: 100 }, () => gate(random, noise(0.3), 0.05).verdict);
    expect(loud.filter((verdict) => verdict === 'passed').length).toBeLessThanOrEqual(6);
  });
});

describe('looks', () => {
  it('ascend to the rounds asked for and spend the whole error', () => {
    expect(PAIRED_LOOKS).toEqual([8, 12, 16, 24, 32, 48]);
    expect(looksUpTo(3)).toEqual([3]);
    expect(looksUpTo(8)).toEqual([8]);
    expect(looksUpTo(20)).toEqual([8, 12, 16, 20]);
    expect(looksUpTo(25)).toEqual([8, 12, 16, 25]);
    for (let rounds = 1; rounds < 100; rounds++) {
      const planned = planLooks(looksUpTo(rounds));
      expect(planned.at(-1)?.rounds).toBe(rounds);
      expect(planned.reduce((sum, { alarmShare }) => sum + alarmShare, 0)).toBeCloseTo(1, 9);
      expect(planned.reduce((sum, { doubtShare }) => sum + doubtShare, 0)).toBeCloseTo(1, 9);
    }
    expect(() => planLooks([8, 8])).toThrow(RangeError);
  });
});
