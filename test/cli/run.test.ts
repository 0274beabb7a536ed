/** `run` and what follows it, as a user runs them, on the null backend. */
import { execFile } from 'node:child_process';
import { appendFile, readdir, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { groupFolder } from '../helpers/folder.ts';
import { NULL_SUITE, workplace, type Workplace } from './cli.ts';

interface RunJson {
  readonly runId: string;
  readonly files: readonly [string];
  readonly interrupted: boolean;
  readonly records: readonly { readonly status: string; readonly case: { readonly id: string }; readonly cause?: string; readonly reason?: string }[];
}

async function suitePlace(suite = NULL_SUITE): Promise<Workplace> {
  const place = await workplace();
  await place.write('suites/nulls/suite.yaml', suite);
  return place;
}

async function runJson(place: Workplace, ...words: string[]): Promise<RunJson> {
  const { stdout } = await place.run('run', 'suites/nulls', '--json', ...words);
  return JSON.parse(stdout) as RunJson;
}

describe('run', () => {
  // A hang takes fifteen seconds of waiting: this run is under way while the others are tested.
  const folder = groupFolder();
  let faulty: ReturnType<Workplace['start']>;
  beforeAll(async () => {
    const place = await workplace(undefined, await folder());
    await place.write('suites/nulls/suite.yaml', `${NULL_SUITE}
include:
  - backend: 'null'
    backendOptions: { fault: [crash, error, hang, out-of-memory], faultAfter: 5 }
`.replace('timeoutMs: 20000', 'timeoutMs: 3000'));
    faulty = place.runApart('run', 'suites/nulls', '--json', '--rounds', '2');
  });
  afterAll(() => faulty);

  it('prints one table, where the records are, and what to do next', async () => {
    const place = await suitePlace();
    const { status, stdout, stderr } = await place.runApart('run', 'suites/nulls');
    expect(status).toBe(0);
    expect(stdout).toMatch(/null\/fp32\/fusion-on +1 +1\.00/);
    expect(stdout).toMatch(/null\/fp16\/fusion-on +1 +0\.500 .* 2\.00×/);
    expect(stdout).toMatch(/^records {2}results\/nulls\/null\/\S+\.jsonl$/m);
    expect(stdout).toMatch(/^next {5}tsrt-bench /m);
    expect(stderr).toMatch(/^\[2\/2\] /m);
  });

  it('skips a backend that is not there, with the reason, and says nothing on standard error when quiet', async () => {
    const place = await suitePlace();
    await place.write(
      'plugin.mjs',
      `export default { name: 'absent', version: '1', backends: [{ name: 'absent', description: 'not there',
        probe: async () => ({ status: 'unavailable', reason: 'no such device', fix: 'buy one' }),
        supports: () => [], build: async () => {}, load: async () => {} }] };`,
    );
    const { status, stdout, stderr } = await place.run('run', 'suites/nulls', '--backend', 'absent,null', '--plugin', './plugin.mjs', '--quiet');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/skipped.*absent.*no such device/);
    expect(stdout).toMatch(/fix: buy one/);
  });

  it('keeps what is finished on Ctrl-C, says so in its status, and goes on with --resume', async () => {
    const place = await suitePlace(
      NULL_SUITE.replace("precision: [fp32, fp16]", "precision: [fp32, fp16]\n    backendOptions: { clock: wall, latencyNs: 5000000 }").replace('rounds: 3, timeMs: 20,', 'rounds: 2, timeMs: 400,'),
    );
    let sent = false;
    const { status, stdout } = await place.start(['run', 'suites/nulls'], (text, kill) => {
      if (sent || !text.includes('[1/2]')) return;
      sent = true;
      kill('SIGINT');
    });
    expect(status).toBe(130);
    expect(stdout).toMatch(/--resume/);
    const resumed = await runJson(place, '--resume');
    expect(resumed.interrupted).toBe(false);
    expect(resumed.records.map((record) => record.status)).toEqual(['completed', 'completed']);
    expect(await readdir(join(place.folder, 'results/nulls/null'))).toEqual([`${resumed.runId}.jsonl`]);
  });

  it('and a gate that is stopped has not passed, whatever becomes of what it could not decide', async () => {
    const place = await suitePlace(NULL_SUITE.replace("precision: [fp32, fp16]", "precision: [fp32, fp16]\n    backendOptions: { clock: wall, latencyNs: 5000000 }").replace('rounds: 3, timeMs: 20,', 'rounds: 2, timeMs: 400,'));
    await runJson(place);
    expect((await place.run('baseline', 'save', 'main')).status).toBe(0);
    let sent = false;
    const { status, stdout } = await place.start(['gate', 'suites/nulls', '--measure', '--inconclusive', 'pass'], (text, kill) => {
      if (sent || !text.includes('interleaved')) return;
      sent = true;
      kill('SIGTERM');
    });
    expect({ sent, status }).toEqual({ sent: true, status: 130 });
    expect(stdout).toMatch(/interrupted/);
  });

  it('lets two runs at once keep apart', async () => {
    const place = await suitePlace();
    const run = async (): Promise<RunJson> => JSON.parse((await place.runApart('run', 'suites/nulls', '--json', '--rounds', '1')).stdout) as RunJson;
    const [a, b] = await Promise.all([run(), run()]);
    expect(a.runId).not.toBe(b.runId);
    expect([...a.records, ...b.records].map((record) => record.status)).toEqual(Array.from({ length: 4 }, () => 'completed'));
  });

  it('ends before anything is built where a calibration is named that is not there', async () => {
    const place = await suitePlace(NULL_SUITE.replace(/^variants:/m, 'quantization: { calibration: ranges.json }\nvariants:'));
    const { status, stdout, stderr } = await place.run('run', 'suites/nulls');
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/the calibration can't be read\n *at: .*suites\/nulls\/ranges\.json\n *fix: .*calibrate '.*suites\/nulls\/suite\.yaml' --out '.*ranges\.json'/);
    expect((await place.run('run', 'suites/nulls', '--precision', 'fp32')).status).toBe(0);
  });

  it('says at once that a results folder is a file', async () => {
    const place = await suitePlace();
    const file = await place.write('results', 'in the way');
    const { status, stderr } = await place.run('run', 'suites/nulls');
    expect(status).toBe(2);
    expect(stderr).toContain(file);
    expect(stderr).toMatch(/fix: /);
  });

  it('writes one line per case, whatever became of it', async () => {
    const { stdout, status: exit } = await faulty;
    expect(exit).toBe(1);
    const { records, files: [file] } = JSON.parse(stdout) as RunJson;
    expect(records.map(({ status, cause }) => cause ?? status)).toEqual([
      'completed',
      'completed',
      'crashed',
      'error',
      'timed-out',
      'out-of-memory',
    ]);
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(lines).toHaveLength(records.length);
    expect(lines.map((line) => (JSON.parse(line) as { readonly provenance: { readonly command?: string } }).provenance.command)).toEqual(records.map(() => 'tsrt-bench run suites/nulls --json --rounds 2'));
  });
});

