/** Requests collected into batches: on sessions that double their input, and on a clock of the test's own. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BatcherOptions, type BatchReport, createBatcher, fillBatch } from '../../src/batcher.ts';
import type { Session, TensorMap } from '../../src/backends/backend.ts';
import type { Binding } from '../../src/engine/engine.ts';
import { fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';

interface FakeOptions {
  readonly latencyMs?: number;
  readonly maxInFlight?: number;
  readonly inputs?: readonly Binding[];
  readonly outputs?: readonly Binding[];
  /** Batches that fail, by their number. */
  readonly fails?: readonly number[];
}

/** x [N, 2] → y [N, 2], twice as much. What it was asked is in `seen`. */
function fakeSession(batch: number, { latencyMs = 10, maxInFlight = 1, inputs, outputs, fails = [] }: FakeOptions = {}) {
  const seen: number[][] = [];
  let underWay = 0;
  const state = { most: 0 };
  const session = {
    header: { options: { batch } },
    maxInFlight,
    inputs: inputs ?? [{ name: 'x', dtype: 'float32', dims: [batch, 2] }],
    outputs: outputs ?? [{ name: 'y', dtype: 'float32', dims: [batch, 2] }],
    async run({ x }: TensorMap): Promise<TensorMap> {
      const values = toNumbers(x!);
      expect(x!.dims).toEqual([batch, 2]);
      const number = seen.push(values) - 1;
      state.most = Math.max(state.most, ++underWay);
      await new Promise((resolve) => setTimeout(resolve, latencyMs));
      underWay--;
      if (fails.includes(number)) throw new Error(`batch ${number} failed`);
      return { y: fromNumbers('float32', [batch, 2], values.map((value) => 2 * value)) };
    },
  } as unknown as Session;
  return { session, seen, state };
}

const item = (value: number): { readonly x: Tensor } => ({ x: fromNumbers('float32', [1, 2], [value, value + 0.5]) });

