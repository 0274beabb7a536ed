/**
 * Looking at growing data: a case that is not decided is measured further, until it is or the rounds end. Every look spends a
 * part of the error rates (stats/spending.ts), so that the rates that the policy promises hold over all looks together, for
 * whatever reason a case was stopped or went on: false alarms rather late, because power at the end is what counts; doubt evenly,
 * so that a quiet case passes early.
 */
import { spendEvenly, spendLate } from '../stats/spending.ts';
import type { CaseVerdict, MetricVerdict } from './judge.ts';
import { METRICS } from './metrics.ts';
import type { Levels } from './timed.ts';

/** One look, after `rounds` rounds since the start. */
export interface Look {
  readonly rounds: number;
  readonly alarmShare: number;
  readonly doubtShare: number;
}

/** Of a run that is to be a baseline: so many find +10 % under 5 % of noise in 12 cases, nine times of ten (bench/gate-simulation.mjs). */
export const DEFAULT_ROUNDS = 24;

/** Of a gate that measures both sides: cases that are quiet end long before, those that 24 rounds leave undecided get as many again. */
export const PAIRED_ROUNDS = 48;

/** A baseline of fewer rounds a case bounds what a gate against it can tell, however long the candidate is measured. */
export const BASELINE_ROUNDS = 12;

/** Below, a look could decide next to nothing. */
const FIRST_LOOK = 8;

/** Looks after 8, 12, 16, 24, 32, 48 … and `rounds`, each by a half or a third later than the one before. */
export function looksUpTo(rounds: number): readonly number[] {
  const looks: number[] = [];
  for (let at = FIRST_LOOK; at <= rounds / 1.25; at *= 2) looks.push(at, (at * 3) / 2);
  return [...looks.filter((at) => at <= rounds / 1.25), rounds];
}

/** Of a gate that measures both sides. */
export const PAIRED_LOOKS = looksUpTo(PAIRED_ROUNDS);

/** Of a gate that measures one, against stored rounds that do not grow. */
export const STORED_LOOKS = looksUpTo(DEFAULT_ROUNDS);

/** The looks at ascending numbers of rounds. Throws RangeError where they don't ascend. */
export function planLooks(rounds: readonly number[]): readonly Look[] {
  const last = rounds.at(-1) ?? 0;
  const fractions = rounds.map((count) => count / last);
  const [late, even] = [spendLate(fractions), spendEvenly(fractions)];
  return rounds.map((count, i) => ({ rounds: count, alarmShare: late[i]!, doubtShare: even[i]! }));
}

/** The levels of a look at `family` metrics of cases, of which some may be decided and no longer tested. */
export function levelsOf({ alarmShare, doubtShare }: Look, family: number): Pick<Levels, 'alarmShare' | 'doubtShare' | 'family'> {
  return { alarmShare, doubtShare, family };
}

/** Whether more rounds could change what is known of a case: it is undecided, or may yet be found to be improved. */
export function isOpen(one: CaseVerdict): boolean {
  return one.state === 'both' && one.verdict !== 'regressed' && one.metrics.some(mayChange);
}

function mayChange({ metric, verdict, watched, change, threshold }: MetricVerdict): boolean {
  // Rounds build nothing.
  if (watched || change.kind !== 'sampled' || verdict === 'improved' || metric === 'build-time') return false;
  const { low, high } = change.ratio;
  const best = METRICS[change.metric].better === 'lower' ? low - 1 : 1 - high;
  return verdict === 'inconclusive' || best * 100 < -threshold;
}
