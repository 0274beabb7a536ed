/**
 * A checkout of a revision beside the user's, which is never touched: a detached git worktree in the cache, its submodules from
 * the user's own clones. It goes when its work is done, also where the process is made to end at once.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TsrtError } from '../../../errors.ts';
import { gitEnvironment } from '../../git-environment.ts';
import { git, GitFailure, submodulesOf } from './git.ts';

/** A worktree and the repository that it is of. */
interface Tree {
  readonly repository: string;
  readonly folder: string;
}

export interface Worktree {
  /** Top of the checkout. */
  readonly folder: string;
  readonly notices: readonly string[];
  remove(): Promise<void>;
}

/** Checks `commit` out into a new folder under `parent`. Throws BASELINE_INCOMPARABLE where a submodule's commit is not here. */
export async function addWorktree(root: string, commit: string, parent: string): Promise<Worktree> {
  await mkdir(parent, { recursive: true });
  await removeStale(root, parent);
  const folder = join(parent, `${process.pid}-${commit.slice(0, 12)}-${Date.now().toString(36)}`);
  const trees: Tree[] = [];
  const atExit = (): void => removeNow(trees);
  process.once('exit', atExit);
  const remove = async (): Promise<void> => {
    for (const tree of trees.toReversed()) await removeTree(tree);
    process.off('exit', atExit);
  };
  try {
    return { folder, notices: await checkOut(root, commit, folder, trees), remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** One repository, then its submodules. */
async function checkOut(repository: string, commit: string, folder: string, trees: Tree[]): Promise<readonly string[]> {
  trees.push({ repository, folder });
  try {
    await git(repository, 'worktree', 'add', '--detach', '--force', folder, commit);
  } catch (cause) {
    if (!(cause instanceof GitFailure)) throw cause;
    throw new TsrtError('BASELINE_INCOMPARABLE', `${commit.slice(0, 12)} can't be checked out`, { place: repository, details: cause.message.split('\n').slice(-8), fix: 'see what git says', cause });
  }
  const notices: string[] = [];
  for (const sub of await submodulesOf(repository, commit)) {
    const own = join(repository, sub.path);
    // One that the user did not fetch is not needed here either.
    if (!existsSync(join(own, '.git'))) continue;
    await git(own, 'cat-file', '-e', `${sub.commit}^{commit}`).catch((cause: unknown) => {
      throw new TsrtError('BASELINE_INCOMPARABLE', `the submodule ${sub.path} has no commit ${sub.commit.slice(0, 12)}, which ${commit.slice(0, 12)} needs`, {
        place: own,
        fix: `fetch it: git -C ${sub.path} fetch`,
        cause,
      });
    });
    if ((await git(own, 'status', '--porcelain', '--untracked-files=no')) !== '') {
      notices.push(`the submodule ${sub.path} has uncommitted changes: the candidate has them, the baseline does not`);
    }
    notices.push(...(await checkOut(own, sub.commit, join(folder, sub.path), trees)));
  }
  return notices;
}

/** By name: `git worktree prune` would also forget worktrees of the user's that are on a drive which is not there today. */
const REMOVE = ['worktree', 'remove', '--force', '--force'] as const;

async function removeTree({ repository, folder }: Tree): Promise<void> {
  await git(repository, ...REMOVE, folder).catch(async () => {
    // Git also forgets one whose folder is gone.
    await rm(folder, { recursive: true, force: true });
    await git(repository, ...REMOVE, folder).catch(() => undefined);
  });
}

/** As {@link removeTree}, where nothing may be waited for any more. */
function removeNow(trees: readonly Tree[]): void {
  for (const { repository, folder } of trees.toReversed()) {
    rmSync(folder, { recursive: true, force: true });
    try {
      execFileSync('git', [...REMOVE, folder], { cwd: repository, stdio: 'ignore', env: gitEnvironment() });
    } catch {
      // It was not known yet; git prunes what is left of it in its own time.
    }
  }
}

/** What processes left behind that were killed: folders are named by the process that made them. */
async function removeStale(root: string, parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = Number(/^(\d+)-/.exec(name)?.[1]);
    if (Number.isInteger(pid) && !isAlive(pid)) await removeTree({ repository: root, folder: join(parent, name) });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
