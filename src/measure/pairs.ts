/**
 * Two engines of each case, measured side by side: in every round each pair runs in two fresh processes that take turns (turns.ts),
 * in an order drawn anew, so that what the machine does falls on both alike. Pairs that are decided leave; the others go on.
 *
 * Engines that do not fit into memory together run one after the other, as orchestrate.ts measures a block of two.
 */
import { quantile, sortSamples } from '../stats/samples.ts';
import { createRandom, deriveSeed, shuffle } from '../stats/random.ts';
import type { MemoryReading } from '../results/record.ts';
import { type MeasureServices, measureCases } from './orchestrate.ts';
import { completedOutcome } from './outcome.ts';
import type { AbortedOutcome, CaseOutcome, CasePlan, CompletedOutcome, FailedOutcome, MeasurePlan } from './plan.ts';
import { takeTurns } from './turns.ts';

/** One case with the engine of each side. */
export interface PairPlan {
  readonly id: string;
  readonly baseline: CasePlan;
  readonly candidate: CasePlan;
}

/** Both sides so far; rounds of the same index were measured together. */
export interface PairOutcome {
  readonly id: string;
  readonly baseline: CaseOutcome;
  readonly candidate: CaseOutcome;
}

export type PairEvent =
  | { readonly kind: 'pair-done'; readonly id: string; readonly round: number; readonly rounds: number }
  /** After the rounds of a look: all pairs that were still open. Those whose ids are put into `settled` are measured no more. */
  | { readonly kind: 'look'; readonly look: number; readonly pairs: readonly PairOutcome[]; readonly settled: Set<string> };

export type PairSettings = Omit<MeasurePlan, 'cases' | 'rounds' | 'minRounds' | 'isolation'>;

/** A side on its way through the rounds. */
interface Side {
  readonly plan: CasePlan;
  readonly done: CompletedOutcome[];
  ended: FailedOutcome | AbortedOutcome | undefined;
}

interface Pair {
  readonly plan: PairPlan;
  readonly index: number;
  readonly baseline: Side;
  readonly candidate: Side;
  /** The two do not fit into memory at once. */
  apart: boolean;
}

/**
 * Measures pairs until all are settled, the last of `looks` (ascending numbers of rounds) is reached, or the budget ends: then
 * comes one last look at what there is. A pair of which a side fails is measured no more.
 */
export async function* measurePairs(
  settings: PairSettings,
  pairs: readonly PairPlan[],
  looks: readonly number[],
  services: MeasureServices,
  signal?: AbortSignal,
): AsyncGenerator<PairEvent, void, undefined> {
  const nowMs = services.nowMs ?? (() => performance.now());
  const endMs = nowMs() + (settings.budgetMs ?? Infinity);
  const sideOf = (plan: CasePlan): Side => ({ plan, done: [], ended: undefined });
  let open = pairs.map((plan, index): Pair => ({ plan, index, baseline: sideOf(plan.baseline), candidate: sideOf(plan.candidate), apart: false }));
  const rounds = looks.at(-1) ?? 0;
  let longestMs = 0;
  for (let round = 0; round < rounds && open.length > 0; round++) {
    const startMs = nowMs();
    const late = startMs + longestMs > endMs;
    for (const pair of late ? [] : shuffle(open, createRandom(deriveSeed(settings.seed, round)))) {
      if (signal?.aborted || broken(pair)) continue;
      await measureOnce(settings, pair, round, services, signal);
      yield { kind: 'pair-done', id: pair.plan.id, round, rounds };
    }
    longestMs = Math.max(longestMs, nowMs() - startMs);
    const ending = late || signal?.aborted === true;
    const look = ending ? looks.length - 1 : looks.indexOf(round + 1);
    if (look < 0) continue;
    const settled = new Set(open.filter(broken).map((pair) => pair.plan.id));
    yield { kind: 'look', look, pairs: open.map(outcomeOf), settled };
    if (ending) return;
    open = open.filter((pair) => !settled.has(pair.plan.id));
  }
}

function broken({ baseline, candidate }: Pair): boolean {
  return baseline.ended !== undefined || candidate.ended !== undefined;
}

async function measureOnce(settings: PairSettings, pair: Pair, round: number, services: MeasureServices, signal: AbortSignal | undefined): Promise<void> {
  const seed = deriveSeed(deriveSeed(settings.seed, pair.index), round);
  const [first, second] = shuffle([pair.baseline, pair.candidate], createRandom(seed)) as [Side, Side];
  if (pair.apart) return measureApart(settings, [first, second], round, seed, services, signal);
  const outcome = await takeTurns({ ...settings, seed, index: round, first: first.plan, second: second.plan }, services, signal);
  if (outcome.status === 'completed') {
    for (const [side, { round: reading, sitting }] of [[first, outcome.first], [second, outcome.second]] as const) {
      side.done.push(completedOutcome({ case: side.plan.case, plannedRounds: 1 }, [reading], [sitting]));
    }
    return;
  }
  if (signal?.aborted) return;
  const [failed, other] = outcome.side === 'first' ? [first, second] : [second, first];
  if (outcome.failure.cause === 'out-of-memory') {
    pair.apart = true;
    return measureApart(settings, [first, second], round, seed, services, signal);
  }
  failed.ended = { status: 'failed', ...outcome.failure, rounds: roundsOf(failed) };
  // Whether the other one works is part of the answer.
  return measureApart(settings, [other], round, seed, services, signal);
}

/** One after the other, in the order given. */
async function measureApart(
  settings: PairSettings,
  sides: readonly Side[],
  round: number,
  seed: number,
  services: MeasureServices,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const side of sides) {
    const plan: MeasurePlan = { ...settings, seed, cases: [side.plan], rounds: 1, minRounds: 1, isolation: 'round', budgetMs: undefined };
    for await (const event of measureCases(plan, services, signal)) {
      if (event.kind !== 'case-done') continue;
      const { outcome } = event;
      if (outcome.status !== 'completed') side.ended = { ...outcome, rounds: roundsOf(side) };
      else side.done.push({ ...outcome, rounds: outcome.rounds.map((reading) => ({ ...reading, index: round })) });
    }
  }
}

function outcomeOf({ plan, baseline, candidate }: Pair): PairOutcome {
  return { id: plan.id, baseline: merge(baseline), candidate: merge(candidate) };
}

function roundsOf({ done }: Side): CompletedOutcome['rounds'] {
  return done.flatMap(({ rounds }) => rounds);
}

/** The rounds of one side as one outcome; the memory is that of the process whose peak is the (lower) median. */
function merge(side: Side): CaseOutcome {
  const [first] = side.done;
  if (side.ended) return side.ended;
  if (!first) return { status: 'aborted', reason: 'interrupted', rounds: [] };
  const median = (values: readonly number[]): number => quantile(sortSamples(values), 0.5);
  const memories = side.done.map(({ memory }): MemoryReading => memory).sort((a, b) => a.residentPeakBytes - b.residentPeakBytes);
  return {
    ...first,
    rounds: roundsOf(side),
    loadMs: median(side.done.map(({ loadMs }) => loadMs)),
    firstRunMs: median(side.done.map(({ firstRunMs }) => firstRunMs)),
    memory: memories[Math.floor((memories.length - 1) / 2)]!,
    warnings: [],
  };
}
