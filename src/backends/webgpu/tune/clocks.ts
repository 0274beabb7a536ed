/**
 * Whether a GPU's clock stands at its full rate: an idle card runs at a fraction of it and takes hundreds of milliseconds of
 * continuous work to rise. A fixed workload is timed in batches; the clock is proven once there was work for long enough, the last
 * batches agree, and they are no slower than any seen before (which catches a card that agrees with itself at an idle clock).
 */

/** Continuous work before any proof, milliseconds. */
const WARM_MS = 500;
/** A pause of so long ends the continuity. */
const PAUSE_MS = 100;
/** Batches that must agree, and how closely. */
const BATCHES = 4;
const AGREEMENT = 0.03;
/** Kernels that draw more power than the workload lower the clock a little. */
const TOLERANCE = 0.1;

export class ClockWatch {
  #busySince: number | undefined;
  #lastWorkAt = Number.NEGATIVE_INFINITY;
  #recent: number[] = [];
  #fastestNs = Number.POSITIVE_INFINITY;

  /** Notes that the device was at work, with the time of one batch of the workload where it was that. */
  observe(fromMs: number, toMs: number, batchNs?: number): void {
    if (this.#busySince === undefined || fromMs - this.#lastWorkAt > PAUSE_MS) {
      this.#busySince = fromMs;
      this.#recent = [];
    }
    this.#lastWorkAt = toMs;
    if (batchNs === undefined) return;
    this.#recent = [...this.#recent, batchNs].slice(-BATCHES);
    this.#fastestNs = Math.min(this.#fastestNs, batchNs);
  }

  /** How long the device has been at work without a pause. */
  busyMs(nowMs: number): number {
    return this.#busySince === undefined || nowMs - this.#lastWorkAt > PAUSE_MS ? 0 : nowMs - this.#busySince;
  }

  isProven(nowMs: number): boolean {
    if (this.busyMs(nowMs) < WARM_MS || this.#recent.length < BATCHES) return false;
    const [low, high] = [Math.min(...this.#recent), Math.max(...this.#recent)];
    return high - low <= AGREEMENT * low && this.holds(low);
  }

  /** Whether a batch took no longer than at the full rate. */
  holds(batchNs: number): boolean {
    return batchNs <= this.#fastestNs * (1 + TOLERANCE);
  }
}
