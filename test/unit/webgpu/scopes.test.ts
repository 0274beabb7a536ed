/** Error scopes around what is made on a device: closed however it ends, and what was made is given back where memory ran out. */
import { describe, expect, it } from 'vitest';
import { allocated, scoped, validated } from '../../../src/backends/webgpu/scopes.ts';

/** A device that finds these faults, scope by scope, and counts the open ones. */
function faulty(...faults: readonly (string | null)[]): { readonly device: GPUDevice; open: number } {
  const left = [...faults];
  const counted = { open: 0 };
  const device = {
    pushErrorScope: () => void counted.open++,
    popErrorScope: async () => {
      counted.open--;
      const message = left.shift() ?? null;
      return message === null ? null : { message };
    },
  } as unknown as GPUDevice;
  return Object.assign(counted, { device });
}

describe('error scopes', () => {
  it('are closed where the work throws at once', async () => {
    const counted = faulty();
    const { done, fault } = await scoped(counted.device, 'validation', () => {
      throw new TypeError('no number');
    });
    expect([done.status, fault, counted.open]).toEqual(['rejected', null, 0]);
  });

  it('end before the work does that waits', async () => {
    const counted = faulty();
    const open: number[] = [];
    await scoped(counted.device, 'validation', async () => {
      open.push(counted.open);
      await Promise.resolve().then(() => Promise.resolve());
      open.push(counted.open);
    });
    expect(open).toEqual([1, 0]);
  });

  it('make of a refusal the engine\'s fault, whoever says so', async () => {
    const { device } = faulty('no such binding', null);
    await expect(validated(device, () => 1)).rejects.toMatchObject({ code: 'ENGINE_INVALID', message: expect.stringContaining('no such binding') as string });
    await expect(validated(device, () => Promise.reject(new Error('no entry point')))).rejects.toMatchObject({ code: 'ENGINE_INVALID', message: expect.stringContaining('no entry point') as string });
    expect(await validated(device, () => 1)).toBe(1);
  });

  it('give back what was made where there is no memory for all', async () => {
    const counted = faulty('exhausted', null);
    const alive = new Set<number>();
    const make = () => [1, 2].map((id) => (alive.add(id), { id, destroy: () => void alive.delete(id) }));
    await expect(allocated(counted.device, 4096, make, 'for two: ')).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: expect.stringContaining('4096 bytes of device memory: for two: exhausted') as string });
    expect(alive.size).toBe(0);
    expect((await allocated(counted.device, 4096, make)).map(({ id }) => id)).toEqual([1, 2]);
    expect(alive.size).toBe(2);
  });
});