describe('a full disk', () => {
  it('ends before measuring, with the way out', async (context) => {
    const place = await suitePlace();
    const folder = join(place.folder, 'results');
    await place.write('results/.keep', '');
    const mount = await promisify(execFile)('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', folder]).catch(() => undefined);
    if (!mount) return context.skip('needs the right to mount a tmpfs');
    try {
      await place.write('results/fill', new Uint8Array(4096)).catch(() => undefined);
      const { status, stderr } = await place.run('run', 'suites/nulls');
      expect(status).toBe(2);
      expect(stderr).toMatch(/disk is full/);
    } finally {
      await promisify(execFile)('umount', [folder]);
    }
  });
});

describe('baseline and gate', () => {
  it('tells passed, regressed, incomparable, inconclusive and broken apart by exit status', async () => {
    const place = await suitePlace();
    await runJson(place);
    expect((await place.runApart('gate')).status).toBe(3);
    expect((await place.runApart('baseline', 'save', 'main')).status).toBe(0);
    await runJson(place);
    const passed = await place.runApart('gate', '--format', 'junit');
    expect(passed.status).toBe(0);
    expect(passed.stdout).toMatch(/^<\?xml/);

    const slower = NULL_SUITE.replace('precision: [fp32, fp16]', 'precision: [fp32, fp16]\n    backendOptions: { latencyNs: 1100000 }');
    await place.write('suites/nulls/suite.yaml', slower);
    const other = await runJson(place);
    expect(other.records.every((record) => record.case.id.includes('latencyNs'))).toBe(true);
    expect((await place.runApart('gate')).status).toBe(4);

    const file = join(place.folder, 'results/baselines/main/nulls/null.jsonl');
    await appendFile(file, '{"half a li');
    const cut = await place.runApart('gate');
    expect(cut.stderr + cut.stdout).toMatch(/cut/);
    await truncate(file, 0);
    expect((await place.runApart('gate')).status).toBe(2);
  });

  it('writes a page with charts', async () => {
    const place = await suitePlace();
    await runJson(place, '--rounds', '1');
    expect(await place.runApart('report', '--format', 'html', '--output', 'pages/report.html')).toMatchObject({ status: 0, stdout: '' });
    const page = await readFile(join(place.folder, 'pages/report.html'), 'utf8');
    expect(page).toMatch(/^<!DOCTYPE html><html lang="en">.*<svg .*<\/html>\n$/s);
    expect((await place.run('report', '--format', 'html')).stdout.trimEnd()).toBe(page.trimEnd());
  });

  it('reads a results file that was cut in the middle of a line', async () => {
    const place = await suitePlace();
    const { files: [file] } = await runJson(place, '--rounds', '1');
    const bytes = await readFile(file);
    await truncate(file, bytes.length - 20);
    const { status, stdout, stderr } = await place.run('report');
    expect(status).toBe(0);
    expect(stdout).toMatch(/null\/fp(32|16)\/fusion-on/);
    expect(stdout + stderr).toMatch(/cut/);
  });
});
