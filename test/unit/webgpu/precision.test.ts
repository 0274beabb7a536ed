import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { beyondHalf, gridsBeyondHalf, halfNotices } from '../../../src/backends/webgpu/precision.ts';
import type { Calibration } from '../../../src/quantize/calibration.ts';

function graph(weight: number) {
  const builder = newGraphBuilder('g');
  builder.input('x', { dtype: 'float32', dims: [2] });
  const big = builder.node('Mul', ['x', builder.constant(fromNumbers('float32', [1], [weight]), 'w')], {}, { outputs: ['big'] });
  return builder.finish([builder.node('Relu', [big], {}, { outputs: ['y'] })]);
}

function calibration(largest: Readonly<Record<string, number>>): Calibration {
  const tensors = Object.entries(largest).map(([id, high]) => [id, { range: { low: 0, high: 1 }, seen: { low: -high, high: high / 2 }, bulk: { low: 0, high: 1 }, clippedShare: 0 }]);
  return { tensors: Object.fromEntries(tensors) as Calibration['tensors'] } as Calibration;
}

describe('halfNotices', () => {
  it('names what stays f32 because the calibration saw more than a half holds, and nothing that the graph lacks', () => {
    const seen = calibration({ big: 70_000, y: 65_504, gone: 1e9 });
    expect(beyondHalf(seen)).toEqual(new Set(['big', 'gone']));
    expect(halfNotices(graph(2), seen)).toEqual(["'big' reaches beyond ±65504 in the calibration and stays f32."]);
    expect(halfNotices(graph(2), calibration({ big: 1 }))).toEqual([]);
  });

  it('states the bound that stands in for a calibration, and names constants that no half holds', () => {
    expect(halfNotices(graph(2), undefined)).toEqual(['Without a calibration every value is taken to lie within ±65504; what does not becomes that bound.']);
    expect(halfNotices(graph(1e6), calibration({}))).toEqual(["Of 'w' some values are beyond ±65504 and become that bound where they are stored as halves."]);
  });
});

describe('gridsBeyondHalf', () => {
  it('names what is quantized and what comes of it where the grid reaches beyond a half', () => {
    const builder = newGraphBuilder('g');
    builder.input('x', { dtype: 'float32', dims: [2] });
    const through = (id: string, step: number) => {
      const grid = [builder.constant(fromNumbers('float32', [], [step])), builder.constant(fromNumbers('uint8', [], [0]))];
      return builder.node('DequantizeLinear', [builder.node('QuantizeLinear', [id, ...grid], { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined }, {}), ...grid], { axis: 1, block_size: 0 }, { outputs: [`${id}_dequantized`] });
    };
    const small = through('x', 200);
    const big = builder.node('Mul', [small, small], {}, { outputs: ['big'] });
    expect(gridsBeyondHalf(builder.finish([through(big, 300)]))).toEqual(new Set(['big', 'big_dequantized']));
  });
});
