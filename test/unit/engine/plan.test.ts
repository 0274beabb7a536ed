import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Plan, PLAN_VERSION, PlanError, readPlan } from '../../../src/engine/plan.ts';

const plan: Plan = {
  version: PLAN_VERSION,
  buffers: [
    { kind: 'weights', bytes: 256, part: 'weights' },
    { kind: 'arena', bytes: 1024 },
    { kind: 'input', bytes: 16 },
    { kind: 'output', bytes: 16 },
  ],
  shaders: [{ label: 'k', wgsl: 'fn main() {}', access: ['read', 'read', 'read_write'] }],
  steps: [
    {
      kind: 'dispatch',
      shader: 0,
      bindings: [
        { buffer: 2, offset: 0, bytes: 16 },
        { buffer: 0, offset: 0, bytes: 256 },
        { buffer: 1, offset: 512, bytes: 16 },
      ],
      workgroups: [1, 2, 3],
      layer: 0,
    },
    { kind: 'copy', from: { buffer: 1, offset: 512, bytes: 16 }, to: { buffer: 3, offset: 0, bytes: 16 }, layer: 1 },
    { kind: 'clear', range: { buffer: 1, offset: 0, bytes: 64 }, layer: 1 },
  ],
  inputs: [{ name: 'x', dtype: 'float32', dims: [3], storage: 'f32', buffer: 2 }],
  outputs: [{ name: 'y', dtype: 'int64', dims: [4], storage: 'i32', buffer: 3 }],
  layerCount: 2,
  streams: 4,
};

const PARTS = new Map([['weights', new Uint8Array(256)]]);

/** The plan as JSON with one place replaced. */
function broken(path: readonly (string | number)[], value: unknown): unknown {
  const copy = JSON.parse(JSON.stringify(plan)) as Record<string | number, unknown>;
  let at = copy;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>;
  at[path.at(-1)!] = value;
  return copy;
}

describe('readPlan', () => {
  it('takes a plan through JSON unchanged', () => {
    expect(readPlan(JSON.parse(JSON.stringify(plan)), PARTS)).toEqual(plan);
  });

  it.each<readonly [string, readonly (string | number)[], unknown, RegExp]>([
    ['another version', ['version'], 99, /version 99/],
    ['weights of another size', ['buffers', 0, 'bytes'], 512, /512 bytes from the part 'weights', which has 256/],
    ['weights that are not there', ['buffers', 0, 'part'], 'weights-1', /part 'weights-1', which is not there/],
    ['a buffer of odd size', ['buffers', 1, 'bytes'], 1000, /multiple of 16/],
    ['a buffer that does not exist', ['steps', 0, 'bindings', 0, 'buffer'], 9, /beyond the last of 4/],
    ['a range beyond its buffer', ['steps', 0, 'bindings', 2, 'bytes'], 1024, /reaches beyond its buffer/],
    ['an unaligned binding', ['steps', 0, 'bindings', 2, 'offset'], 128, /not aligned/],
    ['a shader that does not exist', ['steps', 0, 'shader'], 1, /beyond the last/],
    ['a negative offset', ['steps', 0, 'bindings', 0, 'offset'], -256, /not a whole number/],
    ['a missing binding', ['steps', 0, 'bindings'], plan.steps[0]!.kind === 'dispatch' ? plan.steps[0]!.bindings.slice(1) : [], /binds 2 ranges to a shader of 3/],
    ['a buffer read and written at once', ['steps', 0, 'bindings', 0, 'buffer'], 1, /reads and writes buffer 1/],
    ['no workgroups', ['steps', 0, 'workgroups'], [1, 0, 1], /three positive numbers/],
    ['a copy within one buffer', ['steps', 1, 'to'], { buffer: 1, offset: 0, bytes: 16 }, /between two buffers/],
    ['a layer that does not exist', ['steps', 2, 'layer'], 2, /beyond the last of 2/],
    ['no requests under way', ['streams'], 0, /streams is 0, not 1 to 64/],
    ['more requests than anybody has', ['streams'], 65, /streams is 65/],
    ['an unknown step', ['steps', 2, 'kind'], 'free', /not one of dispatch/],
    ['an input in the arena', ['inputs', 0, 'buffer'], 1, /bound to a buffer for arena/],
    ['a length in a buffer that is no output', ['outputs', 0, 'length'], { buffer: 0, axis: 0 }, /is in a buffer for/],
    ['a length along an axis that does not exist', ['outputs', 0, 'length'], { buffer: 3, axis: 1 }, /beyond the last of 1/],
    ['an output larger than its buffer', ['outputs', 0, 'dims'], [5], /larger than its buffer/],
    ['an unknown type', ['inputs', 0, 'dtype'], 'complex64', /not one of/],
  ])('refuses %s', (_, path, value, message) => {
    expect(() => readPlan(broken(path, value), PARTS)).toThrow(PlanError);
    expect(() => readPlan(broken(path, value), PARTS)).toThrow(message);
  });

  it('answers any JSON with a plan or a PlanError', () => {
    const leaves = ['version', 'buffers', 'shaders', 'steps', 'inputs', 'outputs', 'layerCount', 'streams'] as const;
    fc.assert(
      fc.property(fc.constantFrom(...leaves), fc.jsonValue(), (key, value) => {
        try {
          readPlan(broken([key], value), PARTS);
        } catch (error) {
          expect(error).toBeInstanceOf(PlanError);
        }
      }),
      { seed: 1, numRuns: 500 },
    );
  });
});
