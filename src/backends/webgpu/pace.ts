/**
 * How often Dawn asks the device whether something is done.
 *
 * Dawn's Node binding (webgpu 0.6.2, AsyncRunner) looks once in every turn of the event loop, which it keeps going with the global
 * `setImmediate`, a new native function each time, as long as a device is open. Each turn leaves garbage that only V8's full
 * collections free (functions with finalizers outlive scavenges): tens of megabytes a second, and stops of 10 to 70 ms on the way, in the
 * middle of requests. So turns are spaced: hardly any until what is waited for is nearly due, by when the last ones were not done yet; then
 * close ones; and where nothing is known, or it takes longer, the longer the further apart, by a share of the wait.
 *
 * When an answer comes says little of when it was ready: a first look that is late finds it all the same, and the next first look would be as
 * late. A look that was in vain is what bounds it from below.
 */

/** What a turn may wait where nothing is expected: of the time since the last submit, and at most. */
const SHARE = 0.02;
const LONGEST_MS = 0.05;

/** Of the expected time, where close looks begin and where they end; what a turn waits before and between, at least, and of the time so far. */
const [DUE, OVERDUE] = [0.9, 1.2];
const LONG_MS = 0.1;
const CLOSE_MS = 0.005;
const CLOSE_SHARE = 2e-4;

/**
 * After so long a wait a pause is slept through. It comes out longer than was asked for, by 0.05 to 0.1 ms, a percent of such a wait; but the processor is
 * free meanwhile for those who can use it: a device that is a processor itself (SwiftShader, llvmpipe), or the driver's compilers.
 */
const NAPS_MS = 10;

/** Of the time of a first look that was not in vain, when the next answer is expected. */
const SOONER = 0.8;

/** What a row of requests teaches about when to look for the next one's answer. Times are in ms since the last submit. */
export class Expectation {
  /** The newest look, and the one before it, after the last submit. */
  #look: number | undefined;
  #vain: number | undefined;
  #answered = true;
  /** When the last two answers were not there yet, newest first; 0 where nothing is known. */
  #bounds: readonly [number, number] = [0, 0];

  submitted(): void {
    this.#look = undefined;
    this.#vain = undefined;
    this.#answered = false;
  }

  looked(elapsedMs: number): void {
    this.#vain = this.#look;
    this.#look = elapsedMs;
  }

  /** Whether it was looked for in vain before. */
  answered(): boolean {
    this.#answered = true;
    if (this.#look !== undefined) this.#bounds = [this.#vain ?? SOONER * this.#look, this.#bounds[0]];
    return this.#vain !== undefined;
  }

  /** The shorter of the last two, as long as something is under way; 0 where nothing is known. */
  get ms(): number {
    return this.#answered ? 0 : Math.min(...this.#bounds);
  }
}

const expectation = new Expectation();
let submittedAt = 0;
let paced = false;

/** What waits for the device begins now. */
export function noteSubmit(): void {
  submittedAt = performance.now();
  expectation.submitted();
}

/** What was waited for is there. Whether it was waited for: where it was there at the first look, the host is what takes its time. */
export function noteAnswer(): boolean {
  return expectation.answered();
}

/** Milliseconds that a turn is held back, so long after the last submit; `expectedMs` is 0 where nothing is known. */
export function pauseAt(elapsedMs: number, expectedMs: number): number {
  const left = DUE * expectedMs - elapsedMs;
  if (left > 0) return Math.min(LONG_MS, left);
  return elapsedMs < OVERDUE * expectedMs ? Math.max(CLOSE_MS, CLOSE_SHARE * elapsedMs) : Math.min(LONGEST_MS, SHARE * elapsedMs);
}

const CELL = new Int32Array(new SharedArrayBuffer(4));

/** Loads of a shared word that take a millisecond; corrected by every pause. */
let loadsPerMs = 100_000;

/** Shorter pauses are mostly the reading of the clock, and say nothing of loads. */
const TELLING_MS = 0.01;

/** Passes the time, for less than a timer could, without making anything: a clock that is read in a loop makes a number each time. */
function spin(ms: number): void {
  const start = performance.now();
  const loads = Math.ceil(ms * loadsPerMs);
  for (let i = 0; i < loads; i++) Atomics.load(CELL, 0);
  const tookMs = performance.now() - start;
  if (ms >= TELLING_MS && tookMs > 0) loadsPerMs += 0.1 * (Math.min(10, Math.max(0.1, ms / tookMs)) - 1) * loadsPerMs;
}

function nap(ms: number): void {
  Atomics.wait(CELL, 0, 0, ms);
}

/** A turn: whatever the last one brought has been dealt with by now. */
function turn(callback: (...args: unknown[]) => void, ...args: unknown[]): void {
  const elapsedMs = performance.now() - submittedAt;
  const pauseMs = pauseAt(elapsedMs, expectation.ms);
  if (elapsedMs > NAPS_MS && pauseMs > TELLING_MS) nap(pauseMs);
  else spin(pauseMs);
  expectation.looked(performance.now() - submittedAt);
  callback(...args);
}

/** From now on turns of the event loop that are asked for by the global `setImmediate` are spaced, for the life of the process. */
export function paceTurns(): void {
  if (paced) return;
  paced = true;
  const plain = globalThis.setImmediate;
  // What is no function is refused as ever, where it is given.
  const spaced = ((callback: Parameters<typeof turn>[0], ...args: unknown[]) => (typeof callback === 'function' ? plain(turn, callback, ...args) : plain(callback))) as typeof setImmediate;
  // Node's own `promisify` looks there.
  globalThis.setImmediate = Object.assign(spaced, plain);
}
