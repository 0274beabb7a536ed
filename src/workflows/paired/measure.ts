/** Measures joined sides in interleaved rounds and judges them at every look, until each case is decided. */
import { comparePairs, type CaseComparison, familySize } from '../../gate/compare.ts';
import { judge } from '../../gate/judge.ts';
import { METRIC_NAMES } from '../../gate/metrics.ts';
import { type GatePolicy, thresholdOf } from '../../gate/policy.ts';
import { isOpen, levelsOf, planLooks } from '../../gate/sequential.ts';
import { createSystemClock } from '../../measure/clock.ts';
import type { MeasureServices } from '../../measure/orchestrate.ts';
import { measurePairs } from '../../measure/pairs.ts';
import { createYardstick } from '../../measure/yardstick.ts';
import type { OnRunEvent } from '../events.ts';
import { casePair, type JoinedSides } from './join.ts';

export interface MeasureRequest {
  readonly policy: GatePolicy;
  /** Rounds after which the cases are looked at, ascending. */
  readonly looks: readonly number[];
  /** Share of the error rates that this comparison may spend, where it is one of several; default: all. */
  readonly share?: number;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
  readonly services?: MeasureServices | undefined;
}

/** A comparison for every case, in the order of `sides.cases`. */
export async function measureSides(sides: JoinedSides, request: MeasureRequest): Promise<readonly CaseComparison[]> {
  const { policy, looks, share = 1, signal, onEvent } = request;
  const metrics = METRIC_NAMES.filter((metric) => thresholdOf(policy, metric) !== undefined);
  const planned = planLooks(looks);
  const joined = new Map(sides.cases.map((entry) => [entry.id, entry]));
  const family = familySize(sides.pairs.length, metrics);
  const found = new Map<string, CaseComparison>();
  onEvent({ kind: 'stage', stage: 'measure', text: `${sides.pairs.length} pairs, interleaved, up to ${looks.at(-1) ?? 0} rounds` });
  const services = request.services ?? measureServices();
  let done = 0;
  for await (const event of measurePairs(sides.settings, sides.pairs, looks, services, signal)) {
    if (event.kind === 'pair-done') {
      onEvent({ kind: 'progress', stage: 'measure', label: event.id, done: ++done, total: sides.pairs.length * event.rounds, unit: 'rounds' });
      continue;
    }
    const pairs = event.pairs.map((outcome) => casePair(sides, joined.get(outcome.id)!, outcome));
    const { alarmShare, doubtShare, ...rest } = levelsOf(planned[event.look]!, family);
    const look = { ...rest, alarmShare: alarmShare * share, doubtShare: doubtShare * share };
    const pairing = { suite: sides.candidate.suite.name, pairs, notices: [] };
    const comparison = comparePairs(pairing, { baseline: '', candidate: '' }, { ...policy, metrics, design: 'interleaved', look });
    for (const one of comparison.cases) found.set(one.pair.caseId, one);
    for (const one of judge(comparison, policy).cases) if (!isOpen(one)) event.settled.add(one.caseId);
  }
  return sides.cases.map((entry) => found.get(entry.id) ?? { pair: casePair(sides, entry, undefined), changes: [] });
}

export function measureServices(): MeasureServices {
  return { yardstick: createYardstick({ clock: createSystemClock() }) };
}
