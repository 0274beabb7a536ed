/** Runs the built command as a user does, in a folder of its own. */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from '../helpers/folder.ts';

const bin = fileURLToPath(new URL('../../bin/run.js', import.meta.url));

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Workplace {
  readonly folder: string;
  run(...words: string[]): Promise<Outcome>;
  /** Starts the command; `onStderr` is told what it says, and may send a signal. */
  start(words: readonly string[], onStderr: (text: string, kill: (signal: NodeJS.Signals) => void) => void): Promise<Outcome>;
  write(path: string, content: string | Uint8Array): Promise<string>;
}

/**
 * An empty folder with a cache and results of its own. `own`: an installed command in it, in place of this checkout's; `place`: the
 * folder, where it outlives the test.
 */
export async function workplace(own?: string, place?: string): Promise<Workplace> {
  const folder = place ?? (await temporaryFolder());
  const command = own === undefined ? bin : join(folder, own);
  const start = startIn(folder, join(folder, 'cache'), command);
  return {
    folder,
    start,
    run: (...words) => start(words, () => {}),
    async write(path, content) {
      const file = join(folder, path);
      await mkdir(join(file, '..'), { recursive: true });
      await writeFile(file, content);
      return file;
    },
  };
}

/** Starts the command in a folder, with a cache there. */
export function startIn(folder: string, cache = join(folder, 'cache'), command = bin): Workplace['start'] {
  const env = { ...process.env, NO_COLOR: '1', CI: '1', TSRT_BENCH_CACHE: cache };
  return (words, onStderr) =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [command, ...words], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
        onStderr(text, (signal) => child.kill(signal));
      });
      child.once('error', reject);
      child.once('close', (status) => resolve({ status, stdout, stderr }));
    });
}

/** A suite on the null backend: the whole way through the harness in about a second a case. */
export const NULL_SUITE = `
name: nulls
description: made-up answers on a fake clock
model: { name: smoke, builder: { name: smoke } }
inputs:
  - kind: synthetic
    values: { distribution: normal }
task: { kind: classification }
variants:
  - backend: 'null'
    precision: [fp32, fp16]
measure: { rounds: 3, timeMs: 20, timeoutMs: 20000, isolation: case }
accuracy: { samples: 4 }
`;
