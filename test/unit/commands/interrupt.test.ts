import { afterEach, expect, it, vi } from 'vitest';
import { asInterruption, onInterrupt } from '../../../src/commands/interrupt.ts';
import { EXIT } from '../../../src/errors.ts';

const before = new Map((['SIGINT', 'SIGTERM'] as const).map((signal) => [signal, process.listeners(signal)]));

afterEach(() => {
  process.exitCode = undefined;
  for (const [signal, listeners] of before) for (const listener of process.listeners(signal)) if (!listeners.includes(listener)) process.off(signal, listener);
});

it('gives what a Ctrl-C aborts as an interruption, not as a fault of the tool', () => {
  let told = 0;
  const { signal, dispose } = onInterrupt(() => told++);
  const aborted = (): Error => {
    try {
      signal.throwIfAborted();
    } catch (error) {
      return error as Error;
    }
    throw new Error('nothing was aborted');
  };
  try {
    expect(aborted).toThrow('nothing was aborted');
    process.emit('SIGINT');
    expect([told, process.exitCode]).toEqual([1, EXIT.interrupted]);
    expect(asInterruption(aborted())).toMatchObject({ code: 'INTERRUPTED', exitStatus: EXIT.interrupted });
    const fault = new TypeError('a bug');
    expect(asInterruption(fault)).toBe(fault);
  } finally {
    dispose();
  }
});

it('listens on after a Ctrl-C until the process has ended, and no longer than its work otherwise', () => {
  const count = process.listenerCount('SIGINT');
  onInterrupt(() => {}).dispose();
  expect(process.listenerCount('SIGINT')).toBe(count);
  const { dispose } = onInterrupt(() => {});
  process.emit('SIGINT');
  dispose();
  expect(process.listenerCount('SIGINT')).toBe(count + 1);
});

it('takes one Ctrl-C that comes twice for one, and a second one for the end', () => {
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => {
    throw new Error('ended');
  });
  try {
    let told = 0;
    let nowMs = 1000;
    onInterrupt(() => told++, () => nowMs);
    process.emit('SIGINT');
    // timeout(1) and npm send what the terminal or they themselves sent already.
    process.emit('SIGINT');
    nowMs += 100;
    process.emit('SIGTERM');
    expect([told, exit.mock.calls.length]).toEqual([1, 0]);
    nowMs += 200;
    expect(() => process.emit('SIGINT')).toThrow('ended');
    expect([told, exit.mock.calls]).toEqual([1, [[EXIT.interrupted]]]);
  } finally {
    exit.mockRestore();
  }
});

it('leaves an abort that nobody asked for what it is', () => {
  const fault = new DOMException('This operation was aborted', 'AbortError');
  expect(asInterruption(fault)).toBe(fault);
});
