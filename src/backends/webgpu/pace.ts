/**
 * How often Dawn asks the device whether something is done.
 *
 * Dawn's Node binding (webgpu 0.6.2, AsyncRunner) looks once in every turn of the event loop, which it keeps going with the global
 * `setImmediate`, a new native function each time, as long as a device is open. Each turn leaves garbage that only V8's full
 * collections free (functions with finalizers outlive scavenges): tens of megabytes a second, and stops of 10 to 70 ms on the way, in the
 * middle of requests. So turns are spaced: the longer nothing was submitted, the longer until the next look, a share of the wait that
 * adds no more than that to what is waited for.
 */

/** Of the time since the last submit, what a turn may wait. */
const SHARE = 0.02;
const LONGEST_MS = 0.05;

let submittedAt = 0;
let paced = false;

/** What waits for the device begins now. */
export function noteSubmit(): void {
  submittedAt = performance.now();
}

/** Milliseconds that a turn at `now` is held back. */
export function pauseAt(now: number, since: number): number {
  return Math.min(LONGEST_MS, SHARE * (now - since));
}

const CELL = new Int32Array(new SharedArrayBuffer(4));

/** Loads of a shared word that take a millisecond; corrected by every pause. */
let loadsPerMs = 100_000;

/** Shorter pauses are mostly the reading of the clock, and say nothing of loads. */
const TELLING_MS = 0.005;

/** Passes the time, for less than a timer could, without making anything: a clock that is read in a loop makes a number each time. */
function spin(ms: number): void {
  const start = performance.now();
  const loads = Math.ceil(ms * loadsPerMs);
  for (let i = 0; i < loads; i++) Atomics.load(CELL, 0);
  const tookMs = performance.now() - start;
  if (ms >= TELLING_MS && tookMs > 0) loadsPerMs += 0.1 * (Math.min(10, Math.max(0.1, ms / tookMs)) - 1) * loadsPerMs;
}

/** From now on turns of the event loop that are asked for by the global `setImmediate` are spaced, for the life of the process. */
export function paceTurns(): void {
  if (paced) return;
  paced = true;
  const plain = globalThis.setImmediate;
  const spaced = ((...args: Parameters<typeof setImmediate>) => {
    spin(pauseAt(performance.now(), submittedAt));
    return plain(...args);
  }) as typeof setImmediate;
  // Node's own `promisify` looks there.
  globalThis.setImmediate = Object.assign(spaced, plain);
}
