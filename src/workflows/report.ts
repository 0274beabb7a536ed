/** `report`: stored records as text. Reads only. */
import { TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import type { Reporter } from '../report/reporter.ts';
import { findBaseline } from '../report/rows.ts';
import type { BenchRecord } from '../results/record.ts';
import { selectRecords } from '../results/select.ts';
import type { BaselineStore } from '../results/stores/contract.ts';
import { listRuns, measuredCases, type RecordSet, type StoredRun } from '../results/store.ts';
import { baselineVariantId, expandCases } from '../suite/expand.ts';
import { loadSuite } from '../suite/load.ts';

export interface ReportRequest {
  readonly results: string;
  /** Where baselines are; default: in the results folder. */
  readonly store?: BaselineStore | undefined;
  /** A file, a run, `latest` or a baseline. */
  readonly source: string;
  readonly suite: string | undefined;
  /** Folders of the suites that plugins give, by name. */
  readonly pluginSuites?: ReadonlyMap<string, string> | undefined;
  readonly reporter: Reporter;
  /** Undefined: the suite's, or the first that completed. */
  readonly baselineVariant: string | undefined;
  readonly color: boolean;
  readonly width: number;
}

export interface ReportResult {
  readonly label: string;
  readonly paths: readonly string[];
  readonly notices: readonly string[];
  readonly text: string;
}

/** Renders the records that `source` names. */
export async function reportRecords(request: ReportRequest): Promise<ReportResult> {
  const set = await selectRecords(request.source, request);
  const { records, baselineVariant } = await arrange(set, request.pluginSuites);
  if (request.baselineVariant !== undefined) checkVariant(records, request.baselineVariant);
  const { reporter, color, width } = request;
  const text = await reporter.render({ suite: set.suite, records, baselineVariant: request.baselineVariant ?? baselineVariant, color, width });
  return { label: set.label, paths: set.paths, notices: set.notices, text };
}

/** Throws USAGE, with the variants that there are, for one that did not complete. */
function checkVariant(records: readonly BenchRecord[], wanted: string): void {
  if (findBaseline(records, wanted) !== undefined) return;
  const known = [...new Set(measuredCases(records).map(({ variant }) => variant.id))];
  const guess = nearest(wanted, known);
  throw new TsrtError('USAGE', `no variant that completed is called '${wanted}'${guess === undefined ? '' : `; did you mean '${guess}'?`}`, { fix: `known: ${known.join(', ') || 'none'}; the start of one will do` });
}

/** The stored runs, oldest first. */
export async function reportRuns(results: string, suite: string | undefined): Promise<readonly StoredRun[]> {
  return listRuns(results, suite);
}

/** Records that do not say their place in the suite get it from the suite, where it can still be found; else they go by their ids. */
async function arrange({ suite, records }: RecordSet, plugins: ReportRequest['pluginSuites']): Promise<{ readonly records: readonly BenchRecord[]; readonly baselineVariant: string | undefined }> {
  if (records.every(({ inSuite }) => inSuite !== undefined)) return { records, baselineVariant: undefined };
  const byId = [...records].sort((a, b) => (a.case.id < b.case.id ? -1 : 1));
  try {
    const definition = await loadSuite(suite, { cwd: process.cwd(), plugins });
    const machine = { cores: records[0]?.provenance.environment.cpu.cores ?? 1 };
    const places = new Map(expandCases(definition, {}, machine).map(({ id }, index) => [id, index]));
    const place = ({ case: { id } }: BenchRecord) => places.get(id) ?? places.size;
    const arranged = byId.sort((a, b) => place(a) - place(b));
    return { records: arranged, baselineVariant: baselineVariantId(definition, measuredCases(arranged), machine) };
  } catch (error) {
    if (error instanceof TsrtError) return { records: byId, baselineVariant: undefined };
    throw error;
  }
}
