/**
 * Yardsticks: fixed workloads timed in every round, which move only when the machine does.
 *
 * One is bound by the core (integer arithmetic in registers), one by memory (a copy of a buffer larger than a core's private
 * caches). They run in the parent process, which lives through the whole sweep: compiled once, at one place in memory, they
 * carry none of the process-to-process variance that the cases have, and cost the workers no memory. lmbench (McVoy and
 * Staelin, USENIX 1996) uses the same two kinds.
 */
import type { YardstickReading } from '../results/record.ts';
import type { TimeSource } from './clock.ts';

export interface YardstickOptions {
  readonly clock: TimeSource;
  /** Steps of the arithmetic loop; default about 15 ms on a core of today. */
  readonly arithmeticSteps?: number;
  /** Bytes copied; default 32 MiB, copied until about 15 ms are full at 10 GB/s. */
  readonly copyBytes?: number;
  readonly copies?: number;
}

/** Allocates and warms the workloads; the function it returns times each once. */
export function createYardstick(options: YardstickOptions): () => readonly YardstickReading[] {
  const { clock, arithmeticSteps = 6_000_000, copyBytes = 32 * 2 ** 20, copies = 4 } = options;
  const source = new Uint8Array(copyBytes).fill(1);
  const target = new Uint8Array(copyBytes).fill(2);
  const workloads = {
    'cpu-arithmetic': () => mix(arithmeticSteps),
    memory: () => {
      for (let i = 0; i < copies; i++) target.set(source);
    },
  };
  const time = (workload: keyof typeof workloads): YardstickReading => {
    const startNs = clock.nowNs();
    workloads[workload]();
    return { workload, durationNs: clock.nowNs() - startNs };
  };
  const read = (): readonly YardstickReading[] => [time('cpu-arithmetic'), time('memory')];
  // Twice: once for the compiler's first tier, once for its last.
  read();
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
