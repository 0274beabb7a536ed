/** Engines in a thread of their own, as sessions here. */
import { SHARE_ENV, Worker } from 'node:worker_threads';
import type { TensorMap } from '../backends/backend.ts';
import type { BatchSession } from '../batcher.ts';
import { builtEntry } from '../entries.ts';
import { errorFrom, TsrtError } from '../errors.ts';
import type { OpenedSession, ThreadReply, ThreadRequest, ThreadTask } from './messages.ts';

/** Sessions whose engines run elsewhere. */
export interface EngineThread {
  /** In the order of the files. */
  readonly sessions: readonly (BatchSession & OpenedSession)[];
  /** What ended the thread or its device before `close`; nothing is answered from then on. */
  readonly failure: () => Error | undefined;
  /** Gives the engines back and ends the thread. What is under way is not waited for. */
  close(): Promise<void>;
}

interface Pending {
  resolve(reply: Extract<ThreadReply, { kind: 'answered' }>): void;
  reject(error: Error): void;
}

/** Drivers that compile are waited for this long, and a device that hangs in its last moment. */
const GOODBYE_MS = 10_000;

/** Opens engine files in a new thread. Rejects with what `openEngine` throws, and with the signal's reason where that comes before they are open. */
export async function openThread(task: ThreadTask, signal: AbortSignal): Promise<EngineThread> {
  signal.throwIfAborted();
  // The environment itself and not a copy of it: a driver that is named in it is found by native code.
  const worker = new Worker(builtEntry('serve-worker'), { workerData: task, env: SHARE_ENV });
  const pending = new Map<number, Pending>();
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    failure ??= error;
    for (const { reject } of pending.values()) reject(failure);
    pending.clear();
  };
  const ended = new Promise<void>((resolve) => {
    worker.once('exit', (code) => {
      fail(new TsrtError('BACKEND_FAILED', `the engine thread has ended (${code})`, { fix: 'start the server again' }));
      resolve();
    });
  });
  worker.once('error', fail);

  const send = (request: ThreadRequest, transfer: readonly ArrayBuffer[] = []): void => worker.postMessage(request, transfer);
  const opened = new Promise<readonly OpenedSession[]>((resolve, reject) => {
    worker.on('message', (reply: ThreadReply) => {
      if (reply.kind === 'opened') return resolve(reply.sessions);
      if (reply.kind === 'refused') return reject(errorFrom(reply.error));
      const asked = pending.get(reply.id);
      pending.delete(reply.id);
      if (reply.kind === 'answered') return asked?.resolve(reply);
      const error = errorFrom(reply.error);
      asked?.reject(error);
      if (reply.error.code === 'DEVICE_LOST') fail(error);
    });
    void ended.then(() => reject(failure));
  });

  let next = 0;
  const ask = (session: number, inputs: TensorMap): Promise<Extract<ThreadReply, { kind: 'answered' }>> =>
    new Promise((resolve, reject) => {
      if (failure) return reject(failure);
      const id = next++;
      pending.set(id, { resolve, reject });
      send({ kind: 'run', id, session, inputs }, Object.values(inputs).map(({ data }) => data.buffer as ArrayBuffer));
    });

  const close = async (): Promise<void> => {
    send({ kind: 'close' });
    const late = setTimeout(() => void worker.terminate(), GOODBYE_MS);
    await ended;
    clearTimeout(late);
  };
  const stop = (): void => void close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const described = await opened;
    signal.throwIfAborted();
    return { sessions: described.map((session, index) => ({ ...session, run: runner((inputs) => ask(index, inputs)) })), failure: () => failure, close };
  } catch (error) {
    await close();
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/**
 * Inputs go over in buffers that come back with the answer, and are filled again: fresh memory of megabytes costs more than what is copied into it, and
 * what is handed over whole is not copied again.
 */
function runner(ask: (inputs: TensorMap) => Promise<{ readonly outputs: TensorMap; readonly inputs: TensorMap }>) {
  const spare: TensorMap[] = [];
  return async (inputs: TensorMap): Promise<TensorMap> => {
    const into = spare.pop();
    const answer = await ask(into ? filled(into, inputs) : copied(inputs));
    spare.push(answer.inputs);
    return answer.outputs;
  };
}

const copied = (inputs: TensorMap): TensorMap => Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, { ...tensor, data: new Uint8Array(tensor.data) }]));

function filled(into: TensorMap, inputs: TensorMap): TensorMap {
  for (const [name, { data }] of Object.entries(inputs)) into[name]!.data.set(data);
  return into;
}
