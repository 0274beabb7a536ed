/**
 * Yardsticks: fixed workloads timed in every round, which move only when the machine does.
 *
 * One is bound by the core (integer arithmetic in registers), one by memory (a copy of a buffer larger than a core's private
 * caches). They run in the parent process, which lives through the whole sweep: compiled once, at one place in memory, they
 * carry none of the process-to-process variance that the cases have, and cost the workers no memory. lmbench (McVoy and
 * Staelin, USENIX 1996) uses the same two kinds.
 */
import type { YardstickReading } from '../results/record.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import type { TimeSource } from './clock.ts';

export interface YardstickOptions {
  readonly clock: TimeSource;
  /** Steps of the arithmetic loop; default about 3 ms on a core of today. */
  readonly arithmeticSteps?: number;
  /** Bytes copied; default 16 MiB, about 3 ms. */
  readonly copyBytes?: number;
}

/**
 * A workload is timed in pieces of a fraction of a millisecond, far below the share of a core that a scheduler gives at once,
 * and a reading is what it would take at the speed of the median piece: where others want the core, most pieces are still not
 * interrupted. That they do is no speed of the machine; it is in the rounds as the load of others.
 */
const PIECES = 25;
const PER_WORKLOAD = { 'cpu-arithmetic': 12, memory: 8 } as const;

/** Allocates and warms the workloads; the function it returns reads each, about 10 ms long together. */
export function createYardstick(options: YardstickOptions): () => readonly YardstickReading[] {
  const { clock, arithmeticSteps = 1_200_000, copyBytes = 16 * 2 ** 20 } = options;
  const source = new Uint8Array(copyBytes).fill(1);
  const target = new Uint8Array(copyBytes).fill(2);
  const slice = Math.ceil(copyBytes / PER_WORKLOAD.memory);
  const workloads = {
    'cpu-arithmetic': () => mix(Math.ceil(arithmeticSteps / PER_WORKLOAD['cpu-arithmetic'])),
    // Each piece copies the next part, which has left the caches since it was copied last.
    memory: (piece: number) => {
      const from = (piece % PER_WORKLOAD.memory) * slice;
      target.set(source.subarray(from, from + slice), from);
    },
  };
  const time = (workload: keyof typeof workloads): YardstickReading => {
    const durations = Array.from({ length: PIECES }, (_, piece) => {
      const startNs = clock.nowNs();
      workloads[workload](piece);
      return clock.nowNs() - startNs;
    });
    return { workload, durationNs: quantile(sortSamples(durations), 0.5) * PER_WORKLOAD[workload] };
  };
  const read = (): readonly YardstickReading[] => [time('cpu-arithmetic'), time('memory')];
  // Once for the compiler to see all of it.
  read();
  return read;
}

/** Last state of the arithmetic loop. Kept, so that no compiler may drop the loop. */
let state = 1;

/** A chain of dependent multiplications and shifts (xorshift and a Weyl step). */
function mix(steps: number): void {
  let value = state;
  for (let i = 0; i < steps; i++) {
    value ^= value << 13;
    value ^= value >>> 17;
    value ^= value << 5;
    value = Math.imul(value, 0x9e3779b1) + i;
    value |= 0;
  }
  state = value;
}
