/** Commands that are encoded ahead: how many there are, and that they are used once. */
import { describe, expect, it } from 'vitest';
import { InputSet } from '../../../src/backends/webgpu/input-set.ts';
import type { ReadyStep } from '../../../src/backends/webgpu/resources.ts';
import type { Plan } from '../../../src/engine/plan.ts';

/** A device that counts dispatches: a command buffer is the number of those in it. */
function countingDevice(): { readonly device: GPUDevice; encoders: number } {
  const made = { encoders: 0 };
  const createCommandEncoder = () => {
    made.encoders++;
    let dispatches = 0;
    const pass = { setPipeline: () => {}, setBindGroup: () => {}, dispatchWorkgroups: () => void dispatches++, end: () => {} };
    return { beginComputePass: () => pass, finish: () => dispatches };
  };
  return Object.assign(made, { device: { createCommandEncoder } as unknown as GPUDevice });
}

const steps = Array.from({ length: 53 }, () => ({ kind: 'dispatch', workgroups: [1, 1, 1] }) as unknown as ReadyStep);
const setOn = (device: GPUDevice): InputSet => new InputSet(device, {} as Plan, { steps, buffers: [] });

describe('commands encoded ahead', () => {
  it('come in parts for a device that is to begin early, and in one where the host is slower', () => {
    const { device } = countingDevice();
    const set = setOn(device);
    set.keep(1, true);
    expect(set.take(1)).toEqual([11, 42]);
    set.keep(1, false);
    expect(set.take(1)).toEqual([53]);
    set.keep(3, true);
    expect(set.take(3)).toEqual([11, 42, 106]);
  });

  it('are used once, and only for as many executions', () => {
    const counted = countingDevice();
    const set = setOn(counted.device);
    set.keep(1, false);
    set.keep(1, false);
    expect(counted.encoders).toBe(1);
    expect(set.take(2)).toEqual([11, 42, 53]);
    expect(counted.encoders).toBe(4);
    expect(set.take(1)).toEqual([53]);
    expect(counted.encoders).toBe(4);
    expect(set.take(1)).toEqual([11, 42]);
    expect(counted.encoders).toBe(6);
  });
});

describe('a set of inputs of its own', () => {
  it('leaves no buffers where the steps can not be bound to them', async () => {
    const alive = new Set<object>();
    const createBuffer = (): object => {
      const buffer = { destroy: () => void alive.delete(buffer) };
      alive.add(buffer);
      return buffer;
    };
    const device = { createBuffer, pushErrorScope: () => {}, popErrorScope: async () => null } as unknown as GPUDevice;
    const plan = { buffers: [{ kind: 'input', bytes: 16 }, { kind: 'output', bytes: 16 }, { kind: 'input', bytes: 32 }] } as unknown as Plan;
    const bound: number[] = [];
    const making = InputSet.create(device, plan, {
      rebound: (replaced) => {
        bound.push(...replaced.keys());
        return Promise.reject(new Error('refused'));
      },
    });
    await expect(making).rejects.toThrow('refused');
    expect(bound).toEqual([0, 2]);
    expect(alive.size).toBe(0);
  });
});
