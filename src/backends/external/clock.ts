/**
 * Time as an outside program tells it. While a program works, time stands still, and then goes on by what the program's own
 * clock gave: what the conversation costs is in no sample. Everywhere else it is the machine's time.
 */
import type { Clock } from '../backend.ts';

/** A clock that shows a program's own time while the program works, and the machine's otherwise; nanoseconds, monotonic. */
export interface ProgramClock extends Clock {
  readonly source: 'program';
  /** Does work that took `elapsedNs` by the program's clock; undefined: as long as it took by ours. One at a time. */
  during<T extends { readonly elapsedNs?: number | undefined }>(work: () => Promise<T>): Promise<T>;
}

/** `wallNs` is a monotonic clock; default: the system's. */
export function createProgramClock(wallNs: () => bigint = process.hrtime.bigint): ProgramClock {
  /** What the machine's time is ahead by. */
  let ahead = 0n;
  let frozen: bigint | undefined;
  return {
    source: 'program',
    now: () => frozen ?? wallNs() - ahead,
    sleep: (durationNs) => new Promise((resolve) => void setTimeout(resolve, durationNs / 1e6)),
    async during(work) {
      if (frozen !== undefined) throw new Error('a program does one thing at a time');
      const start = wallNs();
      frozen = start - ahead;
      let elapsedNs: number | undefined;
      try {
        const result = await work();
        elapsedNs = result.elapsedNs;
        return result;
      } finally {
        const tookNs = wallNs() - start;
        ahead += tookNs - (elapsedNs === undefined ? tookNs : BigInt(Math.round(elapsedNs)));
        frozen = undefined;
      }
    },
  };
}
