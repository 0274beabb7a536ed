/**
 * The verdict. A timed metric is regressed only where two things hold: the rise is beyond chance, at a rate of false alarms
 * that covers all metrics of all cases together, and the interval does not exclude that it exceeds the threshold (significance
 * and a noise threshold, as criterion.rs has them). It passes only where the interval lies within the threshold. What is
 * neither is `inconclusive`: too noisy to tell, never passed. Memory and accuracy are compared exactly.
 */
import { EXIT, type ExitStatus } from '../errors.ts';
import type { BenchRecord } from '../results/record.ts';
import { samplesNeeded } from '../stats/interval.ts';
import type { CaseComparison, Comparison, MetricChange } from './compare.ts';
import type { TimedChange, WholeRounds } from './timed.ts';
import { METRICS, type MetricName } from './metrics.ts';
import { noiseOf, type NoiseWarning } from './noise.ts';
import { isWatched, thresholdOf, thresholdUnit, type GatePolicy } from './policy.ts';

export type Verdict = 'passed' | 'improved' | 'regressed' | 'inconclusive';

export interface MetricVerdict {
  readonly metric: MetricName;
  readonly verdict: Verdict;
  /** One sentence, without a full stop. */
  readonly reason: string;
  /** Worsening that must not pass unseen, in `thresholdUnit`. */
  readonly threshold: number;
  /** Whether it decides only where it is no longer in doubt: `inconclusive` is said and counts for nothing. */
  readonly watched: boolean;
  readonly change: MetricChange;
}

export interface CaseVerdict {
  readonly caseId: string;
  /** `both`: compared; `broken`: completed in the baseline, not in the candidate; `missing` and `new`: only one side has it. */
  readonly state: CaseComparison['pair']['state'];
  readonly verdict: Verdict;
  /** The reason of the metric that decided, or of the state. */
  readonly reason: string;
  readonly metrics: readonly MetricVerdict[];
  /** What the rounds say against them. */
  readonly warnings: readonly NoiseWarning[];
}

export interface GateReport {
  readonly suite: string;
  readonly baseline: string;
  readonly candidate: string;
  readonly verdict: Exclude<Verdict, 'improved'>;
  readonly policy: GatePolicy;
  readonly cases: readonly CaseVerdict[];
  readonly notices: readonly string[];
}

/** Judges a comparison by a policy. */
export function judge(comparison: Comparison, policy: GatePolicy): GateReport {
  const cases = comparison.cases.map((one) => judgeCase(one, policy));
  const worst = worstOf(cases.map((one) => one.verdict));
  const compared = cases.some((one) => one.state === 'both' || one.state === 'broken');
  return {
    suite: comparison.suite,
    baseline: comparison.baseline,
    candidate: comparison.candidate,
    verdict: !compared && worst !== 'regressed' ? 'inconclusive' : worst === 'improved' ? 'passed' : worst,
    policy,
    cases,
    notices: compared ? comparison.notices : [...comparison.notices, 'no case is on both sides: there was nothing to compare'],
  };
}

/** The exit status of a verdict; `inconclusive` says what an undecided gate means to the caller. */
export function exitStatusOf(verdict: GateReport['verdict'], inconclusive: 'pass' | 'fail'): ExitStatus {
  switch (verdict) {
    case 'passed':
      return EXIT.ok;
    case 'regressed':
      return EXIT.failed;
    case 'inconclusive':
      return inconclusive === 'pass' ? EXIT.ok : EXIT.inconclusive;
    default:
      return verdict satisfies never;
  }
}

function judgeCase({ pair, changes }: CaseComparison, policy: GatePolicy): CaseVerdict {
  const base = { caseId: pair.caseId, state: pair.state, metrics: [], warnings: [] };
  switch (pair.state) {
    case 'both':
      return { ...judgeMetrics(pair.caseId, changes, policy), warnings: noiseOf(pair.baseline, pair.candidate) };
    case 'broken':
      return { ...base, ...judgeBroken(pair.candidate) };
    case 'missing':
      return policy.missing === 'ignored'
        ? { ...base, verdict: 'passed', reason: 'the baseline has the case, but the candidate did not run it; the policy ignores that' }
        : { ...base, verdict: 'inconclusive', reason: 'the baseline has the case, but the candidate did not run it' };
    case 'new':
      return { ...base, ...judgeNew(pair.candidate) };
    default:
      return pair satisfies never;
  }
}

