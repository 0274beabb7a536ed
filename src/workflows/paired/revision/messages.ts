/** What this process and the side worker of a revision's own tool say to each other. */
import type { ErrorReport } from '../../../errors.ts';
import type { RunEvent } from '../../events.ts';
import type { PreparedSide } from '../side.ts';

/** One request a process. */
export interface SideOrder {
  /** WORKER_PROTOCOL of the one who asks. */
  readonly protocol: number;
  /** As named by the user; paths of the working tree are those of the checkout. */
  readonly suite: string;
  readonly modelFile: string | undefined;
  /** Undefined: what the checkout's configuration names. */
  readonly plugins: readonly string[] | undefined;
  readonly cache: string;
  readonly device: string | undefined;
  readonly timeMs: number | undefined;
  /** Of inputs; the candidate's, so that both sides get the same. */
  readonly seed: number;
  /** Where engines, inputs and answers go. */
  readonly folder: string;
  /** Of these cases alone; undefined: of all. */
  readonly cases: readonly string[] | undefined;
  readonly accuracy: boolean;
}

export type SideReply =
  /** At once, before anything else. */
  | { readonly kind: 'hello'; readonly version: string; readonly protocol: PreparedSide['protocol'] }
  | { readonly kind: 'event'; readonly event: RunEvent }
  | { readonly kind: 'prepared'; readonly side: PreparedSide }
  | { readonly kind: 'failed'; readonly error: ErrorReport };
