import { describe, expect, it } from 'vitest';
import { referenceThreads, sessionThreads } from '../../../src/backends/onnxruntime/threads.ts';

describe('threads of an onnxruntime session', () => {
  it.each([
    ['asked for: as asked', 3, 2, 96, 3],
    ['a container with fewer cores than the host: those', 0, 16, 96, 16],
    ['the whole machine: as onnxruntime sees fit', 0, 8, 8, 0],
  ])('%s', (_, asked, granted, host, threads) => {
    expect(sessionThreads(asked, granted, host)).toBe(threads);
  });

  it('a reference takes one, unless the machine is its own', () => {
    const model = { bytes: new Uint8Array(), folder: undefined };
    expect(referenceThreads(model)).toBe(1);
    expect(referenceThreads({ ...model, allCores: true })).toBe(sessionThreads(0));
  });
});
