/**
 * The null backend's time: how long each execution takes by its options, and the clock on which it takes it.
 */
import type { BuildOptions, Fusion, Precision } from '../../engine/engine.ts';
import type { Clock } from '../backend.ts';
import { mulberry32 } from './answers.ts';
import type { NullOptions } from './options.ts';

/** Time relative to fp32, so that variants of a sweep differ by known factors. */
export const PRECISION_TIME: Readonly<Record<Precision, number>> = { fp32: 1, mixed: 0.625, fp16: 0.5, int8: 0.25 };
export const FUSION_TIME: Readonly<Record<Fusion, number>> = { on: 1, off: 1.5 };

/** How much slower the first `slowFirst` executions are: what a GPU does that wakes from its idle clock. */
export const SLOW_FACTOR = 4;

/** Durations of successive executions in nanoseconds, without end; equal options give equal sequences. */
export function* durations(build: BuildOptions, options: NullOptions): Generator<number, never> {
  const base =
    (options.latencyNs + options.latencyPerItemNs * build.batch) * PRECISION_TIME[build.precision] * FUSION_TIME[build.fusion];
  const random = mulberry32(options.seed);
  for (let execution = 0; ; execution++) {
    const slow = execution < options.slowFirst ? SLOW_FACTOR : 1;
    const drift = (1 + options.drift) ** execution;
    const jitter = options.jitter === 0 ? 1 : Math.exp(options.jitter * normal(random));
    yield Math.round(base * slow * drift * jitter);
  }
}

/** A standard normal deviate (Box and Muller, 1958). */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** A clock that moves only when it is told to. */
export function fakeClock(): Clock {
  let now = 0n;
  return {
    now: () => now,
    sleep(durationNs) {
      now += BigInt(Math.round(durationNs));
      return Promise.resolve();
    },
  };
}

/** The machine's clock. Sleeps by spinning, because timers are off by a millisecond and a fake kernel may take microseconds. */
export const wallClock: Clock = {
  now: () => BigInt(Math.round(performance.now() * 1e6)),
  async sleep(durationNs) {
    const end = performance.now() + durationNs / 1e6;
    while (performance.now() < end);
  },
};
