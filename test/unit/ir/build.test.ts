import { describe, expect, it } from 'vitest';
import { printGraph } from '../../../src/ir/print.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { ShapeError } from '../../../src/ops/def.ts';

const F32 = (...dims: number[]) => ({ dtype: 'float32', dims }) as const;

describe('GraphBuilder', () => {
  it('infers types and gives fresh names', () => {
    const b = newGraphBuilder('g');
    const x = b.input('x', F32(2, 3));
    const bias = b.constant(fromNumbers('float32', [3], [1, 2, 3]));
    const first = b.node('Add', [x, bias], {});
    const second = b.node('Relu', [first], {});
    const third = b.node('Relu', [second], {}, { name: 'Add_0' });
    expect(b.type(third)).toEqual(F32(2, 3));
    expect(printGraph(b.finish([third]))).toBe(
      [
        'graph g',
        '  input x: float32[2,3]',
        '  constant constant: float32[3] = [1, 2, 3]',
        '  Add_0: float32[2,3] = Add(x, constant) @Add_0',
        '  Relu_1: float32[2,3] = Relu(Add_0) @Relu_1',
        '  Add_0_1: float32[2,3] = Relu(Relu_1) @Add_0_1',
        '  output Add_0_1: float32[2,3]',
        '',
      ].join('\n'),
    );
  });

  it('follows shape arithmetic, so that a Reshape to a computed shape has a type', () => {
    const b = newGraphBuilder('g');
    const x = b.input('x', F32(4, 6));
    const shape = b.node('Shape', [x], { start: 0, end: undefined });
    const twice = b.node('Concat', [shape, b.constant(fromNumbers('int64', [1], [1]))], { axis: 0 });
    expect(b.type(b.node('Reshape', [x, twice], { allowzero: 0 }))).toEqual(F32(4, 6, 1));
  });

  it('gives several outputs, named or not, and leaves out the absent', () => {
    const b = newGraphBuilder('g');
    const x = b.input('x', F32(4, 6));
    const [left, right] = b.nodeOutputs('Split', [x], { axis: 1, num_outputs: 2 }, { outputs: 2, name: 'split' });
    expect([left, right]).toEqual(['split:0', 'split:1']);
    expect(b.type(right!)).toEqual(F32(4, 3));
    const clip = b.node('Clip', [left!, '', ''], {});
    expect(b.finish([clip]).nodes.at(-1)!.inputs).toEqual([left]);
  });

  it('refuses a name that is taken, an unknown output and inputs that the op forbids', () => {
    const b = newGraphBuilder('g');
    const x = b.input('x', F32(2, 3));
    expect(() => b.input('x', F32(1))).toThrow("'x' (float32[2,3]) is defined twice");
    expect(() => b.node('Relu', [x], {}, { outputs: ['x'] })).toThrow('defined twice');
    expect(() => b.finish(['nowhere'])).toThrow("no value 'nowhere'");
    expect(() => b.node('MatMul', [x, x], {})).toThrow(ShapeError);
  });

  it('takes types from the caller where the table has none', () => {
    const b = newGraphBuilder('g');
    const x = b.input('x', F32(2));
    const attrs = { domain: 'my', opType: 'Thing', opset: 1, attributes: [] };
    expect(b.type(b.node('Custom', [x], attrs, { types: [F32(7)] }))).toEqual(F32(7));
    expect(() => b.node('Custom', [x], attrs)).toThrow('my::Thing');
  });
});
