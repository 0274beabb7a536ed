/** How often Dawn looks whether something is done. */
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { noteSubmit, paceTurns, pauseAt } from '../../../src/backends/webgpu/pace.ts';

describe('pauses between turns', () => {
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

  it('leave setImmediate what it is', async () => {
    const plain = globalThis.setImmediate;
    try {
      paceTurns();
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
    } finally {
      globalThis.setImmediate = plain;
    }
  });
});
