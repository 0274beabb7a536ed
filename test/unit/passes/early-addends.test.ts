import { describe, expect, it } from 'vitest';
import { toNumbers } from '../../../src/ir/tensor.ts';
import { earlyAddends } from '../../../src/passes/early-addends.ts';
import { applyPass } from '../../helpers/passes.ts';
import { CONV, F32, type Sketch, sketch, testRows } from '../../helpers/rules.ts';

const PATCHES = { ...CONV, kernel_shape: [2, 2], strides: [2, 2] };

/** Patches of an image as rows: [n, 6, 8]. */
function patches({ b, x, w, ints }: Sketch, n = 1): string {
  const image = b.node('Conv', [x(n, 3, 4, 6), w(8, 3, 2, 2), w(8)], PATCHES);
  return b.node('Transpose', [b.node('Reshape', [image, ints(n, 8, 6)], { allowzero: 0 })], { perm: [0, 2, 1] });
}

const concat = ({ b }: Sketch, axis: number, ...parts: string[]): string => b.node('Concat', parts, { axis });
/** A sum that is read: what the graph gives out stays as it is. */
const add = ({ b }: Sketch, x: string, y: string): string => b.node('Softmax', [b.node('Add', [x, y], {})], { axis: -1 });
const relu = ({ b, x }: Sketch, ...dims: number[]): string => b.node('Relu', [x(...dims)], {});
const ROWS = 'Conv Add Reshape Transpose';

describe('constants that are added early', () => {
  testRows(earlyAddends, [
    ['positions of a vision transformer with a class token', (s) => add(s, concat(s, 1, s.w(1, 1, 8), patches(s)), s.w(1, 7, 8)), `${ROWS} Concat Softmax`],
    ['of a batch, whose class token is repeated', (s) => add(s, concat(s, -2, s.b.node('Expand', [s.w(1, 1, 8), s.ints(3, 1, 8)], {}), patches(s, 3)), s.w(1, 7, 8)), `${ROWS} Expand Concat Softmax`],
    ['one for all tokens', (s) => add(s, s.w(8), concat(s, 1, s.w(1, 1, 8), patches(s), s.w(1, 2, 8))), 'Conv Reshape Transpose Add Concat Softmax'],
    ['that differ along an axis where the concatenation does not', (s) => add(s, concat(s, 0, s.w(2, 4), relu(s, 3, 4)), s.w(1, 4)), 'Relu Add Concat Softmax'],
    ['of lower rank than the values', (s) => add(s, concat(s, 1, relu(s, 2, 3, 4), s.w(2, 1, 4)), s.w(4, 1)), 'Relu Add Concat Softmax'],
    ['without a class token', (s) => add(s, patches(s, 2), s.w(1, 6, 8)), `${ROWS} Softmax`],
    ['of which every sample has its own', (s) => add(s, patches(s, 2), s.w(2, 6, 8)), `${ROWS} Softmax`],
    ['behind an activation', (s) => add(s, s.b.node('Transpose', [s.b.node('Relu', [s.b.node('Conv', [s.x(1, 3, 4, 6), s.w(8, 3, 2, 2)], PATCHES)], {})], { perm: [0, 2, 3, 1] }), s.w(1, 2, 3, 8)), 'Conv Relu Add Transpose Softmax'],
    ['to what a view gives out', (s) => add(s, s.b.node('Reshape', [s.b.node('MatMul', [s.x(4, 6), s.w(6, 8)], {}), s.ints(2, 2, 8)], { allowzero: 0 }), s.w(2, 2, 8)), 'MatMul Add Reshape Softmax'],
    ['two parts that are computed', (s) => add(s, concat(s, 1, relu(s, 1, 2, 8), relu(s, 1, 3, 8)), s.w(1, 5, 8)), 'Relu Relu Concat Add Softmax'],
    ['a concatenation that others read', (s) => { const y = concat(s, 1, s.w(1, 1, 8), relu(s, 1, 3, 8)); return [add(s, y, s.w(1, 4, 8)), s.b.node('Tanh', [y], {})]; }, 'Relu Concat Add Softmax Tanh'],
    ['a sum that is larger than the concatenation', (s) => add(s, concat(s, 1, s.w(1, 1, 8), relu(s, 1, 3, 8)), s.w(2, 4, 8)), 'Relu Concat Add Softmax'],
    ['rows that others read before they are turned', (s) => { const image = s.b.node('Conv', [s.x(1, 3, 4, 6), s.w(8, 3, 2, 2)], PATCHES); const rows = s.b.node('Transpose', [image], { perm: [0, 2, 3, 1] }); return [add(s, rows, s.w(1, 2, 3, 8)), s.b.node('Relu', [image], {})]; }, 'Conv Transpose Add Softmax Relu'],
    ['what neither a product nor arithmetic gives', (s) => add(s, s.b.node('Reshape', [s.x(2, 8), s.ints(1, 2, 8)], { allowzero: 0 }), s.w(1, 2, 8)), 'Reshape Add Softmax'],
    ['the same for all channels', (s) => add(s, patches(s), s.w(1, 6, 1)), `${ROWS} Softmax`],
    ['constants that a view would have to repeat', (s) => add(s, patches(s), s.w(1, 1, 8)), 'Conv Reshape Transpose Add Softmax'],
    ['a sum that is given out', (s) => s.b.node('Add', [patches(s), s.w(1, 6, 8)], {}), 'Conv Reshape Transpose Add'],
    ['what a softmax gives', (s) => add(s, concat(s, 1, s.w(1, 1, 8), s.b.node('Softmax', [s.x(1, 3, 8)], { axis: -1 })), s.w(1, 4, 8)), 'Softmax Concat Add Softmax'],
    ['a mask', (s) => add(s, s.b.node('Reshape', [s.b.node('MatMul', [s.x(4, 6), s.w(6, 8)], {}), s.ints(2, 2, 8)], { allowzero: 0 }), s.b.constant({ ...F32(2, 2, 8), data: new Uint8Array(new Float32Array(32).fill(-1e9).buffer) })), 'MatMul Reshape Add Softmax'],
    ['nothing', (s) => add(s, s.b.node('Reshape', [s.b.node('Relu', [s.x(0, 1)], {}), s.ints(0, 5)], { allowzero: 1 }), s.w(1, 5)), 'Relu Reshape Add Softmax'],
    ['single numbers', (s) => add(s, patches(s), s.n(2)), 'Conv Reshape Transpose Add Softmax'],
    ['a view of what was merged', (s) => add(s, s.b.node('Reshape', [s.b.node('MatMul', [s.x(2, 3, 6), s.w(6, 8)], {}), s.ints(6, 8)], { allowzero: 0 }), s.w(1, 8)), 'MatMul Reshape Add Softmax'],
  ]);

  it('know the class token’s sum at build', async () => {
    const graph = sketch((s) => {
      const [token, positions] = [s.b.constant({ ...F32(1, 1, 2), data: new Uint8Array(new Float32Array([1, 2]).buffer) }), s.b.constant({ ...F32(1, 2, 2), data: new Uint8Array(new Float32Array([10, 20, 30, 40]).buffer) })];
      return add(s, concat(s, 1, token, relu(s, 1, 1, 2)), positions);
    });
    const { graph: rewritten } = await applyPass(earlyAddends, graph, 'webgpu');
    const join = rewritten.nodes.find(({ op }) => op === 'Concat')!;
    expect(toNumbers(rewritten.constants.get(join.inputs[0]!)!)).toEqual([11, 22]);
  });
});
