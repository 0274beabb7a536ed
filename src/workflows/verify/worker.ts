/**
 * The entry of a verifying worker: checks the cases that it is sent, one after the other. A process of its own, because a
 * driver or native library that dies on one case must not take the other results with it, and because some drivers need
 * environment variables that must be there before the process starts.
 */
import { TsrtError, reportError } from '../../errors.ts';
import { openRegistry } from '../registry.ts';
import { checkCase, type CheckSettings, type CheckTools } from './check.ts';
import type { Reply, Request } from './messages.ts';

interface Opened {
  readonly tools: CheckTools;
  readonly settings: CheckSettings;
}

async function open(request: Extract<Request, { kind: 'open' }>): Promise<Opened> {
  const registry = await openRegistry(request.plugins);
  const backend = registry.backend(request.backend);
  const availability = await backend.probe(request.settings.device);
  if (availability.status === 'unavailable') {
    throw new TsrtError('BACKEND_UNAVAILABLE', `the backend ${backend.name} is not available: ${availability.reason}`, {
      fix: availability.fix,
    });
  }
  return { tools: { backend, referenceBackend: registry.backend('onnxruntime'), customOps: registry.ops }, settings: request.settings };
}

let opened: Opened | undefined;

async function answer(request: Exclude<Request, { kind: 'bye' }>): Promise<Reply> {
  switch (request.kind) {
    case 'open':
      opened = await open(request);
      return { kind: 'opened' };
    case 'check':
      if (!opened) throw new Error('a case was sent before the backend was opened');
      return { kind: 'checked', result: await checkCase(request.testCase, opened.settings, opened.tools) };
    default:
      return request satisfies never;
  }
}

process.on('message', async (request: Request) => {
  // Not by a signal: drivers write what they keep for the next process when this one exits.
  if (request.kind === 'bye') process.exit();
  const reply = await answer(request).catch((error: unknown): Reply => ({ kind: 'failed', error: reportError(error) }));
  if (process.connected) process.send?.(reply);
});

// Ctrl-C reaches the whole process group; the parent decides what becomes of its workers.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
