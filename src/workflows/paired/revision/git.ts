/** Questions to git, and its failures as errors that a user can mend. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { TsrtError } from '../../../errors.ts';
import { nearest } from '../../../nearest.ts';
import { gitEnvironment } from '../../git-environment.ts';

const run = promisify(execFile);

/** What git said on its way out. */
export class GitFailure extends Error {
  override readonly name = 'GitFailure';
}

/** Runs git in a folder; its output without the last line feed. Throws GitFailure, and USAGE where there is no git. */
export async function git(folder: string, ...words: readonly string[]): Promise<string> {
  try {
    // Hooks are the user's, for the user's own checkouts.
    const { stdout } = await run('git', ['-c', 'core.hooksPath=/dev/null', ...words], { cwd: folder, maxBuffer: 2 ** 28, env: { ...gitEnvironment(), LC_ALL: 'C' } });
    return stdout.replace(/\n$/, '');
  } catch (cause) {
    const failure = cause as NodeJS.ErrnoException & { readonly stderr?: string };
    if (failure.code === 'ENOENT') throw new TsrtError('USAGE', "git can't be found", { fix: 'install it, or give --against an engine file', cause });
    throw new GitFailure(failure.stderr?.trim() || failure.message, { cause });
  }
}

export interface Repository {
  /** Top of the working tree. */
  readonly root: string;
  /** The working folder within it, with a slash at its end; empty at the top. */
  readonly prefix: string;
}

/** The repository around a folder. Throws USAGE where there is none. */
export async function findRepository(folder: string): Promise<Repository> {
  try {
    const [root = '', prefix = ''] = (await git(folder, 'rev-parse', '--show-toplevel', '--show-prefix')).split('\n');
    return { root, prefix };
  } catch (cause) {
    if (!(cause instanceof GitFailure)) throw cause;
    const absent = /not a git repository/.test(cause.message);
    throw new TsrtError('USAGE', absent ? 'a revision was given, but this is not a git repository' : 'git refuses this repository', {
      place: folder,
      details: absent ? [] : [cause.message],
      fix: "run it in the project's checkout, or give an engine file instead",
      cause,
    });
  }
}

/** The commit that a name stands for. Throws BASELINE_NOT_FOUND with the nearest known name. */
export async function resolveCommit(root: string, name: string): Promise<string> {
  try {
    return await git(root, 'rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`);
  } catch (cause) {
    if (!(cause instanceof GitFailure)) throw cause;
    const known = (await git(root, 'for-each-ref', '--format=%(refname:short)')).split('\n').filter((ref) => ref !== '');
    const guess = nearest(name.replace(/[~^@].*$/, ''), known);
    throw new TsrtError('BASELINE_NOT_FOUND', `there is no revision '${name}'${guess ? `; did you mean '${guess}'?` : ''}`, {
      place: root,
      fix: (await isShallow(root)) ? DEEPEN : 'name a branch, tag or commit; engine files end in .engine, and stored records are named with --baseline',
      cause,
    });
  }
}

/** The commits after `good` up to `bad`, oldest first, along first parents. Throws USAGE where `bad` does not come after `good`. */
export async function commitsBetween(root: string, good: string, bad: string): Promise<readonly string[]> {
  if (good === bad) throw new TsrtError('USAGE', 'both ends are the same commit', { place: root, fix: 'for --good, name a commit before the change, and for --bad one that has it' });
  const line = await git(root, 'rev-list', '--first-parent', bad);
  const commits = line.split('\n');
  const at = commits.indexOf(good);
  if (at > 0) return commits.slice(0, at).reverse();
  const fork = await forkOf(root, bad, good);
  const others = `name a good end on the bad end's own line${fork === undefined ? '' : `, such as ${fork}`}`;
  throw new TsrtError('USAGE', 'the good end is not a first-parent ancestor of the bad end', {
    place: root,
    fix: fork === bad ? 'swap --good and --bad' : fork === undefined && (await isShallow(root)) ? DEEPEN : others,
  });
}

/** The last commit of a line of first parents that another commit has in its history; undefined where they share none. */
async function forkOf(root: string, line: string, other: string): Promise<string | undefined> {
  const known = new Set((await git(root, 'rev-list', other)).split('\n'));
  return (await git(root, 'rev-list', '--first-parent', line)).split('\n').find((commit) => known.has(commit));
}

/** The branch that a commit merged (the second parent), with where it left the line that it was merged into; undefined where it is no merge. */
export async function mergedBranch(root: string, commit: string): Promise<{ readonly good: string; readonly bad: string } | undefined> {
  const [, into, bad] = (await git(root, 'rev-list', '--parents', '--max-count=1', commit)).split(' ');
  if (into === undefined || bad === undefined) return undefined;
  const good = await forkOf(root, bad, into);
  return good === undefined || good === bad ? undefined : { good, bad };
}

const DEEPEN = 'this is a shallow clone: fetch more of it (`git fetch --unshallow`; fetch-depth: 0 for actions/checkout)';

async function isShallow(root: string): Promise<boolean> {
  return (await git(root, 'rev-parse', '--is-shallow-repository')) === 'true';
}

/** Submodules of a commit: their folders and the commits they are at. */
export async function submodulesOf(root: string, commit: string): Promise<readonly { readonly path: string; readonly commit: string }[]> {
  const entries = (await git(root, 'ls-tree', '-r', '-z', commit)).split('\0');
  return entries.flatMap((entry) => {
    const [, mode, sha, path] = /^(\d+) \w+ ([0-9a-f]+)\t(.*)$/s.exec(entry) ?? [];
    return mode === '160000' && sha !== undefined && path !== undefined ? [{ path, commit: sha }] : [];
  });
}
