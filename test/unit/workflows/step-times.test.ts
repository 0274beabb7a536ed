import { expect, it } from 'vitest';
import { stepTimes } from '../../../src/workflows/step-times.ts';

it('times each step until the next is named, and adds up what comes back', () => {
  let now = 0;
  const times = stepTimes(undefined, () => now);
  const at = (ms: number, step: string): void => {
    now = ms;
    times.onProgress(step, 0, 1);
  };
  at(5, 'passes');
  at(25, 'kernels');
  at(30, 'tuning');
  at(40, 'tuning');
  at(70, 'kernels');
  now = 100;
  expect(times.end()).toEqual({ passes: 20, kernels: 35, tuning: 40 });
  now = 200;
  expect(times.end()).toEqual({ passes: 20, kernels: 35, tuning: 40 });
});
