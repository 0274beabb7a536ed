/**
 * Lanes: the ways in which requests can be under way at once in one session.
 *
 * A request takes a free lane or waits for one, first come, first served, as in front of any server with a bounded number of
 * contexts. With transfers a lane runs whole requests; without, it executes inputs that lie on the device already. Where requests are collected, they
 * hold one item each, and the batcher that a server would use stands before the lanes.
 */
import type { Execution, Session, TensorMap } from '../backends/backend.ts';
import { createBatcher, itemOf } from '../batcher.ts';
import { TsrtError } from '../errors.ts';

export interface Lanes {
  readonly count: number;
  /** Runs one request `repeat` times in a row on a free lane. */
  request(repeat: number): Promise<void>;
  /** Batches run so far, where requests are collected. */
  batches?(): number;
  dispose(): Promise<void>;
}

type Lane = (repeat: number) => Promise<void>;

/** As many lanes as the scenario has streams, at most as many as the session bears. */
export async function openLanes(session: Session, inputs: TensorMap, streams: number, transfers: boolean): Promise<Lanes> {
  const count = Math.max(1, Math.min(streams, session.maxInFlight));
  if (transfers) {
    const lane: Lane = async (repeat) => {
      for (let i = 0; i < repeat; i++) await session.run(inputs);
    };
    return createPool(Array.from({ length: count }, () => lane), async () => {});
  }
  const executions: Execution[] = [];
  for (let i = 0; i < count; i++) executions.push(await session.prepare(inputs));
  return createPool(
    executions.map((execution): Lane => (repeat) => execution.execute(repeat)),
    async () => {
      for (const execution of executions) await execution.dispose();
    },
  );
}

/**
 * Requests of one item, the batch's items in turn, collected into the engine's batch. Throws TsrtError USAGE where the engine's inputs can't be divided
 * so, and on a simulated clock: the waits of requests are real ones.
 */
export function openBatchedLanes(session: Session, inputs: TensorMap, streams: number, maxQueueDelayMs: number): Lanes {
  if (session.clock) {
    throw new TsrtError('USAGE', 'requests can be collected into batches only on a real clock, but this backend has a clock of its own', { fix: 'leave out maxQueueDelayMs for this backend' });
  }
  const count = Math.max(1, Math.min(streams, session.maxInFlight));
  const batcher = createBatcher(session, { maxQueueDelayMs, maxInFlight: count });
  const { batch } = session.header.options;
  const items = Array.from({ length: batch }, (_, i) => itemOf(inputs, batch, i));
  let next = 0;
  return {
    count,
    async request(repeat) {
      for (let i = 0; i < repeat; i++) await batcher.run(items[next++ % batch]!);
    },
    batches: () => batcher.counts.batches,
    dispose: () => batcher.close(),
  };
}

function createPool(lanes: readonly Lane[], dispose: () => Promise<void>): Lanes {
  const free = [...lanes];
  const waiting: ((lane: Lane) => void)[] = [];
  return {
    count: lanes.length,
    async request(repeat) {
      const lane = free.pop() ?? (await new Promise<Lane>((resolve) => waiting.push(resolve)));
      try {
        await lane(repeat);
      } finally {
        const next = waiting.shift();
        if (next) next(lane);
        else free.push(lane);
      }
    },
    dispose,
  };
}
