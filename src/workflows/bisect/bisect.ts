/**
 * `bisect`: the first of an ordered list of states at which a metric changed. Each probe is a paired comparison with the first
 * state, in interleaved rounds in fresh processes, judged at every look as `gate --against` judges (workflows/paired); which
 * state comes next is gate/bisect.ts's to say.
 */
import { cpus } from 'node:os';
import { sha256Hex } from '../../engine/sha256.ts';
import { TsrtError } from '../../errors.ts';
import { type BisectStep, nextStep, probeLimit, type ProbeVerdict } from '../../gate/bisect.ts';
import type { CaseComparison, MetricChange } from '../../gate/compare.ts';
import { judge, type CaseVerdict, type MetricVerdict } from '../../gate/judge.ts';
import { METRICS, type MetricName } from '../../gate/metrics.ts';
import { DEFAULT_POLICY, type GatePolicy, thresholdOf, thresholdUnit } from '../../gate/policy.ts';
import { looksUpTo } from '../../gate/sequential.ts';
import { nearest } from '../../nearest.ts';
import { plural } from '../../report/units.ts';
import { TOOL_VERSION } from '../../version.ts';
import { joinSides } from '../paired/join.ts';
import { measureSides } from '../paired/measure.ts';
import type { PreparedSide } from '../paired/side.ts';
import { answerOf } from './answer.ts';
import { keptPath, type KeptSearch, readKept, writeKept } from './kept.ts';
import type { BisectReport, BisectRequest, Probe } from './request.ts';
import { openStates, type States } from './states.ts';

/** A search on its way. */
interface Search {
  readonly request: BisectRequest;
  readonly states: States;
  readonly file: string;
  readonly key: string;
  readonly notices: Set<string>;
  kept: KeptSearch;
}

/** Throws USAGE for states or a case that are none, and what preparing the first state throws; a later one that fails is skipped. */
export async function bisect(request: BisectRequest): Promise<BisectReport> {
  const states = await openStates(request);
  const key = await keyOf(request, states);
  const file = keptPath(request.settings.config.results, request.suite, key);
  const count = states.labels.length;
  const found = request.fresh ? undefined : await readKept(file, key);
  const known = found && isWorthKeeping(found, count) ? found : undefined;
  const begun: KeptSearch = { caseId: request.caseId, direction: undefined, policy: figuresOf(request, undefined), probes: [] };
  const search: Search = { request, states, file, key, notices: new Set(states.notices), kept: known ?? begun };
  if (known) search.notices.add(`reused from an earlier search: ${plural(known.probes.length, 'comparison')}; --fresh starts again`);
  if (nextStep(count, verdicts(search.kept)).kind === 'probe') {
    // A folder that can't be written to is better known before the first measurement than after it.
    await writeKept(file, key, search.kept);
    const wanted = { cases: search.kept.caseId === undefined ? undefined : [search.kept.caseId], accuracy: needsAccuracy(request.metric) };
    await states.with(0, wanted, async (reference) => {
      checkCase(request, reference);
      // A commit may have thresholds of its own: those of the first state are in force throughout.
      if (!known) search.kept = { ...search.kept, policy: figuresOf(request, reference.suite) };
      await probeAll(search, reference);
    });
  }
  const outcome = nextStep(count, verdicts(search.kept));
  const further = outcome.kind === 'found' ? await states.further?.(outcome.index) : undefined;
  if (further !== undefined) search.notices.add(further);
  return reportOf(search, outcome);
}

/** Ends that could not be made are tried again, once what was in the way may be gone: a package, a folder, the way to prepare them. */
function isWorthKeeping(kept: KeptSearch, count: number): boolean {
  const failed = kept.probes.some(({ change }) => change === undefined);
  return kept.probes.length > 0 && !(failed && nextStep(count, verdicts(kept)).kind === 'undecided');
}

async function probeAll(search: Search, reference: PreparedSide): Promise<void> {
  const { request, states } = search;
  const count = states.labels.length;
  for (;;) {
    const step = nextStep(count, verdicts(search.kept));
    if (step.kind !== 'probe' || request.signal.aborted) return;
    request.onEvent({ kind: 'notice', text: `probe ${search.kept.probes.length + 1} of at most ${probeLimit(count)}: ${states.labels[step.index]}` });
    const found = await compare(search, reference, step.index);
    // What was cut off is not known; what was decided before is kept.
    if (request.signal.aborted && (found === undefined || found.probe.verdict === 'skipped')) return;
    if (found === undefined) return;
    const { probe, ...about } = found;
    search.kept = { ...search.kept, ...about, probes: [...search.kept.probes, probe] };
    await writeKept(search.file, search.key, search.kept);
    request.onEvent({ kind: 'notice', text: `${probe.verdict}: ${probe.reason}` });
  }
}

