/** The entry of a thread that runs engines: onnxruntime computes on the thread that calls it, and a server has to answer meanwhile. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Session, TensorMap } from '../backends/backend.ts';
import { reportError } from '../errors.ts';
import { openEngine } from '../node.ts';
import type { OpenedSession, ThreadReply, ThreadRequest, ThreadTask } from './messages.ts';

const port = parentPort!;
const reply = (message: ThreadReply, transfer: readonly ArrayBuffer[] = []): void => port.postMessage(message, transfer);

const { files, device } = workerData as ThreadTask;
const sessions: Session[] = [];

const described = (session: Session): OpenedSession => ({ header: session.header, inputs: session.inputs, outputs: session.outputs, maxInFlight: session.maxInFlight, device: session.device });

/** Copies, which are handed over: a driver's memory can't be, and a view would take all that is around it along. */
const copied = (tensors: TensorMap): TensorMap => Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, { ...tensor, data: new Uint8Array(tensor.data) }]));

const buffersOf = (tensors: TensorMap): ArrayBuffer[] => Object.values(tensors).map(({ data }) => data.buffer as ArrayBuffer);

async function run({ id, session, inputs }: Extract<ThreadRequest, { kind: 'run' }>): Promise<void> {
  try {
    const outputs = copied(await sessions[session]!.run(inputs));
    reply({ kind: 'answered', id, outputs, inputs }, [...buffersOf(outputs), ...buffersOf(inputs)]);
  } catch (error) {
    reply({ kind: 'failed', id, error: reportError(error) });
  }
}

/** Ends the loading that is under way in peace: Dawn ends the process where a thread is ended while it compiles. */
const closing = new AbortController();

async function open(): Promise<void> {
  try {
    for (const file of files) sessions.push(await openEngine(file, { device, signal: closing.signal }));
    reply({ kind: 'opened', sessions: sessions.map(described) });
  } catch (error) {
    reply({ kind: 'refused', error: reportError(error) });
  }
}

async function close(): Promise<void> {
  closing.abort();
  await opening;
  for (const session of sessions) await session.dispose();
  port.close();
}

port.on('message', (request: ThreadRequest) => void (request.kind === 'run' ? run(request) : close()));
// Not awaited here: with a module that waits while it is loaded, the bundler joins fewer modules, for every entry.
const opening = open();