/** A case that the baseline did not complete: there is nothing to compare, and what was not run to its end proves nothing. */
function judgeNew(candidate: BenchRecord): { readonly verdict: Verdict; readonly reason: string } {
  switch (candidate.status) {
    case 'completed':
      return { verdict: 'passed', reason: 'a new case: the baseline has nothing to compare it with' };
    case 'skipped':
      return { verdict: 'passed', reason: `skipped (${candidate.reason}), and the baseline has nothing to compare it with` };
    case 'failed':
      return { verdict: 'inconclusive', reason: `a new case, and it failed: ${candidate.error.message}` };
    case 'aborted':
      return { verdict: 'inconclusive', reason: 'cut off before it was measured, and the baseline has nothing to compare it with' };
    default:
      return candidate satisfies never;
  }
}

/** A case that used to complete: a failure is a regression, a case that was not run to its end proves nothing. */
function judgeBroken(candidate: Extract<CaseComparison['pair'], { state: 'broken' }>['candidate']): { readonly verdict: Verdict; readonly reason: string } {
  switch (candidate.status) {
    case 'failed':
      return { verdict: 'regressed', reason: `it completed in the baseline, but now fails (${candidate.cause} at ${candidate.stage}): ${candidate.error.message}` };
    case 'skipped':
      return { verdict: 'inconclusive', reason: `it completed in the baseline, but was skipped now: ${candidate.reason}` };
    case 'aborted':
      return { verdict: 'inconclusive', reason: 'it completed in the baseline, but was cut off now' };
    default:
      return candidate satisfies never;
  }
}

function judgeMetrics(caseId: string, changes: readonly MetricChange[], policy: GatePolicy): Omit<CaseVerdict, 'warnings'> {
  const metrics = changes.flatMap((change): MetricVerdict[] => {
    const threshold = thresholdOf(policy, change.metric);
    const watched = isWatched(policy, change.metric);
    if (threshold === undefined || (watched && change.kind === 'incomparable')) return [];
    return [{ metric: change.metric, threshold, watched, change, ...judgeChange(change, threshold, policy) }];
  });
  const decisive = metrics.filter(({ watched, verdict }) => !watched || verdict === 'regressed' || verdict === 'improved');
  if (decisive.length === 0) {
    return { caseId, state: 'both', verdict: 'inconclusive', reason: 'no metric of the policy was measured on both sides', metrics };
  }
  const verdict = worstOf(decisive.map((metric) => metric.verdict));
  const deciding = decisive.find((metric) => metric.verdict === verdict);
  return { caseId, state: 'both', verdict, reason: deciding?.reason ?? '', metrics };
}

/** Worsening in threshold units: its interval, and how sentences name it. */
interface Worsening {
  readonly point: number;
  readonly low: number;
  readonly high: number;
}

function judgeChange(change: MetricChange, threshold: number, policy: GatePolicy): { readonly verdict: Verdict; readonly reason: string } {
  if (change.kind === 'incomparable') {
    return { verdict: 'inconclusive', reason: `${METRICS[change.metric].label} can't be compared: ${change.reason}` };
  }
  const doubt = change.kind === 'sampled' ? doubtAbout(change, policy) : undefined;
  if (doubt !== undefined) return { verdict: 'inconclusive', reason: doubt };
  const worsening = worseningOf(change);
  if (isBelowFloor(change)) return judgeBelowFloor(change, worsening);
  const verdict = change.kind === 'exact' ? exactVerdict(worsening.point, threshold) : timedVerdict(change, worsening, threshold, policy);
  const stalls = change.kind === 'sampled' && change.whole && verdict !== 'regressed' ? judgeWhole(change, change.whole, threshold, policy) : undefined;
  return stalls ?? { verdict, reason: sentence(change, worsening, threshold, verdict) };
}

