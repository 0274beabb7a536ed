/** Runs an engine on given inputs in a process of its own, for accuracy: nothing is timed. */
import type { TensorMap } from '../backends/backend.ts';
import type { WorkerTask } from './messages.ts';
import { type StartWorker, startWorker } from './process.ts';
import { DEFAULT_TIMING } from './plan.ts';

export interface InferenceRequest extends Pick<WorkerTask, 'backend' | 'plugins' | 'enginePath' | 'device'> {
  readonly environment: Readonly<Record<string, string>>;
  /** A worker that is silent for longer is killed. */
  readonly timeoutMs: number;
  /** Kills the worker when it fires. */
  readonly signal?: AbortSignal | undefined;
  readonly start?: StartWorker;
}

export interface Inference {
  /** Rejects with WorkerFailure. */
  run(inputs: TensorMap): Promise<TensorMap>;
  close(): Promise<void>;
}

/** Starts a worker and loads the engine. Rejects with WorkerFailure, the process ended. */
export async function openInference(request: InferenceRequest): Promise<Inference> {
  const { environment, timeoutMs, signal, start = startWorker, ...engine } = request;
  const worker = start({ environment });
  const onAbort = (): void => void worker.kill();
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted) onAbort();
  const close = async (): Promise<void> => {
    await worker.leave();
    signal?.removeEventListener('abort', onAbort);
  };
  const task: WorkerTask = {
    ...engine,
    inputs: { kind: 'seed', seed: 0 },
    scenario: { name: 'single-stream', streams: 1, targetQps: undefined, transfers: true },
    timing: DEFAULT_TIMING,
  };
  try {
    await worker.ask<'load'>({ kind: 'load', task }, timeoutMs);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    run: async (inputs) => (await worker.ask<'infer'>({ kind: 'infer', inputs }, timeoutMs)).outputs,
    close,
  };
}
