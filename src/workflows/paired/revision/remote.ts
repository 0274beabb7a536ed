/** A side prepared by another checkout's tool, in a process of its own. */
import { type ChildProcess, fork } from 'node:child_process';
import { relative, sep } from 'node:path';
import { ERROR_EXIT, type ErrorCode, type ErrorReport, TsrtError } from '../../../errors.ts';
import { WORKER_PROTOCOL } from '../../../measure/messages.ts';
import type { OnRunEvent } from '../../events.ts';
import { gitEnvironment } from '../../git-environment.ts';
import { checkProtocol } from '../join.ts';
import type { PreparedSide } from '../side.ts';
import { interrupted } from './command.ts';
import type { SideOrder, SideReply } from './messages.ts';

export interface RemoteRequest {
  readonly order: Omit<SideOrder, 'protocol'>;
  /** The side worker's module, and the folder it runs in. */
  readonly entry: string;
  readonly folder: string;
  /** For messages: `revision main (0123abc)`. */
  readonly at: string;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

const KEPT_CHARACTERS = 8192;

/** Throws what the other tool reports, with the revision's name; BASELINE_INCOMPARABLE where it speaks another protocol or dies. */
export async function prepareRemotely(request: RemoteRequest): Promise<PreparedSide> {
  const { signal, entry, folder } = request;
  if (signal.aborted) throw interrupted();
  const child = fork(entry, [], { cwd: folder, env: gitEnvironment(), serialization: 'advanced', stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const kill = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill);
  try {
    return await converse(child, request);
  } catch (error) {
    if (signal.aborted) throw interrupted();
    throw error;
  } finally {
    signal.removeEventListener('abort', kill);
    kill();
  }
}

function converse(child: ChildProcess, { order, at, folder, onEvent }: RemoteRequest): Promise<PreparedSide> {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-KEPT_CHARACTERS);
    });
  }
  return new Promise((resolve, reject) => {
    child.on('message', (reply: SideReply) => {
      switch (reply.kind) {
        case 'hello':
          try {
            checkProtocol({ protocol: reply.protocol, facts: { tool: { version: reply.version } } }, at);
          } catch (error) {
            reject(error as Error);
          }
          break;
        case 'event':
          onEvent(reply.event);
          break;
        case 'prepared':
          resolve(reply.side);
          break;
        case 'failed':
          reject(errorAt(at, folder, reply.error));
          break;
        default:
          // A kind that only another version knows: its hello was refused already.
          reply satisfies never;
      }
    });
    child.once('error', reject);
    child.once('close', (code, by) => {
      reject(
        new TsrtError('BASELINE_INCOMPARABLE', `the tool ended (${by ?? `status ${code}`}) while it prepared ${at}`, {
          details: output.trimEnd().split('\n').slice(-10),
          fix: 'see what it says; build that revision and compare engine files instead',
        }),
      );
    });
    child.send({ ...order, protocol: WORKER_PROTOCOL } satisfies SideOrder, () => {});
  });
}

/** What mends at a revision what is mended otherwise in the working tree. */
const FIXES: { readonly [K in ErrorCode]?: string } = {
  CALIBRATION_INVALID: 'commit the calibration that the suite names, or have --prepare write it',
  SUITE_NOT_FOUND: 'check the name, or name a revision that has the suite',
};

/** An error of the other process as one of this, with where it was. The checkout is gone when it is read: places are named from its folder on. */
function errorAt(at: string, folder: string, { code, message, fix, place, details = [], stack }: ErrorReport): TsrtError {
  const known = Object.hasOwn(ERROR_EXIT, code) ? (code as ErrorCode) : 'BASELINE_INCOMPARABLE';
  const lines = code === 'INTERNAL' && stack !== undefined ? stack.split('\n').slice(1, 5).map((line) => line.trim()) : [];
  return new TsrtError(known, `${message}, at ${at}`, {
    ...(place !== undefined && { place: place.startsWith(folder + sep) ? relative(folder, place) : place }),
    // The suites that there are, which the command line lists, are no help here.
    details: known === 'SUITE_NOT_FOUND' ? [] : [...details, ...lines],
    fix: FIXES[known] ?? fix ?? 'name a revision at which it works, or compare engine files',
  });
}
