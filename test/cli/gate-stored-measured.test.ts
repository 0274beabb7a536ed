/** `gate --measure` as a user runs it: the suite runs until a stored baseline is answered, on the null backend's fake clock. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { NULL_SUITE, workplace, type Workplace } from './cli.ts';

const BASELINE = 'results/baselines/main/nulls/null.jsonl';

/** A project whose baseline has so many rounds. */
async function withBaseline(rounds: number): Promise<Workplace> {
  const place = await workplace();
  await place.write('suites/nulls/suite.yaml', NULL_SUITE);
  await place.run('run', 'suites/nulls', '--rounds', String(rounds));
  const saved = await place.run('baseline', 'save', 'main');
  expect(saved.stderr.includes('only large changes')).toBe(rounds < 12);
  return place;
}

interface Answer {
  readonly verdict: string;
  readonly candidate: string;
  readonly refusal?: { readonly message: string };
  readonly cases: readonly { readonly verdict: string; readonly metrics: readonly { readonly metric: string; readonly change: { readonly rounds?: number } }[] }[];
}

const roundsOf = ({ cases }: Answer): (number | undefined)[] => cases.map(({ metrics }) => metrics.find(({ metric }) => metric === 'latency-p50')?.change.rounds);

describe('gate --measure', () => {
  it('measures no further than it needs, and keeps what it measured as a run', async () => {
    const place = await withBaseline(12);
    const { status, stdout } = await place.run('gate', 'suites/nulls', '--measure', '--json');
    const answer = JSON.parse(stdout) as Answer;
    expect(answer.verdict).toBe('passed');
    expect(roundsOf(answer)).toEqual([8, 8]);
    expect(status).toBe(0);
    const again = JSON.parse((await place.run('gate', '--json')).stdout) as Answer;
    expect(again.candidate).toBe(answer.candidate);
  }, 120_000);

  it('finds what became slower, in all its rounds where a baseline is to come of it', async () => {
    const place = await withBaseline(12);
    const text = await readFile(join(place.folder, BASELINE), 'utf8');
    const halved = (_: string, key: string, list: string) => `"${key}":[${list.split(',').map((ns) => Number(ns) * 0.5).join(',')}]`;
    await writeFile(join(place.folder, BASELINE), text.replace(/"(samplesNs)":\[([^\]]*)\]/g, halved));
    const { status, stdout } = await place.run('gate', 'suites/nulls', '--measure', '--update', '--rounds', '9', '--precision', 'fp32', '--ignore-missing', '--json');
    const answer = JSON.parse(stdout) as Answer;
    expect(answer.verdict).toBe('regressed');
    expect(roundsOf(answer)).toEqual([9, undefined]);
    expect(answer.cases.map(({ verdict }) => verdict)).toEqual(['regressed', 'passed']);
    expect(answer.refusal?.message).toMatch(/the baseline is not updated/);
    expect(status).toBe(1);
  }, 120_000);

  it('ends before it measures anything where there is no baseline', async () => {
    const place = await workplace();
    await place.write('suites/nulls/suite.yaml', NULL_SUITE);
    const { status, stderr } = await place.run('gate', 'suites/nulls', '--measure');
    expect(stderr).toMatch(/there is no baseline 'main'[\s\S]*run suites\/nulls --rounds 24/);
    expect(stderr).not.toMatch(/measure:/);
    expect(status).toBe(3);
  });

  it('ends after one round where the baseline is of another device', async () => {
    const place = await withBaseline(3);
    const text = await readFile(join(place.folder, BASELINE), 'utf8');
    await place.write('results/baselines/main/nulls/nvidia-h200.jsonl', text.replaceAll('"slug":"null"', '"slug":"nvidia-h200"'));
    await place.run('baseline', 'rm', 'main', '--device', 'null', '--force');
    const { status, stderr } = await place.run('gate', 'suites/nulls', '--measure');
    expect(stderr).toMatch(/was measured on nvidia-h200, but this run is on null/);
    expect(status).toBe(3);
  }, 120_000);

  it.each([
    { words: ['--measure', '--self-test'], says: /--self-test and --measure are different measurements/ },
    { words: ['--measure', '--candidate', 'run:1'], says: /--measure makes the run that is judged/ },
    { words: ['--rounds', '30'], says: /--rounds is for a gate that measures, but this one only reads records/ },
    { words: ['--batch', '8'], says: /--batch goes with --measure/ },
    { words: ['suites/x', '--against', 'HEAD', '--fusion', 'on'], says: /--fusion goes with --measure/ },
    { words: ['--measure'], says: /needs a suite/ },
  ])('refuses $words', async ({ words, says }) => {
    const place = await workplace();
    const { status, stderr } = await place.run('gate', ...words);
    expect(stderr).toMatch(says);
    expect(status).toBe(2);
  });
});
