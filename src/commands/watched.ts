/** What a command that takes its time has around its work: progress on standard error, and Ctrl-C as a signal. */
import type { OnRunEvent } from '../workflows/events.ts';
import { onInterrupt } from './interrupt.ts';
import { createProgress, progressMode } from './progress.ts';

export interface Watch {
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

export interface WatchOptions {
  readonly quiet?: boolean;
  readonly json: boolean;
  /** What a Ctrl-C is answered with, after `stopping: `; without it with nothing. */
  readonly stopping?: string;
}

/** Runs the work, watched; progress is off the screen when it ends. */
export async function watched<T>({ quiet = false, json, stopping }: WatchOptions, work: (watch: Watch) => Promise<T>): Promise<T> {
  const mode = progressMode({ quiet, json, isTty: process.stderr.isTTY === true && process.stderr.columns > 0, ci: 'CI' in process.env });
  const progress = await createProgress(mode, process.stderr);
  const interrupt = onInterrupt(() => {
    if (stopping !== undefined) progress.onEvent({ kind: 'notice', text: `stopping: ${stopping}` });
  });
  try {
    return await work({ signal: interrupt.signal, onEvent: progress.onEvent });
  } finally {
    progress.stop();
    interrupt.dispose();
  }
}
