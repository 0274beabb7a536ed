/** Workers without processes: the worker's server and the null backend in this one, on fake time. */
import type { Backend, DeviceInfo } from '../../src/backends/backend.ts';
import { nullBackend } from '../../src/backends/null/null.ts';
import { reportError } from '../../src/errors.ts';
import { createSystemClock } from '../../src/measure/clock.ts';
import { WorkerFailure, reportedFailure } from '../../src/measure/failure.ts';
import type { Reply, ReplyTo, Request, WorkerTask } from '../../src/measure/messages.ts';
import type { StartWorker } from '../../src/measure/process.ts';
import { createServer } from '../../src/measure/serve.ts';
import { sampleHeader } from './engine.ts';
import { nullBuild } from './measure.ts';

export interface InProcess {
  readonly start: StartWorker;
  /** What happened, in order: `load a.engine`, `round a.engine`, `kill`, … */
  readonly log: string[];
}

/** The null backend as if its device were a real one of this kind. */
function nullBackendOn(kind: DeviceInfo['kind']): Backend {
  return {
    ...nullBackend,
    load: async (engine, options) => {
      const session = await nullBackend.load(engine, options);
      return { ...session, device: { ...session.device, kind } };
    },
  };
}

/** `optionsOf` gives the null backend's options for an engine path. */
export function inProcessWorkers(
  optionsOf: (enginePath: string) => Readonly<Record<string, string | number | boolean>> = () => ({}),
  kind: DeviceInfo['kind'] = 'cpu',
): InProcess {
  const log: string[] = [];
  const start: StartWorker = () => {
    let task: WorkerTask | undefined;
    const serve = createServer(
      {
        clock: createSystemClock(),
        openBackend: () => Promise.resolve(nullBackendOn(kind)),
        readEngine: (path) => Promise.resolve({ header: sampleHeader({ requires: {}, options: nullBuild(optionsOf(path)) }), parts: new Map() }),
      },
      () => log.push(`sampling ${task?.enginePath}`),
    );
    const ask = async <K extends Request['kind']>(request: Extract<Request, { readonly kind: K }>): Promise<ReplyTo[K]> => {
      const { kind } = request;
      if (kind === 'load') ({ task } = request as Extract<Request, { readonly kind: 'load' }>);
      log.push(`${kind} ${task?.enginePath}`);
      const reply: Reply = await serve(request).catch((error: unknown) => {
        throw new WorkerFailure(reportedFailure(kind === 'load' ? 'load' : 'measure', reportError(error), 'last words'));
      });
      return reply as ReplyTo[K];
    };
    return {
      output: () => 'last words',
      ask,
      leave: async () => {
        await ask<'bye'>({ kind: 'bye' });
        log.push(`leave ${task?.enginePath}`);
      },
      kill: async () => void log.push(`kill ${task?.enginePath}`),
    };
  };
  return { start, log };
}
