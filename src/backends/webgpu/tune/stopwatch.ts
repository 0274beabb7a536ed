/**
 * Device time of stretches of work: by timestamp queries where the device has them, which leave out everything that the host does,
 * and by the wall clock around one submit each where it has not.
 */
import { USAGE } from '../resources.ts';

export interface Stopwatch {
  readonly kind: 'timestamps' | 'wall';
  /** The smallest difference that it shows, nanoseconds. */
  readonly quantumNs: number;
  /** Nanoseconds that each stretch took; they run in order, with nothing between them but (by the wall clock) the host's turn. */
  time(stretches: readonly Stretch[]): Promise<number[]>;
  destroy(): void;
}

/** Dispatches into a pass. */
export type Stretch = (pass: GPUComputePassEncoder) => void;

/** WebGPU's bound for one query set is 4096; a stretch takes two. */
const STRETCHES_PER_SET = 2048;

/** `idle` is a small piece of work, from which the clock's quantum is read. */
export async function createStopwatch(device: GPUDevice, idle: Stretch): Promise<Stopwatch> {
  if (!device.features.has('timestamp-query')) return wallClock(device);
  const stamps = new Timestamps(device);
  const seen = await stamps.read(Array.from({ length: 64 }, () => idle));
  const quantum = seen.slice(1).reduce((common, stamp, i) => gcd(common, stamp > seen[i]! ? stamp - seen[i]! : seen[i]! - stamp), 0n);
  return {
    kind: 'timestamps',
    quantumNs: Math.max(1, Number(quantum)),
    async time(stretches) {
      const times: number[] = [];
      for (let from = 0; from < stretches.length; from += STRETCHES_PER_SET) {
        const part = stretches.slice(from, from + STRETCHES_PER_SET);
        const read = await stamps.read(part);
        for (const i of part.keys()) times.push(Math.max(0, Number(read[2 * i + 1]! - read[2 * i]!)));
      }
      return times;
    },
    destroy: () => stamps.destroy(),
  };
}

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b);
}

class Timestamps {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #readback: GPUBuffer;

  constructor(device: GPUDevice) {
    const count = 2 * STRETCHES_PER_SET;
    this.#device = device;
    this.#queries = device.createQuerySet({ type: 'timestamp', count });
    this.#resolved = device.createBuffer({ size: count * 8, usage: USAGE.queryResolve | USAGE.copySrc });
    this.#readback = device.createBuffer({ size: count * 8, usage: USAGE.mapRead | USAGE.copyDst });
  }

  /** Begin and end of every stretch. Each is a submission of its own, so that no watchdog sees them as one. */
  async read(stretches: readonly Stretch[]): Promise<BigUint64Array> {
    const { queue } = this.#device;
    const commands = stretches.map((stretch, i) => {
      const encoder = this.#device.createCommandEncoder();
      const timestampWrites = { querySet: this.#queries, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
      const pass = encoder.beginComputePass({ timestampWrites });
      stretch(pass);
      pass.end();
      return encoder.finish();
    });
    for (const buffer of commands) queue.submit([buffer]);
    const encoder = this.#device.createCommandEncoder();
    const bytes = stretches.length * 16;
    encoder.resolveQuerySet(this.#queries, 0, 2 * stretches.length, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#readback, 0, bytes);
    queue.submit([encoder.finish()]);
    await this.#readback.mapAsync(USAGE.mapRead, 0, bytes);
    const stamps = new BigUint64Array(this.#readback.getMappedRange(0, bytes).slice(0));
    this.#readback.unmap();
    return stamps;
  }

  destroy(): void {
    this.#readback.destroy();
    this.#resolved.destroy();
    this.#queries.destroy();
  }
}

function wallClock(device: GPUDevice): Stopwatch {
  return {
    kind: 'wall',
    quantumNs: wallQuantumNs(),
    async time(stretches) {
      const times: number[] = [];
      for (const stretch of stretches) {
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        stretch(pass);
        pass.end();
        const commands = encoder.finish();
        const startMs = performance.now();
        device.queue.submit([commands]);
        await device.queue.onSubmittedWorkDone();
        times.push((performance.now() - startMs) * 1e6);
      }
      return times;
    },
    destroy: () => undefined,
  };
}

function wallQuantumNs(): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 100; i++) {
    const from = performance.now();
    let to = performance.now();
    while (to === from) to = performance.now();
    least = Math.min(least, (to - from) * 1e6);
  }
  return least;
}
