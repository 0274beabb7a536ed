/**
 * The entry of a worker process: one engine, measured apart from everything else.
 *
 * A process of its own gives a case its own heap, its own driver state and a peak of memory that is its own; and a driver that
 * takes the process down takes nothing else.
 */
import { BACKENDS } from '../backends/built-in.ts';
import { readEngine } from '../engine/read.ts';
import { reportError } from '../errors.ts';
import { loadRegistry } from '../registry.ts';
import { TOOL_VERSION } from '../version.ts';
import { createSystemClock } from './clock.ts';
import type { Reply, Request, SamplingNote } from './messages.ts';
import { type WorkerServices, createServer } from './serve.ts';

const services: WorkerServices = {
  clock: createSystemClock(),
  async openBackend(name, plugins) {
    const builtIn = { name: 'tsrt-bench', version: TOOL_VERSION, backends: BACKENDS };
    return (await loadRegistry({ builtIn, plugins })).backend(name);
  },
  readEngine,
};

/** Resolves when the message is out, or when there is nobody to read it. */
function send(message: Reply | SamplingNote): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, () => resolve());
    else resolve();
  });
}

const serve = createServer(services, () => void send({ kind: 'sampling' }));

process.on('message', async (request: Request) => {
  const reply = await serve(request).catch((error: unknown): Reply => ({ kind: 'failed', error: reportError(error) }));
  await send(reply);
  // Not by a signal: drivers write what they keep for the next process when this one exits.
  if (request.kind === 'bye') process.exit();
});

// Ctrl-C reaches the whole process group; the parent decides what becomes of its workers.
process.on('SIGINT', () => {});
// Without a parent there is nobody to measure for, whatever a driver's threads are still doing.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
