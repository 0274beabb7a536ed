/** Two prepared sides as pairs to measure, and what was measured as pairs of records. */
import { TsrtError } from '../../errors.ts';
import type { CasePair } from '../../gate/pair.ts';
import { readEnvironment } from '../../measure/environment.ts';
import { readInputs } from '../../measure/inputs.ts';
import { WORKER_PROTOCOL } from '../../measure/messages.ts';
import type { PairOutcome, PairPlan, PairSettings } from '../../measure/pairs.ts';
import type { CaseOutcome, CasePlan } from '../../measure/plan.ts';
import { type BenchRecord, RECORD_SCHEMA_VERSION } from '../../results/record.ts';
import { judgedPrecision } from '../../engine/precision.ts';
import { answerCheck } from '../run/answers.ts';
import { NO_DEVICE } from '../run/provenance.ts';
import { measuredRecord, type RecordContext, unbuiltRecord } from '../run/records.ts';
import type { PreparedSide, ReadyEngine, SideCase } from './side.ts';

/** A case of either side or of both. */
export interface JoinedCase {
  readonly id: string;
  readonly baseline: SideCase | undefined;
  readonly candidate: SideCase | undefined;
}

export interface JoinedSides {
  readonly baseline: PreparedSide;
  readonly candidate: PreparedSide;
  /** In the candidate's order, those that only the baseline has last. */
  readonly cases: readonly JoinedCase[];
  /** Of the cases whose engines both sides have. */
  readonly pairs: readonly PairPlan[];
  /** The candidate's. */
  readonly settings: PairSettings;
  readonly notices: readonly string[];
}

/** Pairs by the ids that the sides give their cases. Throws BASELINE_INCOMPARABLE where a side is of another protocol. */
export async function joinSides(baseline: PreparedSide, candidate: PreparedSide): Promise<JoinedSides> {
  checkProtocol(baseline);
  const before = new Map(baseline.cases.map((entry) => [entry.id, entry]));
  const after = new Set(candidate.cases.map((entry) => entry.id));
  const cases: JoinedCase[] = [
    ...candidate.cases.map((entry) => ({ id: entry.id, baseline: before.get(entry.id), candidate: entry })),
    ...baseline.cases.filter(({ id }) => !after.has(id)).map((entry) => ({ id: entry.id, baseline: entry, candidate: undefined })),
  ];
  const pairs: PairPlan[] = [];
  const notices = new Set<string>();
  for (const { id, ...sides } of cases) {
    const [old, now] = [sides.baseline?.engine, sides.candidate?.engine];
    if (old?.status === 'failed') notices.add(`the baseline's engine of ${id} could not be built: ${old.error.message}`);
    if (old?.status === 'skipped') notices.add(`the baseline has no engine of ${id}: ${old.reason}`);
    if (old?.status !== 'ready' || now?.status !== 'ready') continue;
    for (const { answers } of [old, now]) if ('unknown' in answers) notices.add(answers.unknown);
    pairs.push({ id, baseline: await planOf(baseline, sides.baseline!, old), candidate: await planOf(candidate, sides.candidate!, now) });
  }
  return { baseline, candidate, cases, pairs, settings: candidate.settings, notices: [...notices] };
}

/** Throws BASELINE_INCOMPARABLE with what differs, by name. */
export function checkProtocol(
  { protocol, facts }: Pick<PreparedSide, 'protocol'> & { readonly facts: { readonly tool: Pick<PreparedSide['facts']['tool'], 'version'> } },
  at = 'the baseline',
): void {
  const differing = [
    ...(protocol.worker === WORKER_PROTOCOL ? [] : [`worker protocol: there ${protocol.worker}, here ${WORKER_PROTOCOL}`]),
    ...(protocol.record === RECORD_SCHEMA_VERSION ? [] : [`record schema: there ${protocol.record}, here ${RECORD_SCHEMA_VERSION}`]),
  ];
  if (differing.length === 0) return;
  throw new TsrtError('BASELINE_INCOMPARABLE', `the tsrt-bench ${facts.tool.version} of ${at} speaks a different protocol from this one`, {
    details: differing,
    fix: 'compare engine files (--against ENGINE), or stored records (--baseline NAME)',
  });
}

async function planOf(side: PreparedSide, { case: entry }: SideCase, { plan, answers, facts }: ReadyEngine): Promise<CasePlan> {
  const { worker } = side;
  const expected = 'path' in answers ? await readInputs({ kind: 'file', path: answers.path }, []) : undefined;
  return {
    case: entry,
    ...plan,
    ...(expected && { checkAnswer: answerCheck(judgedPrecision(entry.variant.options.precision, facts.header), expected) }),
    // The sides may load different plugins: each of its own.
    ...(worker ? { worker } : {}),
  };
}

/** The records of both sides of a case; `outcome` is undefined where it was not measured. */
export function casePair({ baseline, candidate }: JoinedSides, joined: JoinedCase, outcome: PairOutcome | undefined): CasePair {
  const caseId = joined.id;
  if (!joined.candidate) return { state: 'missing', caseId };
  const paired = joined.baseline?.engine.status === 'ready';
  const now = paired || joined.candidate.engine.status !== 'ready' ? recordOf(candidate, joined.candidate, outcome?.candidate) : unpairedRecord(candidate, joined.candidate);
  const old = joined.baseline && recordOf(baseline, joined.baseline, outcome?.baseline);
  if (now.status !== 'completed') {
    // An engine that can no longer be built, or fails, where the baseline's did not.
    const worse = old?.status === 'completed' || (joined.baseline?.engine.status === 'ready' && joined.candidate.engine.status !== 'ready');
    if (!worse) return { state: 'new', caseId, candidate: now };
    return { state: 'broken', caseId, ...(old?.status === 'completed' && { baseline: old }), candidate: now };
  }
  return old?.status === 'completed' ? { state: 'both', caseId, baseline: old, candidate: now } : { state: 'new', caseId, candidate: now };
}

/** Of a case that could have been measured, were there anything to measure it against. */
function unpairedRecord(side: PreparedSide, { case: entry }: SideCase): BenchRecord {
  return unbuiltRecord(contextOf(side), entry, { status: 'skipped', reason: 'not measured: there is no engine of it to run beside', fix: undefined });
}

function recordOf(side: PreparedSide, { case: entry, engine }: SideCase, outcome: CaseOutcome = NOT_MEASURED): BenchRecord {
  const context = contextOf(side);
  if (engine.status !== 'ready') return unbuiltRecord(context, entry, engine);
  const remarks = 'unknown' in engine.answers ? [engine.answers.unknown] : [];
  return measuredRecord(context, entry, engine.facts, outcome, engine.accuracy, remarks);
}

const NOT_MEASURED: CaseOutcome = { status: 'aborted', reason: 'interrupted', rounds: [] };

function contextOf({ facts, packages, untrained, budget }: PreparedSide): RecordContext {
  return {
    provenance: (device) => ({ ...facts, environment: { ...readEnvironment({ device, packages: [] }), packages } }),
    fallbackDevice: () => NO_DEVICE,
    untrained,
    budget,
  };
}
