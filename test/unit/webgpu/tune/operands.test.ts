/** The random numbers that kernels are timed on: floats of known magnitude, so that nothing overflows or vanishes. */
import { describe, expect, it } from 'vitest';
import { randomElements } from '../../../../src/backends/webgpu/tune/operands.ts';
import { float16ToNumber } from '../../../../src/ir/tensor.ts';

describe('random elements', () => {
  it.each([1, 2 ** -4])('lie between a quarter of %d and all of it, of either sign', (scale) => {
    const halves = Array.from(new Uint16Array(randomElements('f16', 4096, scale).buffer), float16ToNumber);
    const floats = Array.from(new Float32Array(randomElements('f32', 8192, scale).buffer));
    for (const values of [halves, floats]) {
      expect(Math.min(...values.map(Math.abs))).toBeGreaterThanOrEqual(scale / 4);
      expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(scale);
      expect(new Set(values.map(Math.sign))).toEqual(new Set([-1, 1]));
      expect(new Set(values).size).toBeGreaterThan(500);
    }
  });
});