interface Found {
  readonly probe: Probe;
  readonly caseId: string | undefined;
  readonly direction: BisectReport['direction'];
}

async function compare(search: Search, reference: PreparedSide, index: number): Promise<Found | undefined> {
  const { request, states, kept } = search;
  const wanted = { cases: kept.caseId === undefined ? undefined : [kept.caseId], accuracy: needsAccuracy(request.metric) };
  const only = (side: PreparedSide): PreparedSide => ({ ...side, cases: side.cases.filter(({ id }) => wanted.cases?.includes(id) ?? true) });
  try {
    return await states.with(index, wanted, async (side) => {
      const sides = await joinSides(only(reference), only(side));
      for (const text of sides.notices) search.notices.add(text);
      const { signal, onEvent, services } = request;
      const share = 1 / probeLimit(states.labels.length);
      const { threshold, ...rates } = kept.policy;
      const policy: GatePolicy = { ...DEFAULT_POLICY, ...rates, thresholds: { [request.metric]: threshold }, watched: {} };
      const compared = await measureSides(sides, { policy, looks: looksOf(request), share, signal, onEvent, services });
      return conclude(search, index, compared, policy);
    });
  } catch (error) {
    // A state that can't be checked out, prepared or read is skipped, as one that does not build is by git bisect.
    if (!(error instanceof TsrtError) || error.code === 'INTERRUPTED' || error.code === 'RESULTS_UNWRITABLE') {
      if (request.signal.aborted) return undefined;
      throw error;
    }
    const reason = [error.message, ...error.details.slice(-2)].join('; ');
    return { probe: { index, verdict: 'skipped', reason, change: undefined }, caseId: kept.caseId, direction: kept.direction };
  }
}

/** What the comparison of a state says of the case that is followed; of the ends, which case that is. */
function conclude({ request: { metric }, kept }: Search, index: number, compared: readonly CaseComparison[], policy: GatePolicy): Found {
  const { cases } = judge({ suite: '', baseline: '', candidate: '', cases: compared, notices: [] }, policy);
  const shared = cases.filter(({ state }) => state === 'both' || state === 'broken');
  const found = shared.map((one) => ({ one, metric: one.metrics.find((entry) => entry.metric === metric) }));
  const followed = kept.direction === undefined ? strongest(found) : found.find(({ one }) => one.caseId === kept.caseId);
  if (!followed) {
    return { probe: { index, verdict: 'skipped', reason: whyNoneShared(cases), change: undefined }, caseId: kept.caseId, direction: kept.direction };
  }
  const { one, metric: judged } = followed;
  const direction = kept.direction ?? (judged?.verdict === 'improved' ? 'better' : judged?.verdict === 'regressed' ? 'worse' : undefined);
  const verdict = judged === undefined ? 'skipped' : probeVerdict(judged, direction ?? 'worse');
  return {
    probe: { index, verdict, reason: judged?.reason ?? one.reason, change: judged?.change },
    caseId: direction === undefined ? kept.caseId : one.caseId,
    direction,
  };
}

