/** What a server and the thread that runs a model's engines say to each other. */
import type { DeviceInfo, Session, TensorMap } from '../backends/backend.ts';
import type { ErrorReport } from '../errors.ts';

/** What the thread starts with: engine files of one model, and the device for them. */
export interface ThreadTask {
  readonly files: readonly string[];
  readonly device: string | undefined;
}

/** A session as its thread describes it. */
export interface OpenedSession extends Pick<Session, 'header' | 'inputs' | 'outputs' | 'maxInFlight'> {
  readonly device: DeviceInfo;
}

export type ThreadRequest =
  /** The inputs' buffers are handed over, and come back with the answer. */
  | { readonly kind: 'run'; readonly id: number; readonly session: number; readonly inputs: TensorMap }
  | { readonly kind: 'close' };

export type ThreadReply =
  | { readonly kind: 'opened'; readonly sessions: readonly OpenedSession[] }
  | { readonly kind: 'refused'; readonly error: ErrorReport }
  | { readonly kind: 'answered'; readonly id: number; readonly outputs: TensorMap; readonly inputs: TensorMap }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ErrorReport };
