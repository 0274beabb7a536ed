/** How long a program may be silent, by request. */
import type { RequestName } from './protocol.ts';

export type Timeouts = Readonly<Record<RequestName, number>>;

const MINUTE = 60_000;

/** Compiling takes long; anything else that takes minutes hangs. */
export const DEFAULT_TIMEOUTS_MS: Timeouts = {
  hello: 2 * MINUTE,
  probe: 2 * MINUTE,
  supports: 2 * MINUTE,
  build: 60 * MINUTE,
  load: 30 * MINUTE,
  run: 10 * MINUTE,
  prepare: 10 * MINUTE,
  execute: 10 * MINUTE,
  download: 10 * MINUTE,
  release: MINUTE,
  profile: 10 * MINUTE,
  memory: MINUTE,
  dispose: MINUTE,
};
