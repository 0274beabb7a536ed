/** Self-tests that were made here, as verdicts and `doctor` quote them. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from '../../../src/gate/policy.ts';
import { assessGate } from '../../../src/gate/self-test.ts';
import { STORED_LOOKS } from '../../../src/gate/sequential.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { keepSelfTest, selfTestsHere, worthNotice } from '../../../src/workflows/self-tests.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

const random = createRandom(4);
const levels = () => Array.from({ length: 24 }, () => 0.01 * normal(random));
const test = {
  ...assessGate([{ caseId: 'a', metric: 'latency-p50', before: levels(), after: levels(), roundMs: 100 }], { policy: DEFAULT_POLICY, looks: STORED_LOOKS, seed: 1 }),
  suite: 'smoke',
};
const settings = { policy: DEFAULT_POLICY, timeMs: undefined };

describe('self-tests', () => {
  it('are quoted with rate, change, power and date, and a verdict at other settings says so', async () => {
    const cache = await temporaryFolder();
    expect(await worthNotice(cache, 'smoke', settings)).toMatch(/^no self-test of suite smoke was made on this machine; `tsrt-bench gate smoke --self-test`/);
    await keepSelfTest(cache, test, settings, '2026-02-03T04:05:06.000Z');
    const notice = await worthNotice(cache, 'smoke', settings);
    expect(notice).toMatch(/^on this machine: false-alarm rate 0 % over 3 A\/A comparisons; the smallest change found in every case is \d+(\.\d)? % at 90 % power with 24 interleaved rounds \(self-test of 2026-02-03\)$/);
    expect(await worthNotice(cache, 'smoke', { ...settings, timeMs: 500 })).toBe(`${notice}, at other settings than these`);
    expect(await worthNotice(cache, 'resnet50', settings)).toMatch(/^no self-test of suite resnet50/);
  });

  it('the newest of a setting replaces the one before; another machine’s and what is broken is not shown', async () => {
    const cache = await temporaryFolder();
    await keepSelfTest(cache, test, settings, '2026-02-03T00:00:00.000Z');
    await keepSelfTest(cache, test, settings, '2026-02-05T00:00:00.000Z');
    await keepSelfTest(cache, test, { ...settings, timeMs: 100 }, '2026-02-04T00:00:00.000Z');
    expect((await selfTestsHere(cache)).map(({ measuredAt }) => measuredAt.slice(0, 10))).toEqual(['2026-02-05', '2026-02-04']);
    const folder = join(cache, 'self-tests');
    const files = await readdir(folder);
    const text = await readFile(join(folder, files[0]!), 'utf8');
    await writeFile(join(folder, files[0]!), text.replace(/"machine": "/, '"machine": "another '));
    await writeFile(join(folder, files[1]!), '{"half');
    expect(await selfTestsHere(cache)).toEqual([]);
  });
});
