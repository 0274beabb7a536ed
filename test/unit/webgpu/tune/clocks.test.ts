/** The watch over a clock: no proof before it was at work for long, none while batches disagree, none at an idle clock. */
import { describe, expect, it } from 'vitest';
import { ClockWatch } from '../../../../src/backends/webgpu/tune/clocks.ts';

/** Batches of these times, one after another, with nothing between. */
function run(watch: ClockWatch, fromMs: number, batchesNs: readonly number[]): number {
  let atMs = fromMs;
  for (const ns of batchesNs) {
    const end = atMs + ns / 1e6;
    watch.observe(atMs, end, ns);
    atMs = end;
  }
  return atMs;
}

const FULL = 20e6;
const steady = Array.from({ length: 40 }, (_, i) => FULL * (1 + (i % 3) / 500));

describe('the watch over a clock', () => {
  it('is content once the device has worked long and evenly enough', () => {
    const watch = new ClockWatch();
    const early = run(watch, 0, steady.slice(0, 10));
    expect(watch.isProven(early)).toBe(false);
    const late = run(watch, early, steady);
    expect(watch.isProven(late)).toBe(true);
  });

  it('is not content while the clock rises', () => {
    const watch = new ClockWatch();
    const at = run(watch, 0, Array.from({ length: 30 }, (_, i) => FULL * (4 - i / 10)));
    expect(watch.isProven(at)).toBe(false);
  });

  it('starts over after a pause', () => {
    const watch = new ClockWatch();
    const at = run(watch, 0, steady);
    expect(watch.isProven(at + 200)).toBe(false);
    const later = run(watch, at + 1000, steady.slice(0, 5));
    expect(watch.isProven(later)).toBe(false);
    expect(watch.isProven(run(watch, later, steady))).toBe(true);
  });

  it('counts other work as work, however long', () => {
    const watch = new ClockWatch();
    const at = run(watch, 0, steady);
    watch.observe(at, at + 5000);
    expect(watch.busyMs(at + 5010)).toBeGreaterThan(5000);
  });

  it('is not taken in by a clock that is evenly slow', () => {
    const watch = new ClockWatch();
    const at = run(watch, 0, steady);
    const idle = run(watch, at, Array.from({ length: 20 }, () => 4 * FULL));
    expect(watch.isProven(idle)).toBe(false);
    expect(watch.holds(4 * FULL)).toBe(false);
    expect(watch.holds(1.05 * FULL)).toBe(true);
  });
});
