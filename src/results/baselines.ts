/**
 * Baselines: records kept under a name to compare with, one file for each suite and device,
 * `<results>/baselines/<name>/<suite>/<device>.jsonl`. They are made to be committed: small in number, whole, and written
 * in one step, so that a baseline is either the old one or the new one.
 */
import { mkdir, open, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TsrtError, type ErrorReport, reportError } from '../errors.ts';
import { encodeRecord } from './codec.ts';
import { unwritable } from './errors.ts';
import { takeLock } from './lock.ts';
import { BASELINES_FOLDER, checkBaselineName, folderName } from './names.ts';
import { lastPerCase, onlySuite, readRecordFile } from './reader.ts';
import type { BenchRecord, CompletedRecord } from './record.ts';
import { devicesOf, folders, recordFiles, type RecordSet } from './store.ts';

/** One file of a baseline. */
export interface BaselinePlace {
  readonly name: string;
  /** Folder names of the suite and the device: their own names, unless those are not fit for folders. */
  readonly suite: string;
  readonly device: string;
  readonly path: string;
}

/** What `baseline list` shows. A file that can't be read is shown with the reason. */
export type BaselineSummary =
  | (BaselinePlace & {
      readonly status: 'readable';
      readonly cases: number;
      /** When its newest run began. */
      readonly measuredAt: string;
      readonly runId: string;
      readonly tool: CompletedRecord['provenance']['tool'];
    })
  | (BaselinePlace & { readonly status: 'unreadable'; readonly error: ErrorReport });

export interface SavedBaseline {
  readonly places: readonly (BaselinePlace & { readonly cases: number })[];
  /** Cases left out because they did not complete. */
  readonly leftOut: readonly string[];
}

/**
 * Keeps the completed records under a name, for each of their devices.
 * Throws USAGE where there is nothing to keep, the name is unfit, or a file is there and `force` is not given; RESULTS_LOCKED
 * and RESULTS_UNWRITABLE as writing goes.
 */
export async function saveBaseline(
  results: string,
  name: string,
  records: readonly BenchRecord[],
  force: boolean,
): Promise<SavedBaseline> {
  checkBaselineName(name);
  const cases = lastPerCase(records);
  const completed = cases.filter((record) => record.status === 'completed');
  if (completed.length === 0) {
    throw new TsrtError('USAGE', 'there is nothing to save: no case of the run completed', {
      details: cases.slice(0, 5).map((record) => `${record.case.id}: ${record.status}`),
      fix: 'see why with `tsrt-bench report`, and run again',
    });
  }
  const suite = onlySuite(completed, results);
  return withLock(results, name, async () => {
    const places = devicesOf(completed).map((device) => placeOf(results, name, suite, device));
    if (!force) await refuseExisting(results, name, places);
    const saved = [];
    for (const place of places) {
      const own = completed.filter((record) => folderName(record.provenance.environment.device.slug) === place.device);
      await replaceFile(place.path, own.map((record) => `${encodeRecord(record)}\n`).join(''));
      saved.push({ ...place, cases: own.length });
    }
    return { places: saved, leftOut: cases.filter((record) => record.status !== 'completed').map((record) => record.case.id) };
  });
}

/** Restricts to the parts of a baseline for one suite or some devices, by their own names or their folders'. */
export interface BaselineFilter {
  readonly suite?: string | undefined;
  readonly devices?: readonly string[] | undefined;
}

/** All baselines, sorted by name, suite and device. */
export async function listBaselines(results: string): Promise<BaselineSummary[]> {
  return Promise.all((await placesOf(results)).map(summarize));
}

/** The parts of one baseline. Throws BASELINE_NOT_FOUND where there are none. */
export async function chosenBaselines(results: string, name: string, wanted: BaselineFilter): Promise<BaselineSummary[]> {
  return Promise.all((await choosePlaces(results, checkBaselineName(name), wanted)).map(summarize));
}

/** Names of the baselines. */
export async function baselineNames(results: string): Promise<string[]> {
  return folders(join(results, BASELINES_FOLDER));
}

/**
 * The records of a baseline for a suite and, where `devices` are given, for those of them that it has.
 * Throws BASELINE_NOT_FOUND for an unknown name, suite or device, RESULTS_INVALID for a file that is empty, cut, of another
 * schema version, or of other suites or devices than its place says.
 */
export async function readBaseline(
  results: string,
  name: string,
  wanted: BaselineFilter = {},
): Promise<RecordSet> {
  const places = await choosePlaces(results, checkBaselineName(name), wanted);
  const records = (await Promise.all(places.map(readPlace))).flat();
  const paths = places.map((place) => place.path);
  const suite = onlySuite(records, `${paths.join(', ')}; choose one with --suite`);
  return { label: `baseline ${name}`, suite, records, paths, notices: [] };
}

/** Deletes a baseline, or its part for a suite or device; returns the deleted paths. Throws BASELINE_NOT_FOUND. */
export async function removeBaseline(
  results: string,
  name: string,
  wanted: BaselineFilter = {},
): Promise<readonly string[]> {
  const places = await choosePlaces(results, checkBaselineName(name), wanted);
  await withLock(results, name, async () => {
    for (const place of places) {
      await rm(place.path);
      // Empty folders go too; one that is not empty stays, which is what the failure means.
      for (const folder of [dirname(place.path), dirname(dirname(place.path))]) await rmdir(folder).catch(() => undefined);
    }
  });
  return places.map((place) => place.path);
}

