import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Lifetime, liveLowerBound, type MemoryPlan, type MemoryRequest, planMemory } from '../../../src/engine/memory.ts';

const ALIGNMENT = 256;

/** A chain of kernels: each reads some earlier tensors that are still there and writes one. */
const programs = fc
  .array(fc.record({ bytes: fc.integer({ min: 16, max: 5000 }), reads: fc.array(fc.nat(5), { maxLength: 4 }) }), { minLength: 1, maxLength: 60 })
  .map((kernels): MemoryRequest => {
    const tensors: Lifetime[] = [];
    const apart: [number, number][] = [];
    for (const [step, { bytes, reads }] of kernels.entries()) {
      for (const input of new Set(reads.map((back) => step - 1 - back).filter((i) => i >= 0))) {
        tensors[input] = { ...tensors[input]!, last: step };
        apart.push([step, input]);
      }
      tensors.push({ bytes, first: step, last: step });
    }
    return { tensors, apart, alignment: ALIGNMENT, maxBufferBytes: 2 ** 30 };
  });

function overlaps(plan: MemoryPlan, tensors: readonly Lifetime[], a: number, b: number): boolean {
  const [x, y] = [plan.placements[a]!, plan.placements[b]!];
  const together = tensors[a]!.first <= tensors[b]!.last && tensors[b]!.first <= tensors[a]!.last;
  return together && x.buffer === y.buffer && x.offset < y.offset + tensors[b]!.bytes && y.offset < x.offset + tensors[a]!.bytes;
}

describe('planMemory', () => {
  it('never overlaps what lives together, keeps apart what must be, aligns, stays inside its buffers', () => {
    fc.assert(
      fc.property(programs, (request) => {
        const plan = planMemory(request);
        for (let a = 0; a < request.tensors.length; a++) {
          const { buffer, offset } = plan.placements[a]!;
          expect(offset % ALIGNMENT).toBe(0);
          expect(offset + request.tensors[a]!.bytes).toBeLessThanOrEqual(plan.buffers[buffer]!);
          for (let b = a + 1; b < request.tensors.length; b++) expect(overlaps(plan, request.tensors, a, b)).toBe(false);
        }
        for (const [a, b] of request.apart) expect(plan.placements[a]!.buffer).not.toBe(plan.placements[b]!.buffer);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it('ping-pongs a chain between two buffers at the lower bound', () => {
    const tensors = Array.from({ length: 20 }, (_, step): Lifetime => ({ bytes: 1024, first: step, last: Math.min(step + 1, 19) }));
    const apart = tensors.slice(1).map((_, i): [number, number] => [i + 1, i]);
    const plan = planMemory({ tensors, apart, alignment: ALIGNMENT, maxBufferBytes: 2 ** 30 });
    expect(plan.buffers).toEqual([1024, 1024]);
    expect(liveLowerBound(tensors)).toBe(2048);
  });

  it('keeps a network of residual blocks within a quarter of the lower bound', () => {
    // Three layers and the shortcut's sum, eight times, with widths that change.
    const tensors: Lifetime[] = [];
    const apart: [number, number][] = [];
    let shortcut = tensors.push({ bytes: 4096, first: 0, last: 0 }) - 1;
    for (let block = 0; block < 8; block++) {
      let previous = shortcut;
      for (const factor of [1, 1, 4]) {
        const step = tensors.length;
        tensors[previous] = { ...tensors[previous]!, last: Math.max(tensors[previous]!.last, step) };
        if (factor === 4) {
          tensors[shortcut] = { ...tensors[shortcut]!, last: step };
          apart.push([step, shortcut]);
        }
        apart.push([step, previous]);
        previous = tensors.push({ bytes: factor * (4096 >> (block >> 1)), first: step, last: step }) - 1;
      }
      shortcut = previous;
    }
    const plan = planMemory({ tensors, apart, alignment: ALIGNMENT, maxBufferBytes: 2 ** 30 });
    const total = plan.buffers.reduce((sum, bytes) => sum + bytes, 0);
    expect(total).toBeLessThanOrEqual(1.25 * liveLowerBound(tensors));
    expect(plan.buffers.length).toBeLessThanOrEqual(4);
  });

  it('opens another buffer rather than exceed the largest, and refuses a tensor that exceeds it alone', () => {
    const both = [{ bytes: 1000, first: 0, last: 1 }, { bytes: 1000, first: 0, last: 1 }];
    expect(planMemory({ tensors: both, apart: [], alignment: ALIGNMENT, maxBufferBytes: 1500 }).buffers).toEqual([1000, 1000]);
    expect(() => planMemory({ tensors: both, apart: [], alignment: ALIGNMENT, maxBufferBytes: 999 })).toThrow(/exceeds the largest buffer/);
  });
});
