/**
 * Baselines: records kept under a name to compare with, one file for each suite and device, in a folder or behind a URL
 * (stores/store.ts). Small in number, whole, and written in one step, so that a baseline is either the old one or the new one.
 */
import { TsrtError, type ErrorReport, reportError } from '../errors.ts';
import { encodeRecord } from './codec.ts';
import { checkBaselineName, folderName } from './names.ts';
import { inSuiteOrder, lastPerCase, onlySuite, parseRecordFile } from './reader.ts';
import type { BenchRecord, CompletedRecord } from './record.ts';
import { devicesOf, type RecordSet } from './store.ts';
import type { BaselinePlace, UpdateEntry } from './stores/contract.ts';
import { type BaselineHome, storeOf } from './stores/store.ts';

export type { BaselinePlace } from './stores/contract.ts';
export type { BaselineHome } from './stores/store.ts';

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

/** Why a baseline is replaced, where a gate came before. */
export type UpdateReason = Pick<UpdateEntry, 'verdict' | 'changes' | 'forced'>;

/**
 * Keeps the completed records under a name, for each of their devices.
 * Throws USAGE where there is nothing to keep, the name is unfit, or a file is there and `force` is not given; RESULTS_LOCKED,
 * RESULTS_UNWRITABLE and STORE_UNAVAILABLE as writing goes.
 */
export async function saveBaseline(
  home: BaselineHome,
  name: string,
  records: readonly BenchRecord[],
  force: boolean,
  reason: UpdateReason = {},
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
  const store = storeOf(home);
  const suite = folderName(onlySuite(completed, store.label));
  const at = new Date().toISOString();
  const files = devicesOf(completed).map((device) => {
    const own = completed.filter((record) => record.provenance.environment.device.slug === device);
    const entry = { at, runId: newestOf(own).runId, cases: own.length, ...reason };
    return { suite, device: folderName(device), text: own.map((record) => `${encodeRecord(record)}\n`).join(''), entry };
  });
  const places = await store.replace(name, files, force);
  return {
    places: places.map((place, i) => ({ ...place, cases: files[i]!.entry.cases })),
    leftOut: cases.filter((record) => record.status !== 'completed').map((record) => record.case.id),
  };
}

/** Restricts to the parts of a baseline for one suite or some devices, by their own names or their folders'. */
export interface BaselineFilter {
  readonly suite?: string | undefined;
  readonly devices?: readonly string[] | undefined;
}

/** All baselines, sorted by name, suite and device. */
export async function listBaselines(home: BaselineHome): Promise<BaselineSummary[]> {
  return Promise.all((await storeOf(home).places()).map((place) => summarize(home, place)));
}

/** The parts of one baseline. Throws BASELINE_NOT_FOUND where there are none. */
export async function chosenBaselines(home: BaselineHome, name: string, wanted: BaselineFilter): Promise<BaselineSummary[]> {
  return Promise.all((await choosePlaces(home, checkBaselineName(name), wanted)).map((place) => summarize(home, place)));
}

/** Names of the baselines. */
export async function baselineNames(home: BaselineHome): Promise<readonly string[]> {
  return storeOf(home).names();
}

/**
 * The records of a baseline for a suite and, where `devices` are given, for those of them that it has.
 * Throws BASELINE_NOT_FOUND for an unknown name, suite or device, USAGE where several suites are left, RESULTS_INVALID for a file that is empty, cut, of another
 * schema version, or of other suites or devices than its place says.
 */
export async function readBaseline(
  home: BaselineHome,
  name: string,
  wanted: BaselineFilter = {},
): Promise<RecordSet> {
  const places = await choosePlaces(home, checkBaselineName(name), wanted);
  const records = inSuiteOrder((await Promise.all(places.map((place) => readPlace(home, place)))).flat());
  const paths = places.map((place) => place.path);
  const suites = [...new Set(records.map((record) => record.case.suite))];
  if (suites.length > 1) throw new TsrtError('USAGE', `baseline ${name} has several suites: ${suites.join(', ')}`, { fix: 'choose one with --suite NAME' });
  const suite = onlySuite(records, paths.join(', '));
  return { label: `baseline ${name}`, suite, records, paths, notices: [] };
}

/** Deletes a baseline, or its part for a suite or device; returns the deleted paths. Throws BASELINE_NOT_FOUND. */
export async function removeBaseline(
  home: BaselineHome,
  name: string,
  wanted: BaselineFilter = {},
): Promise<readonly string[]> {
  const places = await choosePlaces(home, checkBaselineName(name), wanted);
  await storeOf(home).remove(name, places);
  return places.map((place) => place.path);
}

/** What a baseline's places were over time, oldest first. Throws BASELINE_NOT_FOUND. */
export async function baselineHistory(home: BaselineHome, name: string, wanted: BaselineFilter = {}): Promise<readonly { readonly place: BaselinePlace; readonly updates: readonly UpdateEntry[] }[]> {
  const places = await choosePlaces(home, checkBaselineName(name), wanted);
  return Promise.all(places.map(async (place) => ({ place, updates: await storeOf(home).history(place) })));
}

async function choosePlaces(
  home: BaselineHome,
  name: string,
  { suite, devices }: BaselineFilter,
): Promise<readonly BaselinePlace[]> {
  const store = storeOf(home);
  const all = await store.places(name);
  const save = `record one with \`tsrt-bench baseline save ${name}\``;
  if (all.length === 0) {
    const known = await store.names();
    throw new TsrtError('BASELINE_NOT_FOUND', `there is no baseline '${name}'`, {
      place: store.label,
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
async function readPlace(home: BaselineHome, place: BaselinePlace): Promise<readonly BenchRecord[]> {
  const { records, notices, cut } = parseRecordFile(await storeOf(home).read(place), place.path);
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

async function summarize(home: BaselineHome, place: BaselinePlace): Promise<BaselineSummary> {
  try {
    const records = await readPlace(home, place);
    const newest = newestOf(records);
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

function newestOf(records: readonly BenchRecord[]): BenchRecord['provenance'] {
  return records.map((record) => record.provenance).reduce((a, b) => (a.startedAt > b.startedAt ? a : b));
}
