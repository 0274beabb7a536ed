/**
 * One round of a pair, its two processes taking turns: both are alive, loaded and warmed before either is timed, and then they take
 * samples in short slices, A B B A A B B A …, one at a time.
 *
 * A neighbour's burst lasts for tenths of a second to seconds. Where one process is measured after the other, it falls on one of
 * them; where they change places every few milliseconds, it falls on both, and slices that were neighbours can be compared (Bulej
 * et al., "Duet Benchmarking", ICPE 2020, run such pairs at once on two cores; turns need one, and the sides do not disturb
 * each other). The slow changes cancel to first order by the order ABBA, as in any weighing by substitution.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceInfo } from '../backends/backend.ts';
import type { Round } from '../results/record.ts';
import { WorkerFailure } from './failure.ts';
import type { BegunReply, Failure } from './messages.ts';
import type { MeasureServices } from './orchestrate.ts';
import type { CasePlan, MeasurePlan } from './plan.ts';
import { startWorker } from './process.ts';
import type { ClosedRound } from './round.ts';
import { openSitting, type Sitting } from './sitting.ts';

/** What one side gave: its round and the process that it came from, which has ended. */
export interface Turn {
  readonly round: Round;
  readonly sitting: Sitting;
}

export type TurnsOutcome =
  | { readonly status: 'completed'; readonly first: Turn; readonly second: Turn }
  /** A worker failed; both have ended, and what they had measured of the round is lost. */
  | { readonly status: 'failed'; readonly side: 'first' | 'second'; readonly failure: Failure };

export interface TurnsPlan extends Pick<MeasurePlan, 'plugins' | 'timing' | 'timeoutMs'> {
  /** Of the arrivals. */
  readonly seed: number;
  readonly index: number;
  /** In the order in which they start. */
  readonly first: CasePlan;
  readonly second: CasePlan;
}

/**
 * Shorter than what a scheduler gives others at a time, so that many slices are not interrupted at all; long enough that what a
 * process finds changed after its rest (caches, a branch predictor) is a small part. A GPU changes contexts more slowly.
 */
const SLICE_MS = { cpu: 5, fake: 5, gpu: 50 } as const satisfies Record<DeviceInfo['kind'], number>;

/** A few, so that their median means something; an even number, so that either side is first as often. */
const FEWEST_SLICES = 6;

/** A round's slices may take so many times what they should, before it ends with fewer. */
const LONGEST_OVERRUN = 5;

/** Measures one round of both. When `signal` fires the workers are killed, which is a failure. */
export async function takeTurns(plan: TurnsPlan, services: MeasureServices, signal: AbortSignal | undefined): Promise<TurnsOutcome> {
  const cases = [plan.first, plan.second] as const;
  const sittings: Sitting[] = [];
  let side = 0;
  const as = async <T>(index: number, work: () => Promise<T>): Promise<T> => {
    side = index;
    return work();
  };
  try {
    for (const [i, casePlan] of cases.entries()) {
      sittings.push(await as(i, () => openSitting(plan, casePlan, services.start ?? startWorker, signal)));
    }
    const [one, other] = sittings as [Sitting, Sitting];
    const { kind } = one.loaded.device;
    // A fake device's time is not this machine's, so nothing of this machine explains it.
    const yardstick = kind === 'fake' ? [] : services.yardstick();
    const begun: BegunReply[] = [];
    for (const [i, sitting] of sittings.entries()) begun.push(await as(i, () => sitting.begin(plan.seed)));
    const executionNs = begun.map((reply) => reply.executionNs);
    const restMs = Math.max(...begun.map((reply) => reply.restMs));
    // No more rest than work.
    const slices = slicesOf(plan, Math.max(SLICE_MS[kind], restMs), Math.max(...executionNs));
    const extent = { ...plan.timing, sampleMs: plan.timing.sampleMs / slices, minSamples: slices === 1 ? plan.timing.minSamples : 1 };
    const order = { extent, executionNs: Math.min(...executionNs) };
    const endMs = performance.now() + LONGEST_OVERRUN * 2 * slices * Math.max(extent.sampleMs + restMs, Math.max(...executionNs) / 1e6);
    for (let slice = 0; slice < slices; slice++) {
      // A machine that is too busy for all of it has more use for another round.
      if (slice >= FEWEST_SLICES && slice % 2 === 0 && performance.now() > endMs) break;
      const [leading, following] = slice % 2 === 0 ? [0, 1] : [1, 0];
      await as(leading, () => sittings[leading]!.slice(order));
      if (restMs > 0) await sleep(restMs);
      await as(following, () => sittings[following]!.slice(order));
    }
    const closed = [await as(0, () => one.end()), await as(1, () => other.end())] as const;
    for (const sitting of sittings) await sitting.close();
    const turn = (i: 0 | 1): Turn => {
      const { loadMs } = sittings[i]!.loaded;
      const { reading, cpuLoad } = readingOf(closed, i);
      const start = { loadMs, firstRunMs: sittings[i]!.answered.firstRunMs };
      return { round: { ...reading, cpuLoad, start, index: plan.index, position: i, yardstick: [...yardstick, ...reading.yardstick] }, sitting: sittings[i]! };
    };
    return { status: 'completed', first: turn(0), second: turn(1) };
  } catch (error) {
    if (!(error instanceof WorkerFailure)) throw error;
    return { status: 'failed', side: side === 0 ? 'first' : 'second', failure: error.failure };
  } finally {
    await Promise.all(sittings.map((sitting) => sitting.kill()));
  }
}

/** What the partner does is no neighbour's work. */
function readingOf(closed: readonly [ClosedRound, ClosedRound], i: 0 | 1): { readonly reading: ClosedRound['reading']; readonly cpuLoad: number } {
  const { reading } = closed[i];
  return { reading, cpuLoad: Math.max(0, reading.cpuLoad - closed[1 - i]!.ownLoad) };
}

/** Open-loop load has queues, which no pause leaves as they are: it comes in one piece. */
function slicesOf({ timing, first }: TurnsPlan, sliceMs: number, executionNs: number): number {
  if (first.case.scenario.name === 'server') return 1;
  const wanted = timing.sampleMs / Math.max(sliceMs, executionNs / 1e6);
  return 2 * Math.ceil(Math.max(FEWEST_SLICES, timing.minSamples, wanted) / 2);
}
