/** One round of two processes that take turns: who is timed when, and what the rounds say of it. */
import { describe, expect, test } from 'vitest';
import { DEFAULT_TIMEOUT_MS } from '../../../src/measure/plan.ts';
import { takeTurns } from '../../../src/measure/turns.ts';
import type { Scenario } from '../../../src/results/record.ts';
import { inProcessWorkers } from '../../helpers/in-process.ts';
import { nullCase } from '../../helpers/measure.ts';

const TIMING = { sampleMs: 40, minSamples: 5, maxSamples: 200, maxWarmupMs: 500 };

async function turns({ scenario, slow = {} }: { readonly scenario?: Partial<Scenario>; readonly slow?: Readonly<Record<string, string | number>> } = {}) {
  const { start, log } = inProcessWorkers((path) => (path.startsWith('b') ? slow : {}));
  const [first, second] = ['a', 'b'].map((id) => nullCase({ id, ...(scenario && { scenario }) }));
  const plan = { plugins: [], timing: TIMING, timeoutMs: DEFAULT_TIMEOUT_MS, seed: 1, index: 3, first: first!, second: second! };
  const outcome = await takeTurns(plan, { start, yardstick: () => [{ workload: 'memory', durationNs: 1 }] }, undefined);
  return { outcome, log };
}

describe('takeTurns', () => {
  test('both are loaded and warm before either is timed, and then change places A B B A', async () => {
    const { outcome, log } = await turns();
    const timed = log.flatMap((line) => (line.startsWith('slice') ? [line['slice '.length]] : [])).join('');
    expect(timed).toMatch(/^(abba)+(ab)?$/);
    const before = log.slice(0, log.findIndex((line) => line.startsWith('slice'))).filter((line) => !line.startsWith('sampling'));
    expect(before).toEqual(['load a.engine', 'answer a.engine', 'load b.engine', 'answer b.engine', 'begin a.engine', 'begin b.engine']);
    expect(log).toContain('leave a.engine');
    expect(log).toContain('leave b.engine');
    if (outcome.status !== 'completed') throw new Error(outcome.failure.error.message);
    const rounds = [outcome.first.round, outcome.second.round];
    for (const [position, round] of rounds.entries()) {
      expect(round).toMatchObject({ index: 3, position, start: { loadMs: expect.any(Number) }, yardstick: [{ workload: 'memory' }] });
      expect(round.slices).toHaveLength(timed.length / 2);
      expect(round.slices!.reduce((sum, { samples }) => sum + samples, 0)).toBe(round.samplesNs.length);
      expect(round.slices!.reduce((sum, { elapsedNs }) => sum + elapsedNs, 0)).toBeCloseTo(round.elapsedNs, 3);
    }
    expect(rounds[0]!.executionsPerSample).toBe(rounds[1]!.executionsPerSample);
  });

  test('open-loop load comes in one piece', async () => {
    const { outcome, log } = await turns({ scenario: { name: 'server', targetQps: 500 } });
    expect(log.filter((line) => line.startsWith('slice'))).toEqual(['slice a.engine', 'slice b.engine']);
    expect(outcome.status === 'completed' && outcome.first.round.slices).toBeUndefined();
  });

  test('says which side failed, and ends both', async () => {
    const { outcome, log } = await turns({ slow: { fault: 'error' } });
    expect(outcome).toMatchObject({ status: 'failed', side: 'second' });
    expect(log).toContain('kill a.engine');
  });
});
