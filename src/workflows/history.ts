/** `history`: every stored run of a suite, case by case. Reads only. */
import { TsrtError } from '../errors.ts';
import { historiesOf, type CaseHistory } from '../gate/history.ts';
import type { MetricName } from '../gate/metrics.ts';
import { noCase, noRun } from '../results/select.ts';
import { listRuns, readRun } from '../results/store.ts';

export interface HistoryRequest {
  readonly results: string;
  /** Undefined: that of the newest run. */
  readonly suite: string | undefined;
  readonly metric: MetricName;
  /** Only cases whose id holds this text. */
  readonly caseFilter: string | undefined;
  /** The newest so many runs. */
  readonly last: number;
}

export interface HistoryResult {
  readonly suite: string;
  readonly histories: readonly CaseHistory[];
  readonly notices: readonly string[];
}

/** Seed of the permutation tests: the same records give the same changes. */
const SEED = 1;

/** Reads the runs, oldest first. A run that can't be read is a notice. Throws RESULTS_NOT_FOUND where there is none. */
export async function readHistory({ results, suite, metric, caseFilter, last }: HistoryRequest): Promise<HistoryResult> {
  const all = await listRuns(results, suite);
  // By the folder, which may be spelled otherwise than the suite is.
  const folder = all.at(-1)?.suite;
  const chosen = all.filter((run) => run.suite === folder).slice(-last);
  const notices: string[] = [];
  const records = [];
  for (const run of chosen) {
    try {
      records.push(...(await readRun(run)).records);
    } catch (error) {
      if (!(error instanceof TsrtError)) throw error;
      notices.push(`run ${run.runId} is left out: ${error.message}`);
    }
  }
  const name = records.at(-1)?.case.suite;
  if (name === undefined) {
    throw await noRun(results, suite, notices);
  }
  const wanted = caseFilter === undefined ? records : records.filter((record) => record.case.id.includes(caseFilter));
  if (wanted.length === 0) throw noCase(name, caseFilter!, records.map((record) => record.case.id));
  return { suite: name, histories: historiesOf(wanted, metric, SEED), notices };
}
