/** From what a user types to records: a file, a run's id, `latest`, or a baseline's name. */
import { stat } from 'node:fs/promises';
import { TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { type BaselineHome, baselineNames, readBaseline } from './baselines.ts';
import { isRunId } from './names.ts';
import type { BaselineStore } from './stores/contract.ts';
import { findRuns, latestRun, listRuns, readRun, readSet, type RecordSet } from './store.ts';

export interface Selection {
  /** The results folder. */
  readonly results: string;
  /** Where baselines are; default: in the results folder. */
  readonly store?: BaselineStore | undefined;
  /** Restricts runs and baselines to one suite. */
  readonly suite?: string | undefined;
  /** That suite as a command takes it, where it was asked for by a path; default: its name. */
  readonly called?: string | undefined;
  /** Restricts a baseline to devices, by slug. */
  readonly devices?: readonly string[] | undefined;
}

/**
 * Records by `latest`, `PATH.jsonl`, `RUN-ID` or `BASELINE`, tried in this order; `run:` and `baseline:` before a name say
 * which is meant. Throws RESULTS_NOT_FOUND with the nearest known name.
 */
export async function selectRecords(source: string, selection: Selection): Promise<RecordSet> {
  if (source.startsWith('baseline:')) return readBaseline(homeOf(selection), source.slice('baseline:'.length), selection);
  if (source.startsWith('run:')) return selectRun(source.slice('run:'.length), selection);
  if (source === 'latest') return selectLatest(selection);
  if (looksLikePath(source) || (await isFile(source))) return readSet(source, [source]);
  const runs = isRunId(source) ? await findRuns(selection.results, source, selection.suite) : [];
  if (runs.length > 0) return selectRun(source, selection);
  const baselines = await baselineNames(homeOf(selection));
  if (baselines.includes(source)) return readBaseline(homeOf(selection), source, selection);
  throw notFound(source, [...(await listRuns(selection.results)).map((run) => run.runId), ...baselines]);
}

/** Where the baselines of a selection are. */
export function homeOf({ results, store }: Pick<Selection, 'results' | 'store'>): BaselineHome {
  return store ?? results;
}

async function selectLatest({ results, suite, called }: Selection): Promise<RecordSet> {
  const run = await latestRun(results, suite);
  if (run) return readRun(run);
  throw await noRun(results, suite, [], called);
}

/** There is no run at all, or none of the suite: then the suites that there are. `details` say what could not be read. */
export async function noRun(results: string, suite: string | undefined, details: readonly string[] = [], called = suite): Promise<TsrtError> {
  const known = [...new Set((await listRuns(results)).map((run) => run.suite))];
  if (suite === undefined || known.length === 0) {
    return new TsrtError('RESULTS_NOT_FOUND', `there is no run${suite === undefined ? '' : ` of suite ${suite}`} yet`, {
      place: results,
      details,
      fix: `measure first: \`tsrt-bench run ${called ?? 'suites/resnet50'}\`, or name the folder with --results`,
    });
  }
  const guess = nearest(suite, known);
  return new TsrtError('RESULTS_NOT_FOUND', `there is no run of suite ${suite}${guess === undefined ? '' : `; did you mean '${guess}'?`}`, {
    place: results,
    details,
    fix: `known: ${known.join(', ')}; or measure it: \`tsrt-bench run ${called}\``,
  });
}

/** Ids that an error names. */
const SHOWN_IDS = 8;

/** No case has the text in its id. */
export function noCase(suite: string, text: string, ids: readonly string[]): TsrtError {
  return new TsrtError('USAGE', `no case of suite ${suite} has '${text}' in its id`, { details: [...new Set(ids)].slice(0, SHOWN_IDS), fix: 'give a part of an id, such as a variant or b8' });
}

async function selectRun(runId: string, { results, suite }: Selection): Promise<RecordSet> {
  const [run, ...others] = await findRuns(results, runId, suite);
  if (!run) throw notFound(runId, (await listRuns(results)).map((other) => other.runId));
  if (others.length === 0) return readRun(run);
  throw new TsrtError('USAGE', `run ${runId} has records of several suites: ${[run, ...others].map((one) => one.suite).join(', ')}`, {
    fix: 'choose one with --suite NAME',
  });
}

function looksLikePath(source: string): boolean {
  return source.endsWith('.jsonl') || source.includes('/') || source.includes('\\');
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

function notFound(source: string, known: readonly string[]): TsrtError {
  const guess = nearest(source, known);
  return new TsrtError('RESULTS_NOT_FOUND', `'${source}' is not a results file, run or baseline${guess ? `; did you mean '${guess}'?` : ''}`, {
    fix: known.length > 0 ? `known: ${known.slice(-8).join(', ')}, latest` : 'measure first: `tsrt-bench run suites/resnet50`',
  });
}
