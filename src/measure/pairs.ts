/**
 * Two engines of each case, measured side by side: in every round each pair runs in adjacent fresh processes, in an order drawn
 * anew, so that what the machine does in a minute falls on both alike. Pairs that are decided leave; the others go on.
 *
 * Randomized complete blocks of two, as in orchestrate.ts, which measures each block.
 */
import { quantile, sortSamples } from '../stats/samples.ts';
import { createRandom, deriveSeed, shuffle } from '../stats/random.ts';
import type { MemoryReading } from '../results/record.ts';
import { type MeasureServices, measureCases } from './orchestrate.ts';
import type { AbortedOutcome, CaseOutcome, CasePlan, CompletedOutcome, FailedOutcome, MeasurePlan } from './plan.ts';

/** One case with the engine of each side. */
export interface PairPlan {
  readonly id: string;
  readonly baseline: CasePlan;
  readonly candidate: CasePlan;
}

/** Both sides so far; rounds of the same index were measured one after the other. */
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
  // A case object of its own tells the sides apart where both are the same engine.
  const sideOf = (plan: CasePlan): Side => ({ plan: { ...plan, case: { ...plan.case } }, done: [], ended: undefined });
  let open = pairs.map((plan, index): Pair => ({ plan, index, baseline: sideOf(plan.baseline), candidate: sideOf(plan.candidate) }));
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
  const { baseline, candidate, index } = pair;
  const seed = deriveSeed(deriveSeed(settings.seed, index), round);
  const plan: MeasurePlan = { ...settings, seed, cases: [baseline.plan, candidate.plan], rounds: 1, minRounds: 1, isolation: 'round', budgetMs: undefined };
  for await (const event of measureCases(plan, services, signal)) {
    if (event.kind !== 'case-done') continue;
    const side = event.case === baseline.plan.case ? baseline : candidate;
    const { outcome } = event;
    if (outcome.status !== 'completed') side.ended = { ...outcome, rounds: roundsOf(side) };
    else side.done.push({ ...outcome, rounds: outcome.rounds.map((reading) => ({ ...reading, index: round })) });
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
