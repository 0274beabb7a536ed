/** `gate --self-test`: identical engines as two sides, and what the gate makes of them on this machine. */
import { thresholdOf, type GatePolicy } from '../../gate/policy.ts';
import { assessGate, type IdenticalPair, type SelfTest } from '../../gate/self-test.ts';
import { roundLogs, TIMED_METRICS } from '../../gate/series.ts';
import type { MeasureServices } from '../../measure/orchestrate.ts';
import { measurePairs, type PairOutcome } from '../../measure/pairs.ts';
import { TsrtError } from '../../errors.ts';
import { withEngineFolder } from '../engine-folder.ts';
import { keepSelfTest } from '../self-tests.ts';
import { casePair, type JoinedSides } from './join.ts';
import { measureServices } from './measure.ts';
import type { PreparedSide, SideRequest } from './side.ts';
import { identicalSides } from './sides.ts';

export interface SelfTestRequest extends SideRequest {
  readonly policy: (suite: PreparedSide['suite']) => GatePolicy;
  /** Of the gate whose worth is asked for. */
  readonly looks: readonly number[];
  /** Rounds to measure: more make the answer surer, not the gate. */
  readonly rounds: number;
  readonly services?: MeasureServices;
}

export interface SelfTestResult extends SelfTest {
  readonly suite: string;
  readonly durationMs: number;
}

/** Measures and assesses. Throws INTERRUPTED where nothing was measured, and what `run` throws. */
export function runSelfTest(request: SelfTestRequest): Promise<SelfTestResult> {
  return withEngineFolder(async (folder) => {
    const sides = await identicalSides(request, folder);
    const startMs = performance.now();
    const outcomes = await measureIdentical(request, sides);
    const durationMs = performance.now() - startMs;
    const policy = request.policy(sides.candidate.suite);
    const pairs = outcomes.flatMap((outcome) => identicalPairs(sides, outcome, policy, durationMs / Math.max(1, outcomes.length)));
    if (pairs.length === 0) throw nothingMeasured(outcomes);
    const result = { ...assessGate(pairs, { ...request, policy, seed: sides.settings.seed }), suite: sides.candidate.suite.name, durationMs };
    if (!request.signal.aborted) await remember(request, result, policy);
    return result;
  });
}

/** For verdicts and `doctor` to quote; a cache that can't be written only costs that. */
async function remember({ settings, overrides, onEvent }: SelfTestRequest, result: SelfTestResult, policy: GatePolicy): Promise<void> {
  try {
    await keepSelfTest(settings.config.cache, result, { policy, timeMs: overrides.timeMs }, new Date().toISOString());
  } catch (error) {
    onEvent({ kind: 'notice', text: `the self-test could not be saved: ${error instanceof Error ? error.message : String(error)}` });
  }
}

async function measureIdentical(request: SelfTestRequest, sides: JoinedSides): Promise<readonly PairOutcome[]> {
  const { rounds, signal, onEvent } = request;
  onEvent({ kind: 'stage', stage: 'measure', text: `${sides.pairs.length} identical pairs × ${rounds} rounds, interleaved` });
  const services = request.services ?? measureServices();
  let outcomes: readonly PairOutcome[] = [];
  let done = 0;
  for await (const event of measurePairs(sides.settings, sides.pairs, [rounds], services, signal)) {
    if (event.kind === 'look') outcomes = event.pairs;
    else onEvent({ kind: 'progress', stage: 'measure', label: event.id, done: ++done, total: sides.pairs.length * rounds, unit: 'rounds' });
  }
  return outcomes;
}

/** The metrics that decide, of a case that completed on both sides. */
function identicalPairs(sides: JoinedSides, outcome: PairOutcome, policy: GatePolicy, caseMs: number): IdenticalPair[] {
  const entry = sides.cases.find(({ id }) => id === outcome.id)!;
  const pair = casePair(sides, entry, outcome);
  if (pair.state !== 'both') return [];
  return TIMED_METRICS.filter((metric) => metric !== 'build-time' && thresholdOf(policy, metric) !== undefined).flatMap((metric) => {
    const logs = roundLogs(metric, pair.baseline, pair.candidate);
    if (!logs || logs.before.length < policy.minRounds) return [];
    // A throughput that falls is a time that rises.
    const sign = metric === 'throughput' ? -1 : 1;
    const [before, after] = [logs.before.map((value) => sign * value), logs.after.map((value) => sign * value)];
    return [{ caseId: entry.id, metric, before, after, roundMs: caseMs / before.length }];
  });
}

function nothingMeasured(outcomes: readonly PairOutcome[]): TsrtError {
  const failures = outcomes.flatMap(({ id, candidate }) => (candidate.status === 'failed' ? [`${id}: ${candidate.error.message}`] : []));
  return new TsrtError('INTERRUPTED', 'no case was measured often enough to say anything', {
    details: failures.slice(0, 5),
    fix: failures.length > 0 ? 'mend what fails first; `tsrt-bench run` shows it' : 'let it run longer, or ask for fewer cases with --backend and --batch',
  });
}
