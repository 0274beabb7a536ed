import fc from 'fast-check';
import { expect, test } from 'vitest';
import { partEnds, passesOf } from '../../../src/backends/webgpu/encode.ts';
import type { ReadyStep } from '../../../src/backends/webgpu/resources.ts';

test('parts grow and end with the steps; few steps are one part', () => {
  expect(partEnds(53)).toEqual([11, 53]);
  expect(partEnds(20)).toEqual([4, 20]);
  expect(partEnds(19)).toEqual([19]);
  expect(partEnds(0)).toEqual([0]);
  expect(partEnds(57, 4, 2)).toEqual([57]);
  expect(partEnds(60, 4, 2)).toEqual([4, 12, 28, 60]);
});

test('parts cover all steps once, none is empty', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 2, max: 5 }), (steps, parts, growth) => {
      const ends = partEnds(steps, parts, growth);
      expect(ends.at(-1)).toBe(steps);
      expect(ends.every((end, i) => end > (ends[i - 1] ?? 0))).toBe(true);
    }),
  );
});

test('passes are the runs of dispatches between transfers', () => {
  const of = (...kinds: readonly ReadyStep['kind'][]): number => passesOf(kinds.map((kind) => ({ kind }) as ReadyStep));
  expect(of()).toBe(0);
  expect(of('clear')).toBe(0);
  expect(of('dispatch', 'dispatch')).toBe(1);
  expect(of('copy', 'dispatch', 'dispatch', 'clear', 'copy', 'dispatch', 'copy')).toBe(2);
});
