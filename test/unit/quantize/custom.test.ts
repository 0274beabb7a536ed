/** Custom ops between int8 products: placed as their plugin says. */
import { describe, expect, it } from 'vitest';
import { defineOp } from '../../../src/plugin.ts';
import type { CustomOp, Int8Behaviour } from '../../../src/ir/custom.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { defineNode } from '../../../src/ops/custom.ts';
import type { Calibration } from '../../../src/quantize/calibration.ts';
import { gridsFor } from '../../../src/quantize/grids.ts';
import { DEFAULT_POLICY, placeInt8 } from '../../../src/quantize/placement.ts';

function graphWith(int8: Int8Behaviour | undefined, attributes: CustomOp['attributes'] = {}) {
  const op = defineOp({
    domain: 'd',
    name: 'Middle',
    dtypes: ['float32'],
    attributes,
    inputs: [{ name: 'x', dims: 'any' }],
    outputs: ['y'],
    infer: ({ inputs: [x] }) => [x!],
    reference: ({ inputs: [x] }) => [x!.values],
    ...(int8 && { int8 }),
  });
  const type = { dtype: 'float32', dims: [2, 4] } as const;
  const builder = newGraphBuilder('g');
  const w = builder.constant(fromNumbers('float32', [4, 4], Array.from({ length: 16 }, (_, i) => i / 16)));
  const first = builder.node('MatMul', [builder.input('x', type), w], {}, { outputs: ['a'] });
  const { definition, types } = defineNode({ op, plugin: { name: 'p', version: '1', sha256: '' } }, new Map(), [type]);
  const middle = builder.node('Custom', [first], { domain: 'd', opType: 'Middle', opset: 1, attributes: [], definition }, { types, name: 'middle', outputs: ['b'] });
  builder.node('MatMul', [middle, w], {}, { outputs: ['y'] });
  return builder.finish(['y']);
}

const placed = (int8: Int8Behaviour | undefined) => placeInt8(graphWith(int8), DEFAULT_POLICY);

describe('int8 behaviour of a custom op', () => {
  it('same: the grid that comes in goes out', () => {
    const { roles, sharedWith } = placed({ output: 'same' });
    expect(roles.get('middle')).toBe('movement');
    expect(sharedWith.get('b')).toBe('a');
  });

  it('own: a grid of its own', () => {
    const { roles, sharedWith, quantized } = placed({ output: 'own' });
    expect(roles.get('middle')).toBe('elementwise');
    expect(sharedWith.has('b')).toBe(false);
    expect([...quantized]).toEqual(expect.arrayContaining(['a', 'b']));
  });

  it('a function: grids in, grid out, in place of what calibration saw', () => {
    const seen: unknown[] = [];
    const graph = graphWith({ output: ({ attrs, inputs }) => (seen.push(inputs), { low: 2 * inputs[0]!.low, high: Number(attrs['factor']) * inputs[0]!.high }) }, { factor: { type: 'float', default: 3 } });
    const placement = placeInt8(graph, DEFAULT_POLICY);
    const entry = (low: number, high: number) => ({ range: { low, high } });
    const tensors = Object.fromEntries([...placement.quantized].map((id) => [id, id === 'b' ? entry(-9, 9) : entry(-1, 1)]));
    const grids = gridsFor(graph, placement, { tensors: tensors as unknown as Calibration['tensors'], scheme: 'symmetric' });
    expect(seen).toEqual([[{ scale: Math.fround(1 / 127), zeroPoint: 0, low: -128 * Math.fround(1 / 127), high: 127 * Math.fround(1 / 127) }]]);
    expect(grids.get('b')!.scale).toBeCloseTo(3 / 127, 8);
    expect(grids.get('a')!.scale).toBe(Math.fround(1 / 127));
  });

  it('a function that gives no interval names the plugin', () => {
    const graph = graphWith({ output: () => ({ low: 1, high: Number.NaN }) });
    const placement = placeInt8(graph, DEFAULT_POLICY);
    const tensors = Object.fromEntries([...placement.quantized].map((id) => [id, { range: { low: -1, high: 1 } }]));
    const grids = () => gridsFor(graph, placement, { tensors: tensors as unknown as Calibration['tensors'], scheme: 'affine' });
    expect(grids).toThrow(expect.objectContaining({ code: 'PLUGIN_FAILED', plugin: 'p', message: expect.stringMatching(/int8 output of d.Middle threw: it gives no interval: 1 to NaN/) as string }) as Error);
  });

  it('none: it stays a float op', () => {
    expect(placed(undefined).roles.has('middle')).toBe(false);
  });
});
