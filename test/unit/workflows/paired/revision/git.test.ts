/** What git is asked, on repositories made for it. */
import { describe, expect, test } from 'vitest';
import { commitsBetween, findRepository, git, GitFailure, mergedBranch, resolveCommit, submodulesOf } from '../../../../../src/workflows/paired/revision/git.ts';
import { temporaryFolder } from '../../../../helpers/folder.ts';
import { testRepository } from '../../../../helpers/repository.ts';

describe('revisions', () => {
  test('the repository around a folder, and where the folder lies in it', async () => {
    const { folder, write } = await testRepository();
    await write('packages/app/a.txt', 'a');
    expect(await findRepository(`${folder}/packages/app`)).toEqual({ root: folder, prefix: 'packages/app/' });
    expect(await findRepository(folder)).toEqual({ root: folder, prefix: '' });
    await expect(findRepository(await temporaryFolder())).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('this is not a git repository') });
  });

  test('names become commits; an unknown one is answered with the nearest', async () => {
    const { folder, commit, git: run } = await testRepository();
    const first = commit('one');
    run('tag', 'v1.0');
    run('branch', 'release');
    expect(await resolveCommit(folder, 'v1.0')).toBe(first);
    expect(await resolveCommit(folder, 'release~0')).toBe(first);
    await expect(resolveCommit(folder, 'relaese')).rejects.toMatchObject({ code: 'BASELINE_NOT_FOUND', message: expect.stringContaining("did you mean 'release'") });
    await expect(resolveCommit(folder, '--all')).rejects.toMatchObject({ code: 'BASELINE_NOT_FOUND' });
  });

  test('a shallow clone is told how to become deep', async () => {
    const origin = await testRepository();
    const first = origin.commit('one');
    origin.commit('two');
    const clone = await testRepository();
    clone.git('pull', '--quiet', '--depth=1', `file://${origin.folder}`, 'main');
    await expect(resolveCommit(clone.folder, first)).rejects.toMatchObject({ fix: expect.stringContaining('fetch-depth: 0') });
  });

  test('the commits between two, along first parents, oldest first', async () => {
    const { folder, commit, git: run } = await testRepository();
    const a = commit('a');
    const b = commit('b');
    run('checkout', '--quiet', '-b', 'side', a);
    const side = commit('side');
    run('checkout', '--quiet', 'main');
    run('merge', '--quiet', '--no-ff', '--message=merge', 'side');
    const merge = run('rev-parse', 'HEAD');
    const d = commit('d');
    expect(await commitsBetween(folder, a, d)).toEqual([b, merge, d]);
    await expect(commitsBetween(folder, d, a)).rejects.toMatchObject({ fix: expect.stringContaining('swap') });
    await expect(commitsBetween(folder, d, d)).rejects.toMatchObject({ message: expect.stringContaining('same commit'), fix: expect.not.stringContaining('swap') });
    await expect(commitsBetween(folder, side, d)).rejects.toMatchObject({ fix: expect.stringContaining(a) });
    expect(await mergedBranch(folder, merge)).toEqual({ good: a, bad: side });
    expect(await mergedBranch(folder, d)).toBeUndefined();
    expect(await mergedBranch(folder, a)).toBeUndefined();
  });

  test('ends that a shallow clone keeps apart are no matter of lines', async () => {
    const origin = await testRepository();
    const [first] = [origin.commit('one'), origin.commit('two'), origin.commit('three')];
    const clone = await testRepository();
    clone.git('pull', '--quiet', '--depth=1', `file://${origin.folder}`, 'main');
    clone.git('fetch', '--quiet', '--depth=1', `file://${origin.folder}`, first);
    await expect(commitsBetween(clone.folder, first, clone.git('rev-parse', 'HEAD'))).rejects.toMatchObject({ fix: expect.stringContaining('--unshallow') });
  });

  test('submodules of a commit, and what git itself refuses', async () => {
    const { folder, commit, git: run } = await testRepository();
    const first = commit('one');
    run('update-index', '--add', '--cacheinfo', `160000,${first},vendor/lib`);
    run('commit', '--quiet', '--message=sub');
    expect(await submodulesOf(folder, run('rev-parse', 'HEAD'))).toEqual([{ path: 'vendor/lib', commit: first }]);
    expect(await submodulesOf(folder, first)).toEqual([]);
    await expect(git(folder, 'no-such-word')).rejects.toBeInstanceOf(GitFailure);
  });
});
