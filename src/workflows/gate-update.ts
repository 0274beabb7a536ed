/**
 * `gate --update`: after a reviewed change, the run that was judged becomes the baseline. Cases that passed or improved are taken
 * over; what regressed or is undecided only where the reviewer names it, or says that all of it is meant. A case that fails has
 * no numbers and is never taken; one that did not run keeps those it had.
 */
import { TsrtError } from '../errors.ts';
import type { CaseVerdict, GateReport } from '../gate/judge.ts';
import { readBaseline, saveBaseline, type BaselineHome, type SavedBaseline } from '../results/baselines.ts';
import { checkBaselineName } from '../results/names.ts';
import { lastPerCase } from '../results/reader.ts';
import type { BenchRecord } from '../results/record.ts';
import { devicesOf, type RecordSet } from '../results/store.ts';

export interface UpdateRequest {
  readonly home: BaselineHome;
  /** Of the baseline. */
  readonly name: string;
  /** Parts of the ids of cases that are meant although they did not pass. */
  readonly accept: readonly string[];
  /** All of them are. */
  readonly force: boolean;
}

export interface UpdateOutcome extends SavedBaseline {
  readonly name: string;
  /** What the baseline says differently now, as sentences. */
  readonly changes: readonly string[];
  readonly accepted: readonly string[];
}

/** What was judged. */
export interface Judged {
  readonly report: GateReport;
  readonly baseline: RecordSet;
  readonly candidate: RecordSet;
}

/** Sentences of a place's history; more of them are counted. */
const MOST_CHANGES = 50;

/**
 * Stores the candidate. Throws USAGE where a case stands in the way, naming it and the way out; RESULTS_LOCKED where the
 * baseline is no longer the one that was judged against.
 */
export async function updateBaseline({ report, baseline, candidate }: Judged, request: UpdateRequest): Promise<UpdateOutcome> {
  const name = checkBaselineName(request.name);
  refuseInvalid(report, baseline, candidate, name);
  const accepted = acceptedCases(report, request);
  const devices = devicesOf(candidate.records);
  const stored = await readBaseline(request.home, name, { suite: candidate.suite, devices });
  if (identityOf(stored.records) !== identityOf(baseline.records)) {
    throw new TsrtError('RESULTS_LOCKED', `baseline '${name}' is no longer the one that this run was judged against`, {
      place: stored.paths.join(', '),
      fix: 'gate again, against the new one',
    });
  }
  const kept = stored.records.filter((record) => report.cases.some((one) => one.state === 'missing' && one.caseId === record.case.id));
  const changes = report.cases.flatMap(changesOf);
  const listed = changes.length > MOST_CHANGES ? [...changes.slice(0, MOST_CHANGES), `and ${changes.length - MOST_CHANGES} more`] : changes;
  const reason = { verdict: report.verdict, ...(listed.length > 0 && { changes: listed }), ...(accepted.length > 0 && { forced: true }) };
  const saved = await saveBaseline(request.home, name, [...lastPerCase(candidate.records), ...kept], true, reason);
  return { ...saved, name, changes, accepted };
}

/** A run that is no run, or no other one, is no baseline, whoever forces it. */
function refuseInvalid({ cases, notices }: GateReport, baseline: RecordSet, candidate: RecordSet, name: string): void {
  const save = `to save it without a gate: \`tsrt-bench baseline save ${name} --force\``;
  const broken = cases.filter((one) => one.state === 'broken');
  if (broken.length > 0) {
    throw new TsrtError('USAGE', `the baseline is not updated: ${broken.length === 1 ? 'a case' : `${broken.length} cases`} of the baseline did not complete in this run`, {
      details: broken.slice(0, 12).map((one) => `${one.caseId}: ${one.reason}`),
      fix: `mend what fails and run again; ${save}`,
    });
  }
  if (!cases.some((one) => one.state === 'both')) {
    throw new TsrtError('USAGE', 'the baseline is not updated: no case was compared with it', { details: notices.slice(0, 5), fix: save });
  }
  if (identityOf(baseline.records) === identityOf(candidate.records)) {
    throw new TsrtError('USAGE', `there is nothing to update: baseline '${name}' is already this run`, { fix: 'measure first: `tsrt-bench run`' });
  }
}

function acceptedCases({ cases }: GateReport, { accept, force }: UpdateRequest): string[] {
  const unused = accept.filter((part) => !cases.some((one) => one.caseId.includes(part)));
  if (unused.length > 0) throw new TsrtError('USAGE', `no case id contains ${unused.map((part) => `'${part}'`).join(', ')}`, { details: cases.slice(0, 12).map((one) => one.caseId), fix: 'name cases for --accept by a part of their ids' });
  const doubtful = cases.filter((one) => one.state !== 'missing' && (one.verdict === 'regressed' || one.verdict === 'inconclusive'));
  const left = force ? [] : doubtful.filter((one) => !accept.some((part) => one.caseId.includes(part)));
  if (left.length > 0) {
    throw new TsrtError('USAGE', `the baseline is not updated: ${left.length} of ${cases.length} cases did not pass`, {
      details: left.slice(0, 12).map((one) => `${one.verdict} ${one.caseId}: ${one.reason}`),
      fix: 'if the change is intended, accept cases with --accept CASE, or all with --force; measure inconclusive ones longer',
    });
  }
  return doubtful.map((one) => one.caseId);
}

function changesOf(one: CaseVerdict): string[] {
  if (one.state === 'new') return [`${one.caseId}: new`];
  if (one.state === 'missing') return [`${one.caseId}: kept as it was, because the run did not include it`];
  return one.metrics.filter(({ verdict, watched }) => verdict !== 'passed' && !(watched && verdict === 'inconclusive')).map(({ verdict, reason }) => `${one.caseId}: ${verdict}: ${reason}`);
}

/** Which run each case is of. */
function identityOf(records: readonly BenchRecord[]): string {
  return lastPerCase(records.filter((record) => record.status === 'completed'))
    .map((record) => JSON.stringify([record.case.id, record.provenance.environment.device.slug, record.provenance.runId]))
    .sort()
    .join('\n');
}
