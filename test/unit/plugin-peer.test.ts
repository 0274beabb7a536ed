/** Plugins of another version of tsrt-bench are named before their code runs. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { importPlugin } from '../../src/plugin-import.ts';
import { satisfies } from '../../src/plugin-peer.ts';
import { temporaryFolder } from '../helpers/folder.ts';

describe('importPlugin', () => {
  it('refuses a plugin that asks for another tsrt-bench, and does not run it', async () => {
    const folder = await temporaryFolder();
    const source = join(folder, 'index.mjs');
    await writeFile(source, 'throw new Error("it ran");');
    const manifest = join(folder, 'package.json');
    await writeFile(manifest, JSON.stringify({ peerDependencies: { 'tsrt-bench': '^99.0.0' } }));
    await expect(importPlugin(source)).rejects.toMatchObject({ code: 'PLUGIN_INVALID', message: expect.stringContaining('the plugin needs tsrt-bench ^99.0.0') as string, place: manifest });
    await writeFile(manifest, JSON.stringify({ peerDependencies: { 'tsrt-bench': '*' } }));
    await expect(importPlugin(source)).rejects.toMatchObject({ message: expect.stringContaining('it ran') as string });
  });
});

describe('satisfies', () => {
  it.each([
    ['1.4.2', '^1.0.0', true], ['2.0.0', '^1.0.0', false], ['0.1.5', '^0.1.0', true], ['0.2.0', '^0.1.0', false], ['0.2.0', '^0', true],
    ['1.2.9', '~1.2.3', true], ['1.3.0', '~1.2', false], ['1.2.3', '1.2.3', true], ['1.2.4', '1.2.3', false], ['1.9.0', '1.x', true], ['1.9.0', '1', true],
    ['1.5.0', '>=1 <2', true], ['2.0.0', '>= 1 < 2', false], ['2.0.0', '>1', true], ['1.9.0', '>1', false], ['1.9.0', '<=1', true],
    ['3.0.0', '^1 || ^3', true], ['2.0.0', '^1 || ^3', false], ['0.1.0', '*', true], ['0.1.0', '', true], ['0.1.0', 'workspace:*', true], ['1.0.0-beta.1', '^1.0.0', true],
  ] as const)('%s in %s: %s', (version, range, expected) => expect(satisfies(version, range)).toBe(expected));
});