function placeOf(results: string, name: string, suite: string, device: string): BaselinePlace {
  const place = { name, suite: folderName(suite), device: folderName(device) };
  return { ...place, path: join(results, BASELINES_FOLDER, name, place.suite, `${place.device}.jsonl`) };
}

/** Where baselines of a name, or of all names, lie. */
async function placesOf(results: string, name?: string): Promise<BaselinePlace[]> {
  const places: BaselinePlace[] = [];
  for (const each of name === undefined ? await baselineNames(results) : [name]) {
    for (const suite of await folders(join(results, BASELINES_FOLDER, each))) {
      for (const file of await recordFiles(join(results, BASELINES_FOLDER, each, suite))) {
        const device = file.slice(0, -'.jsonl'.length);
        places.push({ name: each, suite, device, path: join(results, BASELINES_FOLDER, each, suite, file) });
      }
    }
  }
  return places;
}

async function choosePlaces(
  results: string,
  name: string,
  { suite, devices }: BaselineFilter,
): Promise<BaselinePlace[]> {
  const all = await placesOf(results, name);
  const save = `record one with \`tsrt-bench baseline save ${name}\``;
  if (all.length === 0) {
    const known = await baselineNames(results);
    throw new TsrtError('BASELINE_NOT_FOUND', `there is no baseline '${name}'`, {
      place: join(results, BASELINES_FOLDER),
      fix: known.length > 0 ? `known: ${known.join(', ')}; or ${save}` : save,
    });
  }
  const ofSuite = suite === undefined ? all : all.filter((place) => place.suite === folderName(suite));
  if (ofSuite.length === 0) {
    const suites = [...new Set(all.map((place) => place.suite))];
    throw new TsrtError('BASELINE_NOT_FOUND', `baseline '${name}' has no records of suite ${suite}; it has ${suites.join(', ')}`, { fix: save });
  }
  const slugs = devices?.map(folderName);
  const chosen = slugs === undefined ? ofSuite : ofSuite.filter((place) => slugs.includes(place.device));
  if (chosen.length > 0) return chosen;
  const has = ofSuite.map((place) => place.device).join(', ');
  throw new TsrtError('BASELINE_NOT_FOUND', `baseline '${name}' has no records of ${devices?.join(', ')}; it has ${has}`, {
    fix: `${save} on this device, or compare across devices with --allow-different-device`,
  });
}

/** A baseline's file, held to more than a run's: whole, not empty, of one suite and one device. */
async function readPlace(place: BaselinePlace): Promise<readonly BenchRecord[]> {
  const { records, notices, cut } = await readRecordFile(place.path);
  const fix = `restore the file, or save it again: \`tsrt-bench baseline save ${place.name} --force\``;
  if (cut) {
    throw new TsrtError('RESULTS_INVALID', 'the baseline is cut off, so cases may be missing', { place: place.path, details: notices, fix });
  }
  if (records.length === 0) throw new TsrtError('RESULTS_INVALID', 'the baseline is empty', { place: place.path, fix });
  onlySuite(records, place.path);
  const slugs = [...new Set(records.map((record) => record.provenance.environment.device.slug))];
  if (slugs.length > 1 || folderName(slugs[0] ?? '') !== place.device) {
    throw new TsrtError('RESULTS_INVALID', `the baseline for ${place.device} holds records of ${slugs.join(', ')}`, { place: place.path, fix });
  }
  return records;
}

async function summarize(place: BaselinePlace): Promise<BaselineSummary> {
  try {
    const records = await readPlace(place);
    const newest = records.map((record) => record.provenance).reduce((a, b) => (a.startedAt > b.startedAt ? a : b));
    return {
      ...place,
      status: 'readable',
      cases: records.length,
      measuredAt: newest.startedAt,
      runId: newest.runId,
      tool: newest.tool,
    };
  } catch (error) {
    if (!(error instanceof TsrtError)) throw error;
    return { ...place, status: 'unreadable', error: reportError(error) };
  }
}

async function refuseExisting(results: string, name: string, places: readonly BaselinePlace[]): Promise<void> {
  const existing = new Set((await placesOf(results, name)).map((place) => place.path));
  const taken = places.filter((place) => existing.has(place.path));
  if (taken.length === 0) return;
  throw new TsrtError('USAGE', `baseline '${name}' already has records of ${taken.map((place) => `${place.suite} on ${place.device}`).join(', ')}`, {
    place: taken.map((place) => place.path).join(', '),
    fix: 'overwrite them with --force, or choose another name',
  });
}

function withLock<T>(results: string, name: string, work: () => Promise<T>): Promise<T> {
  const path = join(results, BASELINES_FOLDER, `.${name}.lock`);
  return takeLock(path, `baseline '${name}'`, 10).then((held) => work().finally(held.release));
}

/** Writes beside and renames, so that nobody ever reads half a file. */
async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${process.pid}.tmp`);
  try {
    await mkdir(dirname(path), { recursive: true });
    const handle = await open(temporary, 'w');
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw unwritable(error, path);
  }
}
