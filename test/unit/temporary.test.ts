/** Folders of processes that were killed, removed by the next one; all others stay. */
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hereTag, sweep } from '../../src/temporary.ts';
import { temporaryFolder } from '../helpers/folder.ts';

/** The id of a process that has ended. */
const dead = Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));

describe('sweep', () => {
  it('removes what dead processes of this place left, and nothing else', async () => {
    const folder = await temporaryFolder();
    const stale = `tsrt-bench-engines-${hereTag()}-${dead}-aBc123`;
    const kept = [
      `tsrt-bench-engines-${hereTag()}-${process.pid}-aBc123`,
      // Of another machine or container, where the same id may be alive.
      `tsrt-bench-engines-00000000-${dead}-aBc123`,
      'tsrt-bench-notes',
      'other',
    ];
    for (const name of [stale, ...kept]) await mkdir(join(folder, name));
    await writeFile(join(folder, stale, '0.engine'), 'x');
    await writeFile(join(folder, `${stale}.jsonl`), 'no folder');
    await symlink(join(folder, 'other'), join(folder, `${stale}link`));
    await sweep(folder);
    expect((await readdir(folder)).sort()).toEqual([...kept, `${stale}.jsonl`, `${stale}link`].sort());
  });

  it('has nothing to say of a folder that is not there', async () => {
    await expect(sweep(join(await temporaryFolder(), 'gone'))).resolves.toBeUndefined();
  });
});
