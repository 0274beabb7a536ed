/**
 * The last word on tactics: what is fastest by itself is tried in its network. First the network stands against the one that the cost model
 * would have built, and the faster one is what the search begins with: that comparison no budget prevents, so tuning made nothing slower. Then, problem
 * by problem, the dearest first, the candidates that came close take the chosen one's place, and the whole network is timed with each; what
 * makes it faster stays. What came of many such steps stands against the cost model's once more.
 *
 * Times are kept by the hashes of the networks that were timed together, so that a build with the same times decides the same.
 * Prior art: coordinate descent over a schedule's choices, with the program's own time as its measure (Chen et al., "Learning to Optimize Tensor
 * Programs", 2018, tune operators alone).
 */
import type { TacticTime } from '../../../engine/engine.ts';
import { decide, type Decision, type Timed, type Timing } from './decide.ts';
import type { Network } from './network.ts';
import { hashOf, type Problem, type TimedCandidate } from './problems.ts';

/** A candidate that takes so many times the chosen one's time by itself will not make up for it. */
const CLOSE = { fast: 1.15, full: 1.3 } as const;

/** Candidates tried for one problem beside the chosen one. */
const MOST_RIVALS = { fast: 3, full: 6 } as const;

/** What a change must bring, as a share of the whole network's time. */
const LEAST_GAIN = 0.001;

/** Times of networks, kept from build to build. */
export interface NetworkTimes {
  get(key: string): Timing | undefined;
  put(key: string, timing: Timing): void;
  /** Times of candidates, in rounds over all of them; undefined where they are not to be had any more. Rejects where the build is to end. */
  measure(candidates: readonly TimedCandidate[]): Promise<readonly Timing[] | undefined>;
  /** The same of a network and the untuned one, which a spent budget does not prevent: without it nobody knows whether tuning made the network slower. */
  compare(pair: readonly TimedCandidate[]): Promise<readonly Timing[] | undefined>;
}

export interface Refined {
  readonly decisions: ReadonlyMap<string, Decision>;
  /** What there was no time for; undefined: nothing. */
  readonly missed: Missed | undefined;
}

export type Missed =
  /** Not even the comparison with the untuned network: all have what is fastest by itself. */
  | { readonly kind: 'comparison' }
  /** So many problems. */
  | { readonly kind: 'problems'; readonly count: number }
  /** The second comparison with the untuned network. */
  | { readonly kind: 'last-comparison' };

/** The decisions that hold in the network. `decided`: by the times of each problem alone; those of `fixed` problems stay. */
export async function refine(
  network: Network,
  problems: readonly Problem[],
  decided: ReadonlyMap<string, Decision>,
  fixed: ReadonlySet<string>,
  level: 'fast' | 'full',
  times: NetworkTimes,
): Promise<Refined> {
  const chosen = new Map(problems.map(({ id, names }) => [id, decided.get(id)?.tactic ?? names[0]!]));
  // What the device refuses, or nobody can generate, is in no network.
  const firsts = new Map(problems.map(({ id, names }) => [id, fixed.has(id) || isRefused(decided.get(id)?.times[0]) ? chosen.get(id)! : names[0]!]));
  const decisions = new Map(decided);
  const choose = (id: string, tactic: string, inNetwork?: readonly TacticTime[]): void => {
    chosen.set(id, tactic);
    const decision = decisions.get(id);
    if (decision?.tactic !== undefined) decisions.set(id, { ...decision, tactic, ...(inNetwork && { inNetwork }) });
  };
  const untuned = network.timed((id) => firsts.get(id)!);
  /** Goes back to the cost model's choices where these are faster, by however little. The network that stands; undefined where it could not be told. */
  const fasterOf = async (standing: TimedCandidate): Promise<TimedCandidate | undefined> => {
    if (standing.hash === untuned.hash) return standing;
    const timings = await timesOf([standing, untuned], times, (pair) => times.compare(pair));
    if (!timings) return undefined;
    if (nanoseconds(timings[0]!) <= nanoseconds(timings[1]!)) return standing;
    for (const [id, name] of firsts) choose(id, name);
    return untuned;
  };
  const standing = (): TimedCandidate => network.timed((id) => chosen.get(id)!);

  const start = await fasterOf(standing());
  if (!start) return { decisions, missed: { kind: 'comparison' } };
  const contests = problems
    .map((problem) => ({ problem, rivals: rivalsOf(decided.get(problem.id), chosen.get(problem.id)!, level) }))
    .filter(({ problem: { id }, rivals }) => rivals.length > 0 && !fixed.has(id))
    .sort((a, b) => dearness(b.problem, decided) - dearness(a.problem, decided));
  const networkWith = (id: string, name: string): TimedCandidate => network.timed((other) => (other === id ? name : chosen.get(other)!));
  let untried = contests.length;
  for (const { problem: { id }, rivals } of contests) {
    const names = [chosen.get(id)!, ...rivals];
    const timings = await timesOf(names.map((name) => networkWith(id, name)), times, (candidates) => times.measure(candidates));
    if (!timings) break;
    untried--;
    const timed = names.map((name, i): Timed => ({ name, timing: timings[i]! }));
    choose(id, decide(timed, LEAST_GAIN) ?? names[0]!, timed.map(({ name, timing }): TacticTime => ({ tactic: name, ...timing })));
  }
  const found = standing();
  if (found.hash !== start.hash && !(await fasterOf(found))) return { decisions, missed: { kind: 'last-comparison' } };
  return { decisions, missed: untried > 0 ? { kind: 'problems', count: untried } : undefined };
}

/** A network that the device refuses never ends. */
const nanoseconds = (timing: Timing): number => ('ns' in timing ? timing.ns : Number.POSITIVE_INFINITY);

const isRefused = (time: TacticTime | undefined): boolean => time !== undefined && 'refused' in time;

/** The time that a network spends on a problem, by what its tactic takes alone. */
function dearness({ id, instances }: Problem, decided: ReadonlyMap<string, Decision>): number {
  const { tactic, times = [] } = decided.get(id) ?? {};
  const time = times.find((other) => other.tactic === tactic);
  return time && 'ns' in time ? time.ns * instances.length : 0;
}

/** Names of what is fastest alone and of the candidates that came close to it, the fastest first, without the `standing` one. */
function rivalsOf(decision: Decision | undefined, standing: string, level: 'fast' | 'full'): string[] {
  const ran = (decision?.times ?? []).flatMap((time) => ('ns' in time ? [time] : []));
  const best = ran.find(({ tactic }) => tactic === decision!.tactic);
  if (!best) return [];
  const close = ran.filter(({ tactic, ns }) => tactic !== best.tactic && ns <= CLOSE[level] * best.ns).toSorted((a, b) => a.ns - b.ns);
  return [best, ...close].filter(({ tactic }) => tactic !== standing).slice(0, MOST_RIVALS[level]).map(({ tactic }) => tactic);
}

/** Times of networks side by side: all from before, or all anew. */
async function timesOf(
  candidates: readonly TimedCandidate[],
  times: Pick<NetworkTimes, 'get' | 'put'>,
  measure: NetworkTimes['measure'],
): Promise<readonly Timing[] | undefined> {
  const sitting = candidates.map(({ hash }) => hash);
  const keys = sitting.map((hash) => hashOf([...sitting, hash]));
  const known = keys.map((key) => times.get(key));
  if (known.every((timing) => timing !== undefined)) return known;
  const measured = await measure(candidates);
  if (!measured) return undefined;
  for (const [i, timing] of measured.entries()) times.put(keys[i]!, timing);
  return measured;
}