/**
 * What the rounds as a whole say against slices that are no worse; undefined where they say nothing. Neighbours stall either side, so
 * that whole rounds are noisy and are not asked to lie within the threshold; where they are worse in round after round, it is no
 * neighbour's doing.
 */
function judgeWhole(change: TimedChange, whole: WholeRounds, threshold: number, policy: GatePolicy): { readonly verdict: Verdict; readonly reason: string } | undefined {
  const all = { ...change, ...whole };
  const worsening = worseningOf(all);
  if (worsening.low <= 0 || worsening.high <= threshold + ROUNDING) return undefined;
  const verdict = timedVerdict(all, worsening, threshold, policy) === 'regressed' ? 'regressed' : 'inconclusive';
  return { verdict, reason: `${sentence(all, worsening, threshold, verdict)}; by whole rounds, since the slices that do not stall differ less` };
}

function isBelowFloor({ metric, baseline, candidate }: Exclude<MetricChange, { kind: 'incomparable' }>): boolean {
  const { floor } = METRICS[metric];
  return floor !== undefined && baseline !== candidate && Math.abs(candidate - baseline) <= floor;
}

/** What differs by less than matters, passes where the interval says so too. */
function judgeBelowFloor(change: Exclude<MetricChange, { kind: 'incomparable' }>, { high }: Worsening): { readonly verdict: Verdict; readonly reason: string } {
  const { label, floor = 0 } = METRICS[change.metric];
  if (change.kind === 'exact') return { verdict: 'passed', reason: `${label} differs by no more than the ${floor / 2 ** 20} MiB by which identical processes differ` };
  const most = (change.baseline * high) / 100;
  if (most <= floor) return { verdict: 'passed', reason: `${label} differs by less than ${floor} ms, which is too little to count` };
  const unit = change.metric === 'build-time' ? 'builds' : 'rounds';
  return { verdict: 'inconclusive', reason: `${label} differs by less than ${floor} ms, but ${change.rounds} ${unit} do not exclude ${Number.isFinite(most) ? `${shown(Math.round(most))} ms` : 'any difference'}` };
}

const TAIL_QUANTILES: { readonly [K in MetricName]?: number } = { 'latency-p95': 0.95, 'latency-p99': 0.99 };

/** Why an interval is not to be believed, whatever it says; undefined where it is. */
function doubtAbout(change: Extract<MetricChange, { kind: 'sampled' }>, policy: GatePolicy): string | undefined {
  const { label } = METRICS[change.metric];
  if (change.rounds < policy.minRounds) {
    const unit = `${change.metric === 'build-time' ? 'build' : 'round'}${change.rounds === 1 ? '' : 's'}`;
    return `${label} was measured in ${change.rounds} ${unit}; a verdict needs ${policy.minRounds} on both sides`;
  }
  const p = TAIL_QUANTILES[change.metric];
  const needed = p === undefined ? 0 : samplesNeeded(p, policy.confidence);
  return change.samples < needed ? `${label} rests on ${change.samples} samples; this percentile needs ${needed}` : undefined;
}

function worseningOf(change: Exclude<MetricChange, { kind: 'incomparable' }>): Worsening {
  const { better, compared } = METRICS[change.metric];
  const sign = better === 'lower' ? 1 : -1;
  if (change.kind === 'sampled') {
    const [point, one, other] = [change.ratio.point, change.ratio.low, change.ratio.high].map((ratio) => sign * (ratio - 1) * 100);
    return { point: point!, low: Math.min(one!, other!), high: Math.max(one!, other!) };
  }
  const point = sign * (compared === 'difference' ? change.candidate - change.baseline : percentChange(change.baseline, change.candidate));
  return { point, low: point, high: point };
}

function percentChange(baseline: number, candidate: number): number {
  if (baseline === candidate) return 0;
  return baseline === 0 ? Infinity : (candidate / baseline - 1) * 100;
}

