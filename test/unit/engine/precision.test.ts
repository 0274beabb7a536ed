import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeShares, precisionMismatch, precisionShares } from '../../../src/engine/precision.ts';

describe('precisionShares', () => {
  it('adds up operations by type, the largest share first, and knows nothing of layers without any', () => {
    const layers = [{ precision: 'float32', flops: 1 }, { precision: 'int8', flops: 3 }, { precision: 'int64', flops: 0 }] as const;
    expect(Object.entries(precisionShares(layers)!)).toEqual([['int8', 0.75], ['float32', 0.25]]);
    expect(precisionShares([{ precision: 'float32', flops: 0 }])).toBeUndefined();
    expect(precisionShares([])).toBeUndefined();
  });

  it('adds up to one', () => {
    const layer = fc.record({ precision: fc.constantFrom('float32' as const, 'float16' as const, 'int8' as const), flops: fc.integer({ min: 1, max: 1e9 }) });
    fc.assert(fc.property(fc.array(layer, { minLength: 1 }), (layers) => {
      const shares = Object.values(precisionShares(layers)!);
      expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
    }));
  });
});

describe('precisionMismatch', () => {
  it('is what runs in something else than was asked for', () => {
    expect(precisionMismatch('fp16', { float32: 1 })).toBe('the engine was requested in fp16, but runs 100 % float32');
    expect(precisionMismatch('fp16', { float32: 0.6, float16: 0.4 })).toMatch(/60\.0 % float32, 40\.0 % float16/);
    expect(precisionMismatch('int8', { float16: 1 })).toMatch(/int8/);
    expect(precisionMismatch('mixed', { float32: 1 })).toMatch(/mixed/);
  });

  it('is nothing where the types are those, where any are right, and where nothing is known', () => {
    expect(precisionMismatch('fp16', { float16: 0.99, float32: 0.01 })).toBeUndefined();
    expect(precisionMismatch('int8', { uint8: 0.999, float32: 0.001 })).toBeUndefined();
    expect(precisionMismatch('mixed', { float32: 0.9, int8: 0.1 })).toBeUndefined();
    expect(precisionMismatch('fp32', { uint8: 1 })).toBeUndefined();
    expect(precisionMismatch('int8', undefined)).toBeUndefined();
  });
});

it('a share that is not whole never reads as whole', () => {
  expect(describeShares({ int8: 0.99999, float32: 0.00001 })).toBe('>99.9 % int8, <0.1 % float32');
  expect(describeShares({ int8: 1 })).toBe('100 % int8');
});
