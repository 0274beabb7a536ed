/** Ctrl-C as an AbortSignal: once ends cleanly, twice ends at once. */
import { setMaxListeners } from 'node:events';
import { EXIT, TsrtError } from '../errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * One Ctrl-C can come twice: from the terminal and from npm, or to the process and to its group from timeout(1). What follows sooner than a second
 * keystroke could is the same one.
 */
const SAME_MS = 250;

export interface Interrupt {
  readonly signal: AbortSignal;
  /** Ends the listening, unless a Ctrl-C came: until the process has ended, another one still means now, and no death by a signal. */
  dispose(): void;
}

/** Listens for SIGINT, SIGTERM and SIGHUP (a terminal that was closed); `onFirst` is called when the first one comes. `nowMs` is a monotonic clock. */
export function onInterrupt(onFirst: () => void, nowMs: () => number = () => performance.now()): Interrupt {
  const controller = new AbortController();
  // Every worker process that is alive listens.
  setMaxListeners(0, controller.signal);
  let firstMs = Number.NaN;
  const listener = (): void => {
    if (controller.signal.aborted) {
      if (nowMs() - firstMs < SAME_MS) return;
      // Workers end with the process that started them; locks and folders go with its 'exit'.
      // oxlint-disable-next-line unicorn/no-process-exit -- the second Ctrl-C means now
      process.exit(EXIT.interrupted);
    }
    firstMs = nowMs();
    process.exitCode = EXIT.interrupted;
    onFirst();
    controller.abort();
  };
  for (const name of SIGNALS) process.on(name, listener);
  return {
    signal: controller.signal,
    dispose: () => {
      if (controller.signal.aborted) return;
      for (const name of SIGNALS) process.off(name, listener);
    },
  };
}

/** An abort that comes through to the end after a Ctrl-C is what the user asked for, and no fault of the tool. */
export function asInterruption(error: Error): Error {
  if (error.name !== 'AbortError' || process.exitCode !== EXIT.interrupted) return error;
  return new TsrtError('INTERRUPTED', 'interrupted before the end', { fix: 'start it again', cause: error });
}
