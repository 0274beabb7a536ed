/** `profile` from the command line: on the null backend, and on SwiftShader with floors. */
import { describe, expect, it } from 'vitest';
import type { EngineProfile } from '../../src/workflows/profile.ts';
import { noDevice } from '../helpers/swiftshader.ts';
import { workplace } from './cli.ts';

describe('profile', { timeout: 60_000 }, () => {
  it('times the variants of a suite', async () => {
    const place = await workplace();
    const { status, stdout } = await place.runApart('profile', 'smoke', '--backend', 'null', '--fusion', 'on', '--batch', '2', '--runs', '3', '--json');
    expect(status).toBe(0);
    const [profile, ...others] = JSON.parse(stdout) as EngineProfile[];
    expect(others).toEqual([]);
    expect(profile).toMatchObject({ title: 'null/fp32/fusion-on/b2', device: { slug: 'null' }, runs: 3, roofline: { kernelNs: 1e6, wallNs: 1e6, residualNs: 0 } });
    const csv = await place.run('profile', 'smoke', '--backend', 'null', '--fusion', 'on', '--format', 'csv');
    expect(csv.stdout).toContain('everything,Null,float32,,1000000,1,0,0,,,');
    await place.write('.tsrt-benchrc.json', '{ "backend": "null", "batch": 3 }');
    const configured = JSON.parse((await place.run('profile', 'smoke', '--fusion', 'on', '--json')).stdout) as EngineProfile[];
    expect(configured.map((one) => one.title)).toEqual(['null/fp32/fusion-on/b3']);
  });

  it('says what is no engine and no suite', async () => {
    const place = await workplace();
    expect(await place.run('profile', 'missing.engine')).toMatchObject({ status: 2, stderr: expect.stringContaining('no such engine file') as string });
    expect((await place.run('profile', 'suites/nosuch')).stderr).toContain('nosuch');
  });

  it.skipIf(noDevice)('times an engine file beside the peaks of its device (skipped without SwiftShader)', async () => {
    const place = await workplace();
    const built = await place.runApart('profile', 'smoke', '--backend', 'webgpu', '--device', 'swiftshader', '--fusion', 'on', '--batch', '1', '--option', 'preprocess=device', '--runs', '2', '--json');
    expect(built.stderr).not.toContain('error');
    const [{ roofline, peaks, title }] = JSON.parse(built.stdout) as [EngineProfile];
    expect(title).toBe('webgpu/fp32/fusion-on/preprocess-device/b1');
    expect(peaks!.bytesPerSecond).toBeGreaterThan(0);
    expect(roofline.rows.map(({ kind }) => kind)).toContain('FusedConv');
    expect(roofline.rows.every(({ floor }) => floor!.ns > 0)).toBe(true);
    expect(roofline.kernelNs + roofline.residualNs).toBeCloseTo(roofline.wallNs, 0);
  });
});
