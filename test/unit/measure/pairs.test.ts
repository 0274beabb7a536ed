/** Pairs of engines in the same rounds: order, looks, what leaves and what is kept. */
import { describe, expect, test } from 'vitest';
import { reportedFailure, WorkerFailure } from '../../../src/measure/failure.ts';
import { DEFAULT_TIMEOUT_MS, type CasePlan } from '../../../src/measure/plan.ts';
import { measurePairs, type PairEvent, type PairOutcome } from '../../../src/measure/pairs.ts';
import type { StartWorker } from '../../../src/measure/process.ts';
import { inProcessWorkers } from '../../helpers/in-process.ts';
import { nullCase } from '../../helpers/measure.ts';

const SETTINGS = { plugins: [], seed: 1, timing: { sampleMs: 20, minSamples: 5, maxSamples: 20, maxWarmupMs: 500 }, budgetMs: undefined, timeoutMs: DEFAULT_TIMEOUT_MS };
const YARDSTICK = [{ workload: 'cpu-arithmetic', durationNs: 1e7 }] as const;

const pairOf = (id: string) => ({ id, baseline: side(id, 'old'), candidate: side(id, 'new') });
const side = (id: string, which: string): CasePlan => ({ ...nullCase({ id }), enginePath: `${id}-${which}.engine` });

interface Options {
  readonly looks: readonly number[];
  readonly settle?: (look: number, id: string) => boolean;
  readonly faulty?: Readonly<Record<string, Record<string, string | number>>>;
  readonly budgetMs?: number;
  readonly stopAfter?: number;
}

async function measure(ids: readonly string[], { looks, settle = () => false, faulty = {}, budgetMs, stopAfter }: Options) {
  const { start, log } = inProcessWorkers((path) => faulty[path.replace('.engine', '')] ?? {});
  let clock = 0;
  const controller = new AbortController();
  const last = new Map<string, PairOutcome>();
  const seen: number[] = [];
  const done: string[] = [];
  const services = { start, yardstick: () => YARDSTICK, nowMs: () => (clock += 100) };
  for await (const event of measurePairs({ ...SETTINGS, budgetMs }, ids.map(pairOf), looks, services, controller.signal) as AsyncIterable<PairEvent>) {
    if (event.kind === 'pair-done') {
      done.push(event.id);
      if (done.length === stopAfter) controller.abort();
      continue;
    }
    seen.push(event.look);
    for (const pair of event.pairs) {
      last.set(pair.id, pair);
      if (settle(event.look, pair.id)) event.settled.add(pair.id);
    }
  }
  const loads = log.filter((line) => line.startsWith('load')).map((line) => line.slice('load '.length).replace('.engine', ''));
  return { last, seen, done, loads };
}

const indexes = (pair: PairOutcome | undefined) => [pair?.baseline, pair?.candidate].map((outcome) => outcome?.rounds.map(({ index }) => index));

describe('measurePairs', () => {
  test('the two sides of a pair start one after the other, in either order, each round in a process of its own', async () => {
    const { loads, last } = await measure(['a', 'b', 'c'], { looks: [12] });
    expect(loads).toHaveLength(3 * 2 * 12);
    const couples = Array.from({ length: 36 }, (_, i) => loads.slice(2 * i, 2 * i + 2));
    for (const [first, second] of couples) expect(first?.[0]).toBe(second?.[0]);
    const newFirst = couples.filter(([first]) => first?.endsWith('new')).length;
    expect(newFirst).toBeGreaterThan(9);
    expect(newFirst).toBeLessThan(27);
    expect(indexes(last.get('b'))).toEqual([Array.from({ length: 12 }, (_, i) => i), Array.from({ length: 12 }, (_, i) => i)]);
    expect(last.get('b')?.candidate).toMatchObject({ status: 'completed', memory: { residentPeakBytes: expect.any(Number) } });
  });

  test('engines that do not fit together run one after the other', async () => {
    const { start, log } = inProcessWorkers();
    let alive = 0;
    const cramped: StartWorker = (launch) => {
      const worker = start(launch);
      alive++;
      const together = alive === 2;
      return {
        ...worker,
        ask: async (request, timeoutMs) => {
          if (together && request.kind === 'load') throw new WorkerFailure(reportedFailure('load', { code: 'OUT_OF_MEMORY', message: 'no memory' }, ''));
          return worker.ask(request, timeoutMs);
        },
        leave: async () => {
          alive--;
          await worker.leave();
        },
        kill: async () => {
          if (alive > 0) alive--;
          await worker.kill();
        },
      };
    };
    let outcome: PairOutcome | undefined;
    for await (const event of measurePairs(SETTINGS, [pairOf('a')], [3], { start: cramped, yardstick: () => YARDSTICK })) {
      if (event.kind === 'look') [outcome] = event.pairs;
    }
    expect(indexes(outcome)).toEqual([[0, 1, 2], [0, 1, 2]]);
    expect(log.filter((line) => line.startsWith('round'))).toHaveLength(6);
    expect(outcome?.baseline.rounds.every(({ slices }) => slices === undefined)).toBe(true);
  });

  test('settled pairs leave, the others go on to the last look', async () => {
    const { last, seen, done } = await measure(['a', 'b'], { looks: [2, 3, 5], settle: (look, id) => id === 'a' && look === 0 });
    expect(seen).toEqual([0, 1, 2]);
    expect(done.filter((id) => id === 'a')).toHaveLength(2);
    expect(indexes(last.get('b'))[0]).toEqual([0, 1, 2, 3, 4]);
  });

  test('ends as soon as all are settled', async () => {
    const { seen, done } = await measure(['a', 'b'], { looks: [1, 9], settle: () => true });
    expect(seen).toEqual([0]);
    expect(done).toHaveLength(2);
  });

  test('a side that fails ends its pair, with the rounds that it had', async () => {
    const { last, done } = await measure(['a', 'b'], { looks: [3], faulty: { 'a-new': { fault: 'error' } } });
    expect(last.get('a')?.candidate).toMatchObject({ status: 'failed' });
    // That the other one works is known.
    expect(last.get('a')?.baseline).toMatchObject({ status: 'completed' });
    expect(last.get('b')?.candidate).toMatchObject({ status: 'completed' });
    expect(done.filter((id) => id === 'a')).toHaveLength(1);
  });

  test('a budget that ends brings the last look forward', async () => {
    const { seen, last } = await measure(['a'], { looks: [4, 8, 50], budgetMs: 6000 });
    expect(seen.at(-1)).toBe(2);
    const rounds = last.get('a')?.baseline.rounds.length ?? 0;
    expect(rounds).toBeGreaterThan(1);
    expect(rounds).toBeLessThan(50);
  });

  test('an interruption keeps what there is', async () => {
    const { seen, last } = await measure(['a', 'b'], { looks: [9], stopAfter: 4 });
    expect(seen).toEqual([0]);
    expect(last.get('a')?.baseline.rounds).toHaveLength(2);
  });
});
