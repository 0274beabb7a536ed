/**
 * Where records lie and what is there: `<results>/<suite>/<device>/<run>.jsonl`, one line per case. A run that used two
 * devices has a file under each. Baselines lie beside, under `<results>/baselines` (baselines.ts).
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TsrtError } from '../errors.ts';
import { errnoOf, unreadable } from './errors.ts';
import { BASELINES_FOLDER, folderName, isRunId } from './names.ts';
import { inSuiteOrder, lastPerCase, onlySuite, readRecordFile } from './reader.ts';
import type { BenchRecord, Case } from './record.ts';

/** A run on disk. */
export interface StoredRun {
  readonly runId: string;
  /** The suite's folder: its name, unless that is not fit for one. */
  readonly suite: string;
  readonly files: readonly { readonly device: string; readonly path: string }[];
}

/** Records of one run, file or baseline, one per case. */
export interface RecordSet {
  /** For people: `run 20260131T080509Z-a1b2c3`, `baseline main`, a path. */
  readonly label: string;
  readonly suite: string;
  readonly records: readonly BenchRecord[];
  readonly paths: readonly string[];
  readonly notices: readonly string[];
}

/** The file of one run on one device. */
export function runFilePath(results: string, suite: string, device: string, runId: string): string {
  return join(results, folderName(suite), folderName(device), `${runId}.jsonl`);
}

/** All runs, oldest first; of one suite where it is named. An absent results folder holds none. */
export async function listRuns(results: string, suite?: string): Promise<StoredRun[]> {
  const runs = new Map<string, StoredRun>();
  const suites = suite === undefined ? await folders(results) : [folderName(suite)];
  for (const suite of suites.filter((name) => name !== BASELINES_FOLDER)) {
    for (const device of await folders(join(results, suite))) {
      for (const file of await recordFiles(join(results, suite, device))) {
        const runId = file.slice(0, -'.jsonl'.length);
        if (!isRunId(runId)) continue;
        const key = `${suite}/${runId}`;
        const files = [...(runs.get(key)?.files ?? []), { device, path: join(results, suite, device, file) }];
        runs.set(key, { runId, suite, files });
      }
    }
  }
  return [...runs.values()].sort((a, b) => compareText(a.runId, b.runId) || compareText(a.suite, b.suite));
}

/** The newest run that has a record; undefined where there is none. A run that was killed before its first case has empty files. */
export async function latestRun(results: string, suite?: string): Promise<StoredRun | undefined> {
  for (const run of (await listRuns(results, suite)).toReversed()) {
    const sizes = await Promise.all(run.files.map((file) => stat(file.path).then((entry) => entry.size)));
    if (sizes.some((size) => size > 0)) return run;
  }
  return undefined;
}

/** The runs of that id: one, or several where suites were run under one id. */
export async function findRuns(results: string, runId: string, suite?: string): Promise<StoredRun[]> {
  return (await listRuns(results, suite)).filter((run) => run.runId === runId);
}

/** Reads all files of a run. */
export async function readRun(run: StoredRun): Promise<RecordSet> {
  return readSet(
    `run ${run.runId}`,
    run.files.map((file) => file.path),
  );
}

/** Reads files as one set; throws RESULTS_INVALID where they hold no record, or records of several suites. */
export async function readSet(label: string, paths: readonly string[]): Promise<RecordSet> {
  const files = await Promise.all(paths.map(readRecordFile));
  const all = files.flatMap((file) => file.records);
  const notices = files.flatMap((file) => file.notices);
  return { label, suite: onlySuite(all, paths.join(', '), notices), records: inSuiteOrder(lastPerCase(all)), paths, notices };
}

/** Ids of the cases that need no second try when a run is resumed: all that ended, whatever the outcome, but were not cut off. */
export function finishedCases(records: readonly BenchRecord[]): ReadonlySet<string> {
  return new Set(
    lastPerCase(records)
      .filter((record) => record.status === 'completed' || record.status === 'failed' || record.status === 'skipped')
      .map((record) => record.case.id),
  );
}

/** The cases that were measured to the end. */
export function measuredCases(records: readonly BenchRecord[]): Case[] {
  return records.filter((record) => record.status === 'completed').map((record) => record.case);
}

/** Device slugs of the records that were measured, sorted. */
export function devicesOf(records: readonly BenchRecord[]): string[] {
  const measured = records.filter((record) => record.status === 'completed');
  return [...new Set((measured.length > 0 ? measured : records).map((record) => record.provenance.environment.device.slug))].sort();
}

/** Names of the folders in a folder; none where it does not exist. Throws RESULTS_INVALID where it can't be read. */
export async function folders(path: string): Promise<string[]> {
  return (await entries(path)).filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => entry.name);
}

/** Names of the `.jsonl` files in a folder. */
export async function recordFiles(path: string): Promise<string[]> {
  return (await entries(path)).filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.') && entry.name.endsWith('.jsonl')).map((entry) => entry.name);
}

async function entries(path: string) {
  try {
    return (await readdir(path, { withFileTypes: true })).sort((a, b) => compareText(a.name, b.name));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') return [];
    if (errno === 'ENOTDIR') {
      throw new TsrtError('RESULTS_INVALID', 'a file was found where the results folder was expected', {
        place: path,
        fix: 'name the folder with --results FOLDER',
        cause: error,
      });
    }
    throw unreadable(error, path);
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
