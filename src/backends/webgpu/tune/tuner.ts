/**
 * The tuner: which candidate each problem gets, by measured times.
 *
 * A problem whose candidates all have times in the cache is decided by these. The others are measured, the most expensive ones
 * first; kernels that two problems share are timed once. Under a budget every problem gets its first few candidates before any gets the rest:
 * they bring most of what there is to gain, and compiling is what takes the time. What came close is then tried in the network (refine.ts). Whatever ends the tuning early (a budget, Ctrl-C, a device that is
 * lost), times measured so far are in the cache, and a problem of which only the first candidates have times is decided among these.
 */
import { TsrtError } from '../../../errors.ts';
import { type Contest, contestOf, costOf, firstOf, isTimed, timedOf } from './contest.ts';
import { combine, decide, type Decision, type Timed, type Timing } from './decide.ts';
import { Kitchen, type Prepared } from './kitchen.ts';
import { type Clocks, type Ready, sample, type TuningDevice } from './measure.ts';
import type { Network } from './network.ts';
import type { Problem, TimedCandidate } from './problems.ts';
import { type Missed, refine } from './refine.ts';
import type { TimingCache } from './timing-cache.ts';

/** Candidates per problem that are measured; `fast` shares a number of them out among the problems, within bounds. */
const FULL = 40;
const FAST = { all: 160, fewest: 8, most: 24 } as const;

/** Candidates of every problem that a budget is spent on first: on an H200 the best of four was mostly within a few percent of the best. */
const FIRST_COURSE = 4;

/** What of a budget is kept for the network. */
const NETWORK_SHARE = 0.25;

/**
 * How long networks are timed without a budget, or with a larger one: an execution can take a second where a kernel takes a millisecond. The
 * comparisons with the untuned network, which a spent budget does not prevent, have as long as `fast` each.
 */
const NETWORK_MS = { fast: 30_000, full: 300_000 } as const;

export function candidatesPerProblem(level: 'fast' | 'full', problems: number): number {
  return level === 'full' ? FULL : Math.max(FAST.fewest, Math.min(FAST.most, Math.floor(FAST.all / Math.max(1, problems))));
}

export interface TunerOptions {
  readonly level: 'fast' | 'full';
  /** Whether {@link Tuner.refineIn} tries tactics in the network, for which a part of the budget is kept; else it changes nothing. */
  readonly inNetwork?: boolean;
  /** Per problem; {@link candidatesPerProblem} by default. */
  readonly candidates?: number;
  readonly cache: TimingCache;
  /** Opens the device; called only where something must be measured. */
  readonly open: () => Promise<TuningDevice>;
  /** Counted from the tuner's making; after it nothing is measured but the comparisons with the untuned network. */
  readonly budgetMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Candidates done and in all. */
  readonly onProgress: ((done: number, total: number) => void) | undefined;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

export interface TunerCounts {
  /** Candidates timed by this tuner, and those whose times came from the cache. */
  readonly measured: number;
  readonly reused: number;
  /** Those that the device refused. */
  readonly refused: number;
  /** Problems that a budget or the loss of the device left to the cost model. */
  readonly unmeasured: number;
  /** Whole networks timed by this tuner. */
  readonly networks: number;
  /** Undefined where nothing was measured. */
  readonly clocks: Clocks | undefined;
}

/** Ends the tuning, not the build. */
class OutOfBudget extends Error {}

/** A part of a problem whose time is known. */
type Part = { readonly timing: Timing; readonly count: number };

const idOf = ({ problem }: Contest): string => problem.id;

const hasTiming = (part: { readonly timing: Timing | undefined; readonly count: number }): part is Part => part.timing !== undefined;

function said(missed: Missed): string {
  switch (missed.kind) {
    case 'comparison':
      return 'every problem has what is fastest by itself, and the network was not compared with the untuned one';
    case 'problems':
      return `${missed.count} problems were not tried in it`;
    case 'last-comparison':
      return 'what was found was not compared with the untuned network once more';
  }
}

/** The cache is written at most so often while the tuner works. */
const FLUSH_MS = 2000;

export class Tuner {
  readonly notices: string[] = [];
  readonly #options: TunerOptions;
  readonly #now: () => number;
  #deadline: number;
  /** By hash: what this tuner has measured or taken from the cache. */
  readonly #times = new Map<string, Timing>();
  #device: TuningDevice | undefined;
  #clocks: Clocks | undefined;
  readonly #counts = { measured: 0, reused: 0, refused: 0, unmeasured: 0, networks: 0 };
  #flushedAt: number;
  /** When the budget is spent. */
  readonly #end: number;

