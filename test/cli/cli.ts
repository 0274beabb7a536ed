/** Runs the built command as a user does, in a folder of its own. */
import { constants } from 'node:os';
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from '../helpers/folder.ts';
import { type Outcome, runShared } from './host.ts';

const bin = fileURLToPath(new URL('../../bin/run.js', import.meta.url));

export interface Workplace {
  readonly folder: string;
  /** Runs a command in the process that the tests of a file share. Not for code that changes between commands, which a process imports once, nor for SwiftShader. */
  run(...words: string[]): Promise<Outcome>;
  /** Runs a command in a process of its own. */
  runApart(...words: string[]): Promise<Outcome>;
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
  const cache = join(folder, 'cache');
  const start = startIn(folder, cache, command);
  const runApart = (...words: string[]) => start(words, () => {});
  return {
    folder,
    start,
    runApart,
    run: own === undefined ? (...words) => runShared({ words, folder, env: environment(cache) }) : runApart,
    async write(path, content) {
      const file = join(folder, path);
      await mkdir(join(file, '..'), { recursive: true });
      await writeFile(file, content);
      return file;
    },
  };
}

function environment(cache: string): NodeJS.ProcessEnv {
  // Vitest's NODE_ENV=test has oclif warn of what no user sees.
  return { ...process.env, NODE_ENV: undefined, NO_COLOR: '1', CI: '1', TSRT_BENCH_CACHE: cache };
}

/** Starts the command in a folder, with a cache there. */
export function startIn(folder: string, cache = join(folder, 'cache'), command = bin): Workplace['start'] {
  const env = environment(cache);
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
      // As a shell tells it, whether the command ended by itself after a Ctrl-C or another one met it on its way out.
      child.once('close', (status, signal) => resolve({ status: signal ? 128 + constants.signals[signal] : status, stdout, stderr }));
    });
}

/** A suite of what only a suite can say: int8 by a calibration that every run makes, and pictures as bytes, with another order of colours, another range and other deviations than any default. */
export const PICTURES_SUITE = `
name: pictures
description: one network, its pictures as numbers and as bytes
model: { name: smoke, builder: { name: smoke } }
inputs:
  - kind: image
    preprocess: { crop: { width: 32, height: 32 }, color: bgr, range: [-1, 1], mean: [0.1, 0.2, 0.3], std: [0.5, 0.6, 0.7] }
task: { kind: classification }
variants:
  - backend: onnxruntime
    precision: [fp32, int8]
    backendOptions: { preprocess: [host, device], threads: 1 }
batches: 2
measure: { rounds: 1, timeMs: 20, timeoutMs: 60000, isolation: case }
accuracy: { samples: 4 }
quantization: { samples: 4 }
`;

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
