/**
 * Where time comes from: the system's monotonic clock, or a session's own where time is simulated.
 *
 * Everything that times takes a TimeSource, so that the same code runs on a real device and, exactly and at once, on a fake one.
 */
import type { Clock } from '../backends/backend.ts';

export interface TimeSource {
  /** Nanoseconds from an arbitrary origin; never goes back. */
  nowNs(): number;
  /**
   * Resolves when `nowNs() ≥ timeNs`. `underWay` resolves when the work that was started before has ended: simulated time
   * passes only while work is done, so a simulated clock lets that work end before it skips the rest of the wait; the
   * system's clock doesn't ask.
   */
  waitUntil(timeNs: number, underWay: () => Promise<unknown>): Promise<void>;
}

/** Timers fire up to a millisecond late; from here on the event loop is polled instead. */
const POLL_FROM_NS = 1.5e6;

/** The system's monotonic clock. Exact in a JavaScript number for the 104 days after the process started. */
export function createSystemClock(): TimeSource {
  const origin = process.hrtime.bigint();
  const nowNs = (): number => Number(process.hrtime.bigint() - origin);
  return {
    nowNs,
    async waitUntil(timeNs) {
      const restNs = timeNs - nowNs();
      if (restNs > POLL_FROM_NS) await new Promise((resolve) => void setTimeout(resolve, Math.floor((restNs - POLL_FROM_NS) / 1e6)));
      while (nowNs() < timeNs) await new Promise((resolve) => void setImmediate(resolve));
    },
  };
}

/** The clock that a session on a fake device brings. */
export function createSessionClock(clock: Clock): TimeSource {
  const nowNs = (): number => Number(clock.now());
  return {
    nowNs,
    async waitUntil(timeNs, underWay) {
      await underWay();
      const restNs = timeNs - nowNs();
      if (restNs > 0) await clock.sleep(restNs);
    },
  };
}

/**
 * The smallest step that a clock is seen to make, in nanoseconds: its resolution or, where that is finer, the time of a call.
 * 0 for a clock that stands still between calls, as simulated ones do: its readings are exact.
 */
export function measureQuantum(nowNs: () => number, tries = 10_000): number {
  let quantum = Infinity;
  let last = nowNs();
  for (let i = 0; i < tries; i++) {
    const now = nowNs();
    if (now > last) quantum = Math.min(quantum, now - last);
    last = now;
  }
  return quantum === Infinity ? 0 : quantum;
}
