/**
 * What the gate is worth on this machine, from identical engines measured as two sides: how often it would raise a false alarm,
 * the smallest slowdown that it finds, and what more rounds would buy.
 *
 * Sensitivity is found by resampling rounds (Efron's bootstrap, Ann. Statist. 7(1), 1979): a drawn comparison of n rounds tells
 * from its own intervals how much slower the candidate would have had to be, since adding a slowdown only moves them. The
 * change that nine of ten comparisons find is the 90 % quantile of that. False alarms are counted as they are, over stretches of
 * consecutive rounds, because resampling would break up the unrest that causes them.
 */
import { shiftBetween } from '../stats/change.ts';
import { binomialInterval, type Estimate } from '../stats/interval.ts';
import { createRandom, type Random } from '../stats/random.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { METRICS } from './metrics.ts';
import { thresholdOf, type GatePolicy } from './policy.ts';
import { planLooks, type Look } from './sequential.ts';
import { NO_SESSION_EFFECT } from './session.ts';
import { effectiveFamily, type TimedMetric } from './series.ts';
import { inferRatio } from './timed.ts';

/** One timed metric of one case: logarithms of the round values of both sides, in order, in time's direction (higher is slower). */
export interface IdenticalPair {
  readonly caseId: string;
  readonly metric: TimedMetric;
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** What a round of the case takes, both sides together. */
  readonly roundMs: number;
}

/** What a number of rounds finds. */
export interface Sensitivity {
  readonly rounds: number;
  /** Of one gate over all cases, if none is decided before the last round. */
  readonly durationMs: number;
  /** Smallest slowdown found with 90 % power in the case that is worst, and in the median case; undefined: none up to a factor of 8. */
  readonly worstPercent: number | undefined;
  readonly medianPercent: number | undefined;
}

export interface SelfTest {
  readonly cases: number;
  readonly rounds: number;
  /** Comparisons of identical engines, each at the gate's own level; how many called one slower or faster. */
  readonly comparisons: number;
  readonly alarms: number;
  /** Share of alarms per comparison, with its exact interval (Clopper and Pearson, Biometrika 26(4), 1934). */
  readonly alarmShare: Estimate;
  /** By ascending rounds; one of them is the setting in force. */
  readonly sensitivities: readonly Sensitivity[];
  readonly inForce: Sensitivity;
  /** Of each case at the setting in force, in percent. */
  readonly byCase: Readonly<Record<string, number | undefined>>;
}

export interface SelfTestOptions {
  readonly policy: GatePolicy;
  readonly looks: readonly number[];
  readonly seed: number;
}

const POWER = 0.9;

/** Drawn comparisons for each metric of a case and number of rounds. */
const DRAWS = 200;

/** Rounds for which the sensitivity is stated, besides the setting in force. */
const ROUNDS = [8, 12, 18, 24, 36, 48, 72];

/** No slowdown beyond this is looked for. */
const LARGEST = Math.log(8);

/** Throws RangeError on no pairs. */
export function assessGate(pairs: readonly IdenticalPair[], { policy, looks, seed }: SelfTestOptions): SelfTest {
  const [first] = pairs;
  if (!first) throw new RangeError('a self-test needs a pair');
  const planned = planLooks(looks);
  const setting = looks.at(-1) ?? 0;
  const random = createRandom(seed);
  const { comparisons, alarms } = countAlarms(pairs, planned, policy);
  const candidates = [...new Set([...ROUNDS, setting])].sort((a, b) => a - b);
  const found = candidates.map((rounds) => ({ rounds, byCase: detectable(pairs, rounds, planned.at(-1)!, policy, random) }));
  const roundMs = totalRoundMs(pairs);
  const sensitivities = found.map(({ rounds, byCase }): Sensitivity => {
    const sorted = sortSamples([...byCase.values()]);
    return { rounds, durationMs: rounds * roundMs, worstPercent: asPercent(sorted.at(-1)!), medianPercent: asPercent(quantile(sorted, 0.5)) };
  });
  const inForce = found.findIndex(({ rounds }) => rounds === setting);
  return {
    cases: found[0]!.byCase.size,
    rounds: first.before.length,
    comparisons,
    alarms,
    alarmShare: binomialInterval(alarms, comparisons),
    sensitivities,
    inForce: sensitivities[inForce]!,
    byCase: Object.fromEntries([...found[inForce]!.byCase].map(([caseId, change]) => [caseId, asPercent(change)])),
  };
}

