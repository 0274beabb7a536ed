/** `gate`: the newest records against a baseline, by the suite's policy. Reads only. */
import { TsrtError } from '../errors.ts';
import { comparePairs, type CompareOptions, type Comparison, familySize } from '../gate/compare.ts';
import { judge, type GateReport } from '../gate/judge.ts';
import { METRIC_NAMES, type MetricName } from '../gate/metrics.ts';
import { type Pairing, pairCases, sameRunNotices } from '../gate/pair.ts';
import { DEFAULT_POLICY, parseThresholds, thresholdOf, type GatePolicy } from '../gate/policy.ts';
import { BASELINE_ROUNDS, DEFAULT_ROUNDS, levelsOf, type Look } from '../gate/sequential.ts';
import { plural } from '../report/units.ts';
import { baselineNames } from '../results/baselines.ts';
import { homeOf, selectRecords } from '../results/select.ts';
import { devicesOf } from '../results/store.ts';
import type { BaselineStore } from '../results/stores/contract.ts';
import { loadSuite, type SuiteLookup } from '../suite/load.ts';
import type { Suite } from '../suite/schema.ts';
import { shellWord } from '../text.ts';
import type { Judged } from './gate-update.ts';
import { worthNotice } from './self-tests.ts';
import { suiteCall } from './suite-call.ts';

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
  /** Where the candidate was looked at while it was measured: the error rates that its cases may still spend. */
  readonly looks?: SpentLooks;
}

export interface SpentLooks {
  /** Of the look at which a case was decided, or the last. */
  readonly lookOf: (caseId: string) => Look;
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
  const candidate = await selectRecords(request.candidate, { results, store, suite: named?.name, called: request.suite && shellWord(request.suite) });
  const called = await suiteCall(candidate.suite, request.suite, lookup);
  const suite = named ?? (await suiteOf(candidate.suite, lookup));
  const devices = request.allowDifferentDevice ? undefined : devicesOf(candidate.records);
  const baseline = await selectBaseline(request.baseline, { results, store, suite: candidate.suite, devices, called });
  const policy = policyOf(suite, { ...request, thresholds: overrides });
  const pairing = pairCases(baseline, candidate, request);
  const notices = suite ? [] : [`suite ${candidate.suite} can't be found here, so its policy is unknown and the defaults apply`];
  notices.push(...sameRunNotices(baseline, candidate, called), ...baseline.notices, ...candidate.notices, ...pairing.notices);
  const metrics = METRIC_NAMES.filter((metric) => thresholdOf(policy, metric) !== undefined);
  const labels = { baseline: baseline.label, candidate: candidate.label };
  const comparison = compareAtLooks({ ...pairing, notices }, labels, { ...policy, metrics }, request.looks);
  const report = judge(comparison, policy);
  const worth = request.cache === undefined ? [] : [await worthNotice(request.cache, candidate.suite, { policy, timeMs: undefined }, called)];
  const advice = adviceOn(report, { suite: called, baseline: request.baseline, measured: request.looks !== undefined, sides: pairing.pairs });
  return { report: { ...report, notices: [...report.notices, ...advice, ...worth] }, baseline, candidate };
}

interface Advised {
  /** As a command takes it. */
  readonly suite: string;
  readonly baseline: string;
  /** Whether the candidate was measured for this gate. */
  readonly measured: boolean;
  readonly sides: Pairing['pairs'];
}

/** What would decide a gate that rounds could decide. */
function adviceOn({ cases }: GateReport, { suite, baseline, measured, sides }: Advised): string[] {
  const undecided = new Set(cases.filter(({ metrics }) => metrics.some((one) => one.verdict === 'inconclusive' && !one.watched && one.change.kind === 'sampled')).map(({ caseId }) => caseId));
  const pairs = sides.flatMap((pair) => (pair.state === 'both' && undecided.has(pair.caseId) ? [pair] : []));
  if (pairs.length === 0) return [];
  const before = Math.min(...pairs.map((pair) => pair.baseline.rounds.length));
  const after = Math.min(...pairs.map((pair) => pair.candidate.rounds.length));
  const against = `\`tsrt-bench gate ${suite} --against REF\` measures both sides in the same rounds and needs no baseline`;
  if (before < BASELINE_ROUNDS) return [`the baseline has ${plural(before, 'round')} per case, enough only for large changes: where it was made, run \`tsrt-bench run ${suite} --rounds ${DEFAULT_ROUNDS}\` and \`tsrt-bench baseline save ${baseline} --force\`; or ${against}`];
  if (!measured && after < DEFAULT_ROUNDS) return [`the run has ${plural(after, 'round')} per case: \`tsrt-bench gate ${suite} --measure\` measures until cases are decided; ${against}`];
  return [against];
}

/** Each case at the error rates of the look that ended it; at all of them where there was none. */
function compareAtLooks(pairing: Pairing, labels: Parameters<typeof comparePairs>[1], options: CompareOptions & { readonly metrics: readonly MetricName[] }, looks: SpentLooks | undefined): Comparison {
  if (!looks) return comparePairs(pairing, labels, options);
  const family = familySize(pairing.pairs.filter(({ state }) => state === 'both').length, options.metrics);
  const cases = pairing.pairs.flatMap((pair) => {
    const look = levelsOf(looks.lookOf(pair.caseId), family);
    return comparePairs({ ...pairing, pairs: [pair] }, labels, { ...options, look }).cases;
  });
  return { suite: pairing.suite, ...labels, cases, notices: pairing.notices };
}

/** A name that nothing has is a missing baseline here, which has its own exit status, not a mistyped source. */
export async function selectBaseline(source: string, selection: Parameters<typeof selectRecords>[1]) {
  try {
    return await selectRecords(source, selection);
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code !== 'RESULTS_NOT_FOUND') throw error;
    const known = await baselineNames(homeOf(selection));
    const others = known.length > 0 ? `choose one of ${known.join(', ')} with --baseline, or ` : '';
    throw new TsrtError('BASELINE_NOT_FOUND', `there is no baseline '${source}'`, {
      ...(error.place !== undefined && { place: error.place }),
      fix: `${others}record it with \`tsrt-bench run ${selection.called ?? selection.suite ?? 'SUITE'} --rounds ${DEFAULT_ROUNDS}\` and \`tsrt-bench baseline save ${source}\``,
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
