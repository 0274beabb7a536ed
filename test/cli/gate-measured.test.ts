/** The gate's modes that measure, as a user runs them, on the null backend's fake clock. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { groupFolder } from '../helpers/folder.ts';
import { NULL_SUITE, workplace } from './cli.ts';

async function suitePlace() {
  const place = await workplace();
  await place.write('suites/nulls/suite.yaml', NULL_SUITE);
  return place;
}

/** An engine of the suite's model that takes so long. */
async function buildEngine(place: Awaited<ReturnType<typeof suitePlace>>, name: string, latencyNs: number): Promise<void> {
  const models = join(place.folder, 'cache', 'models');
  const model = (await readdir(models)).find((file) => file.endsWith('.onnx'));
  const built = await place.run('build', join(models, model!), '--backend', 'null', '--option', `latencyNs=${latencyNs}`, '--option', 'jitter=0.001', '--output', name);
  expect(built).toMatchObject({ status: 0 });
}

describe('gate --against', () => {
  it('runs both engines in the same rounds and says which is slower', async () => {
    const place = await suitePlace();
    await place.run('run', 'suites/nulls', '--rounds', '1');
    await buildEngine(place, 'old.engine', 1_000_000);
    await buildEngine(place, 'new.engine', 1_800_000);
    const measure = (candidate: string, baseline: string, ...more: string[]) =>
      place.run('gate', 'suites/nulls', '--engine', candidate, '--against', baseline, '--rounds', '6', '--time', '20ms', '--threshold', 'memory-peak=off', ...more);
    const slower = await measure('new.engine', 'old.engine');
    expect(slower.stdout).toMatch(/latency p50 rose by (79|80)\S* % .*beyond chance/);
    expect(slower.status).toBe(1);
    const faster = await measure('old.engine', 'new.engine', '--json');
    expect(faster.status).toBe(0);
    expect(JSON.parse(faster.stdout)).toMatchObject({ verdict: 'passed', cases: [{ verdict: 'improved' }] });
  });
});

describe('gate --self-test', () => {
  it('says what the gate is worth here, and what rounds would buy', async () => {
    const place = await suitePlace();
    const { status, stdout } = await place.run('gate', 'suites/nulls', '--self-test', '--rounds', '4', '--time', '20ms', '--detect', '10%');
    expect(stdout).toMatch(/^self-test of the gate, suite nulls: \d+ cases?, 4 rounds$/m);
    expect(stdout).toMatch(/identical engines raised an alarm/);
    expect(stdout).toMatch(/^to find a slowdown of 10\.0 % in every case: --rounds \d+/m);
    expect(status).toBe(0);
  });

  // Refusals write nothing: one folder serves them.
  const folder = groupFolder();
  it.each([
    { words: ['--self-test', '--against', 'a.engine'], says: /--against and --self-test are different measurements/ },
    { words: ['--detect', '5%'], says: /--detect goes with --self-test/ },
    { words: ['--engine', 'a.engine'], says: /--engine goes with --against/ },
    { words: ['--self-test', '--detect', 'much'], says: /'much' is not a slowdown/ },
    { words: ['--self-test'], says: /needs a suite/ },
  ])('refuses $words', async ({ words, says }) => {
    const place = await workplace(undefined, await folder());
    const { status, stderr } = await place.run('gate', ...words);
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
  });
});
