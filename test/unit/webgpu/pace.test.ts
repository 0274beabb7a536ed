/** How often Dawn looks whether something is done. */
import { promisify } from 'node:util';
import fc from 'fast-check';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { Expectation, noteSubmit, paceTurns, pauseAt } from '../../../src/backends/webgpu/pace.ts';

/** Requests to a device that takes `deviceMs` for each, by a processor that takes `turnMs` for a turn: how late the last answers were seen, and in how many turns. */
function requests(deviceMs: number, turnMs: number, count: number): { late: number; turns: number }[] {
  const expectation = new Expectation();
  return Array.from({ length: count }, () => {
    expectation.submitted();
    let elapsed = 0;
    for (let turns = 1; ; turns++) {
      elapsed += pauseAt(elapsed, expectation.ms);
      expectation.looked(elapsed);
      const done = elapsed >= deviceMs;
      elapsed += turnMs;
      if (!done) continue;
      expectation.answered();
      return { late: elapsed - deviceMs, turns };
    }
  });
}

describe('pauses between turns', () => {
  it('end soon after the device does, whatever a turn costs beside it', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.02, max: 30, noNaN: true }), fc.double({ min: 0.002, max: 0.06, noNaN: true }), (deviceMs, turnMs) => {
        const settled = requests(deviceMs, turnMs, 60).slice(40);
        // Three of four by no more than a pause, their own turn and the one in vain before it, and what 0.9 of a bound leaves between.
        const late = settled.map((each) => each.late).toSorted((a, b) => a - b);
        expect(late[14]).toBeLessThanOrEqual(0.01 + 2.1 * turnMs);
        for (const { turns } of settled) expect(turns).toBeLessThanOrEqual(4 + deviceMs / 0.1 + (0.3 * deviceMs) / (0.005 + turnMs));
      }),
      { seed: 11, numRuns: 300 },
    );
  });

  it('expect nothing where no look was made, or nothing is under way', () => {
    const expectation = new Expectation();
    expectation.submitted();
    expectation.answered();
    expect(expectation.ms).toBe(0);
    for (const look of [1, 2]) {
      expectation.submitted();
      expectation.looked(look);
      expectation.looked(look + 1);
      expectation.answered();
      expect(expectation.ms).toBe(0);
    }
    expectation.submitted();
    expect(expectation.ms).toBe(1);
  });

  it('say whether an answer was waited for', () => {
    const expectation = new Expectation();
    expectation.submitted();
    expectation.looked(1);
    expect(expectation.answered()).toBe(false);
    expectation.submitted();
    expectation.looked(0.5);
    expectation.looked(1);
    expect(expectation.answered()).toBe(true);
  });

  it('add no more than a fiftieth to a wait of which nothing is known, and no more than 50 µs', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e5, noNaN: true }), (waited) => {
        const pause = pauseAt(waited, 0);
        expect(pause).toBeGreaterThanOrEqual(0);
        expect(pause).toBeLessThanOrEqual(0.05);
        expect(pause).toBeLessThanOrEqual(0.02 * waited + 1e-9);
      }),
    );
  });

  it('are short around the time that is expected, and reach no further than its nine tenths before', () => {
    expect([0.9, 1, 1.19].map((share) => pauseAt(share * 4, 4))).toEqual([0.005, 0.005, 0.005]);
    expect(pauseAt(4.8, 4)).toBe(0.05);
    fc.assert(
      fc.property(fc.double({ min: 1e-3, max: 1e5, noNaN: true }), fc.double({ min: 0, max: 0.89, noNaN: true }), (wanted, share) => {
        const pause = pauseAt(share * wanted, wanted);
        expect(pause).toBeLessThanOrEqual(0.1);
        expect(share * wanted + pause).toBeLessThanOrEqual(0.9 * wanted * (1 + 1e-9));
      }),
    );
  });

  it('are close to the time that is expected, by a five-thousandth where it is long', () => {
    for (const elapsed of [900, 1190]) expect(pauseAt(elapsed, 1000)).toBeCloseTo(elapsed / 5000);
    expect(pauseAt(25, 25)).toBe(0.005);
  });
});

describe('turns that are paced', () => {
  // For the life of the process, which other tests may share.
  beforeAll(paceTurns);

  it('leave the processor to others where the wait has been long', async () => {
    const wait = vi.spyOn(Atomics, 'wait');
    noteSubmit();
    const submitted = performance.now();
    const now = vi.spyOn(performance, 'now');
    try {
      for (const { elapsed, naps } of [
        { elapsed: 9, naps: [] },
        { elapsed: 11, naps: [0.05] },
      ]) {
        now.mockReturnValue(submitted + elapsed);
        await new Promise<void>((resolve) => globalThis.setImmediate(() => resolve()));
        expect(wait.mock.calls.map(([, , , ms]) => ms)).toEqual(naps);
      }
    } finally {
      vi.restoreAllMocks();
    }
  });

  it('leave setImmediate what it is', async () => {
    const paced = globalThis.setImmediate;
    paceTurns();
    expect(globalThis.setImmediate).toBe(paced);
    noteSubmit();
    expect(await promisify(globalThis.setImmediate)(7)).toBe(7);
    const order: number[] = [];
    clearImmediate(globalThis.setImmediate(() => order.push(0)));
    await new Promise<void>((resolve) => {
      globalThis.setImmediate((value: number) => order.push(value), 1);
      globalThis.setImmediate(() => resolve());
    });
    expect(order).toEqual([1]);
  });
});
