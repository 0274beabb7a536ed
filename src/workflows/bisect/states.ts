/** The states of a search, each prepared as a side when it is needed and gone when it has been measured. */
import { join } from 'node:path';
import { engineKey } from '../run/engines.ts';
import { admitEngines } from '../run/prebuilt.ts';
import { readEngineFile } from '../engine-file.ts';
import { withEngineFolder } from '../engine-folder.ts';
import { TsrtError } from '../../errors.ts';
import { sha256File } from '../../suite/cache.ts';
import { commitsBetween, findRepository, git, mergedBranch, resolveCommit } from '../paired/revision/git.ts';
import { withRevision } from '../paired/revision/revision.ts';
import { makeSide, openSide, type OpenSide, type PreparedSide, type SideParts } from '../paired/side.ts';
import { orderOf } from '../paired/sides.ts';
import { changeCase } from './changes.ts';
import type { BisectRequest, BisectSubject } from './request.ts';

export interface Wanted {
  /** Ids that cases are paired by; undefined: all. */
  readonly cases: readonly string[] | undefined;
  readonly accuracy: boolean;
}

export interface States {
  readonly labels: readonly string[];
  /** What each state is, so that a search that was kept is known again. */
  readonly identities: readonly string[];
  /** What is to be said of them whatever is found. */
  readonly notices?: readonly string[];
  /** Where to go on from a state that brought the change; undefined: nowhere. */
  readonly further?: (index: number) => Promise<string | undefined>;
  /** Prepares a state for as long as `work` takes. Throws what preparing it throws. */
  with<T>(index: number, wanted: Wanted, work: (side: PreparedSide) => Promise<T>): Promise<T>;
}

/** Throws USAGE for fewer than two states, and what reading the first of them throws. */
export async function openStates(request: BisectRequest): Promise<States> {
  const { subject } = request;
  const states = await statesOf(request, subject);
  if (states.labels.length >= 2) return states;
  throw new TsrtError('USAGE', `there is nothing between ${states.labels.length} state${states.labels.length === 1 ? '' : 's'}`, { fix: 'name two or more' });
}

function statesOf(request: BisectRequest, subject: BisectSubject): Promise<States> {
  switch (subject.kind) {
    case 'models':
      return modelStates(request, subject.files);
    case 'engines':
      return engineStates(request, subject.files);
    case 'changes':
      return changeStates(request, subject.changes);
    case 'commits':
      return commitStates(request, subject);
    default:
      return subject satisfies never;
  }
}

async function modelStates(request: BisectRequest, files: readonly string[]): Promise<States> {
  const identities = await Promise.all(
    files.map((file) =>
      sha256File(file).catch((cause: unknown) => {
        throw new TsrtError('MODEL_NOT_FOUND', "the model can't be read", { place: file, fix: 'name ONNX files that exist', cause });
      }),
    ),
  );
  const { facts } = await openSide({ ...request, modelFile: files[0]! });
  return {
    labels: files,
    identities: [facts.suiteSha256, ...identities],
    with: async (index, wanted, work) => {
      const open = await openSide({ ...request, modelFile: files[index]! });
      return inFolder((folder) => makeSide(open, partsOf(open, wanted, folder)), work);
    },
  };
}

async function engineStates(request: BisectRequest, files: readonly string[]): Promise<States> {
  const engines = await Promise.all(files.map(readEngineFile));
  // Engines are built: what flags or a configuration say of variants is not theirs.
  const { timeMs } = request.overrides;
  const open = await openSide({ ...request, engineFiles: [files[0]!], overrides: { timeMs } });
  const { facts, model, registry, probe, cases } = open;
  return {
    labels: files,
    identities: [facts.suiteSha256, ...engines.map(({ sha256 }) => sha256)],
    with: (index, wanted, work) =>
      inFolder(async (folder) => {
        // Whatever its variant: each file stands in for the first.
        const prebuilt = new Map(cases.map((entry) => [engineKey(entry.variant), engines[index]!]));
        const admitted = await admitEngines(prebuilt, { modelSha256: model.sha256, registry, probe, rebuild: false, onEvent: request.onEvent });
        return makeSide(open, { ...partsOf(open, wanted, folder), prebuilt: admitted });
      }, work),
  };
}

async function changeStates(request: BisectRequest, changes: readonly string[]): Promise<States> {
  const open = await openSide(request);
  const changed = changes.map((_, i) => changes.slice(0, i + 1));
  // Whatever is no change is said before anything is measured.
  for (const entry of open.cases) changeCase(entry, changes);
  return {
    labels: ['the suite as it is', ...changes.map((word) => `+ ${word}`)],
    identities: [open.facts.suiteSha256, open.model.sha256, ...changes],
    with: (index, wanted, work) =>
      inFolder((folder) => {
        const { cases = [], ...parts } = partsOf(open, wanted, folder);
        return makeSide(open, { ...parts, cases: cases.map(({ id, case: entry }) => ({ id, case: changeCase(entry, changed[index - 1] ?? []) })) });
      }, work),
  };
}

async function commitStates(request: BisectRequest, { good, bad, prepare }: Extract<BisectSubject, { kind: 'commits' }>): Promise<States> {
  const { signal, onEvent, settings } = request;
  const cwd = process.cwd();
  const { root } = await findRepository(cwd);
  const first = await resolveCommit(root, good);
  const commits = [first, ...(await commitsBetween(root, first, await resolveCommit(root, bad)))];
  const labels = (await git(root, 'show', '--no-patch', '--format=%h %s', ...commits)).split('\n');
  const changed = bad === 'HEAD' && (await git(root, 'status', '--porcelain', '--untracked-files=no')) !== '';
  return {
    labels,
    identities: commits,
    notices: changed ? ['uncommitted changes are not part of the search: it ends with HEAD'] : [],
    async further(index) {
      const branch = await mergedBranch(root, commits[index]!);
      return branch && `the commit is a merge; to search the branch that it merged: --good ${branch.good.slice(0, 12)} --bad ${branch.bad.slice(0, 12)}`;
    },
    with: (index, { cases, accuracy }, work) =>
      withRevision({ revision: commits[index]!, prepare, cwd, cache: settings.config.cache, signal, onEvent }, (checkout) =>
        inFolder((folder) => checkout.prepare({ ...orderOf(request, folder), cases, accuracy }), work),
      ),
  };
}

function partsOf(open: OpenSide, { cases, accuracy }: Wanted, folder: string): SideParts & Required<Pick<SideParts, 'cases'>> {
  const wanted = open.cases.filter(({ id }) => cases === undefined || cases.includes(id));
  return { folder, accuracy, cases: wanted.map((entry) => ({ id: entry.id, case: entry })) };
}

function inFolder<T>(make: (folder: string) => Promise<PreparedSide>, work: (side: PreparedSide) => Promise<T>): Promise<T> {
  return withEngineFolder(async (folder) => work(await make(join(folder, 'state'))));
}
