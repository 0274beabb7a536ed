/** Brings the cases of two sets of records together, and says whether the two may be compared at all. */
import { TsrtError } from '../errors.ts';
import type { BenchRecord, CompletedRecord } from '../results/record.ts';
import { YARDSTICKS } from '../results/record.ts';
import type { RecordSet } from '../results/store.ts';
import { yardstickRatio } from './session.ts';

/** A case of the baseline, of the candidate, or of both. */
export type CasePair =
  | { readonly state: 'both'; readonly caseId: string; readonly baseline: CompletedRecord; readonly candidate: CompletedRecord }
  | { readonly state: 'broken'; readonly caseId: string; readonly baseline?: CompletedRecord; readonly candidate: Exclude<BenchRecord, CompletedRecord> }
  | { readonly state: 'missing'; readonly caseId: string; readonly baseline?: CompletedRecord }
  | { readonly state: 'new'; readonly caseId: string; readonly candidate: BenchRecord };

export interface PairOptions {
  /** Compare across devices; the notices then say so. */
  readonly allowDifferentDevice: boolean;
}

export interface Pairing {
  readonly suite: string;
  readonly pairs: readonly CasePair[];
  /** What differs between the two sides besides the timings. */
  readonly notices: readonly string[];
}

/** A yardstick may differ this much between two runs before it is worth a word. */
const DRIFT_PERCENT = 3;

/**
 * Pairs by case id, in the candidate's order, the baseline's missing cases last. Where the baseline has a case for several
 * devices, the candidate's own device goes first. Throws BASELINE_INCOMPARABLE for another suite or another device.
 */
export function pairCases(baseline: RecordSet, candidate: RecordSet, options: PairOptions): Pairing {
  if (baseline.suite !== candidate.suite) {
    throw new TsrtError('BASELINE_INCOMPARABLE', `${baseline.label} is of suite ${baseline.suite}, ${candidate.label} of suite ${candidate.suite}`, {
      fix: 'name two sides of the same suite',
    });
  }
  const kept = new Map<string, CompletedRecord[]>();
  for (const record of baseline.records) {
    if (record.status === 'completed') kept.set(record.case.id, [...(kept.get(record.case.id) ?? []), record]);
  }
  const pairs: CasePair[] = candidate.records.map((record) => pairOf(record, kept.get(record.case.id)));
  const seen = new Set(candidate.records.map((record) => record.case.id));
  for (const [caseId, [record]] of kept) if (record && !seen.has(caseId)) pairs.push({ state: 'missing', caseId, baseline: record });
  const both = pairs.filter((pair) => pair.state === 'both');
  const notices = [...deviceNotices(both, options), ...sideDifferences(both), ...driftNotices(both)];
  return { suite: candidate.suite, pairs, notices };
}

type Both = Extract<CasePair, { state: 'both' }>;

function pairOf(record: BenchRecord, kept: readonly CompletedRecord[] | undefined): CasePair {
  const caseId = record.case.id;
  const baseline = kept?.find((one) => deviceOf(one) === deviceOf(record)) ?? kept?.[0];
  if (!baseline) return { state: 'new', caseId, candidate: record };
  return record.status === 'completed' ? { state: 'both', caseId, baseline, candidate: record } : { state: 'broken', caseId, baseline, candidate: record };
}

/** What the newest run is compared with where it has just become the baseline: itself. `called` is the suite as a command takes it. */
export function sameRunNotices(baseline: RecordSet, candidate: RecordSet, called: string): string[] {
  const runs = [...new Set([...baseline.records, ...candidate.records].map(({ provenance }) => provenance.runId))];
  return runs.length === 1 ? [`run ${runs[0]} was compared with itself: measure again (\`tsrt-bench run ${called}\`) for a comparison that says something`] : [];
}

function deviceNotices(pairs: readonly Both[], options: PairOptions): string[] {
  const across = pairs.filter((pair) => deviceOf(pair.baseline) !== deviceOf(pair.candidate));
  const [first] = across;
  if (!first) return [];
  const [from, to] = [deviceOf(first.baseline), deviceOf(first.candidate)];
  if (options.allowDifferentDevice) {
    return [`DIFFERENT DEVICES: the baseline was measured on ${from}, the candidate on ${to}; changes come from the devices as much as from the program`];
  }
  throw new TsrtError('BASELINE_INCOMPARABLE', `the baseline was measured on ${from}, the candidate on ${to}`, {
    details: across.slice(0, 5).map((pair) => pair.caseId),
    fix: `save a baseline on ${to} (\`tsrt-bench baseline save NAME\`), or compare across devices with --allow-different-device`,
  });
}

/** What was not the same although it could have been: each is a reason for a change that is not the program's. */
export function sideDifferences(pairs: readonly Both[]): string[] {
  const facts: Readonly<Record<string, (record: CompletedRecord) => string>> = {
    'the model': ({ provenance }) => `${provenance.model.name} (${provenance.model.sha256.slice(0, 12)})`,
    'the suite or its command-line overrides': ({ provenance }) => provenance.suiteSha256.slice(0, 12),
    'the accuracy inputs': ({ accuracy }) => accuracy?.inputs ?? 'none',
    'Node.js': ({ provenance }) => provenance.environment.node,
    'the operating system': ({ provenance }) => provenance.environment.os,
    'the packages': ({ provenance }) => listOf(provenance.environment.packages),
    'the device properties': ({ provenance }) => listOf(provenance.environment.device.properties),
  };
  return Object.entries(facts).flatMap(([name, fact]) => {
    const pair = pairs.find((pair) => fact(pair.baseline) !== fact(pair.candidate));
    return pair ? [`${name} changed: ${shownChange(fact(pair.baseline), fact(pair.candidate))}`] : [];
  });
}

function driftNotices(pairs: readonly Both[]): string[] {
  return YARDSTICKS.flatMap((workload) => {
    const ratio = yardstickRatio(
      pairs.flatMap((pair) => pair.baseline.rounds),
      pairs.flatMap((pair) => pair.candidate.rounds),
      workload,
    );
    const percent = ratio === undefined ? 0 : (ratio - 1) * 100;
    if (Math.abs(percent) < DRIFT_PERCENT) return [];
    return [
      `the machine itself ran ${Math.abs(percent).toFixed(1)} % ${percent > 0 ? 'slower' : 'faster'} than for the baseline (yardstick ${workload}); changes are stated net of that, with wider intervals`,
    ];
  });
}

/** Entries of `key=value; …` lists that differ, or both texts where they are no lists. */
function shownChange(before: string, after: string): string {
  const [old, now] = [before.split('; '), after.split('; ')];
  const gone = old.filter((entry) => !now.includes(entry));
  const come = now.filter((entry) => !old.includes(entry));
  return `${gone.join('; ') || 'nothing'} → ${come.join('; ') || 'nothing'}`;
}

function listOf(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join('; ');
}

function deviceOf(record: BenchRecord): string {
  return record.provenance.environment.device.slug;
}
