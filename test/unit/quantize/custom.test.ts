/** Custom ops between int8 products: placed as their plugin says. */
import { describe, expect, it } from 'vitest';
import { defineOp } from '../../../src/plugin.ts';
import type { Int8Behaviour } from '../../../src/ir/custom.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { defineNode } from '../../../src/ops/custom.ts';
import { DEFAULT_POLICY, placeInt8 } from '../../../src/quantize/placement.ts';

function placed(int8: Int8Behaviour | undefined) {
  const op = defineOp({
    domain: 'd',
    name: 'Middle',
    dtypes: ['float32'],
    attributes: {},
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
  return placeInt8(builder.finish(['y']), DEFAULT_POLICY);
}

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

  it('none: it stays a float op', () => {
    expect(placed(undefined).roles.has('middle')).toBe(false);
  });
});