function whyNoneShared(cases: readonly CaseVerdict[]): string {
  const named = (state: CaseVerdict['state']): string => cases.flatMap((one) => (one.state === state ? [one.caseId] : [])).slice(0, 2).join(', ');
  const [gone, other] = [named('missing'), named('new')];
  if (gone === '') return `no case of the first state was measured here${cases[0] ? `; ${cases[0].caseId}: ${cases[0].reason}` : ''}`;
  return `it has no case of the first state: ${gone} there${other === '' ? '' : `, ${other} here (a change of the suite's options makes other cases)`}`;
}

interface Judged {
  readonly one: CaseVerdict;
  readonly metric: MetricVerdict | undefined;
}

/** The case that changed most; of cases that did not, one that is undecided. */
function strongest(found: readonly Judged[]): Judged | undefined {
  const rank = ({ metric }: Judged): number => {
    if (metric === undefined || metric.verdict === 'inconclusive') return -1;
    return metric.verdict === 'passed' ? -2 : sizeOf(metric.change);
  };
  return [...found].sort((a, b) => rank(b) - rank(a))[0];
}

function sizeOf(change: MetricChange): number {
  switch (change.kind) {
    case 'sampled':
      return Math.abs(Math.log(change.ratio.point));
    case 'exact':
      return METRICS[change.metric].compared === 'difference' ? Math.abs(change.candidate - change.baseline) : Math.abs(Math.log((change.candidate + 1) / (change.baseline + 1)));
    case 'incomparable':
      return 0;
    default:
      return change satisfies never;
  }
}

/** Whether a state has the change that lies between the ends; `skipped` where neither it nor its absence is sure. */
export function probeVerdict(judged: MetricVerdict, direction: 'worse' | 'better'): ProbeVerdict {
  if (direction === 'worse') return judged.verdict === 'regressed' ? 'changed' : judged.verdict === 'inconclusive' ? 'skipped' : 'unchanged';
  if (judged.verdict === 'improved') return 'changed';
  return excludesImprovement(judged) ? 'unchanged' : 'skipped';
}

function excludesImprovement({ change, threshold }: MetricVerdict): boolean {
  if (change.kind !== 'sampled') return change.kind === 'exact';
  const { low, high } = change.ratio;
  const best = METRICS[change.metric].better === 'lower' ? low - 1 : 1 - high;
  return best * 100 >= -threshold;
}

function verdicts({ probes }: KeptSearch): ReadonlyMap<number, ProbeVerdict> {
  return new Map(probes.map(({ index, verdict }) => [index, verdict]));
}

function needsAccuracy(metric: MetricName): boolean {
  return METRICS[metric].compared === 'difference';
}

/** Timed metrics are measured until they are decided; memory is that of the median of three processes; the rest has no noise. */
function looksOf({ metric, rounds }: BisectRequest): readonly number[] {
  if (METRICS[metric].compared === 'sampled' && metric !== 'build-time') return looksUpTo(rounds);
  return [metric === 'memory-peak' ? 3 : 1];
}

const DEFAULT_THRESHOLDS = { '%': 5, points: 0.5, dB: 1 } as const;

function figuresOf({ metric, threshold, confidence }: BisectRequest, suite: PreparedSide['suite'] | undefined): KeptSearch['policy'] {
  const thresholds = suite?.gate.thresholds as GatePolicy['thresholds'] | undefined;
  const limit = threshold ?? thresholds?.[metric] ?? thresholdOf(DEFAULT_POLICY, metric) ?? DEFAULT_THRESHOLDS[thresholdUnit(metric)];
  return { threshold: limit, confidence: confidence ?? suite?.gate.confidence ?? DEFAULT_POLICY.confidence, falseAlarms: DEFAULT_POLICY.falseAlarms };
}

function checkCase({ caseId }: BisectRequest, { cases }: PreparedSide): void {
  const known = cases.map(({ id }) => id);
  if (caseId !== undefined && !known.includes(caseId)) {
    const guess = nearest(caseId, known);
    throw new TsrtError('USAGE', `the suite has no case '${caseId}'${guess ? `; did you mean '${guess}'?` : ''}`, { fix: 'leave --case out to follow the case that differs most' });
  }
  const broken = cases.filter(({ engine }) => engine.status !== 'ready');
  if (broken.length < cases.length) return;
  const reasons = broken.map(({ id, engine }) => `${id}: ${engine.status === 'failed' ? engine.error.message : engine.status === 'skipped' ? engine.reason : ''}`);
  throw new TsrtError('BASELINE_INCOMPARABLE', 'the first state has no engine that could be built', { details: reasons.slice(0, 8), fix: 'begin with a state that works' });
}

async function keyOf(request: BisectRequest, { identities }: States): Promise<string> {
  const { subject, suite, metric, threshold, confidence, caseId, rounds, overrides, modelFile, device, settings } = request;
  const machine = [cpus()[0]?.model, cpus().length, process.version, TOOL_VERSION];
  const question = [subject, identities, suite, metric, threshold, confidence, caseId, rounds, overrides, modelFile, device, settings.config.seed, settings.config.plugins, machine];
  return sha256Hex(new TextEncoder().encode(JSON.stringify(question)));
}

function reportOf({ request, states, kept, notices, file }: Search, outcome: BisectStep): BisectReport {
  const { metric, subject, suite, signal } = request;
  const limit = probeLimit(states.labels.length);
  const report = {
    suite,
    metric,
    threshold: kept.policy.threshold,
    subject: subject.kind,
    states: states.labels,
    caseId: kept.caseId,
    direction: kept.direction,
    probes: kept.probes,
    outcome,
    errors: { probes: limit, falseAlarms: kept.policy.falseAlarms, missed: (1 - kept.policy.confidence) / 2 },
    notices: [...notices],
    stateFile: file,
    interrupted: signal.aborted && outcome.kind === 'probe',
  };
  return { ...report, answer: answerOf(report) };
}
