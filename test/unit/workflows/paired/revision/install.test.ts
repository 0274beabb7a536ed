/** The packages of a checkout: linked where they are the same, installed where they are not. */
import { existsSync } from 'node:fs';
import { cp, lstat, mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { installPackages } from '../../../../../src/workflows/paired/revision/install.ts';
import { runCommand } from '../../../../../src/workflows/paired/revision/command.ts';
import { temporaryFolder } from '../../../../helpers/folder.ts';

const signal = new AbortController().signal;

async function write(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

/** A lock file that npm can install without a network: no packages at all. */
const lock = (name: string): string => JSON.stringify({ name, version: '1.0.0', lockfileVersion: 3, requires: true, packages: { '': { name, version: '1.0.0' } } });
const manifest = (name: string): string => JSON.stringify({ name, version: '1.0.0' });

async function trees(files: Readonly<Record<string, string>>) {
  const [root, checkout] = [await temporaryFolder(), await temporaryFolder()];
  await write(root, files);
  await cp(root, checkout, { recursive: true });
  return { root, checkout };
}

const install = (root: string, checkout: string, prefix = '') => installPackages({ root, checkout, prefix, at: 'revision x', signal });

describe('installPackages', () => {
  test('links node_modules where the lock file is the same', async () => {
    const { root, checkout } = await trees({ 'package.json': manifest('app'), 'package-lock.json': lock('app') });
    await write(root, { 'node_modules/dep/package.json': manifest('dep') });
    expect(await install(root, checkout)).toBeUndefined();
    expect(await readlink(join(checkout, 'node_modules'))).toBe(join(root, 'node_modules'));
  });

  test('links those of each folder down to a project inside of the repository', async () => {
    const { root, checkout } = await trees({ 'package-lock.json': lock('all'), 'package.json': manifest('all'), 'packages/app/package.json': manifest('app') });
    await write(root, { 'node_modules/a/package.json': '{}', 'packages/app/node_modules/b/package.json': '{}' });
    await install(root, checkout, 'packages/app/');
    expect(existsSync(join(checkout, 'node_modules/a'))).toBe(true);
    expect(existsSync(join(checkout, 'packages/app/node_modules/b'))).toBe(true);
  });

  test('installs where the lock file differs, and says so', async () => {
    const { root, checkout } = await trees({ 'package.json': manifest('app'), 'package-lock.json': lock('app') });
    await write(root, { 'package-lock.json': `${lock('app')}\n`, 'node_modules/dep/package.json': manifest('dep') });
    expect(await install(root, checkout)).toMatch(/revision x were installed with `npm ci/);
    expect(existsSync(join(checkout, 'node_modules/dep'))).toBe(false);
  }, 60_000);

  test('a failure to install is not answered with --prepare, which comes after it', async () => {
    const { root, checkout } = await trees({ 'package.json': JSON.stringify({ name: 'app', dependencies: { gone: 'file:./gone' } }), 'package-lock.json': lock('app') });
    await write(root, { 'package-lock.json': `${lock('app')}\n` });
    const failure = await install(root, checkout).then(() => undefined, (error: unknown) => error);
    expect(failure).toMatchObject({ code: 'BASELINE_INCOMPARABLE', message: expect.stringMatching(/^`npm ci .* fails at revision x/), fix: expect.not.stringContaining('--prepare') });
  }, 60_000);

  test('a workspace linked into the working tree is the candidate’s: it is not linked', async () => {
    const { root, checkout } = await trees({ 'package.json': manifest('app'), 'package-lock.json': lock('app'), 'packages/lib/package.json': manifest('lib') });
    await mkdir(join(root, 'node_modules/@own'), { recursive: true });
    await symlink(join(root, 'packages/lib'), join(root, 'node_modules/@own/lib'));
    expect(await install(root, checkout)).toMatch(/npm ci/);
    expect(await lstat(join(checkout, 'node_modules')).then((info) => info.isSymbolicLink(), () => false)).toBe(false);
  }, 60_000);

  test('a project without packages needs nothing', async () => {
    const { root, checkout } = await trees({ 'suites/a/suite.yaml': 'name: a' });
    expect(await install(root, checkout)).toBeUndefined();
  });
});

describe('runCommand', () => {
  test('a failure carries the last lines and the status', async () => {
    const folder = await temporaryFolder();
    const failing = runCommand('for i in $(seq 1 40); do echo line $i; done; exit 3', { folder, at: 'revision x', signal }, 'mend it');
    await expect(failing).rejects.toMatchObject({ code: 'BASELINE_INCOMPARABLE', message: expect.stringContaining('status 3'), details: expect.arrayContaining(['line 40', 'line 21']) });
    await expect(failing).rejects.not.toMatchObject({ details: expect.arrayContaining(['line 20']) });
  });

  test('an interruption ends it and what it started', async () => {
    const folder = await temporaryFolder();
    const controller = new AbortController();
    const running = runCommand('echo started > mark; (sleep 30; echo late > late) & wait', { folder, at: 'revision x', signal: controller.signal }, 'mend it');
    while (!existsSync(join(folder, 'mark'))) await new Promise((resolve) => setTimeout(resolve, 10));
    controller.abort();
    await expect(running).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(await readFile(join(folder, 'mark'), 'utf8')).toBe('started\n');
    expect(existsSync(join(folder, 'late'))).toBe(false);
  });
});
