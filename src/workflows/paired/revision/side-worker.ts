/**
 * The entry of a process that prepares a side with this checkout's own tool: suite, plugins, compiler and reference are those
 * of the revision. The engines it leaves run in this checkout's measure/worker, started by the process that asked.
 */
import { resolveConfig } from '../../../config.ts';
import { reportError } from '../../../errors.ts';
import { WORKER_PROTOCOL } from '../../../measure/messages.ts';
import { RECORD_SCHEMA_VERSION } from '../../../results/record.ts';
import { TOOL_VERSION } from '../../../version.ts';
import { makeSide, openSide } from '../side.ts';
import type { SideOrder, SideReply } from './messages.ts';

/** Resolves when the message is out, or when there is nobody to read it. */
function send(message: SideReply): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, () => resolve());
    else resolve();
  });
}

async function prepare({ suite, modelFile, plugins, cache, device, timeMs, seed, folder, cases, accuracy }: SideOrder): Promise<SideReply> {
  const settings = await resolveConfig({ plugins, cache, seed }, process.cwd());
  const { backend, precision, batch } = settings.config;
  const open = await openSide({
    suite,
    settings,
    overrides: { backend, precision, batch, timeMs },
    modelFile,
    device,
    signal: new AbortController().signal,
    onEvent: (event) => void send({ kind: 'event', event }),
  });
  const wanted = open.cases.filter(({ id }) => cases === undefined || cases.includes(id));
  const side = await makeSide(open, { folder, cases: wanted.map((entry) => ({ id: entry.id, case: entry })), accuracy });
  return { kind: 'prepared', side };
}

process.on('message', async (order: SideOrder) => {
  await send({ kind: 'hello', version: TOOL_VERSION, protocol: { worker: WORKER_PROTOCOL, record: RECORD_SCHEMA_VERSION } });
  // What an order of another protocol means is not for this version to guess; the one who asked reads the hello.
  if (order.protocol === WORKER_PROTOCOL) await send(await prepare(order).catch((error: unknown): SideReply => ({ kind: 'failed', error: reportError(error) })));
  process.disconnect();
});

// Ctrl-C reaches the whole process group; the parent decides what becomes of this.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
