/** docs/plugins.md, followed: files written, commands run, their output compared, in an empty folder with the packed tarball installed. */
import { execFile } from 'node:child_process';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { fencesOf } from '../helpers/fences.ts';
import { installPacked } from '../helpers/packed.ts';
import { workplace, type Workplace } from './cli.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

const npm = promisify(execFile);

/** Runs the commands that make the folder, as they stand; `npm install tsrt-bench` installs the packed tarball. */
async function setUp(place: Workplace, commands: string): Promise<void> {
  for (const line of commands.trim().split('\n')) {
    if (line === 'npm install tsrt-bench') await installPacked(place.folder);
    else await npm('npm', line.split(' ').slice(1), { cwd: place.folder });
  }
}

/** Runs `cp` and `npx tsrt-bench`; gives what was printed. */
async function runLine(place: Workplace, line: string): Promise<string> {
  const [command, ...words] = line.split(/\s+/);
  if (command === 'cp') {
    await copyFile(join(place.folder, words[0]!), join(place.folder, words[1]!, words[0]!.split('/').at(-1)!));
    return '';
  }
  if (command !== 'npx' || words[0] !== 'tsrt-bench') throw new Error(`the tutorial has a command that this test does not run: ${line}`);
  const { stdout, stderr } = await place.run(...words.slice(1));
  return stdout + stderr;
}

it('every snippet of docs/plugins.md works, in order', async () => {
  const fences = fencesOf(await readFile(join(root, 'docs/plugins.md'), 'utf8'));
  expect(fences.filter(({ language }) => language === 'sh').length).toBeGreaterThan(6);
  const place = await workplace('node_modules/tsrt-bench/bin/run.js');
  let printed = '';
  for (const { language, file, text, line } of fences) {
    if (file !== undefined) await place.write(file, text);
    else if (language === 'sh') {
      printed = '';
      for (const command of text.trim().split('\n')) printed += await runLine(place, command.replace(/\s+#.*$/, ''));
    } else if (language === 'text') {
      for (const wanted of text.trim().split('\n')) expect(printed, `line ${line} of docs/plugins.md`).toContain(wanted.trim());
    } else {
      expect(text, `a fence at line ${line} that is neither a file nor a command`).toMatch(/^npm /);
      await setUp(place, text);
    }
  }
}, 300_000);
