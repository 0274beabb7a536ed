/** Git repositories for tests: a folder, commits of files, and nothing of the user's configuration. */
import { execFileSync } from 'node:child_process';
import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { temporaryFolder } from './folder.ts';

export interface TestRepository {
  readonly folder: string;
  git(...words: string[]): string;
  write(path: string, text: string): Promise<void>;
  /** Commits everything; the new commit. */
  commit(message: string): string;
}

const ALONE = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };

/** A repository without commits, in a folder that ends with the test, or in the one given. */
export async function testRepository(place?: string): Promise<TestRepository> {
  const folder = await realpath(place ?? (await temporaryFolder()));
  const git = (...words: string[]): string =>
    execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=test@localhost', '-c', 'protocol.file.allow=always', ...words], {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...ALONE },
    }).trim();
  git('init', '--quiet', '--initial-branch=main', '.');
  return {
    folder,
    git,
    async write(path, text) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text);
    },
    commit(message) {
      git('add', '--all', '.');
      git('commit', '--quiet', '--allow-empty', `--message=${message}`);
      return git('rev-parse', 'HEAD');
    },
  };
}
