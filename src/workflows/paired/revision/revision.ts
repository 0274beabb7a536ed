/**
 * A git revision of the project as a side: checked out beside the working tree, its packages linked or installed, made ready,
 * and prepared by the tsrt-bench that it carries itself.
 */
import { existsSync } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { TsrtError } from '../../../errors.ts';
import type { OnRunEvent } from '../../events.ts';
import { packageRoot } from '../../run/provenance.ts';
import type { PreparedSide } from '../side.ts';
import { runCommand } from './command.ts';
import { findRepository, resolveCommit } from './git.ts';
import { installPackages } from './install.ts';
import type { SideOrder } from './messages.ts';
import { prepareRemotely } from './remote.ts';
import { addWorktree } from './worktree.ts';

export interface RevisionRequest {
  readonly revision: string;
  /** Command that makes the checkout ready, run in the project's folder. */
  readonly prepare: string | undefined;
  /** The user's working folder. */
  readonly cwd: string;
  readonly cache: string;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

/** What is asked of a checkout's tool; paths as the user gave them. */
export type CheckoutOrder = Omit<SideOrder, 'protocol' | 'cache'>;

export interface Checkout {
  /** `revision main (0123abcd4567)`. */
  readonly label: string;
  readonly commit: string;
  readonly notices: readonly string[];
  /** Builds a side there. Throws what that tool reports. */
  prepare(order: CheckoutOrder): Promise<PreparedSide>;
}

/** Calls `work` with the revision's checkout, which is gone afterwards. Throws USAGE, BASELINE_NOT_FOUND, BASELINE_INCOMPARABLE. */
export async function withRevision<T>(request: RevisionRequest, work: (checkout: Checkout) => Promise<T>): Promise<T> {
  const { revision, cwd, cache, signal, onEvent, prepare } = request;
  const repository = await findRepository(cwd);
  const { root, prefix } = repository;
  const commit = await resolveCommit(root, revision);
  const short = commit.slice(0, 12);
  const label = commit.startsWith(revision) ? `revision ${short}` : `revision ${revision} (${short})`;
  onEvent({ kind: 'stage', stage: 'build', text: `checkout of ${label}` });
  const worktree = await addWorktree(root, commit, join(cache, 'worktrees'));
  try {
    const folder = join(worktree.folder, prefix);
    if (!existsSync(folder)) throw new TsrtError('BASELINE_INCOMPARABLE', `there is no folder ${prefix} at ${label}`, { place: root, fix: 'name a revision that has it' });
    const installed = await installPackages({ root, checkout: worktree.folder, prefix, at: label, signal });
    const command = prepare ?? (await ownBuild(folder));
    if (command !== undefined) {
      onEvent({ kind: 'stage', stage: 'build', text: `${label}: ${command}` });
      await runCommand(command, { folder, at: label, signal }, 'name a command that prepares a fresh checkout of that revision with --prepare, or compare engine files');
    }
    const tool = await findTool(worktree.folder, folder, label);
    const notices = [...worktree.notices, ...(installed === undefined ? [] : [installed]), ...tool.notices];
    const moved = (path: string): string => inCheckout(path, { cwd, root, checkout: worktree.folder });
    return await work({
      label,
      commit,
      notices,
      async prepare(order) {
        const suite = isAbsolute(order.suite) ? moved(order.suite) : order.suite;
        const modelFile = order.modelFile === undefined ? undefined : existing(moved(order.modelFile), resolve(cwd, order.modelFile));
        const plugins = order.plugins?.map((name) => (existsSync(resolve(cwd, name)) ? existing(moved(name), resolve(cwd, name)) : name));
        const side = await prepareRemotely({ order: { ...order, suite, modelFile, plugins, cache }, entry: tool.side, folder, at: label, signal, onEvent });
        return { ...side, worker: { entry: tool.worker, folder, plugins: side.settings.plugins } };
      },
    });
  } finally {
    await worktree.remove();
  }
}

/**
 * The working tree as a side, prepared by the running tool in a process like the one that prepares a revision: what building
 * takes in a process that has done other things before could not be compared.
 */
export function prepareHere(order: CheckoutOrder, about: Pick<RevisionRequest, 'cwd' | 'cache' | 'signal' | 'onEvent'>): Promise<PreparedSide> {
  const { cwd, cache, signal, onEvent } = about;
  const root = packageRoot();
  if (root === undefined) throw new Error('the running tool has no package');
  return prepareRemotely({ order: { ...order, cache }, entry: join(root, SIDE_WORKER), folder: cwd, at: 'the working tree', signal, onEvent });
}

/** The revision's own file, or the user's where the revision has none (a model that git does not keep, say). */
function existing(there: string, here: string): string {
  return existsSync(there) ? there : here;
}

/** The place in the checkout of a path in the working tree; a path elsewhere stays. */
function inCheckout(path: string, { cwd, root, checkout }: { readonly cwd: string; readonly root: string; readonly checkout: string }): string {
  const place = relative(root, resolve(cwd, path));
  return place.startsWith('..') || isAbsolute(place) ? resolve(cwd, path) : join(checkout, place);
}

/** Of a built tool, in its folder. */
const SIDE_WORKER = join('dist', 'bundle', 'side-worker.js');
const WORKER = join('dist', 'bundle', 'measure-worker.js');

interface Tool {
  readonly side: string;
  readonly worker: string;
  readonly notices: readonly string[];
}

/** The tool that the checkout carries: itself, an installed package, or else the one that runs here. */
async function findTool(checkout: string, folder: string, label: string): Promise<Tool> {
  const own = (await toolFolder(checkout, folder)) ?? packageRoot();
  if (own === undefined) throw new Error('the running tool has no package');
  const [side, worker] = [join(own, SIDE_WORKER), join(own, WORKER)];
  const { version } = await manifestOf(own);
  if (!existsSync(worker)) {
    throw new TsrtError('BASELINE_INCOMPARABLE', `the tsrt-bench ${version} of ${label} is not built`, { place: own, fix: 'say how to build it, for example: --prepare "npm run build"' });
  }
  if (!existsSync(side)) {
    throw new TsrtError('BASELINE_INCOMPARABLE', `the tsrt-bench ${version} of ${label} can't be run as a baseline: it is older than gate --against REF`, {
      place: own,
      fix: 'build engines with it and compare those (--against ENGINE), or name a later revision',
    });
  }
  const borrowed = own === packageRoot() && !own.startsWith(await realpath(checkout));
  return { side, worker, notices: borrowed ? [`${label} runs on the same tsrt-bench ${version} as the candidate; its suite, plugins and models are its own`] : [] };
}

async function toolFolder(checkout: string, folder: string): Promise<string | undefined> {
  for (let at = folder; ; at = dirname(at)) {
    if ((await manifestOf(at)).name === 'tsrt-bench') return realpath(at);
    const installed = join(at, 'node_modules', 'tsrt-bench');
    if (existsSync(join(installed, 'package.json'))) return realpath(installed);
    if (resolve(at) === resolve(checkout)) return undefined;
  }
}

/** Where the project is tsrt-bench itself, it has to be built to run. */
async function ownBuild(folder: string): Promise<string | undefined> {
  const { name } = await manifestOf(folder);
  return name === 'tsrt-bench' && !existsSync(join(folder, 'dist')) ? 'npm run build' : undefined;
}

async function manifestOf(folder: string): Promise<{ readonly name?: string; readonly version?: string }> {
  const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}');
  return JSON.parse(text) as { readonly name?: string; readonly version?: string };
}
