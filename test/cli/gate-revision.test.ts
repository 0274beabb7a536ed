/** `gate --against REF`, as a user runs it in a project of its own. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { startIn } from './cli.ts';
import { project, ROUNDS, sharedProject, SUITE } from './project.ts';

const GATE = ['gate', 'suites/nulls', ...ROUNDS];

describe('gate --against REF', () => {
  const untouched = sharedProject();

  it('runs the revision’s own plugin beside the working tree’s, and leaves nothing behind', { timeout: 240_000 }, async () => {
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
    { words: ['--against', 'main,other'], status: 2, says: /engine files or one git revision; main, other are not files/ },
    { words: ['--against', 'main', '--prepare', 'echo tried; exit 9'], status: 3, says: /fails at revision main .*status 9[^]*tried[^]*--prepare/ },
    { words: ['--prepare', 'true'], status: 2, says: /--prepare goes with --against REF/ },
  ])('refuses $words', async ({ words, status, says }) => {
    const { runShared, leftovers } = await untouched();
    const outcome = await runShared(...GATE, ...words);
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
    expect(stderr).toContain('this is not a git repository');
    expect(status).toBe(2);
  });
});