  constructor(options: TunerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#flushedAt = this.#now();
    this.#end = this.#now() + (options.budgetMs ?? Number.POSITIVE_INFINITY);
    this.#deadline = options.inNetwork && options.budgetMs !== undefined ? this.#end - NETWORK_SHARE * options.budgetMs : this.#end;
  }

  /** Decides every problem that has a choice. Throws what the signal aborts with; the cache then has what was measured. */
  async decideAll(problems: readonly Problem[]): Promise<ReadonlyMap<string, Decision>> {
    const choices = problems.filter(({ names }) => names.length > 1);
    const most = this.#options.candidates ?? candidatesPerProblem(this.#options.level, choices.length);
    const contests = choices.map((problem) => contestOf(problem, most));
    const open = contests.filter((contest) => !this.#reuse(contest)).sort((a, b) => costOf(b) - costOf(a));
    try {
      await this.#measureAll(open, this.#options.budgetMs === undefined ? most : FIRST_COURSE);
    } finally {
      await this.#options.cache.flush();
    }
    return new Map(contests.map((contest) => [contest.problem.id, this.#decisionOf(contest)]));
  }

  /**
   * Decides again by times of the whole network; throws as {@link decideAll}. `decided` has the decisions so far, of which those of `fixed`
   * problems stay.
   */
  async refineIn(network: Network, problems: readonly Problem[], decided: ReadonlyMap<string, Decision>, fixed: ReadonlySet<string>): Promise<ReadonlyMap<string, Decision>> {
    const { cache, level, signal, inNetwork } = this.#options;
    if (!inNetwork) return decided;
    this.#deadline = Math.min(this.#end, this.#now() + NETWORK_MS[level]);
    let ended: string | undefined;
    const timesBefore = async (deadline: number, candidates: readonly TimedCandidate[]): Promise<readonly Timing[] | undefined> => {
      try {
        return await this.#timeNetworks(candidates, deadline);
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof OutOfBudget || error instanceof TsrtError)) throw error;
        ended = error instanceof TsrtError ? error.message.split('\n', 1)[0] : deadline === this.#end ? 'the budget is spent' : `its ${NETWORK_MS[level] / 1000} s are over`;
        return undefined;
      }
    };
    try {
      const { decisions, missed } = await refine(network, problems, decided, fixed, level, {
        get: (key) => this.#times.get(key) ?? cache.get(key),
        put: (key, timing) => this.#keep(key, timing, this.#clocks === 'proven'),
        measure: (candidates) => timesBefore(this.#deadline, candidates),
        compare: (pair) => timesBefore(Math.max(this.#deadline, this.#now() + NETWORK_MS.fast), pair),
      });
      if (missed) this.notices.push(`Tuning in the network ended early (${ended}): ${said(missed)}.`);
      return decisions;
    } finally {
      await cache.flush();
    }
  }

  async #timeNetworks(candidates: readonly TimedCandidate[], deadline: number): Promise<readonly Timing[]> {
    this.#check(deadline);
    const device = (this.#device ??= await this.#options.open());
    const preparing = Promise.all(candidates.map((candidate) => device.prepare(candidate).catch((error: unknown): Prepared => ({ refused: error instanceof Error ? error.message : String(error) }))));
    this.#note(await this.#warmUp(device, preparing, deadline));
    const prepared = await preparing;
    device.check();
    const ready = prepared.filter((made): made is Ready => 'candidate' in made);
    const samples = ready.length === 0 ? [] : await sample(device, ready, () => this.#check(deadline), device.networkRules);
    this.#counts.networks += ready.length;
    await this.#flushNowAndThen();
    return prepared.map((made) => ('refused' in made ? made : samples[ready.indexOf(made)]!));
  }

  counts(): TunerCounts {
    return { ...this.#counts, clocks: this.#clocks };
  }

  destroy(): void {
    this.#device?.destroy();
    this.#device = undefined;
  }

  /** Takes all of the contest's times from the cache, if they are there. */
  #reuse(contest: Contest): boolean {
    const found = timedOf(contest).map(({ hash }) => [hash, this.#times.get(hash) ?? this.#options.cache.get(hash)] as const);
    if (found.some(([, timing]) => timing === undefined)) return false;
    for (const [hash, timing] of found) {
      if (!this.#times.has(hash)) this.#counts.reused++;
      this.#times.set(hash, timing!);
    }
    return true;
  }

  /** Measures the first `course` candidates of every contest, then the rest of each. */
  async #measureAll(contests: readonly Contest[], course: number): Promise<void> {
    if (contests.length === 0) return;
    const firsts = contests.map((contest) => firstOf(contest, course)).filter((first) => !this.#reuse(first));
    const wholes = contests.filter(({ names }) => names.length > course);
    const all = contests.flatMap(timedOf).filter(({ hash }) => !this.#times.has(hash));
    const total = new Set(all.map(({ hash }) => hash)).size;
    const before = this.#times.size;
    const queue = [...firsts, ...wholes];
    let at = 0;
    try {
      this.#check();
      const device = (this.#device ??= await this.#options.open());
      const kitchen = new Kitchen(device, [...new Set([...firsts.flatMap(timedOf), ...all])].filter(({ hash }) => !this.#times.has(hash)));
      for (; at < queue.length; at++) {
        this.#options.onProgress?.(this.#times.size - before, total);
        await this.#measureIfItRuns(queue[at]!, device, kitchen);
        await this.#flushNowAndThen();
      }
      this.#options.onProgress?.(this.#times.size - before, total);
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      if (!(error instanceof OutOfBudget || error instanceof TsrtError)) throw error;
      const why = error instanceof OutOfBudget ? 'the budget is spent' : error.message;
      this.#leave(contests.length, new Set(firsts.slice(at).map(idOf)), queue.slice(Math.max(at, firsts.length)).map(idOf), why);
    }
  }

  /** Says what became of the problems for which there was no time. */
  #leave(all: number, untimed: ReadonlySet<string>, unfinished: readonly string[], why: string): void {
    this.#counts.unmeasured += untimed.size;
    const partly = unfinished.filter((id) => !untimed.has(id)).length;
    const left = [...(untimed.size > 0 ? [`${untimed.size} have the cost model's choice`] : []), ...(partly > 0 ? [`${partly} have the best of their first ${FIRST_COURSE} candidates`] : [])];
    this.notices.push(`Tuning ended early (${why}): of ${all} problems that had no times, ${left.join(', ')}.`);
  }

  /** What the device has no memory for, or refuses to run, leaves the choice to the model; the others go on. */
  async #measureIfItRuns(contest: Contest, device: TuningDevice, kitchen: Kitchen): Promise<void> {
    try {
      await this.#measure(contest, device, kitchen);
    } catch (error) {
      if (!(error instanceof TsrtError) || error.code === 'DEVICE_LOST') throw error;
      device.check();
      if (this.#decisionOf(contest).tactic === undefined) this.#counts.unmeasured++;
      this.notices.push(`'${contest.problem.id}' was not measured: ${error.message}`);
    }
  }

  async #measure(contest: Contest, device: TuningDevice, kitchen: Kitchen): Promise<void> {
    const again = this.#standing(contest);
    const preparing = kitchen.prepare(timedOf(contest).filter(({ hash }) => !this.#times.has(hash) || again.has(hash)));
    let clocks = await this.#warmUp(device, preparing);
    const prepared = await preparing;
    // A lost device refuses everything.
    device.check();
    let times = await this.#timeForms(contest, device, prepared);
    if (clocks !== 'software' && !(await device.holds())) {
      // The clock moved meanwhile: once more.
      clocks = await this.#warmUp(device, Promise.resolve());
      times = await this.#timeForms(contest, device, prepared);
      if (!(await device.holds())) clocks = 'unproven';
    }
    this.#note(clocks);
    const proven = clocks !== 'unproven';
    for (const [hash, timing] of times) this.#learn(hash, timing, proven);
    await this.#timeWinners(contest, device, prepared, proven);
  }

  /** Once unproven, the clocks of a tuning stay so. */
  #note(clocks: Clocks): void {
    if (this.#clocks !== 'unproven') this.#clocks = clocks;
  }

  /** Kernels of the model's first and of the choice so far, which are timed again beside those that have no times yet. */
  #standing(contest: Contest): ReadonlySet<string> {
    const { tactic } = this.#decisionOf(contest);
    if (tactic === undefined) return new Set();
    const ranks = [0, contest.names.indexOf(tactic)];
    return new Set(contest.forms.flatMap(({ candidates }) => ranks.map((rank) => candidates[rank]!).filter(isTimed).map(({ hash }) => hash)));
  }

  /** Times the prepared candidates of every form, each form by itself. */
  async #timeForms(contest: Contest, device: TuningDevice, prepared: ReadonlyMap<string, Prepared>): Promise<Map<string, Timing>> {
    const times = new Map<string, Timing>();
    for (const { candidates } of contest.forms) {
      const contenders: Ready[] = [];
      for (const { hash } of candidates.filter(isTimed)) {
        const made = prepared.get(hash);
        if (made === undefined || times.has(hash)) continue;
        if ('refused' in made) times.set(hash, made);
        else contenders.push(made);
      }
      if (contenders.length === 0) continue;
      const samples = await sample(device, contenders, () => this.#check());
      for (const [i, { candidate }] of contenders.entries()) times.set(candidate.hash, samples[i]!);
    }
    return times;
  }

  /**
   * Times what would be chosen once more against the model's first, the two alone: the fastest of many is faster by chance too. Replaces their
   * times, until the choice stands. Where that ends early, the times from before hold.
   */
  async #timeWinners(contest: Contest, device: TuningDevice, prepared: ReadonlyMap<string, Prepared>, proven: boolean): Promise<void> {
    const { names, forms } = contest;
    const seen = new Set([names[0]]);
    for (;;) {
      const { tactic } = this.#decisionOf(contest);
      if (tactic === undefined || seen.has(tactic)) return;
      seen.add(tactic);
      const rank = names.indexOf(tactic);
      for (const { candidates } of forms) {
        const pair = [candidates[0]!, candidates[rank]!].filter(isTimed);
        const ready = pair.flatMap(({ hash }): Ready[] => {
          const made = prepared.get(hash);
          return made && 'candidate' in made ? [made] : [];
        });
        if (ready.length < 2) continue;
        const samples = await this.#sampleOrNot(device, ready);
        for (const [i, timing] of samples.entries()) this.#keep(ready[i]!.candidate.hash, timing, proven);
        if (samples.length === 0) return;
      }
    }
  }

  /** None where the device fails: the next problem finds out why. */
  async #sampleOrNot(device: TuningDevice, ready: readonly Ready[]): Promise<readonly Timing[]> {
    try {
      return await sample(device, ready, () => this.#options.signal?.throwIfAborted());
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      if (error instanceof TsrtError) return [];
      throw error;
    }
  }

  /** Times under a clock that may still have been rising serve this build alone. */
  #learn(hash: string, timing: Timing, proven: boolean): void {
    if (!this.#times.has(hash)) this.#counts['refused' in timing ? 'refused' : 'measured']++;
    this.#keep(hash, timing, proven);
  }

  #keep(hash: string, timing: Timing, proven: boolean): void {
    this.#times.set(hash, timing);
    if (proven || 'refused' in timing) this.#options.cache.put(hash, timing);
  }

  /** By the times that there are, of as many of the model's first as have them. */
  #decisionOf({ problem, names, forms }: Contest): Decision {
    const timed: Timed[] = [];
    for (const [rank, name] of names.entries()) {
      const parts = forms.map(({ candidates, count }) => {
        const candidate = candidates[rank]!;
        return { timing: isTimed(candidate) ? this.#times.get(candidate.hash) : candidate, count };
      });
      if (!parts.every(hasTiming)) break;
      timed.push({ name, timing: combine(parts) });
    }
    if (timed.length === 0) return { tactic: undefined, times: [] };
    return { tactic: decide(timed) ?? problem.names[0], times: timed.map(({ name, timing }) => ({ tactic: name, ...timing })) };
  }

  #check(deadline = this.#deadline): void {
    this.#options.signal?.throwIfAborted();
    if (this.#now() >= deadline) throw new OutOfBudget();
  }

  /** Warms up while kernels are compiled, which can take long, but not beyond the budget or the signal. What is compiling then ends with the device. */
  async #warmUp(device: TuningDevice, until: Promise<unknown>, deadline = this.#deadline): Promise<Clocks> {
    this.#check(deadline);
    const enough = new AbortController();
    const end = (): void => enough.abort();
    const left = deadline - this.#now();
    const timer = Number.isFinite(left) ? setTimeout(end, Math.min(left, 2 ** 31 - 1)) : undefined;
    const { signal } = this.#options;
    signal?.addEventListener('abort', end, { once: true });
    try {
      const clocks = await device.warmUp(until, enough.signal);
      if (!enough.signal.aborted) return clocks;
      signal?.throwIfAborted();
      throw new OutOfBudget();
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
    }
  }

  async #flushNowAndThen(): Promise<void> {
    if (this.#now() - this.#flushedAt < FLUSH_MS) return;
    await this.#options.cache.flush();
    this.#flushedAt = this.#now();
  }
}
