/** Baselines as a user meets them: broken ones, other places for them, and their update after a review. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { serveObjects } from '../unit/results/object-server.ts';
import { NULL_SUITE, workplace, type Workplace } from './cli.ts';

const SUITE = NULL_SUITE.replace('rounds: 3', 'rounds: 6');

async function suitePlace(): Promise<Workplace> {
  const place = await workplace();
  await place.write('suites/nulls/suite.yaml', SUITE);
  return place;
}

const BASELINE = 'results/baselines/main/nulls/null.jsonl';

describe('a baseline that is not what it should be', () => {
  // One run serves all: each case spoils a copy of its baseline.
  let measured: Promise<{ readonly run: string; readonly runFile: string; readonly good: string }> | undefined;
  const measure = async () => {
    const place = await suitePlace();
    const { files: [file] } = JSON.parse((await place.run('run', 'suites/nulls', '--json')).stdout) as { files: [string] };
    const run = await readFile(file, 'utf8');
    await place.run('baseline', 'save', 'main');
    return { run, runFile: file.slice(file.indexOf('results/')), good: await readFile(join(place.folder, BASELINE), 'utf8') };
  };

  const lines = (text: string): string[] => text.trimEnd().split('\n');
  it.each([
    { name: 'is whole', spoil: (text: string) => text, status: 0, says: /^PASSED/m, fix: undefined },
    { name: 'is empty', spoil: () => '', status: 2, says: /the baseline is empty/, fix: /baseline save main --force/ },
    { name: 'holds blank lines only', spoil: () => '\n\n', status: 2, says: /the baseline is empty/, fix: /baseline save main --force/ },
    { name: 'was cut in a line', spoil: (text: string) => text.slice(0, -200), status: 2, says: /the baseline is cut off/, fix: /restore the file/ },
    { name: 'holds a line that is no JSON', spoil: (text: string) => `${text}\u0000\u0001garbage\n`, status: 2, says: /not JSON[\s\S]*main\/nulls\/null\.jsonl:3/, fix: /remove the line, or restore/ },
    { name: 'lacks a field', spoil: (text: string) => text.replace('"rounds":', '"sounds":'), status: 2, says: /does not follow the schema[\s\S]*null\.jsonl:1[\s\S]*rounds/, fix: /record\.schema\.json/ },
    { name: 'holds a number where none can be', spoil: (text: string) => text.replace(/"buildMs":[\d.e-]+/, '"buildMs":-5'), status: 2, says: /build\.buildMs/, fix: /mend the line/ },
    { name: 'is of an older schema', spoil: (text: string) => text.replaceAll('"schemaVersion":1', '"schemaVersion":0'), status: 2, says: /schema version 0; this tsrt-bench reads version 1/, fix: /measure again .* save the baseline again/ },
    { name: 'is of a newer schema', spoil: (text: string) => text.replaceAll('"schemaVersion":1', '"schemaVersion":2'), status: 2, says: /schema version 2/, fix: /update this one/ },
    { name: 'holds records of two devices', spoil: (text: string) => `${lines(text)[0]}\n${lines(text)[1]!.replace('"slug":"null"', '"slug":"nvidia-h200"')}\n`, status: 2, says: /for null holds records of null, nvidia-h200/, fix: /restore the file/ },
    { name: 'holds records of two suites', spoil: (text: string) => `${lines(text)[0]}\n${lines(text)[1]!.replace('"suite":"nulls"', '"suite":"others"')}\n`, status: 2, says: /several suites: nulls, others/, fix: /one suite in one file/ },
    { name: 'was measured on another device', spoil: (text: string) => text.replaceAll('"slug":"null"', '"slug":"nvidia-h200"'), at: 'results/baselines/main/nulls/nvidia-h200.jsonl', status: 3, says: /no records of null; it has nvidia-h200/, fix: /--allow-different-device/ },
    { name: 'is of another suite', spoil: (text: string) => text.replaceAll('"suite":"nulls"', '"suite":"others"'), at: 'results/baselines/main/others/null.jsonl', status: 3, says: /no records of suite nulls; it has others/, fix: /baseline save main/ },
    { name: 'is not there', spoil: (text: string) => text, at: 'results/baselines/old/nulls/null.jsonl', status: 3, says: /there is no baseline 'main'/, fix: /choose one of old with --baseline/ },
  ])('$name: status $status', async ({ spoil, at = BASELINE, status, says, fix }) => {
    const { run, runFile, good } = await (measured ??= measure());
    const place = await suitePlace();
    await place.write(runFile, run);
    await place.write(at, spoil(good));
    const outcome = await place.run('gate');
    expect(outcome.stdout + outcome.stderr).toMatch(says);
    if (fix) expect(outcome.stderr).toMatch(new RegExp(`fix: .*${fix.source}`));
    expect(outcome.status).toBe(status);
  }, 120_000);
});

describe('gate --update and --store', () => {

  it('takes what passed, refuses what regressed by the gate’s own status, and takes what a reviewer names', async () => {
    const place = await suitePlace();
    await place.run('run', 'suites/nulls');
    const store = ['--store', 'kept'];
    expect((await place.run('gate', ...store)).status).toBe(3);
    expect((await place.run('baseline', 'save', 'main', ...store)).stdout).toMatch(/kept\/main\/nulls\/null\.jsonl/);
    // A run whose times are half as long again: the records say so, the fake clock could not under the same case ids.
    const { files: [file] } = JSON.parse((await place.run('run', 'suites/nulls', '--json')).stdout) as { files: [string] };
    const slower = (await readFile(file, 'utf8')).replace(/"samplesNs":\[([^\]]*)\]/g, (_, list: string) => `"samplesNs":[${list.split(',').map((ns) => Number(ns) * 1.5)}]`).replace(/"elapsedNs":([\d.]+)/g, (_, ns: string) => `"elapsedNs":${Number(ns) * 1.5}`);
    await writeFile(file, slower);
    const refused = await place.run('gate', ...store, '--update');
    expect(refused.status).toBe(1);
    expect(refused.stdout).toMatch(/^REGRESSED/m);
    expect(refused.stderr).toMatch(/error: the baseline is not updated: 2 of 2 cases did not pass[\s\S]*latency p50 rose by 50 %[\s\S]*fix: .*--accept CASE/);
    const part = await place.run('gate', ...store, '--update', '--accept', 'fp32');
    expect([part.status, part.stderr]).toEqual([1, expect.stringContaining('1 of 2 cases did not pass')]);
    const taken = await place.run('gate', ...store, '--update', '--accept', 'fp32', '--accept', 'fp16');
    expect(taken.status).toBe(0);
    expect(taken.stdout).toMatch(/^baseline main updated: 2 cases of nulls on null/m);
    expect(taken.stdout).toMatch(/regressed: latency p50 rose by 50 %/);
    const again = await place.run('gate', ...store, '--update');
    expect([again.status, again.stderr]).toEqual([2, expect.stringContaining('is already this run')]);
    const shown = JSON.parse((await place.run('baseline', 'show', 'main', ...store, '--json')).stdout) as { parts: { updates: unknown[] }[] };
    expect(shown.parts[0]?.updates).toMatchObject([{ cases: 2 }, { cases: 2, verdict: 'regressed', forced: true }]);
  }, 120_000);

  it.each([
    { words: ['--force'], says: /--force goes with --update/ },
    { words: ['--accept', 'x'], says: /--accept goes with --update/ },
    { words: ['--update', '--baseline', 'old.jsonl'], says: /is not a baseline that can be updated/ },
    { words: ['suites/nulls', '--update', '--self-test'], says: /--against and --self-test make none/ },
    { words: ['--store', 'ftp://x/y'], says: /can't be kept at ftp/ },
  ])('refuses $words', async ({ words, says }) => {
    const place = await workplace();
    const { status, stderr } = await place.run('gate', ...words);
    expect(stderr).toMatch(says);
    expect(status).toBe(2);
  });

  it('keeps baselines behind HTTP, and a server that fails is no missing baseline', async () => {
    const place = await suitePlace();
    await place.run('run', 'suites/nulls');
    const server = await serveObjects();
    const store = ['--store', `${server.url}/bench`];
    expect((await place.run('gate', ...store)).status).toBe(3);
    expect((await place.run('baseline', 'save', 'main', ...store)).status).toBe(0);
    expect((await place.run('baseline', 'list', ...store)).stdout).toMatch(/main +nulls +null +2/);
    await place.run('run', 'suites/nulls');
    const passed = await place.run('gate', ...store, '--update', '--json');
    expect(JSON.parse(passed.stdout)).toMatchObject({ verdict: 'passed', update: { name: 'main', places: [{ cases: 2, path: expect.stringContaining(server.url) }] } });
    server.fault = (_asked, response) => {
      response.writeHead(403).end();
      return true;
    };
    const denied = await place.run('gate', ...store);
    expect(denied.status).toBe(5);
    expect(denied.stderr).toMatch(/refused the request \(403 to GET\)[\s\S]*fix: set TSRT_BENCH_STORE_TOKEN/);
  }, 120_000);
});

describe('what the gate is worth here', () => {
  it('is said to be unknown, until a self-test was made: then the verdict and doctor quote it', async () => {
    const place = await suitePlace();
    await place.run('run', 'suites/nulls');
    await place.run('baseline', 'save', 'main');
    expect((await place.run('gate')).stdout).toMatch(/no self-test of suite nulls was made on this machine/);
    expect((await place.runApart('doctor')).stdout).toMatch(/^gate\n {2}no self-test was made on this machine/m);
    await place.run('gate', 'suites/nulls', '--self-test', '--rounds', '4', '--time', '20ms');
    const quoted = /on this machine: false-alarm rate 0 % over \d+ A\/A comparisons; the smallest change found in every case is [\d.]+ % at 90 % power with 4 interleaved rounds \(self-test of \d{4}-\d\d-\d\d\)/;
    expect((await place.run('gate')).stdout).toMatch(quoted);
    expect((await place.runApart('doctor')).stdout).toMatch(new RegExp(`suite nulls: ${quoted.source}`));
    expect((await place.run('gate', '--format', 'junit')).stdout).toMatch(quoted);
  }, 120_000);
});
