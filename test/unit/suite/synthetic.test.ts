/** Seeded samples: those whose elements share bytes. */
import { expect, it } from 'vitest';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { stack } from '../../../src/suite/synthetic.ts';

it('samples of 4 bits that end within a byte are joined element by element', () => {
  const samples = [[1, 2, 3], [-1, -2, -3], [4, 5, 6]].map((values) => fromNumbers('int4', [3], values));
  expect(toNumbers(stack(samples, [3, 3]))).toEqual([1, 2, 3, -1, -2, -3, 4, 5, 6]);
});