/** One sentence on what a gate is worth, without a full stop: for verdicts and `doctor`. */
export function describeWorth(test: Pick<SelfTest, 'comparisons' | 'alarms'> & { readonly measuredAt: string; readonly inForce: Pick<Sensitivity, 'rounds'> & { readonly worstPercent?: number | undefined } }): string {
  const { comparisons, alarms, inForce, measuredAt } = test;
  const rate = comparisons === 0 ? 'unknown' : `${Number(((alarms / comparisons) * 100).toFixed(1))} %`;
  const found = inForce.worstPercent === undefined ? 'no change up to a factor of 8 is found' : `the smallest change found in every case is ${Number(inForce.worstPercent.toFixed(1))} %`;
  return `on this machine: false-alarm rate ${rate} over ${comparisons} A/A comparisons; ${found} at 90 % power with ${inForce.rounds} interleaved rounds (self-test of ${measuredAt.slice(0, 10)})`;
}

/** The fewest rounds that find a slowdown in every case; undefined where none of those stated does. */
export function roundsFor(percent: number, { sensitivities }: Pick<SelfTest, 'sensitivities'>): Sensitivity | undefined {
  return sensitivities.find(({ worstPercent }) => worstPercent !== undefined && worstPercent <= percent);
}

function asPercent(change: number): number | undefined {
  return change >= LARGEST ? undefined : Math.expm1(change) * 100;
}

function totalRoundMs(pairs: readonly IdenticalPair[]): number {
  return [...new Map(pairs.map(({ caseId, roundMs }) => [caseId, roundMs])).values()].reduce((sum, ms) => sum + ms, 0);
}

/** Every stretch of the first look's length, not overlapping, is one comparison at the level of a single look. */
function countAlarms(pairs: readonly IdenticalPair[], looks: readonly Look[], policy: GatePolicy) {
  const length = looks[0]!.rounds;
  let [comparisons, alarms] = [0, 0];
  for (const { metric, before, after } of pairs) {
    const family = familyOf(metric, pairs);
    for (let start = 0; start + length <= before.length; start += length) {
      const logs = { before: before.slice(start, start + length), after: after.slice(start, start + length) };
      const { rise, fall } = inferRatio(logs, 'interleaved', NO_SESSION_EFFECT, { ...policy, alarmShare: 1, doubtShare: 1, family });
      comparisons++;
      if (Math.min(rise, fall) <= policy.falseAlarms) alarms++;
    }
  }
  return { comparisons, alarms };
}

/** For each case the slowdown, as a logarithm, that 90 % of drawn comparisons find in the metric that shows it best; a start is none. */
function detectable(pairs: readonly IdenticalPair[], rounds: number, look: Look, policy: GatePolicy, random: Random): Map<string, number> {
  const best = new Map<string, number>();
  for (const pair of pairs) {
    if (METRICS[pair.metric].startup) continue;
    const family = familyOf(pair.metric, pairs);
    const allowed = Math.log1p((thresholdOf(policy, pair.metric) ?? 0) / 100);
    const needed = Array.from({ length: DRAWS }, () => neededSlowdown(pair, rounds, { look, policy, allowed, family, random }));
    const change = Math.min(LARGEST, quantile(sortSamples(needed), POWER));
    best.set(pair.caseId, Math.min(best.get(pair.caseId) ?? LARGEST, change));
  }
  return best;
}

function familyOf(metric: TimedMetric, pairs: readonly IdenticalPair[]): number {
  return effectiveFamily(metric, pairs.length, [...new Set(pairs.map((pair) => pair.metric))]);
}

interface Draw {
  readonly look: Look;
  readonly policy: GatePolicy;
  /** The threshold, as a logarithm. */
  readonly allowed: number;
  readonly family: number;
  readonly random: Random;
}

/** What must be added to a drawn comparison for it to be beyond chance and not within the threshold. */
function neededSlowdown(pair: IdenticalPair, rounds: number, { look, policy, allowed, family, random }: Draw): number {
  const drawn = Array.from({ length: rounds }, () => random.below(pair.before.length));
  // Identical sides are exchangeable within a round, whichever was called which.
  const swapped = drawn.map(() => random.below(2) === 0);
  const before = drawn.map((at, i) => (swapped[i] ? pair.after : pair.before)[at]!);
  const after = drawn.map((at, i) => (swapped[i] ? pair.before : pair.after)[at]!);
  const shift = shiftBetween({ before, after, paired: true });
  const beyondChance = -shift.interval((policy.falseAlarms * look.alarmShare) / family).low;
  const notWithin = allowed - shift.interval(((1 - policy.confidence) / 2) * look.doubtShare).high;
  return Math.min(LARGEST, Math.max(0, beyondChance, notWithin));
}
