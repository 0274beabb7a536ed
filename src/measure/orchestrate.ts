/**
 * The sweep: rounds interleaved over the cases, every round in an order of its own.
 *
 * A slow change of the machine (heat, a neighbour) then falls on all cases alike instead of on the one that was measured at
 * that time, and no case always follows the same other (randomized complete blocks; for benchmarks: Kalibera and Jones, 2013,
 * and Abedi and Brecht, "Conducting Repeatable Experiments in Highly Variable Cloud Computing Environments", ICPE 2017).
 * One case runs at a time. What goes wrong in a worker ends that case; the sweep goes on.
 */
import { performance } from 'node:perf_hooks';
import type { Round, YardstickReading } from '../results/record.ts';
import { createRandom, deriveSeed, shuffle } from '../stats/random.ts';
import { type Sitting, loadAndLeave, openSitting } from './sitting.ts';
import { WorkerFailure } from './failure.ts';
import { completedOutcome } from './outcome.ts';
import type { CaseOutcome, CasePlan, MeasureEvent, MeasurePlan, OpenCase } from './plan.ts';
import { type StartWorker, startWorker } from './process.ts';

export interface MeasureServices {
  /** Times the parent's fixed workloads; see yardstick.ts. */
  readonly yardstick: () => readonly YardstickReading[];
  readonly start?: StartWorker;
  /** Monotonic time, for the budget. */
  readonly nowMs?: () => number;
}

/** A case on its way through the rounds. */
interface Progress {
  readonly plan: CasePlan;
  /** Place in the plan; part of the arrivals' seed. */
  readonly index: number;
  readonly rounds: Round[];
  /** Ended processes and, with isolation by case, the open one. */
  readonly sittings: Sitting[];
  /** How long the load took that came before all others, in a process that left. */
  loadFirstMs: number | undefined;
  /** Cost of its last round, for the budget. */
  lastRoundMs: number;
  over: boolean;
}

/**
 * Measures all cases of a plan. Events come as things happen; when the iteration ends every case has had its `case-done`, an
 * aborted sweep included. Ending the iteration early ends the workers.
 */
export async function* measureCases(
  plan: MeasurePlan,
  services: MeasureServices,
  signal?: AbortSignal,
): AsyncGenerator<MeasureEvent, void, undefined> {
  const nowMs = services.nowMs ?? (() => performance.now());
  const endMs = nowMs() + (plan.budgetMs ?? Infinity);
  const cases = plan.cases.map((casePlan, index): Progress => {
    return { plan: casePlan, index, rounds: [], sittings: [], loadFirstMs: undefined, lastRoundMs: 0, over: false };
  });
  const finish = (progress: Progress, outcome: CaseOutcome): MeasureEvent => {
    progress.over = true;
    return { kind: 'case-done', case: progress.plan.case, outcome };
  };
  try {
    for (let round = 0; round < plan.rounds; round++) {
      const open = cases.filter((progress) => !progress.over);
      const order = shuffle(open, createRandom(deriveSeed(plan.seed, round)));
      for (const [position, progress] of order.entries()) {
        if (signal?.aborted) break;
        const startMs = nowMs();
        if (startMs + progress.lastRoundMs > endMs) {
          yield finish(progress, await outOfBudget(plan, progress));
          continue;
        }
        yield { kind: 'round-started', case: progress.plan.case, round, rounds: plan.rounds };
        const failed = await attempt(plan, progress, { round, position, services, signal });
        if (signal?.aborted && failed) break;
        if (failed) {
          yield finish(progress, failed);
          continue;
        }
        progress.lastRoundMs = nowMs() - startMs;
        yield { kind: 'round-done', case: progress.plan.case, round: progress.rounds.at(-1)!, rounds: plan.rounds };
        if (round === plan.rounds - 1) yield finish(progress, await complete(plan, progress));
      }
      const look = signal?.aborted ? -1 : (plan.looks ?? []).indexOf(round + 1);
      if (look < 0) continue;
      const settled = new Set<string>();
      yield { kind: 'look', look, open: cases.filter(({ over }) => !over).map(openCase), settled };
      for (const progress of cases) {
        if (!progress.over && settled.has(progress.plan.case.id)) yield finish(progress, await complete({ rounds: progress.rounds.length }, progress));
      }
    }
    for (const progress of cases) {
      if (!progress.over) yield finish(progress, { status: 'aborted', reason: 'interrupted', rounds: progress.rounds });
    }
  } finally {
    await Promise.all(cases.flatMap(({ sittings }) => sittings.map((sitting) => sitting.kill())));
  }
}

interface Attempt {
  readonly round: number;
  readonly position: number;
  readonly services: MeasureServices;
  readonly signal: AbortSignal | undefined;
}

/** One round of one case, its process included. Undefined: it went well and the round is in `progress`. */
async function attempt(plan: MeasurePlan, progress: Progress, { round, position, services, signal }: Attempt): Promise<CaseOutcome | undefined> {
  try {
    const kept = plan.isolation === 'case' ? progress.sittings.at(-1) : undefined;
    const start = services.start ?? startWorker;
    // Without a kept process there is one that has left, from the second round on. Cases of one engine have such a load each: on an H200
    // the second of two compiled everything again while the first was alive (docs/performance.md).
    if (progress.plan.loadFirst && plan.isolation === 'case' && !kept) progress.loadFirstMs = await loadAndLeave(plan, progress.plan, start, signal);
    const sitting = kept ?? (await openSitting(plan, progress.plan, start, signal));
    if (!kept) progress.sittings.push(sitting);
    const seed = deriveSeed(deriveSeed(plan.seed, progress.index), round);
    // A fake device's time is not this machine's, so nothing of this machine explains it.
    const yardstick = sitting.loaded.device.kind === 'fake' ? [] : services.yardstick();
    const reading = await sitting.measure(seed);
    const started = kept ? {} : { start: { loadMs: sitting.loaded.loadMs, firstRunMs: sitting.answered.firstRunMs } };
    progress.rounds.push({ ...reading, ...started, index: round, position, yardstick: [...yardstick, ...reading.yardstick] });
    if (plan.isolation === 'round') await sitting.close();
    return undefined;
  } catch (error) {
    if (!(error instanceof WorkerFailure)) throw error;
    await progress.sittings.at(-1)?.kill();
    return { status: 'failed', ...error.failure, rounds: progress.rounds };
  }
}

function openCase({ plan, rounds, sittings }: Progress): OpenCase {
  return { case: plan.case, device: sittings[0]!.loaded.device, rounds };
}

async function complete(plan: Pick<MeasurePlan, 'rounds'>, progress: Progress): Promise<CaseOutcome> {
  for (const sitting of progress.sittings) await sitting.close();
  const { loadFirstMs } = progress;
  return completedOutcome({ case: progress.plan.case, plannedRounds: plan.rounds, ...(loadFirstMs !== undefined && { loadFirstMs }) }, progress.rounds, progress.sittings);
}

async function outOfBudget(plan: MeasurePlan, progress: Progress): Promise<CaseOutcome> {
  if (progress.rounds.length >= plan.minRounds) return complete(plan, progress);
  return { status: 'aborted', reason: 'budget', rounds: progress.rounds };
}
