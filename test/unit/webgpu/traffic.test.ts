/** What layers must move, from plans. */
import { describe, expect, it } from 'vitest';
import { trafficOf } from '../../../src/backends/webgpu/traffic.ts';
import { type BufferRange, type Plan, PLAN_VERSION, type PlanStep } from '../../../src/engine/plan.ts';

const range = (buffer: number, bytes: number): BufferRange => ({ buffer, offset: 0, bytes });

/** A kernel that reads all but the last of its bindings. */
const dispatch = (layer: number, ...bindings: readonly BufferRange[]): PlanStep => ({ kind: 'dispatch', shader: bindings.length - 2, bindings, workgroups: [1, 1, 1], layer });

function planOf(steps: readonly PlanStep[]): Plan {
  const shaders = [['read', 'read_write'], ['read', 'read', 'read_write']] as const;
  return { version: PLAN_VERSION, buffers: [], shaders: shaders.map((access) => ({ label: '', wgsl: '', access })), steps, inputs: [], outputs: [], layerCount: 2 };
}

describe('trafficOf', () => {
  it('counts each operand once, and none that lives inside of a layer', () => {
    // Layer 0 writes its scratch memory 2 and reads it again, beside operand 0 a second time.
    const plan = planOf([dispatch(0, range(0, 64), range(2, 512)), dispatch(0, range(2, 512), range(0, 64), range(3, 32)), dispatch(1, range(3, 32), range(4, 16))]);
    expect(trafficOf(plan, [{ bytes: 1e6 }, { bytes: 1e6 }])).toEqual([64 + 32, 32 + 16]);
  });

  it('counts no more than the values take', () => {
    const plan = planOf([dispatch(0, range(0, 1024), range(1, 64)), dispatch(1, range(1, 64), range(2, 64))]);
    expect(trafficOf(plan, [{ bytes: 128 }, { bytes: 0 }])).toEqual([128, 128]);
  });
});
