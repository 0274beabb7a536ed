/** Workers without processes that read the engine files they are given: the null backend on its fake clock, deterministic. */
import { readFile } from 'node:fs/promises';
import { nullBackend } from '../../src/backends/null/null.ts';
import { deserializeEngine } from '../../src/engine/file.ts';
import { reportError } from '../../src/errors.ts';
import { createSystemClock } from '../../src/measure/clock.ts';
import { reportedFailure, WorkerFailure } from '../../src/measure/failure.ts';
import type { Reply, ReplyTo, Request } from '../../src/measure/messages.ts';
import type { MeasureServices } from '../../src/measure/orchestrate.ts';
import type { WorkerLaunch } from '../../src/measure/process.ts';
import { createServer } from '../../src/measure/serve.ts';

export interface EngineWorkers extends MeasureServices {
  /** What was started, in order. */
  readonly launches: readonly WorkerLaunch[];
}

export function engineWorkers(): EngineWorkers {
  const launches: WorkerLaunch[] = [];
  return {
    launches,
    yardstick: () => [],
    start(launch) {
      launches.push(launch);
      const serve = createServer(
        {
          clock: createSystemClock(),
          openBackend: () => Promise.resolve(nullBackend),
          readEngine: async (path) => deserializeEngine(await readFile(path)),
        },
        () => {},
      );
      return {
        output: () => '',
        leave: async () => void (await serve({ kind: 'bye' })),
        kill: () => Promise.resolve(),
        async ask<K extends Request['kind']>(request: Extract<Request, { readonly kind: K }>): Promise<ReplyTo[K]> {
          const reply: Reply = await serve(request).catch((error: unknown) => {
            throw new WorkerFailure(reportedFailure('load', reportError(error), ''));
          });
          return reply as ReplyTo[K];
        },
      };
    },
  };
}
