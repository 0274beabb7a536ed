/** Ctrl-C as an AbortSignal: once ends cleanly, twice ends at once. What it interrupts rejects with INTERRUPTED, unless it keeps what there is. */
import { setMaxListeners } from 'node:events';
import { EXIT, TsrtError } from '../errors.ts';

export interface Interrupt {
  readonly signal: AbortSignal;
  dispose(): void;
}

/** Listens for SIGINT and SIGTERM until disposed; `onFirst` is called when the first one comes. */
export function onInterrupt(onFirst: () => void): Interrupt {
  const controller = new AbortController();
  // Every worker process that is alive listens.
  setMaxListeners(0, controller.signal);
  const listener = (): void => {
    // Workers end with the process that started them; locks and folders go with its 'exit'.
    // oxlint-disable-next-line unicorn/no-process-exit -- the second Ctrl-C means now
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    process.exitCode = EXIT.interrupted;
    onFirst();
    controller.abort(new TsrtError('INTERRUPTED', 'stopped before the end', { fix: 'start it again' }));
  };
  process.on('SIGINT', listener);
  process.on('SIGTERM', listener);
  return {
    signal: controller.signal,
    dispose: () => {
      process.off('SIGINT', listener);
      process.off('SIGTERM', listener);
    },
  };
}
