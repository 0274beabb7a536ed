import { describe, expect, test } from 'vitest';
import { type MeasureServices, measureCases } from '../../../src/measure/orchestrate.ts';
import type { CaseOutcome, CompletedOutcome, MeasureEvent, MeasurePlan } from '../../../src/measure/plan.ts';
import { inProcessWorkers } from '../../helpers/in-process.ts';
import { nullCase, plan } from '../../helpers/measure.ts';

const IDS = ['a', 'b', 'c', 'd'];
const cases = IDS.map((id) => nullCase({ id }));
const YARDSTICK = [{ workload: 'cpu-arithmetic', durationNs: 1e7 }] as const;

interface Sweep {
  readonly events: readonly MeasureEvent[];
  readonly log: readonly string[];
  readonly outcomes: ReadonlyMap<string, CaseOutcome>;
  /** Case ids in the order in which their rounds ended, by round. */
  readonly order: readonly string[][];
}

async function sweep(
  overrides: Partial<MeasurePlan> = {},
  options: { readonly faulty?: Record<string, Record<string, string | number>>; readonly services?: Partial<MeasureServices>; readonly stopAfter?: number } = {},
): Promise<Sweep> {
  const { start, log } = inProcessWorkers((path) => options.faulty?.[path.replace('.engine', '')] ?? {});
  const controller = new AbortController();
  const events: MeasureEvent[] = [];
  const measured = plan(cases, overrides);
  const order: string[][] = Array.from({ length: measured.rounds }, () => []);
  const outcomes = new Map<string, CaseOutcome>();
  for await (const event of measureCases(measured, { start, yardstick: () => YARDSTICK, ...options.services }, controller.signal)) {
    events.push(event);
    if (event.kind === 'round-done') order[event.round.index]!.push(event.case.id);
    if (event.kind === 'case-done') outcomes.set(event.case.id, event.outcome);
    if (events.length === options.stopAfter) controller.abort();
  }
  return { events, log, outcomes, order };
}

