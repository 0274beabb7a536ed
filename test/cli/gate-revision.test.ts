/** `gate --against REF` and `bisect` over commits, as a user runs them in a project of its own, on the null backend's fake clock. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { groupFolder } from '../helpers/folder.ts';
import { testRepository } from '../helpers/repository.ts';
import { startIn } from './cli.ts';

const nullBackend = fileURLToPath(new URL('../../dist/src/backends/null/null.js', import.meta.url));

/** A backend of the project: the null backend, at the speed that the project says. */
const PLUGIN = `
import { nullBackend } from ${JSON.stringify(nullBackend)};
import { LATENCY_NS } from './latency.mjs';
const renamed = (engine, backend) => ({ ...engine, header: { ...engine.header, backend } });
const options = (given) => ({ ...given, backendOptions: { latencyNs: LATENCY_NS, jitter: 0.001 } });
export default { name: 'project', version: '1.0.0', backends: [{
  ...nullBackend,
  name: 'project',
  build: async (input, context) => renamed(await nullBackend.build({ ...input, options: options(input.options) }, context), 'project'),
  load: (engine, more) => nullBackend.load(renamed(engine, 'null'), more),
}] };
`;

const SUITE = `
name: nulls
description: made-up answers on a fake clock
model: { name: smoke, builder: { name: smoke } }
inputs: [{ kind: synthetic, values: { distribution: normal } }]
task: { kind: classification }
variants: [{ backend: project }]
measure: { rounds: 3, timeMs: 20, timeoutMs: 60000 }
accuracy: { samples: 3 }
gate: { thresholds: { latency-p50: 5 } }
`;

async function project(place?: string) {
  const repository = await testRepository(place);
  const { folder, write, commit } = repository;
  const setLatency = (ns: number) => write('latency.mjs', `export const LATENCY_NS = ${ns};\n`);
  await write('suites/nulls/suite.yaml', SUITE);
  await write('plugin.mjs', PLUGIN);
  await write('tsrt-bench.config.mjs', "export default { plugins: ['./plugin.mjs'] };\n");
  await write('.gitignore', 'results\ncache\n');
  await setLatency(1_000_000);
  const first = commit('first');
  const start = startIn(folder);
  /** What is left of checkouts, in the cache and in git's list. */
  const leftovers = async () => ({
    cache: await readdir(join(folder, 'cache', 'worktrees')).catch(() => []),
    trees: repository.git('worktree', 'list').split('\n').length - 1,
    changes: repository.git('status', '--short'),
  });
  return { ...repository, first, setLatency, start, leftovers, run: (...words: string[]) => start(words, () => {}) };
}

/** The fake clock is exact to a thousandth: the fewest rounds by which a change can be beyond chance. */
const ROUNDS = ['--rounds', '8', '--time', '20ms'];
const GATE = ['gate', 'suites/nulls', ...ROUNDS];

/** Refusals change nothing: one project serves those of a group. */
function sharedProject(): () => ReturnType<typeof project> {
  const place = groupFolder();
  let made: ReturnType<typeof project> | undefined;
  return async () => (made ??= project(await place()));
}

