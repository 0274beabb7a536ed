/** `report`: stored records as text. Reads only. */
import { TsrtError } from '../errors.ts';
import type { Reporter } from '../report/reporter.ts';
import { selectRecords } from '../results/select.ts';
import { listRuns, type RecordSet, type StoredRun } from '../results/store.ts';
import { baselineVariantId } from '../suite/expand.ts';
import { loadSuite } from '../suite/load.ts';

export interface ReportRequest {
  readonly results: string;
  /** A file, a run, `latest` or a baseline. */
  readonly source: string;
  readonly suite: string | undefined;
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
  const baselineVariant = request.baselineVariant ?? (await suiteBaselineVariant(set));
  const { suite, records } = set;
  const text = request.reporter.render({ suite, records, baselineVariant, color: request.color, width: request.width });
  return { label: set.label, paths: set.paths, notices: set.notices, text };
}

/** The stored runs, oldest first. */
export async function reportRuns(results: string, suite: string | undefined): Promise<readonly StoredRun[]> {
  return listRuns(results, suite);
}

/** What the suite says, where it can still be found; records outlive their suites. */
async function suiteBaselineVariant({ suite, records }: RecordSet): Promise<string | undefined> {
  try {
    const cores = records[0]?.provenance.environment.cpu.cores ?? 1;
    const cases = records.map((record) => record.case);
    return baselineVariantId(await loadSuite(suite), cases, { cores });
  } catch (error) {
    if (error instanceof TsrtError) return undefined;
    throw error;
  }
}
