/** What is installed with the package, by the lock file: under which licences, and on which Node it runs. */
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { satisfies } from '../../src/plugin-peer.ts';

interface Locked {
  readonly dev?: boolean;
  readonly license?: string;
  readonly engines?: { readonly node?: string };
}

const read = async <T>(file: string): Promise<T> => JSON.parse(await readFile(new URL(`../../${file}`, import.meta.url), 'utf8')) as T;
const { packages } = await read<{ packages: Record<string, Locked> }>('package-lock.json');
const installed = Object.entries(packages).filter(([path, { dev }]) => path !== '' && !dev);

const PERMISSIVE = /^(?:MIT|ISC|Apache-2\.0|BSD-[23]-Clause|0BSD|BlueOak-1\.0\.0|Python-2\.0|Unlicense|\(MIT OR CC0-1\.0\))$/;

it('is under permissive licences, but for the shared library of sharp', () => {
  const others = installed.filter(([, { license }]) => !PERMISSIVE.test(license ?? '')).map(([path]) => path);
  expect(others.filter((path) => !path.startsWith('node_modules/@img/sharp-'))).toEqual([]);
});

it('runs on the oldest Node that the package says it needs', async () => {
  const { engines } = await read<{ engines: { node: string } }>('package.json');
  const oldest = `${engines.node.replace('>=', '')}.0`;
  expect(oldest).toMatch(/^\d+\.\d+\.0$/);
  const newer = installed.filter(([, { engines: needs }]) => needs?.node !== undefined && !satisfies(oldest, needs.node));
  expect(newer.map(([path, { engines: needs }]) => `${path}: ${needs?.node}`)).toEqual([]);
});
