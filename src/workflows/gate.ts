/** `gate`: the newest records against a baseline, by the suite's policy. Reads only. */
import { TsrtError } from '../errors.ts';
import { comparePairs } from '../gate/compare.ts';
import { judge, type GateReport } from '../gate/judge.ts';
import { METRIC_NAMES } from '../gate/metrics.ts';
import { pairCases } from '../gate/pair.ts';
import { DEFAULT_POLICY, parseThresholds, thresholdOf, type GatePolicy } from '../gate/policy.ts';
import { baselineNames } from '../results/baselines.ts';
import { homeOf, selectRecords } from '../results/select.ts';
import { devicesOf } from '../results/store.ts';
import type { BaselineStore } from '../results/stores/contract.ts';
import { loadSuite, type SuiteLookup } from '../suite/load.ts';
import type { Suite } from '../suite/schema.ts';
import type { Judged } from './gate-update.ts';
import { worthNotice } from './self-tests.ts';

export interface GateRequest {
  readonly results: string;
  /** Where baselines are; default: in the results folder. */
  readonly store?: BaselineStore | undefined;
  /** Where self-tests are kept, which the report then quotes. */
  readonly cache?: string | undefined;
  /** A suite's folder, file or name; undefined: the candidate's own. */
  readonly suite: string | undefined;
  /** Folders of the suites that plugins give, by name. */
  readonly pluginSuites?: ReadonlyMap<string, string> | undefined;
  readonly baseline: string;
  readonly candidate: string;
  /** `METRIC=NUMBER` or `METRIC=off`, over the suite's. */
  readonly thresholds: readonly string[];
  readonly confidence: number | undefined;
  readonly allowDifferentDevice: boolean;
  readonly ignoreMissing: boolean;
}

/** Judges. Throws BASELINE_NOT_FOUND, BASELINE_INCOMPARABLE, and what reading records and suites can throw. */
export async function runGate(request: GateRequest): Promise<GateReport> {
  return (await judgeRecords(request)).report;
}

/** As {@link runGate}, with the records that were judged. */
export async function judgeRecords(request: GateRequest): Promise<Judged> {
  const { results, store } = request;
  const overrides = parseThresholds(request.thresholds);
  const lookup = { cwd: process.cwd(), plugins: request.pluginSuites };
  const named = request.suite === undefined ? undefined : await loadSuite(request.suite, lookup);
  const candidate = await selectRecords(request.candidate, { results, store, suite: named?.name });
  const suite = named ?? (await suiteOf(candidate.suite, lookup));
  const devices = request.allowDifferentDevice ? undefined : devicesOf(candidate.records);
  const baseline = await selectBaseline(request.baseline, { results, store, suite: candidate.suite, devices });
  const policy = policyOf(suite, { ...request, thresholds: overrides });
  const pairing = pairCases(baseline, candidate, request);
  const notices = suite ? [] : [`suite ${candidate.suite} can't be found here: its policy is unknown, the defaults are in force`];
  if (baseline.paths.join('\n') === candidate.paths.join('\n')) notices.push('the run was compared with itself');
  notices.push(...baseline.notices, ...candidate.notices, ...pairing.notices);
  const metrics = METRIC_NAMES.filter((metric) => thresholdOf(policy, metric) !== undefined);
  const labels = { baseline: baseline.label, candidate: candidate.label };
  const comparison = comparePairs({ ...pairing, notices }, labels, { ...policy, metrics });
  const report = judge(comparison, policy);
  const worth = request.cache === undefined ? [] : [await worthNotice(request.cache, candidate.suite, { policy, timeMs: undefined })];
  return { report: { ...report, notices: [...report.notices, ...worth] }, baseline, candidate };
}

/** A name that nothing has is a missing baseline here, which has its own exit status, not a mistyped source. */
async function selectBaseline(source: string, selection: Parameters<typeof selectRecords>[1]) {
  try {
    return await selectRecords(source, selection);
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code !== 'RESULTS_NOT_FOUND') throw error;
    const known = await baselineNames(homeOf(selection));
    const others = known.length > 0 ? `name one of ${known.join(', ')} with --baseline, or ` : '';
    throw new TsrtError('BASELINE_NOT_FOUND', `there is no baseline '${source}'`, {
      ...(error.place !== undefined && { place: error.place }),
      fix: `${others}record it with \`tsrt-bench baseline save ${source}\``,
      cause: error,
    });
  }
}

async function suiteOf(name: string, lookup: SuiteLookup): Promise<Suite | undefined> {
  try {
    return await loadSuite(name, lookup);
  } catch (error) {
    if (error instanceof TsrtError && error.code === 'SUITE_NOT_FOUND') return undefined;
    throw error;
  }
}

export interface PolicyRequest {
  /** Over the suite's. */
  readonly thresholds: GatePolicy['thresholds'];
  readonly confidence: number | undefined;
  readonly ignoreMissing: boolean;
}

/** The suite's policy with what was asked for in its place. */
export function policyOf(suite: Pick<Suite, 'gate'> | undefined, { thresholds, confidence, ignoreMissing }: PolicyRequest): GatePolicy {
  return {
    ...DEFAULT_POLICY,
    confidence: confidence ?? suite?.gate.confidence ?? DEFAULT_POLICY.confidence,
    thresholds: { ...(suite?.gate.thresholds ?? DEFAULT_POLICY.thresholds), ...thresholds },
    missing: ignoreMissing ? 'ignored' : DEFAULT_POLICY.missing,
  };
}
