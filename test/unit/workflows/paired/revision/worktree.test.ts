/** Checkouts beside the user's: what is in them, and that nothing of them is left. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { addWorktree } from '../../../../../src/workflows/paired/revision/worktree.ts';
import { temporaryFolder } from '../../../../helpers/folder.ts';
import { testRepository, type TestRepository } from '../../../../helpers/repository.ts';

const list = ({ git }: TestRepository): number => git('worktree', 'list').split('\n').length;

async function withSubmodule() {
  const lib = await testRepository();
  await lib.write('lib.txt', 'one');
  lib.commit('lib');
  const project = await testRepository();
  project.git('submodule', '--quiet', 'add', lib.folder, 'vendor/lib');
  const commit = project.commit('with lib');
  return { lib, project, commit, own: join(project.folder, 'vendor/lib') };
}

describe('addWorktree', () => {
  test('holds the revision, leaves the working tree as it is, and is gone afterwards', async () => {
    const project = await testRepository();
    await project.write('a.txt', 'old');
    const commit = project.commit('old');
    await project.write('a.txt', 'changed and not committed');
    await project.write('.git/hooks/post-checkout', '#!/bin/sh\ntouch hook-ran\n');
    const parent = await temporaryFolder();
    const tree = await addWorktree(project.folder, commit, parent);
    expect(await readFile(join(tree.folder, 'a.txt'), 'utf8')).toBe('old');
    expect(existsSync(join(tree.folder, 'hook-ran'))).toBe(false);
    expect(await readFile(join(project.folder, 'a.txt'), 'utf8')).toBe('changed and not committed');
    await tree.remove();
    expect(await readdir(parent)).toEqual([]);
    expect(list(project)).toBe(1);
  });

  test('inside of a git hook, the index of the commit that is being made stays as it is', async () => {
    const { folder, write, commit, git } = await testRepository();
    await write('a.txt', 'old');
    const old = commit('old');
    await write('a.txt', 'new');
    git('add', 'a.txt');
    const parent = await temporaryFolder();
    vi.stubEnv('GIT_DIR', join(folder, '.git'));
    vi.stubEnv('GIT_INDEX_FILE', join(folder, '.git/index'));
    onTestFinished(() => void vi.unstubAllEnvs());
    const tree = await addWorktree(folder, old, parent);
    expect(await readFile(join(tree.folder, 'a.txt'), 'utf8')).toBe('old');
    await tree.remove();
    vi.unstubAllEnvs();
    expect(git('status', '--short')).toBe('M  a.txt');
  });

  test('submodules come from the user’s own clones, at the commit that the revision names', async () => {
    const { project, commit, own } = await withSubmodule();
    await project.write('vendor/lib/lib.txt', 'changed');
    const parent = await temporaryFolder();
    const tree = await addWorktree(project.folder, commit, parent);
    expect(await readFile(join(tree.folder, 'vendor/lib/lib.txt'), 'utf8')).toBe('one');
    expect(tree.notices).toEqual([expect.stringContaining('has uncommitted changes')]);
    expect(await readFile(join(own, 'lib.txt'), 'utf8')).toBe('changed');
    await tree.remove();
    expect(await readdir(parent)).toEqual([]);
  });

  test('a submodule without the commit is named, and nothing stays', async () => {
    const { project } = await withSubmodule();
    project.git('update-index', '--cacheinfo', `160000,${'1'.repeat(40)},vendor/lib`);
    project.git('commit', '--quiet', '--message=unknown');
    const parent = await temporaryFolder();
    await expect(addWorktree(project.folder, project.git('rev-parse', 'HEAD'), parent)).rejects.toMatchObject({
      code: 'BASELINE_INCOMPARABLE',
      message: expect.stringContaining('vendor/lib has no commit 111111111111'),
    });
    expect(await readdir(parent)).toEqual([]);
    expect(list(project)).toBe(1);
  });

  test('a worktree of the user’s whose folder is not there today stays known', async () => {
    const project = await testRepository();
    const commit = project.commit('one');
    const away = join(await temporaryFolder(), 'on-another-drive');
    project.git('worktree', 'add', '--quiet', '--detach', away);
    await rename(away, `${away}-unmounted`);
    const tree = await addWorktree(project.folder, commit, await temporaryFolder());
    await tree.remove();
    expect(list(project)).toBe(2);
  });

  test('what a killed process left is removed by the next', async () => {
    const project = await testRepository();
    const commit = project.commit('one');
    const parent = await temporaryFolder();
    // Larger than any process id of Linux or macOS.
    const dead = join(parent, '4194305-0123456789ab-x');
    await mkdir(dead);
    const tree = await addWorktree(project.folder, commit, parent);
    expect(existsSync(dead)).toBe(false);
    await tree.remove();
  });
});