describe('order', () => {
  test('every round holds every case once, in an order of its own that the seed decides', async () => {
    const first = await sweep({ rounds: 6 });
    for (const round of first.order) expect([...round].sort()).toEqual(IDS);
    expect(new Set(first.order.map((round) => round.join(''))).size).toBeGreaterThan(3);
    expect((await sweep({ rounds: 6 })).order).toEqual(first.order);
    expect((await sweep({ rounds: 6, seed: 2 })).order).not.toEqual(first.order);
  });

  test('a round knows its index, its position and the yardstick read before it', async () => {
    const { events, outcomes } = await sweep();
    const rounds = events.flatMap((event) => (event.kind === 'round-done' ? [event.round] : []));
    expect(rounds.map(({ position }) => position)).toEqual([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
    for (const round of rounds) expect(round.yardstick).toEqual(YARDSTICK);
    for (const outcome of outcomes.values()) expect(outcome.rounds.map(({ index }) => index)).toEqual([0, 1, 2]);
  });
});

test('nothing of this machine explains the time of a fake device', async () => {
  const { start } = inProcessWorkers(() => ({}), 'fake');
  const yardsticks: unknown[] = [];
  for await (const event of measureCases(plan([cases[0]!]), { start, yardstick: () => YARDSTICK })) {
    if (event.kind === 'round-done') yardsticks.push(event.round.yardstick);
  }
  expect(yardsticks).toEqual([[], [], []]);
});

describe('isolation', () => {
  test('by round: every round has a process of its own, ended before the next starts', async () => {
    const { log } = await sweep({ rounds: 2 });
    expect(log.filter((line) => line.startsWith('load'))).toHaveLength(8);
    const one = log.slice(0, log.findIndex((line) => line.startsWith('leave')) + 1).map((line) => line.split(' ')[0]);
    expect(one).toEqual(['load', 'answer', 'round', 'sampling', 'memory', 'bye', 'leave']);
  });

  test('by case: one process each, ended with the case', async () => {
    const { log, outcomes } = await sweep({ isolation: 'case', rounds: 3 });
    expect(log.filter((line) => line.startsWith('load'))).toHaveLength(4);
    expect(log.filter((line) => line === 'round a.engine')).toHaveLength(3);
    expect(log.filter((line) => line.startsWith('leave'))).toHaveLength(4);
    expect([...outcomes.values()].map(({ status }) => status)).toEqual(Array.from(IDS, () => 'completed'));
  });
});

describe('an engine whose driver keeps kernels', () => {
  const shared = ['one', 'two'].map((id) => nullCase({ id, plan: { enginePath: 'shared.engine', loadFirst: true } }));

  test('by case: is loaded by a process that leaves, before each that stays', async () => {
    const { log, outcomes } = await sweep({ cases: [...shared, cases[0]!], isolation: 'case', rounds: 2 });
    const ofShared = log.filter((line) => /^(load|leave) shared/.test(line)).map((line) => line.split(' ')[0]);
    expect(ofShared).toEqual(['load', 'leave', 'load', 'load', 'leave', 'load', 'leave', 'leave']);
    expect(log.filter((line) => line === 'load a.engine')).toHaveLength(1);
    const firstLoads = ['one', 'two', 'a'].map((id) => (outcomes.get(id) as CompletedOutcome).loadFirstMs);
    expect(firstLoads).toEqual([expect.any(Number), expect.any(Number), undefined]);
  });

  test('by round: the process of the first round leaves anyway', async () => {
    const { log, outcomes } = await sweep({ cases: shared, rounds: 2 });
    expect(log.filter((line) => line === 'load shared.engine')).toHaveLength(4);
    expect(outcomes.get('one')).not.toHaveProperty('loadFirstMs');
  });

  test('one that does not load fails as any other', async () => {
    const { log, outcomes } = await sweep({ cases: shared, isolation: 'case' }, { faulty: { shared: { fault: 'error', faultAt: 'load' } } });
    for (const { id } of shared.map((entry) => entry.case)) expect(outcomes.get(id)).toMatchObject({ status: 'failed', stage: 'load', rounds: [] });
    expect(log.filter((line) => line.startsWith('kill'))).toHaveLength(2);
  });
});

describe('outcomes', () => {
  test('a completed case on the null device is exact', async () => {
    const { outcomes } = await sweep({ timing: { sampleMs: 10, minSamples: 3, maxSamples: 50, maxWarmupMs: 500 } });
    const outcome = outcomes.get('a')!;
    expect(outcome).toMatchObject({ status: 'completed', device: { slug: 'null' }, firstRunMs: 1, memory: { planned: { weightBytes: 10 } } });
    for (const round of outcome.rounds) {
      expect(round.samplesNs).toEqual(Array.from({ length: 10 }, () => 1e6));
      expect(round).toMatchObject({ executionsPerSample: 1, requests: 10, elapsedNs: 1e7, warmup: { executions: 100, durationMs: 100, steady: true } });
    }
  });

  test('a failed case ends at once and its process with it; the others go on', async () => {
    const { outcomes, order, log } = await sweep({}, { faulty: { b: { fault: 'error', faultAt: 'load' }, c: { fault: 'error', faultAfter: 10 } } });
    expect(outcomes.get('b')).toMatchObject({ status: 'failed', stage: 'load', cause: 'error', error: { code: 'DEVICE_LOST' }, stderr: 'last words' });
    expect(outcomes.get('c')).toMatchObject({ status: 'failed', cause: 'error' });
    expect(log.filter((line) => line === 'load c.engine')).toHaveLength(1);
    expect(log[log.indexOf('round c.engine') + 1]).toBe('kill c.engine');
    for (const round of order) expect([...round].sort()).toEqual(['a', 'd']);
    expect([...outcomes.values()].filter(({ status }) => status === 'completed')).toHaveLength(2);
  });

  test('a case that failed late keeps its rounds', async () => {
    const { outcomes } = await sweep({ isolation: 'case' }, { faulty: { a: { fault: 'error', faultAfter: 150 } } });
    expect(outcomes.get('a')).toMatchObject({ status: 'failed', rounds: [{ index: 0 }] });
  });

  test('a bug is no outcome: it is thrown, and the workers end', async () => {
    const { start, log } = inProcessWorkers();
    const broken = { start, yardstick: () => { throw new Error('a bug'); } };
    const run = async (): Promise<void> => {
      for await (const event of measureCases(plan(cases), broken)) expect(event.kind).toBe('round-started');
    };
    await expect(run()).rejects.toThrow('a bug');
    expect(log.at(-1)).toMatch(/^kill/);
  });
});

describe('cut short', () => {
  test('an abort keeps finished rounds; every case still gets its outcome', async () => {
    // Two events per round and case: the eleventh event is the start of the second round's second case.
    const { outcomes, order } = await sweep({}, { stopAfter: 11 });
    expect(order.map((round) => round.length)).toEqual([4, 2, 0]);
    expect(outcomes.size).toBe(4);
    for (const outcome of outcomes.values()) expect(outcome).toMatchObject({ status: 'aborted', reason: 'interrupted' });
    const kept = [...outcomes.values()].map(({ rounds }) => rounds.length).sort();
    expect(kept).toEqual([1, 1, 2, 2]);
  });

  test('ending the iteration ends the workers', async () => {
    const { start, log } = inProcessWorkers();
    for await (const event of measureCases(plan(cases, { isolation: 'case' }), { start, yardstick: () => [] })) {
      if (event.kind === 'round-done') break;
    }
    expect(log.at(-1)).toMatch(/^kill/);
    expect(log.filter((line) => line.startsWith('load'))).toHaveLength(1);
  });

  test('a budget ends the sweep before a round that would not fit', async () => {
    // Each look at the clock takes 10 s: rounds start at 20, 40, 60 … s and seem to take 10 s each.
    const clock = (): (() => number) => {
      let seconds = 0;
      return () => (seconds += 10) * 1000;
    };
    const enough = await sweep({ rounds: 5, minRounds: 2, budgetMs: 175_000 }, { services: { nowMs: clock() } });
    expect(enough.order.map((round) => round.length)).toEqual([4, 4, 0, 0, 0]);
    expect(enough.outcomes.get('a')).toMatchObject({
      status: 'completed',
      warnings: expect.arrayContaining([{ kind: 'notice', text: 'the time budget ended after 2 of 5 rounds' }]),
    });
    const short = await sweep({ rounds: 5, minRounds: 2, budgetMs: 95_000 }, { services: { nowMs: clock() } });
    expect(short.outcomes.size).toBe(4);
    for (const outcome of short.outcomes.values()) expect(outcome).toMatchObject({ status: 'aborted', reason: 'budget' });
  });
});

describe('looks', () => {
  test('a case that is settled at a look is complete, and is measured no more', async () => {
    const { start } = inProcessWorkers(() => ({}));
    const seen: { readonly look: number; readonly rounds: readonly number[] }[] = [];
    const done = new Map<string, CaseOutcome>();
    for await (const event of measureCases(plan(cases, { rounds: 6, looks: [2, 4] }), { start, yardstick: () => YARDSTICK })) {
      if (event.kind === 'look') {
        seen.push({ look: event.look, rounds: event.open.map(({ rounds }) => rounds.length) });
        event.settled.add(event.look === 0 ? 'a' : 'c');
      }
      if (event.kind === 'case-done') done.set(event.case.id, event.outcome);
    }
    expect(seen).toEqual([{ look: 0, rounds: [2, 2, 2, 2] }, { look: 1, rounds: [4, 4, 4] }]);
    expect(Object.fromEntries([...done].map(([id, { rounds }]) => [id, rounds.length]))).toEqual({ a: 2, b: 6, c: 4, d: 6 });
    for (const outcome of done.values()) {
      expect(outcome.status).toBe('completed');
      // That it has fewer rounds than the others is nothing to warn of.
      expect(outcome.status === 'completed' && outcome.warnings.filter(({ kind }) => kind === 'notice')).toEqual([]);
    }
  });
});