describe('gate --against REF', () => {
  const untouched = sharedProject();

  it('runs the revision’s own plugin beside the working tree’s, and leaves nothing behind', async () => {
    const { first, setLatency, run, leftovers } = await project();
    const same = await run(...GATE, '--against', first);
    expect(same).toMatchObject({ status: 0, stdout: expect.stringMatching(/^PASSED: 1 case .* against revision [0-9a-f]{12}, suite nulls/) });
    await setLatency(1_200_000);
    const slower = await run(...GATE, '--against', 'main', '--json');
    expect(JSON.parse(slower.stdout)).toMatchObject({
      verdict: 'regressed',
      baseline: `revision main (${first.slice(0, 12)})`,
      notices: expect.arrayContaining([expect.stringContaining('runs on the same tsrt-bench')]),
    });
    expect(slower.status).toBe(1);
    expect(await leftovers()).toEqual({ cache: [], trees: 0, changes: 'M latency.mjs' });
  });

  it('a suite that the revision lacks, one that is new in it, and a case that only it has', async () => {
    const { write, git, run, first } = await project();
    await write('suites/later/suite.yaml', SUITE.replace('name: nulls', 'name: later'));
    const later = await run('gate', 'suites/later', ...ROUNDS, '--against', first);
    expect(later).toMatchObject({ status: 2, stderr: expect.stringContaining(`there is no suite 'suites/later', at revision ${first.slice(0, 12)}`) });
    expect(later.stderr).toContain('name a revision that has the suite');
    await write('suites/nulls/suite.yaml', SUITE.replace('variants: [{ backend: project }]', 'variants: [{ backend: project, precision: fp16 }]'));
    git('commit', '--quiet', '--all', '--message=other cases');
    const { status, stdout } = await run(...GATE, '--against', first);
    expect(stdout).toMatch(/project\/fp32\S* +missing .* inconclusive/);
    expect(stdout).toMatch(/project\/fp16\S* +new .* passed/);
    expect(status).toBe(4);
  });

  it.each([
    { words: ['--against', 'mian'], status: 3, says: /no revision 'mian'; did you mean 'main'/ },
    { words: ['--against', 'main,other'], status: 2, says: /engine files or one git revision; main, other are no files/ },
    { words: ['--against', 'main', '--prepare', 'echo tried; exit 9'], status: 3, says: /fails at revision main .*status 9[^]*tried[^]*--prepare/ },
    { words: ['--prepare', 'true'], status: 2, says: /--prepare goes with --against REF/ },
  ])('refuses $words', async ({ words, status, says }) => {
    const { run, leftovers } = await untouched();
    const outcome = await run(...GATE, ...words);
    expect(outcome.stderr).toMatch(says);
    expect(outcome.status).toBe(status);
    expect(await leftovers()).toMatchObject({ cache: [], trees: 0 });
  });

  it('a preparation runs in the checkout and not in the working tree', async () => {
    const { folder, run, first } = await project();
    const command = 'echo "export const LATENCY_NS = 500000;" > latency.mjs && pwd > "$TSRT_BENCH_CACHE/where"';
    const { status, stdout } = await run(...GATE, '--against', first, '--prepare', command);
    expect(stdout).toMatch(/latency p50 rose by 100/);
    expect(status).toBe(1);
    expect(await readFile(join(folder, 'cache', 'where'), 'utf8')).toContain('worktrees');
  });

  it.each([1, 2])('Ctrl-C leaves no checkout behind (pressed %i times)', async (times) => {
    const { start, leftovers, folder } = await project();
    let pressed = false;
    const { status } = await start([...GATE, '--against', 'main', '--prepare', 'sleep 20; touch "$TSRT_BENCH_CACHE/late"'], (text, kill) => {
      if (pressed || !text.includes('sleep 20')) return;
      pressed = true;
      for (let i = 0; i < times; i++) setTimeout(() => kill('SIGINT'), 300 * (i + 1));
    });
    expect(status).toBe(130);
    expect(await leftovers()).toMatchObject({ cache: [], trees: 0 });
    expect(existsSync(join(folder, 'cache', 'late'))).toBe(false);
  });

  it('needs a repository', async () => {
    const { folder } = await untouched();
    const { status, stderr } = await startIn(join(folder, '..'), join(folder, 'cache'))([...GATE.slice(0, 1), join(folder, 'suites', 'nulls'), '--plugin', join(folder, 'plugin.mjs'), '--against', 'main'], () => {});
    expect(stderr).toContain('this is no git repository');
    expect(status).toBe(2);
  });
});

describe('bisect', () => {
  const untouched = sharedProject();

  it('finds the commit that made it slower, and where to go on from a merge', async () => {
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
    expect(report.notices).toEqual(expect.arrayContaining([expect.stringContaining(`--good ${first.slice(0, 12)} --bad ${slow.slice(0, 12)}`), expect.stringContaining('not committed')]));
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

  it('finds the option that cost accuracy, and says by status that nothing changed', async () => {
    const { run, write } = await project();
    await write('suites/nulls/suite.yaml', SUITE.replace('backend: project', "backend: 'null'"));
    const search = (...words: string[]) => run('bisect', 'suites/nulls', '--metric', 'snr', '--quiet', ...words);
    const found = await search('--change', 'seed=2', '--change', 'errorScale=0.01', '--change', 'seed=3');
    expect(found).toMatchObject({ status: 0, stdout: expect.stringMatching(/SNR against fp32 of \S+ fell with '\+ errorScale=0.01', state 3 of 4/) });
    expect(await search('--change', 'seed=2', '--change', 'seed=3')).toMatchObject({ status: 1, stdout: expect.stringContaining('does not differ') });
    expect(await search('--change', 'seed=2', '--change', 'fault=error')).toMatchObject({ status: 4 });
  });

  it.each([
    { words: [], says: /no states are named/ },
    { words: ['--change', 'a=1', '--good', 'main'], says: /several kinds/ },
    { words: ['--change', 'a=1', '--bad', 'main'], says: /--bad goes with --good/ },
    { words: ['--change', 'a=1', '--metric', 'latency'], says: /no metric 'latency'/ },
    { words: ['--change', 'a=1', '--threshold', 'much'], says: /no threshold/ },
    { words: ['--good', 'main'], says: /both ends are the same commit/ },
  ])('refuses $words', async ({ words, says }) => {
    const { run } = await untouched();
    const { status, stderr } = await run('bisect', 'suites/nulls', ...words);
    expect(stderr).toMatch(says);
    expect(status).toBe(2);
  });
});
