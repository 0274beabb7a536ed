/**
 * `gate --measure`: the suite runs now, against a stored baseline, for as many rounds as its verdict needs. Cases are looked at on
 * the way and leave when they are decided; every look spends its part of the error rates, as in `--against`. What was measured
 * is a run like any other.
 */
import { TsrtError } from '../errors.ts';
import { comparePairs, familySize } from '../gate/compare.ts';
import { judge } from '../gate/judge.ts';
import { METRIC_NAMES } from '../gate/metrics.ts';
import type { CasePair } from '../gate/pair.ts';
import { parseThresholds, thresholdOf, type GatePolicy } from '../gate/policy.ts';
import { isOpen, levelsOf, type Look, planLooks } from '../gate/sequential.ts';
import type { OpenCase } from '../measure/plan.ts';
import type { CompletedRecord } from '../results/record.ts';
import type { RecordSet } from '../results/store.ts';
import { loadSuite } from '../suite/load.ts';
import { type GateRequest, judgeRecords, policyOf, selectBaseline } from './gate.ts';
import type { Judged } from './gate-update.ts';
import type { RunWatch, RunRequest } from './run/request.ts';
import { runSuite } from './run/run.ts';
import { suiteCall } from './suite-call.ts';

export interface MeasuredGateRequest {
  readonly run: Omit<RunRequest, 'watch' | 'resume'>;
  readonly gate: Omit<GateRequest, 'suite' | 'candidate' | 'looks'>;
  /** Numbers of rounds, ascending. */
  readonly looks: readonly number[];
  /** Measure all rounds whatever the looks would say: the run is to be a baseline, on which later gates rest. */
  readonly whole: boolean;
}

/** Throws BASELINE_NOT_FOUND before anything is measured, BASELINE_INCOMPARABLE after a round, and what `run` and `gate` throw. */
export async function measureAndJudge({ run, gate, looks, whole }: MeasuredGateRequest): Promise<Judged> {
  const suite = await loadSuite(run.suite, { cwd: process.cwd(), plugins: gate.pluginSuites });
  const policy = policyOf(suite, { ...gate, thresholds: parseThresholds(gate.thresholds) });
  const baseline = await selectBaseline(gate.baseline, { results: gate.results, store: gate.store, suite: suite.name, called: await suiteCall(suite.name, run.suite) });
  const planned = planLooks(whole ? looks.slice(-1) : looks);
  const last = planned.at(-1)!;
  const decided = new Map<string, Look>();
  const result = await runSuite({
    ...run,
    overrides: { ...run.overrides, rounds: last.rounds },
    resume: false,
    watch: watching({ baseline, policy, planned, decided, anyDevice: gate.allowDifferentDevice }),
  });
  if (result.records.length === 0) throw nothingMeasured();
  const judged = await judgeRecords({ ...gate, suite: run.suite, candidate: `run:${result.runId}`, looks: { lookOf: (caseId) => decided.get(caseId) ?? last } });
  const { report } = judged;
  return result.interrupted ? { ...judged, report: { ...report, notices: ['interrupted: the verdict rests on what was measured', ...report.notices] } } : judged;
}

interface Watch {
  readonly baseline: RecordSet;
  readonly policy: GatePolicy;
  readonly planned: readonly Look[];
  /** Receives the look at which each case was decided. */
  readonly decided: Map<string, Look>;
  readonly anyDevice: boolean;
}

/** The looks of the plan, and one after the first round, which asks only whether there is something to compare with. */
function watching({ baseline, policy, planned, decided, anyDevice }: Watch): RunWatch {
  const metrics = METRIC_NAMES.filter((metric) => thresholdOf(policy, metric) !== undefined);
  let family = 1;
  return {
    rounds: [1, ...planned.map(({ rounds }) => rounds)],
    settle(at, open) {
      const pairs = open.flatMap((one) => pairOf(one, baseline, anyDevice));
      const look = planned[at - 1];
      if (!look) {
        if (pairs.length === 0 && open.length > 0) throw nothingToCompare(open, baseline);
        family = familySize(pairs.length, metrics);
        return [];
      }
      const comparison = comparePairs({ suite: baseline.suite, pairs, notices: [] }, { baseline: '', candidate: '' }, { ...policy, metrics, look: levelsOf(look, family) });
      const settled = judge(comparison, policy).cases.filter((one) => !isOpen(one)).map(({ caseId }) => caseId);
      for (const caseId of settled) decided.set(caseId, look);
      return settled;
    },
  };
}

/** What is timed, as if the rest had not changed: rounds decide nothing else. A case without a counterpart is no pair. */
function pairOf({ case: entry, device, rounds }: OpenCase, { records }: RecordSet, anyDevice: boolean): CasePair[] {
  const kept = records.filter((record): record is CompletedRecord => record.status === 'completed' && record.case.id === entry.id);
  const baseline = kept.find(({ provenance }) => provenance.environment.device.slug === device.slug) ?? (anyDevice ? kept[0] : undefined);
  return baseline ? [{ state: 'both', caseId: entry.id, baseline, candidate: { ...baseline, rounds } }] : [];
}

function nothingToCompare(open: readonly OpenCase[], { label, records }: RecordSet): TsrtError {
  const devices = (slugs: readonly string[]): string => [...new Set(slugs)].sort().join(', ');
  const [there, here] = [devices(records.map(({ provenance }) => provenance.environment.device.slug)), devices(open.map(({ device }) => device.slug))];
  const message = there === here ? `no case of this run is in ${label}` : `${label} was measured on ${there}, but this run is on ${here}`;
  return new TsrtError('BASELINE_INCOMPARABLE', message, {
    details: open.slice(0, 5).map((one) => one.case.id),
    fix: 'record one here (`tsrt-bench run`, then `tsrt-bench baseline save NAME`), or name another with --baseline',
  });
}

function nothingMeasured(): TsrtError {
  return new TsrtError('INTERRUPTED', 'stopped before a case was measured', { fix: 'let it run longer, or bound it with --budget' });
}
