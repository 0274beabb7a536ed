/** `baseline save|list|show|rm`. */
import { TsrtError } from '../errors.ts';
import { BASELINE_ROUNDS, DEFAULT_ROUNDS } from '../gate/sequential.ts';
import type { ReportInput } from '../report/reporter.ts';
import { tableReporter } from '../report/table.ts';
import { plural } from '../report/units.ts';
import {
  baselineHistory,
  chosenBaselines,
  listBaselines,
  readBaseline,
  removeBaseline,
  saveBaseline,
  type BaselineHome,
  type BaselineSummary,
  type SavedBaseline,
} from '../results/baselines.ts';
import { homeOf, selectRecords } from '../results/select.ts';
import type { RecordSet } from '../results/store.ts';
import type { BaselineStore, UpdateEntry } from '../results/stores/contract.ts';
import { suiteCall } from './suite-call.ts';

export interface SaveRequest {
  readonly results: string;
  /** Where baselines are; default: in the results folder. */
  readonly store?: BaselineStore | undefined;
  readonly name: string;
  /** A file, a run, `latest` or another baseline. */
  readonly source: string;
  readonly suite: string | undefined;
  readonly force: boolean;
}

export interface SaveResult extends SavedBaseline {
  readonly label: string;
  readonly notices: readonly string[];
}

/** Keeps the completed records of `source` under a name. */
export async function saveAsBaseline(request: SaveRequest): Promise<SaveResult> {
  const set = await selectRecords(request.source, request);
  const saved = await saveBaseline(homeOf(request), request.name, set.records, request.force);
  return { ...saved, label: set.label, notices: [...set.notices, ...(await thinNotice(set))] };
}

/** Said while the engines are still at hand that a better baseline could be measured with. */
async function thinNotice({ suite, records }: RecordSet): Promise<string[]> {
  const fewest = Math.min(...records.flatMap((record) => (record.status === 'completed' ? [record.rounds.length] : [])));
  if (!(fewest < BASELINE_ROUNDS)) return [];
  return [`with ${plural(fewest, 'round')} per case, a gate against this baseline finds only large changes: \`tsrt-bench run ${await suiteCall(suite, undefined)} --rounds ${DEFAULT_ROUNDS}\` makes a run that is enough for a verdict`];
}

/** What there is, unreadable files included. */
export async function describeBaselines(home: BaselineHome): Promise<readonly BaselineSummary[]> {
  return listBaselines(home);
}

export interface BaselineChoice {
  readonly home: BaselineHome;
  readonly name: string;
  readonly suite: string | undefined;
  /** Device slug. */
  readonly device: string | undefined;
}

export interface ShownBaseline {
  readonly name: string;
  readonly parts: readonly (BaselineSummary & { readonly text: string; readonly updates: readonly UpdateEntry[] })[];
}

/** The tables of a baseline, one for each suite and device. Throws BASELINE_NOT_FOUND. */
export async function showBaseline(choice: BaselineChoice, display: Pick<ReportInput, 'color' | 'width'>): Promise<ShownBaseline> {
  const wanted = await chosenBaselines(choice.home, choice.name, filterOf(choice));
  const parts = [];
  for (const part of wanted) {
    const { suite, records } = await readBaseline(choice.home, choice.name, { suite: part.suite, devices: [part.device] });
    const [history] = await baselineHistory(choice.home, choice.name, { suite: part.suite, devices: [part.device] });
    parts.push({ ...part, text: tableReporter.render({ suite, records, baselineVariant: undefined, ...display }), updates: history?.updates ?? [] });
  }
  return { name: choice.name, parts };
}

/** Deletes; without `force` says what would go and refuses. Returns the deleted files. */
export async function deleteBaseline(choice: BaselineChoice, force: boolean): Promise<readonly string[]> {
  const wanted = await chosenBaselines(choice.home, choice.name, filterOf(choice));
  if (!force) {
    throw new TsrtError('USAGE', `deleting baseline '${choice.name}' needs --force`, {
      details: wanted.map((part) => part.path),
      fix: `run it again with --force to delete the file${wanted.length === 1 ? '' : 's'} above`,
    });
  }
  return removeBaseline(choice.home, choice.name, filterOf(choice));
}

function filterOf({ suite, device }: BaselineChoice) {
  return { suite, devices: device === undefined ? undefined : [device] };
}
