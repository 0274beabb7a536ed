/** `build` of a suite: the engines that a run measured, as files, and what is refused. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sha256Hex } from '../../src/engine/sha256.ts';
import type { BenchRecord } from '../../src/results/record.ts';
import type { SuiteBuildResult } from '../../src/workflows/build-suite.ts';
import { NULL_SUITE, PICTURES_SUITE, workplace, type Workplace } from './cli.ts';

/** With bounds that every variant keeps, so that there is one to ship. */
const SUITE = PICTURES_SUITE.replace('name: pictures', 'name: shipped').replace('accuracy: { samples: 4 }', 'accuracy: { samples: 4, minCosine: 0.5, minSnrDb: 1, minAgreementPercent: 0, maxTop1DropPoints: 100 }');

async function suitePlace(suite: string): Promise<Workplace> {
  const place = await workplace();
  await place.write('my suites/suite.yaml', suite);
  return place;
}

async function buildJson(place: Workplace, ...words: string[]): Promise<SuiteBuildResult> {
  const { status, stdout, stderr } = await place.run('build', 'my suites', '--json', ...words);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as SuiteBuildResult;
}

/** The words of a printed command, without `tsrt-bench`; quotes as these tests need them. */
function wordsOf(command: string): string[] {
  return [...command.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!).slice(1);
}

describe('build of a suite', { timeout: 120_000 }, () => {
  it('writes the very engines that a run measured, and a run says how to have the one that it recommends', async () => {
    const place = await suitePlace(SUITE);
    const run = await place.run('run', 'my suites', '--option', 'preprocess=device');
    expect(run.status).toBe(0);
    const file = /^records {2}(.*)$/m.exec(run.stdout)![1]!;
    const records = (await readFile(join(place.folder, file), 'utf8')).trimEnd().split('\n').map((line) => JSON.parse(line) as BenchRecord);
    const measured = new Map(records.map((record) => [record.case.variant.id, record.status === 'completed' ? record.build.engineSha256 : record.status]));
    expect([...measured.keys()].sort()).toEqual(['fp32', 'int8'].map((precision) => `onnxruntime/${precision}/fusion-on/preprocess-device/threads-1`));

    const { engines, missing } = await buildJson(place, '--output', 'engines');
    expect(missing).toEqual([]);
    expect(engines).toHaveLength(4);
    expect(Object.fromEntries(engines.map(({ variant, sha256 }) => [variant, sha256]))).toMatchObject(Object.fromEntries(measured));
    expect((await readdir(join(place.folder, 'engines'))).sort()).toEqual(engines.map((engine) => engine.file.replace('engines/', '')).sort());
    for (const engine of engines) expect(await sha256Hex(await readFile(join(place.folder, engine.file)))).toBe(engine.sha256);

    const fastest = /^fastest {2}at batch 2, single-stream, [^:]*:\s+(\S+)/m.exec(run.stdout)![1]!;
    const [ship, ...others] = [...run.stdout.matchAll(/^ship {5}(.*)$/gm)].map(([, command]) => command!);
    expect(others).toEqual([]);
    expect(ship).toBe(`tsrt-bench build 'my suites' --option 'preprocess=device' --variant ${fastest} --batch 2`);
    const shipped = await buildJson(place, ...wordsOf(ship!).slice(2), '--output', 'shipped.engine');
    expect(shipped.engines).toMatchObject([{ variant: fastest, batch: 2, file: 'shipped.engine', sha256: measured.get(fastest) }]);
  });

  it('writes one engine to a file, shows it as it shows that of a model, and refuses one file for several', async () => {
    const place = await suitePlace(NULL_SUITE);
    const one = await place.run('build', 'my suites', '--precision', 'fp16', '--output', 'one.engine');
    expect(one.status).toBe(0);
    expect(one.stdout).toMatch(/^engine {3}one\.engine \(.*\nbuilt {4}null\/fp16\/fusion-on at batch 1: .*\ninput {4}input float32\[1,3,32,32\]\n/);
    const refused = await place.run('build', 'my suites', '--batch', '1,2', '--output', 'all.engine');
    expect(refused).toMatchObject({ status: 2, stdout: '' });
    expect(refused.stderr).toBe(`error: --output all.engine names one file, but the suite has 4 engines
       null/fp32/fusion-on/b1
       null/fp32/fusion-on/b2
       null/fp16/fusion-on/b1
       null/fp16/fusion-on/b2
  fix: narrow them by --variant, --precision, --batch, or give --output a folder
`);
    expect((await readdir(place.folder)).filter((name) => name.endsWith('.engine'))).toEqual(['one.engine']);
  });

  it('says why an engine is missing, and fails where it is for no lack of the backend, or none is left', async () => {
    const place = await suitePlace(SUITE);
    const some = await place.run('build', 'my suites', '--precision', 'fp32,fp16', '--option', 'preprocess=host', '--output', 'some');
    expect(some.status).toBe(0);
    expect(some.stdout).toMatch(/^engine {3}some\/shipped-onnxruntime-fp32-.*\n(?:.*\n)*skipped {2}onnxruntime\/fp16\/fusion-on\/preprocess-host\/threads-1 at batch 2: .*precision.*\n {9}fix: /);
    const none = await place.run('build', 'my suites', '--precision', 'fp16', '--output', 'none');
    expect(none.status).toBe(1);
    expect(none.stdout).toMatch(/^skipped .*\n {9}fix: .*\nskipped .*\n {9}fix: .*\n$/);
  });

  it.each([
    [['--variant', 'null/fp16/fusion-of'], /^error: the suite has no variant 'null\/fp16\/fusion-of'\n +null\/fp32\/fusion-on\n +null\/fp16\/fusion-on\n +fix: did you mean 'null\/fp16\/fusion-on'\?/],
    [['--calibration', 'ranges.json'], /^error: --calibration is for a model, but a suite was named\n +fix: set it in the suite, as quantization\.calibration/],
    [['--disable-pass', 'windows'], /^error: --disable-pass is for a model/],
    [['--export-tactics', 't.json'], /^error: --export-tactics t\.json is for one, but the suite has 2 engines/],
  ])('refuses %s', async (words, message) => {
    const place = await suitePlace(NULL_SUITE);
    const { status, stderr } = await place.run('build', 'my suites', '--output', 'e', ...words);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect((await readdir(place.folder)).includes('e')).toBe(false);
  });

  it.each([
    [['--variant', 'null/fp16/fusion-on'], /^error: --variant is for a suite, but a model was named/],
    [['--dataset', 'photos'], /^error: --dataset is for a suite/],
    [['--precision', 'fp32,fp16'], /^error: --precision takes one value for a model, found fp32, fp16/],
    [['--batch', '0'], /whole numbers above 0/],
  ])('refuses %s of a model', async (words, message) => {
    const place = await workplace();
    const { status, stderr } = await place.run('build', 'm.onnx', ...words);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
  });
});