const answer = async (outputs: Promise<TensorMap>): Promise<number[]> => {
  const { y } = await outputs;
  expect(y!.dims).toEqual([1, 2]);
  return toNumbers(y!);
};

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('a batcher', () => {
  it('takes what is asked for in one go as a batch, pads it, and gives everyone his own', async () => {
    const { session, seen } = fakeSession(4);
    const batcher = createBatcher(session);
    const answers = Promise.all([1, 2, 3].map((value) => answer(batcher.run(item(value)))));
    await vi.runAllTimersAsync();
    expect(await answers).toEqual([[2, 3], [4, 5], [6, 7]]);
    expect(seen).toEqual([[1, 1.5, 2, 2.5, 3, 3.5, 1, 1.5]]);
    expect(batcher.counts).toEqual({ requests: 3, batches: 1 });
  });

  it('sends a full batch at once, and waits no longer than the first request may for one that is not full', async () => {
    const { session, seen } = fakeSession(2, { latencyMs: 1, maxInFlight: 4 });
    const batcher = createBatcher(session, { maxQueueDelayMs: 5 });
    const done: number[] = [];
    const ask = (value: number): void => void batcher.run(item(value)).then(() => done.push(value));
    ask(1);
    ask(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(done).toEqual([1, 2]);
    ask(3);
    await vi.advanceTimersByTimeAsync(4);
    expect(seen).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(seen).toEqual([[1, 1.5, 2, 2.5], [3, 3.5, 3, 3.5]]);
    // The wait of the next one counts from its own coming.
    ask(4);
    await vi.advanceTimersByTimeAsync(3);
    ask(5);
    await vi.advanceTimersByTimeAsync(0);
    expect(seen[2]).toEqual([4, 4.5, 5, 5.5]);
  });

  it('fills the memory of answered batches again, never that of a batch under way or one that failed', async () => {
    const { session } = fakeSession(2, { maxInFlight: 2, fails: [1] });
    const places: unknown[] = [];
    const run = session.run.bind(session);
    const batcher = createBatcher({ ...session, run: (inputs: TensorMap) => (places.push(inputs['x']!.data.buffer), run(inputs)) });
    const ask = async (values: readonly number[]) => {
      const answers = Promise.allSettled(values.map((value) => answer(batcher.run(item(value)))));
      await vi.runAllTimersAsync();
      return (await answers).map((settled) => (settled.status === 'fulfilled' ? settled.value : undefined));
    };
    expect(await ask([1, 2, 3, 4])).toEqual([[2, 3], [4, 5], undefined, undefined]);
    expect(await ask([5, 6, 7, 8])).toEqual([[10, 11], [12, 13], [14, 15], [16, 17]]);
    const [first, failed, again, fresh] = places;
    expect(again).toBe(first);
    expect(new Set([first, failed, fresh]).size).toBe(3);
  });

  it('tells of each batch that was answered how long its requests waited and how long it took, and how many wait', async () => {
    const { session } = fakeSession(2, { latencyMs: 10, fails: [1] });
    const reports: BatchReport[] = [];
    const batcher = createBatcher(session, { onBatch: (report) => reports.push(report) });
    const ask = (value: number) => batcher.run(item(value)).catch(() => undefined);
    ask(1);
    await vi.advanceTimersByTimeAsync(4);
    const rest = [ask(2), ask(3), ask(4)];
    expect(batcher.waiting).toBe(3);
    await vi.runAllTimersAsync();
    await Promise.all(rest);
    expect(batcher.waiting).toBe(0);
    expect(reports).toEqual([{ batch: 2, queuedMs: [0], tookMs: 10 }, { batch: 2, queuedMs: [16], tookMs: 10 }]);
  });

  it('collects while all engines are busy, in the order of coming', async () => {
    const { session, seen, state } = fakeSession(4, { latencyMs: 10 });
    const batcher = createBatcher(session);
    const order: number[] = [];
    const ask = (value: number): void => void batcher.run(item(value)).then(() => order.push(value));
    ask(0);
    await vi.advanceTimersByTimeAsync(1);
    for (let value = 1; value <= 6; value++) {
      ask(value);
      await vi.advanceTimersByTimeAsync(1);
    }
    await vi.runAllTimersAsync();
    expect(seen.map((values) => values.filter((_, i) => i % 2 === 0))).toEqual([[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 5, 5]]);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(state.most).toBe(1);
    expect(batcher.counts).toEqual({ requests: 7, batches: 3 });
  });

  it('has as many batches under way as the sessions bear, or as it is told', async () => {
    for (const [maxInFlight, most] of [[undefined, 3], [2, 2], [9, 3]] as const) {
      const { session, state } = fakeSession(1, { maxInFlight: 3 });
      const batcher = createBatcher(session, maxInFlight === undefined ? {} : { maxInFlight });
      for (let value = 0; value < 9; value++) void batcher.run(item(value));
      await vi.runAllTimersAsync();
      expect(state.most).toBe(most);
    }
  });

  it('chooses among engines of several batches', async () => {
    const [one, four] = [fakeSession(1), fakeSession(4)];
    const batcher = createBatcher([four.session, one.session]);
    const answers = Promise.all([1, 2, 3, 4, 5, 6].map((value) => answer(batcher.run(item(value)))));
    await vi.runAllTimersAsync();
    expect(await answers).toEqual([1, 2, 3, 4, 5, 6].map((value) => [2 * value, 2 * value + 1]));
    // Four are a batch; of the two that are left, two fours would be half full, which is no more than half.
    expect([four.seen.length, one.seen]).toEqual([1, [[5, 5.5], [6, 6.5]]]);
  });

  it('fails those of a batch that failed, and nobody else', async () => {
    const { session } = fakeSession(2, { fails: [0] });
    const batcher = createBatcher(session);
    const settled = Promise.allSettled([1, 2, 3].map((value) => batcher.run(item(value))));
    await vi.runAllTimersAsync();
    expect((await settled).map((result) => (result.status === 'rejected' ? (result.reason as Error).message : 'answered'))).toEqual(['batch 0 failed', 'batch 0 failed', 'answered']);
    expect(batcher.counts).toEqual({ requests: 1, batches: 1 });
  });

  it('keeps what it answered, also where a session gives back the bytes that it got', async () => {
    const { session } = fakeSession(2);
    const echo = { ...session, run: async ({ x }: TensorMap) => ({ y: x! }) };
    const batcher = createBatcher(echo);
    const first = await Promise.all([answer(batcher.run(item(1))), batcher.run(item(2))]);
    await Promise.all([batcher.run(item(3)), batcher.run(item(4))]);
    expect([first[0], toNumbers(first[1]['y']!)]).toEqual([[1, 1.5], [2, 2.5]]);
  });

  it('refuses a request that does not fit, and leaves its neighbours alone', async () => {
    const { session } = fakeSession(2);
    const batcher = createBatcher(session);
    const good = answer(batcher.run(item(1)));
    await expect(batcher.run({ x: fromNumbers('float32', [2, 2], [1, 2, 3, 4]) })).rejects.toMatchObject({ code: 'USAGE', details: ['x: expected float32[1,2], found float32[2,2]'] });
    await vi.runAllTimersAsync();
    expect(await good).toEqual([2, 3]);
  });

  it('refuses a request whose buffer was transferred while it waited, and answers its neighbours with their own', async () => {
    const { session, seen } = fakeSession(2);
    const batcher = createBatcher(session);
    const before = Promise.all([answer(batcher.run(item(1))), answer(batcher.run(item(2)))]);
    await vi.advanceTimersByTimeAsync(1);
    const gone = item(3);
    const refused = batcher.run(gone).catch((error: unknown) => error);
    const kept = answer(batcher.run(item(4)));
    structuredClone(gone.x.data, { transfer: [gone.x.data.buffer] });
    await vi.runAllTimersAsync();
    expect(await refused).toMatchObject({ code: 'USAGE', message: expect.stringContaining('transferred') });
    expect([await before, await kept]).toEqual([[[2, 3], [4, 5]], [8, 9]]);
    expect(seen).toEqual([[1, 1.5, 2, 2.5], [4, 4.5, 4, 4.5]]);
  });

  it('closes where all that waited is refused so', async () => {
    const { session } = fakeSession(2);
    const batcher = createBatcher(session, { maxQueueDelayMs: 50 });
    const gone = item(1);
    const refused = batcher.run(gone).catch((error: unknown) => error);
    structuredClone(gone.x.data, { transfer: [gone.x.data.buffer] });
    await batcher.close();
    expect(await refused).toMatchObject({ code: 'USAGE' });
  });

  it('refuses more than may wait, until there is room again', async () => {
    const { session } = fakeSession(1);
    const batcher = createBatcher(session, { maxQueueSize: 2 });
    const first = batcher.run(item(0));
    await vi.advanceTimersByTimeAsync(0);
    const waiting = [batcher.run(item(1)), batcher.run(item(2))];
    await expect(batcher.run(item(3))).rejects.toMatchObject({ code: 'OVERLOADED', message: expect.stringContaining('2 requests are already waiting') });
    await vi.advanceTimersByTimeAsync(10);
    const late = batcher.run(item(4));
    await vi.runAllTimersAsync();
    await expect(Promise.all([first, ...waiting, late])).resolves.toHaveLength(4);
  });

  it('answers what it took before it closes, at once, and refuses what comes then', async () => {
    const { session, seen } = fakeSession(4);
    const batcher = createBatcher(session, { maxQueueDelayMs: 1000 });
    const before = answer(batcher.run(item(1)));
    await vi.advanceTimersByTimeAsync(1);
    expect(seen).toHaveLength(0);
    const closed = Promise.all([batcher.close(), batcher.close()]);
    await expect(batcher.run(item(2))).rejects.toMatchObject({ code: 'USAGE', message: 'the batcher is closed' });
    await vi.advanceTimersByTimeAsync(10);
    await closed;
    expect(await before).toEqual([2, 3]);
    expect(vi.getTimerCount()).toBe(0);
    await createBatcher(session).close();
  });

  const shared: Binding = { name: 'rate', dtype: 'int64', dims: [1] };
  it.each<[string, readonly Session[], BatcherOptions, RegExp]>([
    ['no session', [], {}, /needs a session/],
    ['an input for all items', [fakeSession(4, { inputs: [{ name: 'x', dtype: 'float32', dims: [4, 2] }, shared] }).session], {}, /input 'rate' int64\[1\] has no first axis of 4/],
    ['items that share a byte', [fakeSession(4, { inputs: [{ name: 'x', dtype: 'int4', dims: [4, 3] }] }).session], {}, /input 'x' int4\[4,3\] has items that end within a byte/],
    ['an output of any length', [fakeSession(4, { outputs: [{ name: 'y', dtype: 'float32', dims: [4, 2], dynamic: true }] }).session], {}, /output 'y' float32\[4,2\] has as many rows as the data give/],
    ['two sessions of a batch', [fakeSession(4).session, fakeSession(4).session], {}, /two of the sessions are for batch 4/],
    ['two models', [fakeSession(4).session, fakeSession(2, { inputs: [{ name: 'x', dtype: 'float32', dims: [2, 3] }] }).session], {}, /of different models/],
    ['one model at two sizes', [fakeSession(4).session, fakeSession(4, { inputs: [{ name: 'x', dtype: 'float32', dims: [4, 3] }] }).session], {}, /of different models or sizes/],
    ['a delay below 0', [fakeSession(1).session], { maxQueueDelayMs: -1 }, /maxQueueDelayMs: expected milliseconds from 0 to 60000, found -1/],
    ['a delay that is none', [fakeSession(1).session], { maxQueueDelayMs: Number.NaN }, /maxQueueDelayMs/],
    ['half a queue', [fakeSession(1).session], { maxQueueSize: 0.5 }, /maxQueueSize/],
    ['no batch at all', [fakeSession(1).session], { maxInFlight: 0 }, /maxInFlight/],
  ])('refuses %s', (_, sessions, options, message) => {
    expect(() => createBatcher(sessions, options)).toThrow(message);
  });

  it('answers every request once, with its own, whatever comes when', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 }),
        fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 0, max: 8 }),
        fc.integer({ min: 1, max: 3 }),
        async (batches, gapsMs, maxQueueDelayMs, maxInFlight) => {
          const fakes = batches.map((batch) => fakeSession(batch, { latencyMs: 4, maxInFlight }));
          const batcher = createBatcher(fakes.map(({ session }) => session), { maxQueueDelayMs });
          const answers: Promise<number[]>[] = [];
          for (const [value, gapMs] of gapsMs.entries()) {
            await vi.advanceTimersByTimeAsync(gapMs);
            answers.push(answer(batcher.run(item(value))));
          }
          await vi.runAllTimersAsync();
          expect(await Promise.all(answers)).toEqual(gapsMs.map((_, value) => [2 * value, 2 * value + 1]));
          expect(batcher.counts.requests).toBe(gapsMs.length);
          expect(batcher.counts.batches).toBe(fakes.reduce((sum, { seen }) => sum + seen.length, 0));
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('the batch for those that wait', () => {
  it('is full, or more than half full, or the smallest there is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.uniqueArray(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 5 }), (waiting, unsorted) => {
        const batches = unsorted.toSorted((a, b) => a - b);
        const { batch, items } = fillBatch(waiting, batches);
        expect(batches).toContain(batch);
        expect(items).toBeGreaterThan(0);
        expect(items).toBeLessThanOrEqual(Math.min(batch, waiting));
        if (items < batch) {
          expect(items).toBe(waiting);
          expect(batch === batches[0] || 2 * items > batch).toBe(true);
        }
      }),
    );
  });
});