/** Far below anything measured, above what binary fractions lose: 79.2 − 78.7 is not "more than 0.5". */
const ROUNDING = 1e-9;

function exactVerdict(worsening: number, threshold: number): Verdict {
  if (worsening > threshold + ROUNDING) return 'regressed';
  return worsening < -threshold - ROUNDING ? 'improved' : 'passed';
}

function timedVerdict(change: TimedChange, { low, high }: Worsening, threshold: number, { falseAlarms }: GatePolicy): Verdict {
  const [worse, better] = METRICS[change.metric].better === 'lower' ? [change.rise, change.fall] : [change.fall, change.rise];
  if (low < -threshold - ROUNDING && better <= falseAlarms) return 'improved';
  // An interval that is wider than the threshold to both sides can't tell a change of that size from none: where it lies is luck.
  if (high <= threshold + ROUNDING && high - low <= 2 * threshold + ROUNDING) return 'passed';
  return worse <= falseAlarms ? 'regressed' : 'inconclusive';
}

const CONCLUSIONS: { readonly [K in Verdict]: { readonly exact: string; readonly sampled: string } } = {
  regressed: { exact: 'more than the LIMIT allowed', sampled: 'beyond chance and not within the LIMIT allowed' },
  improved: { exact: 'for the better, by more than LIMIT', sampled: 'for the better, beyond chance' },
  passed: { exact: 'within the LIMIT allowed', sampled: 'within the LIMIT allowed' },
  inconclusive: { exact: '', sampled: 'too noisy to tell: it may be chance, and it may exceed the LIMIT allowed' },
};

/** Not above the threshold, but only because it lies where it does: see {@link timedVerdict}. */
const TOO_WIDE = 'too noisy to tell: the interval is wider than the LIMIT allowed to either side';

const TOO_FEW = ({ metric, rounds, roundsNeeded }: TimedChange): string => {
  const unit = metric === 'build-time' ? 'builds' : 'rounds';
  return `too few ${unit} to tell (${rounds}; ${roundsNeeded} could): it may be chance, and it may exceed the LIMIT allowed`;
};

function sentence(change: Exclude<MetricChange, { kind: 'incomparable' }>, worsening: Worsening, threshold: number, verdict: Verdict): string {
  const { better, label } = METRICS[change.metric];
  const unit = thresholdUnit(change.metric);
  const amount = Math.abs(worsening.point);
  const still = change.kind === 'exact' ? amount === 0 : amount < 0.005;
  const rose = still ? 'did not change' : `${worsening.point > 0 === (better === 'lower') ? 'rose' : 'fell'} by ${shown(amount)} ${unit}`;
  const few = verdict === 'inconclusive' && change.kind === 'sampled' && change.rounds < change.roundsNeeded;
  const wide = verdict === 'inconclusive' && worsening.high <= threshold + ROUNDING;
  const conclusion = (wide ? TOO_WIDE : few ? TOO_FEW(change) : CONCLUSIONS[verdict][change.kind]).replace('LIMIT', `${shown(threshold)} ${unit}`);
  if (change.kind === 'exact') return `${label} ${rose}, ${conclusion}`;
  const [low, high] = better === 'lower' ? [worsening.low, worsening.high] : [-worsening.high, -worsening.low];
  const interval = `${Number((change.ratio.confidence * 100).toFixed(1))} % interval ${signed(low)} to ${signed(high)} ${unit}`;
  return `${label} ${rose} (${interval}), ${conclusion}`;
}

function shown(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toFixed(2))) : 'infinitely many';
}

function signed(value: number): string {
  if (!Number.isFinite(value)) return value > 0 ? '+∞' : '−∞';
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(1)}`;
}

const SEVERITY: readonly Verdict[] = ['passed', 'improved', 'inconclusive', 'regressed'];

function worstOf(verdicts: readonly Verdict[]): Verdict {
  return verdicts.reduce<Verdict>((worst, verdict) => (SEVERITY.indexOf(verdict) > SEVERITY.indexOf(worst) ? verdict : worst), 'passed');
}
