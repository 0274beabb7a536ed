import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { checkAll, type PoolSettings } from '../../../../src/workflows/verify/pool.ts';
import type { CaseResult } from '../../../../src/workflows/verify/result.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { buildOptions } from '../../../helpers/options.ts';

const settings: PoolSettings = {
  open: { kind: 'open', backend: 'null', plugins: [], settings: { tolerance: { rtol: undefined, atol: undefined }, options: buildOptions(), rebatch: false, device: undefined, seed: 0 } },
  jobs: 1,
  caseTimeoutMs: 60_000,
  environment: { VERIFY_TEST: 'set' },
  signal: undefined,
  entry: fileURLToPath(new URL('../../../helpers/verify-worker.mjs', import.meta.url)),
};

const cases = (...names: readonly string[]) => names.map((name) => ({ name, modelFile: `${name}/model.onnx`, dataSets: [] }));

async function collect(names: readonly string[], overrides: Partial<PoolSettings> = {}): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for await (const result of checkAll(cases(...names), { ...settings, ...overrides })) results.push(result);
  return results;
}

const pidOf = (result: CaseResult | undefined) => (result?.status === 'passed' ? result.notices[0] : undefined);

describe('verifying workers', () => {
  it('keep the results around a crash and go on in a new process', async () => {
    const results = await collect(['a', 'crash', 'b', 'exit', 'c']);
    expect(results.map(({ name, status }) => `${name} ${status}`)).toEqual(['a passed', 'crash error', 'b passed', 'exit error', 'c passed']);
    expect(results[1]).toMatchObject({ error: { message: 'the worker process died (SIGKILL)', details: ['a driver says goodbye'] } });
    expect(results[3]).toMatchObject({ error: { message: 'the worker process died (exit 3)' } });
    expect(pidOf(results[0])).not.toBe(pidOf(results[2]));
    expect(results[2]).toMatchObject({ notices: [expect.any(String), 'opened 1', 'env set'] });
  });

  it('end a case that hangs', async () => {
    const results = await collect(['hang', 'a'], { caseTimeoutMs: 500 });
    expect(results[0]).toMatchObject({ status: 'error', error: { message: 'the worker process did not answer within 0.5 s and was ended' } });
    expect(results[1]).toMatchObject({ status: 'passed' });
  });

  it('give results in the order of the cases, several at a time', async () => {
    const names = Array.from({ length: 12 }, (_, i) => `case ${i}`);
    const results = await collect(names, { jobs: 2 });
    expect(results.map(({ name }) => name)).toEqual(names);
    expect(new Set(results.map(pidOf)).size).toBe(2);
  });

  it('raise what keeps them from starting', async () => {
    const open = { ...settings.open, backend: 'missing' };
    await expect(collect(['a', 'b'], { open, jobs: 2 })).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE', message: 'no such device', fix: 'buy one' });
  });

  it('leave by themselves, and are killed where they do not', async () => {
    const left = join(await temporaryFolder(), 'left.txt');
    await collect(['a'], { environment: { VERIFY_LEFT: left } });
    expect(await readFile(left, 'utf8')).toBe('left');
    expect(await collect(['a'], { environment: { VERIFY_CLINGS: 'yes' }, goodbyeMs: 50 })).toMatchObject([{ status: 'passed' }]);
  });

  it('stop when the caller stops, and when interrupted', async () => {
    for await (const result of checkAll(cases('a', 'hang'), settings)) {
      expect(result.name).toBe('a');
      break;
    }
    const controller = new AbortController();
    const hanging = collect(['hang'], { signal: controller.signal });
    controller.abort();
    await expect(hanging).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });
});
