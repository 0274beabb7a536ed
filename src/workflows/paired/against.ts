/**
 * `gate --against`: the baseline's engines run again, in the same rounds as the candidate's. What the machine does falls on
 * both, so that nothing has to be assumed about another day; a case is measured until it is decided or the rounds end.
 */
import { comparePairs, type CaseComparison, familySize } from '../../gate/compare.ts';
import { judge, type GateReport } from '../../gate/judge.ts';
import { METRIC_NAMES } from '../../gate/metrics.ts';
import type { CasePair, Pairing } from '../../gate/pair.ts';
import { thresholdOf, type GatePolicy } from '../../gate/policy.ts';
import { isOpen, levelsOf, planLooks } from '../../gate/sequential.ts';
import { createSystemClock } from '../../measure/clock.ts';
import type { MeasureServices } from '../../measure/orchestrate.ts';
import { measurePairs, type PairOutcome } from '../../measure/pairs.ts';
import { createYardstick } from '../../measure/yardstick.ts';
import type { CaseOutcome } from '../../measure/plan.ts';
import type { Case } from '../../results/record.ts';
import { engineKey, type EngineOutcome } from '../run/engines.ts';
import { measuredRecord, unbuiltRecord } from '../run/records.ts';
import { withEngineFolder } from '../engine-folder.ts';
import { prepareSides, type PairedRequest, type PairedSides } from './sides.ts';

export interface AgainstRequest extends PairedRequest {
  readonly against: readonly string[];
  /** From the suite and the flags. */
  readonly policy: (suite: PairedSides['suite']) => GatePolicy;
  /** Rounds after which the cases are looked at, ascending. */
  readonly looks: readonly number[];
  readonly services?: MeasureServices;
}

/** Measures and judges. */
export function runGateAgainst(request: AgainstRequest): Promise<GateReport> {
  return withEngineFolder(async (folder) => {
    const sides = await prepareSides(request, folder);
    const policy = request.policy(sides.suite);
    const comparisons = await compareSides(request, sides, policy);
    const labels = { baseline: `${request.against.length} engine file${request.against.length === 1 ? '' : 's'}`, candidate: 'the suite as it is' };
    const notices = [
      ...(request.signal.aborted ? ['interrupted: the verdict rests on what was measured'] : []),
      'accuracy is no part of this comparison; `tsrt-bench run` measures it',
    ];
    return judge({ suite: sides.suite.name, ...labels, cases: comparisons, notices }, policy);
  });
}

async function compareSides(request: AgainstRequest, sides: PairedSides, policy: GatePolicy): Promise<readonly CaseComparison[]> {
  const { looks, signal, onEvent } = request;
  const metrics = METRIC_NAMES.filter((metric) => thresholdOf(policy, metric) !== undefined);
  const planned = planLooks(looks, policy);
  const caseOf = new Map(sides.cases.map((entry) => [entry.id, entry]));
  const family = familySize(sides.pairs.length, metrics);
  const found = new Map<string, CaseComparison>();
  onEvent({ kind: 'stage', stage: 'measure', text: `${sides.pairs.length} pairs, interleaved, up to ${looks.at(-1) ?? 0} rounds` });
  const services = request.services ?? { yardstick: createYardstick({ clock: createSystemClock() }) };
  let done = 0;
  for await (const event of measurePairs(sides.settings, sides.pairs, looks, services, signal)) {
    if (event.kind === 'pair-done') {
      onEvent({ kind: 'progress', stage: 'measure', label: event.id, done: ++done, total: sides.pairs.length * event.rounds, unit: 'rounds' });
      continue;
    }
    const pairs = event.pairs.map((pair) => casePair(sides, caseOf.get(pair.id)!, pair));
    const pairing: Pairing = { suite: sides.suite.name, pairs, notices: [] };
    const look = levelsOf(planned[event.look]!, family);
    const comparison = comparePairs(pairing, { baseline: '', candidate: '' }, { ...policy, metrics, design: 'interleaved', look });
    for (const one of comparison.cases) found.set(one.pair.caseId, one);
    for (const one of judge(comparison, policy).cases) if (!isOpen(one)) event.settled.add(one.caseId);
  }
  return sides.cases.map((entry) => found.get(entry.id) ?? { pair: unmeasuredPair(sides, entry), changes: [] });
}

/** The records of both sides of a case. */
export function casePair(sides: PairedSides, entry: Case, { baseline, candidate }: PairOutcome): CasePair {
  const before = recordOf(sides, entry, sides.baseline, baseline);
  const after = recordOf(sides, entry, sides.candidate, candidate);
  if (before.status !== 'completed') return { state: 'new', caseId: entry.id, candidate: after };
  return after.status === 'completed'
    ? { state: 'both', caseId: entry.id, baseline: before, candidate: after }
    : { state: 'broken', caseId: entry.id, baseline: before, candidate: after };
}

function recordOf({ context }: PairedSides, entry: Case, engines: ReadonlyMap<string, EngineOutcome>, outcome: CaseOutcome) {
  const engine = engines.get(engineKey(entry.variant));
  if (engine?.status !== 'built') throw new Error(`case ${entry.id} was measured without an engine`);
  return measuredRecord(context, entry, engine, outcome, undefined, []);
}

/** A case of which a side could not be built. */
function unmeasuredPair({ candidate, context }: PairedSides, entry: Case): CasePair {
  const engine = candidate.get(engineKey(entry.variant));
  const record =
    engine && engine.status !== 'built'
      ? unbuiltRecord(context, entry, engine)
      : ({ schemaVersion: 1, case: entry, provenance: context.provenance(context.fallbackDevice), warnings: [], status: 'aborted', rounds: [] } as const);
  return { state: 'new', caseId: entry.id, candidate: record };
}
