/** `bisect` over commits and options, as a user runs it in a project of its own. */
import { describe, expect, it } from 'vitest';
import { project, ROUNDS, sharedProject, SUITE } from './project.ts';

describe('bisect', () => {
  const untouched = sharedProject();

  it('finds the commit that made it slower, and where to go on from a merge', { timeout: 240_000 }, async () => {
    const { first, setLatency, commit, git, write, run, leftovers } = await project();
    git('checkout', '--quiet', '-b', 'branch');
    await setLatency(1_150_000);
    const slow = commit('slower plugin');
    git('checkout', '--quiet', 'main');
    commit('second');
    git('merge', '--quiet', '--no-ff', '--message=merge branch', 'branch');
    const merge = git('rev-parse', 'HEAD');
    await write('latency.mjs', '// not committed');
    const { status, stdout } = await run('bisect', 'suites/nulls', '--good', first, ...ROUNDS, '--json', '--quiet');
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ outcome: { kind: 'found', index: 2 }, direction: 'worse', subject: 'commits' });
    expect(report.states[2]).toBe(`${merge.slice(0, 7)} merge branch`);
    expect(report.notices).toEqual(expect.arrayContaining([expect.stringContaining(`--good ${first.slice(0, 12)} --bad ${slow.slice(0, 12)}`), expect.stringContaining('uncommitted changes')]));
    expect(status).toBe(0);
    expect(await leftovers()).toEqual({ cache: [], trees: 0, changes: 'M latency.mjs' });
  });

  it('ends that have other cases are named by them', async () => {
    const { first, write, commit, run } = await project();
    await write('suites/nulls/suite.yaml', SUITE.replace('backend: project', 'backend: project, precision: fp16'));
    commit('another precision');
    const { status, stdout } = await run('bisect', 'suites/nulls', '--good', first, ...ROUNDS, '--quiet');
    expect(stdout).toMatch(/it has no case of the first state: project\/fp32\S* there, project\/fp16\S* here/);
    expect(status).toBe(4);
  });

  it('finds the option that cost accuracy, and says by status that nothing changed', { timeout: 240_000 }, async () => {
    const { run, write } = await project();
    await write('suites/nulls/suite.yaml', SUITE.replace('backend: project', "backend: 'null'"));
    const search = (...words: string[]) => run('bisect', 'suites/nulls', '--metric', 'snr', '--quiet', ...words);
    const found = await search('--change', 'seed=2', '--change', 'errorScale=0.01', '--change', 'seed=3');
    expect(found).toMatchObject({ status: 0, stdout: expect.stringMatching(/SNR against fp32 of \S+ fell with '\+ errorScale=0.01', state 3 of 4/) });
    expect(await search('--change', 'seed=2', '--change', 'seed=3')).toMatchObject({ status: 1, stdout: expect.stringContaining('does not differ') });
    expect(await search('--change', 'seed=2', '--change', 'fault=error')).toMatchObject({ status: 4 });
  });

  it.each([
    { words: [], says: /no states to search were named/ },
    { words: ['--change', 'a=1', '--good', 'main'], says: /several kinds/ },
    { words: ['--change', 'a=1', '--bad', 'main'], says: /--bad goes with --good/ },
    { words: ['--change', 'a=1', '--metric', 'latency'], says: /no metric 'latency'/ },
    { words: ['--change', 'a=1', '--threshold', 'much'], says: /'much' is not a threshold/ },
    { words: ['--good', 'main'], says: /both ends are the same commit/ },
  ])('refuses $words', async ({ words, says }) => {
    const { runShared } = await untouched();
    const { status, stderr } = await runShared('bisect', 'suites/nulls', ...words);
    expect(stderr).toMatch(says);
    expect(status).toBe(2);
  });
});
