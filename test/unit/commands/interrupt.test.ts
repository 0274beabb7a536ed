import { afterEach, expect, it } from 'vitest';
import { onInterrupt } from '../../../src/commands/interrupt.ts';
import { EXIT } from '../../../src/errors.ts';

afterEach(() => {
  process.exitCode = undefined;
});

it('gives a Ctrl-C as an error that says so, not as a fault of the tool', () => {
  let told = 0;
  const { signal, dispose } = onInterrupt(() => told++);
  try {
    signal.throwIfAborted();
    process.emit('SIGINT');
    expect(() => signal.throwIfAborted()).toThrow(expect.objectContaining({ code: 'INTERRUPTED', exitStatus: EXIT.interrupted }));
    expect([told, process.exitCode]).toEqual([1, EXIT.interrupted]);
  } finally {
    dispose();
  }
});
