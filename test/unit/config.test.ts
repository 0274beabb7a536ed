/** Where baselines are kept, by flag, environment, file and default. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config.ts';
import { BASELINES_FOLDER } from '../../src/results/names.ts';
import { temporaryFolder } from '../helpers/folder.ts';

describe('the file', () => {
  it.each(['.tsrt-benchrc', '.tsrt-benchrc.json', '.tsrt-benchrc.yaml', 'package.json'])('%s may begin with a byte order mark', async (name) => {
    const folder = await temporaryFolder();
    const values = { results: 'out' };
    await writeFile(join(folder, name), `\uFEFF${JSON.stringify(name === 'package.json' ? { 'tsrt-bench': values } : values)}`);
    expect((await resolveConfig({}, folder)).config.results).toBe(join(folder, 'out'));
  });

  it.each(['.json', '.yaml', '.yml'])('may be called tsrt-bench.config%s', async (ending) => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, `tsrt-bench.config${ending}`), JSON.stringify({ rounds: 7 }));
    expect((await resolveConfig({}, folder)).config.rounds).toBe(7);
  });

  it('may have a single value where there is a list, and says what else is wrong', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, '.tsrt-benchrc.yaml'), 'plugins: ./mine.mjs\nbackend: webgpu\nprecision: fp16\nbatch: 8\n');
    const { config } = await resolveConfig({}, folder);
    expect(config).toMatchObject({ plugins: [join(folder, 'mine.mjs')], backend: ['webgpu'], precision: ['fp16'], batch: [8] });
    await writeFile(join(folder, '.tsrt-benchrc.yaml'), 'batch: some\nrond: 3\n');
    await expect(resolveConfig({}, folder)).rejects.toMatchObject({ code: 'CONFIG_INVALID', details: [expect.stringMatching(/^batch\.0: /) as string, "rond: unknown key; did you mean 'rounds'?"] });
  });
});

describe('store', () => {
  it('is the baselines’ folder in the results, wherever those are', async () => {
    const folder = await temporaryFolder();
    const { config, origins } = await resolveConfig({ results: 'out' }, folder);
    expect([config.store, origins.store]).toEqual([join(folder, 'out', BASELINES_FOLDER), 'default']);
  });

  it('is a URL as it stands, or a folder beside what names it; flag over environment over file', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, '.tsrt-benchrc.json'), JSON.stringify({ store: 'kept' }));
    expect((await resolveConfig({}, folder)).config.store).toBe(join(folder, 'kept'));
    const fromEnvironment = await resolveConfig({}, folder, { TSRT_BENCH_STORE: 's3://perf/main' });
    expect([fromEnvironment.config.store, fromEnvironment.origins.store]).toEqual(['s3://perf/main', 'environment TSRT_BENCH_STORE']);
    expect((await resolveConfig({ store: 'https://host/x' }, folder, { TSRT_BENCH_STORE: 's3://perf/main' })).config.store).toBe('https://host/x');
    await writeFile(join(folder, '.tsrt-benchrc.json'), JSON.stringify({ store: 'https://host/y' }));
    expect((await resolveConfig({}, folder)).config.store).toBe('https://host/y');
  });
});
