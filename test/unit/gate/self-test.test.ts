/** The self-test's figures, against what theory and the judge itself say of the same noise. */
import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from '../../../src/gate/policy.ts';
import { assessGate, roundsFor, type IdenticalPair } from '../../../src/gate/self-test.ts';
import { planLooks, STORED_LOOKS } from '../../../src/gate/sequential.ts';
import { NO_SESSION_EFFECT } from '../../../src/gate/session.ts';
import { inferRatio } from '../../../src/gate/timed.ts';
import { binomialInterval } from '../../../src/stats/interval.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';

const random = createRandom(17);
const levels = (count: number, noise: number) => Array.from({ length: count }, () => noise * normal(random));

function identical(noise: number, cases = 4, rounds = 48): IdenticalPair[] {
  return Array.from({ length: cases }, (_, i) => ({
    caseId: `case ${i}`,
    metric: 'latency-p50' as const,
    before: levels(rounds, noise),
    after: levels(rounds, noise),
    roundMs: 2000,
  }));
}

const options = { policy: DEFAULT_POLICY, looks: STORED_LOOKS, seed: 1 };

describe('assessGate', () => {
  it('finds what the judge finds: nine of ten comparisons at the stated slowdown are beyond chance', () => {
    const noise = 0.03;
    const { inForce } = assessGate(identical(noise, 4, 400), options);
    const slowdown = Math.log1p((inForce.medianPercent ?? Infinity) / 100);
    const look = planLooks(STORED_LOOKS).at(-1)!;
    let found = 0;
    const runs = 1000;
    for (let run = 0; run < runs; run++) {
      const logs = { before: levels(24, noise), after: levels(24, noise).map((level) => level + slowdown) };
      const { rise, ratio } = inferRatio(logs, 'interleaved', NO_SESSION_EFFECT, { ...DEFAULT_POLICY, ...look, family: 4 });
      if (rise <= DEFAULT_POLICY.falseAlarms && ratio.high > 1.05) found++;
    }
    expect(found / runs).toBeGreaterThan(0.85);
    expect(found / runs).toBeLessThan(0.95);
  });

  it('more rounds find less, and cost more time', () => {
    const test = assessGate(identical(0.06), options);
    const worst = test.sensitivities.map(({ worstPercent }) => worstPercent ?? Infinity);
    // Chance plays around it, since each number of rounds is drawn by itself.
    expect(worst.slice(1).every((percent, i) => percent <= worst[i]! * 1.05)).toBe(true);
    expect(worst[0]!).toBeGreaterThan(1.5 * worst.at(-1)!);
    expect(test.sensitivities.map(({ rounds, durationMs }) => durationMs / rounds)).toEqual(test.sensitivities.map(() => 8000));
    expect(test).toMatchObject({ cases: 4, rounds: 48, comparisons: 24, alarms: 0, inForce: { rounds: 24 } });
    expect(Object.keys(test.byCase)).toEqual(['case 0', 'case 1', 'case 2', 'case 3']);
  });

  it('chooses rounds for a change to be found, and says where none would do', () => {
    const quiet = assessGate(identical(0.01), options);
    expect(roundsFor(5, quiet)?.rounds).toBeLessThanOrEqual(12);
    const loud = assessGate(identical(0.6), options);
    expect(roundsFor(5, loud)).toBeUndefined();
    expect(roundsFor(1, assessGate(identical(1e-6), options))).toBeUndefined();
  });

  it('counts alarms as they come: sides that are not the same are all called', () => {
    const [pair] = identical(0.01, 1);
    const apart = { ...pair!, after: pair!.before.map((level, i) => level + 0.5 + i * 1e-4) };
    expect(assessGate([apart], options)).toMatchObject({ comparisons: 6, alarms: 6, alarmShare: { point: 1, high: 1 } });
    expect(() => assessGate([], options)).toThrow(RangeError);
  });
});

describe('binomialInterval', () => {
  it('is Clopper and Pearson’s', () => {
    // "Rule of three" exact form: 1 − 0.025^(1/n); R's binom.test(2, 40): 0.00611, 0.16920.
    expect(binomialInterval(0, 50).high).toBeCloseTo(1 - 0.025 ** (1 / 50), 8);
    expect(binomialInterval(2, 40).low).toBeCloseTo(0.0061143, 5);
    expect(binomialInterval(2, 40).high).toBeCloseTo(0.1691962, 4);
    expect(binomialInterval(0, 0)).toMatchObject({ low: 0, high: 1 });
  });
});
