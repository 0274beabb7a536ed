import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { constantFolding } from '../../../src/passes/constant-folding.ts';
import { commonSubexpressions } from '../../../src/passes/cse.ts';
import { deadCode } from '../../../src/passes/dead-code.ts';
import { identities } from '../../../src/passes/identities.ts';
import { reshapes } from '../../../src/passes/reshapes.ts';
import { shapeConstants } from '../../../src/passes/shape-constants.ts';
import { applyPass } from '../../helpers/passes.ts';
import { POOL, sketch, testRows } from '../../helpers/rules.ts';

const REDUCE = { keepdims: 1, noop_with_empty_axes: 0 } as const;

describe('identities', () => {
  testRows(identities, [
    ['Identity', ({ b, x }) => b.node('Relu', [b.node('Identity', [x(2, 3)], {})], {}), 'Relu'],
    ['Identity at an output, whose name its source takes over', ({ b, x }) => b.node('Identity', [b.node('Relu', [x(2)], {})], {}), 'Relu'],
    ['Identity from input to output stays', ({ b, x }) => b.node('Identity', [x(2)], {}), 'Identity'],
    ['Identity of another output stays', ({ b, x }) => [b.node('Relu', [x(2)], {}, { outputs: ['y'] }), b.node('Identity', ['y'], {})], 'Relu Identity'],
    ['Dropout in inference', ({ b, x }) => b.node('Relu', [b.node('Dropout', [x(2)], { seed: 0 })], {}), 'Relu'],
    ['Cast to the same type', ({ b, x }) => b.node('Relu', [b.node('Cast', [x(2)], { to: 'float32', saturate: 1 })], {}), 'Relu'],
    ['Cast to another type stays', ({ b, x }) => b.node('Relu', [b.node('Cast', [x(2)], { to: 'int32', saturate: 1 })], {}), 'Cast Relu'],
    ['Cast to a wider type and back', ({ b, x }) => b.node('Relu', [b.node('Cast', [b.node('Cast', [x(2)], { to: 'float64', saturate: 1 })], { to: 'float32', saturate: 1 })], {}), 'Relu'],
    ['Cast to a narrower type and back stays', ({ b, x }) => b.node('Cast', [b.node('Cast', [x(2)], { to: 'int32', saturate: 1 })], { to: 'float32', saturate: 1 }), 'Cast Cast'],
    ['Reshape to the same shape', ({ b, x, ints }) => b.node('Relu', [b.node('Reshape', [x(2, 3), ints(-1, 3)], { allowzero: 0 })], {}), 'Relu'],
    ['Reshape to another shape stays', ({ b, x, ints }) => b.node('Relu', [b.node('Reshape', [x(2, 3), ints(6)], { allowzero: 0 })], {}), 'Reshape Relu'],
    ['Expand to the same shape', ({ b, x, ints }) => b.node('Relu', [b.node('Expand', [x(2, 3), ints(1, 3)], {})], {}), 'Relu'],
    ['Tile by one', ({ b, x, ints }) => b.node('Relu', [b.node('Tile', [x(2, 3), ints(1, 1)], {})], {}), 'Relu'],
    ['Concat of one', ({ b, x }) => b.node('Relu', [b.node('Concat', [x(2)], { axis: 0 })], {}), 'Relu'],
    ['Split into one', ({ b, x }) => b.node('Relu', [b.node('Split', [x(2)], { axis: 0, num_outputs: 1 })], {}), 'Relu'],
    ['Sum of one', ({ b, x }) => b.node('Relu', [b.node('Sum', [x(2)], {})], {}), 'Relu'],
    ['Transpose that moves nothing', ({ b, x }) => b.node('Relu', [b.node('Transpose', [x(2, 3)], { perm: [0, 1] })], {}), 'Relu'],
    ['Transpose of a square stays', ({ b, x }) => b.node('Relu', [b.node('Transpose', [x(3, 3)], { perm: [1, 0] })], {}), 'Transpose Relu'],
    ['Slice of the whole', ({ b, x, ints }) => b.node('Relu', [b.node('Slice', [x(4), ints(0), ints(9)], {})], {}), 'Relu'],
    ['Slice backwards stays', ({ b, x, ints }) => b.node('Relu', [b.node('Slice', [x(4), ints(-1), ints(-9), ints(0), ints(-1)], {})], {}), 'Slice Relu'],
    ['Pad by nothing', ({ b, x, ints }) => b.node('Relu', [b.node('Pad', [x(4), ints(0, 0)], { mode: 'constant' })], {}), 'Relu'],
    ['Pad that shifts stays', ({ b, x, ints }) => b.node('Relu', [b.node('Pad', [x(4), ints(1, -1)], { mode: 'constant' })], {}), 'Pad Relu'],
    ['MaxPool of one point', ({ b, x }) => b.node('Relu', [b.node('MaxPool', [x(1, 1, 4, 4)], { ...POOL, kernel_shape: [1, 1], storage_order: 0 })], {}), 'Relu'],
    ['MaxPool with a stride stays', ({ b, x }) => b.node('Relu', [b.node('MaxPool', [x(1, 1, 4, 4)], { ...POOL, kernel_shape: [1, 1], strides: [2, 2], storage_order: 0 })], {}), 'MaxPool Relu'],
    ['x + 0', ({ b, x, n }) => b.node('Relu', [b.node('Add', [n(0), x(2)], {})], {}), 'Relu'],
    ['x + 0 that broadcasts stays', ({ b, x }) => b.node('Relu', [b.node('Add', [x(2), b.constant(fromNumbers('float32', [3, 1], [0, 0, 0]))], {})], {}), 'Add Relu'],
    ['x − 0', ({ b, x, n }) => b.node('Relu', [b.node('Sub', [x(2), n(0)], {})], {}), 'Relu'],
    ['0 − x stays', ({ b, x, n }) => b.node('Relu', [b.node('Sub', [n(0), x(2)], {})], {}), 'Sub Relu'],
    ['x · 1', ({ b, x, n }) => b.node('Relu', [b.node('Mul', [x(2), n(1)], {})], {}), 'Relu'],
    ['x / 1', ({ b, x, n }) => b.node('Relu', [b.node('Div', [x(2), n(1)], {})], {}), 'Relu'],
    ['1 / x stays', ({ b, x, n }) => b.node('Div', [n(1), b.node('Exp', [x(2)], {})], {}), 'Exp Div'],
    ['x ^ 1', ({ b, x, n }) => b.node('Relu', [b.node('Pow', [x(2), n(1)], {})], {}), 'Relu'],
    ['−(−x)', ({ b, x }) => b.node('Relu', [b.node('Neg', [b.node('Neg', [x(2)], {})], {})], {}), 'Relu'],
    ['relu(relu(x))', ({ b, x }) => b.node('Relu', [b.node('Relu', [x(2)], {})], {}), 'Relu'],
    ['a reduction over an axis of one', ({ b, x, ints }) => b.node('Relu', [b.node('ReduceMean', [x(2, 1), ints(1)], REDUCE)], {}), 'Relu'],
    ['a reduction over an axis of two stays', ({ b, x, ints }) => b.node('Relu', [b.node('ReduceMean', [x(1, 2), ints(1)], REDUCE)], {}), 'ReduceMean Relu'],
    ['aᵀ · v', ({ b, x }) => b.node('MatMul', [b.node('Transpose', [x(2, 5, 3)], { perm: [0, 2, 1] }), b.constant(fromNumbers('float32', [5], [1, 2, 3, 4, 5]))], {}), 'MatMul'],
    ['v · aᵀ', ({ b, x }) => b.node('MatMul', [b.constant(fromNumbers('float32', [3], [1, 2, 3])), b.node('Transpose', [x(5, 3)], { perm: [1, 0] })], {}), 'MatMul'],
    ['aᵀ of other axes · v stays', ({ b, x }) => b.node('MatMul', [b.node('Transpose', [x(3, 2, 3)], { perm: [2, 1, 0] }), b.constant(fromNumbers('float32', [3], [1, 2, 3]))], {}), 'Transpose MatMul'],
    [
      'an empty part of a Concat',
      ({ b, x }) => b.node('Concat', [x(2), b.constant(fromNumbers('float32', [0], [])), b.node('Relu', ['x'], {})], { axis: 0 }),
      'Relu Concat',
    ],
  ]);
});

describe('reshapes', () => {
  testRows(reshapes, [
    ['Squeeze of Unsqueeze', ({ b, x, ints }) => b.node('Squeeze', [b.node('Unsqueeze', [x(2, 1), ints(0)], {}), ints(2)], {}), 'Reshape'],
    ['Reshape of Flatten', ({ b, x, ints }) => b.node('Reshape', [b.node('Flatten', [x(2, 3, 4)], { axis: 1 }), ints(4, 6)], { allowzero: 0 }), 'Reshape'],
    ['a Squeeze alone stays', ({ b, x, ints }) => b.node('Squeeze', [x(2, 1), ints(1)], {}), 'Squeeze'],
    ['of no elements', ({ b, x, ints }) => b.node('Unsqueeze', [b.node('Flatten', [x(2, 0, 4)], { axis: 1 }), ints(0)], {}), 'Reshape'],
    ['Transpose of axes of one', ({ b, x }) => b.node('Transpose', [x(1, 4, 1, 3)], { perm: [1, 0, 3, 2] }), 'Reshape'],
    ['Transpose of a longer axis stays', ({ b, x }) => b.node('Transpose', [x(2, 4, 1)], { perm: [1, 0, 2] }), 'Transpose'],
  ]);
});

describe('common subexpressions', () => {
  testRows(commonSubexpressions, [
    ['equal nodes', ({ b, x }) => { const i = x(2); return b.node('Add', [b.node('Exp', [i], {}), b.node('Exp', [i], {})], {}); }, 'Exp Add'],
    ['equal constants, and then equal nodes', ({ b, x, n }) => { const i = x(2); return b.node('Mul', [b.node('Add', [i, n(3)], {}), b.node('Add', [i, n(3)], {})], {}); }, 'Add Mul'],
    ['other attributes stay apart', ({ b, x }) => { const i = x(2); return b.node('Add', [b.node('Elu', [i], { alpha: 1 }), b.node('Elu', [i], { alpha: 2 })], {}); }, 'Elu Elu Add'],
    ['infinite attributes stay apart', ({ b, x }) => { const i = x(2); const inf = Number.POSITIVE_INFINITY; return b.node('Add', [b.node('ThresholdedRelu', [i], { alpha: inf }), b.node('ThresholdedRelu', [i], { alpha: -inf })], {}); }, 'ThresholdedRelu ThresholdedRelu Add'],
    ['two outputs keep their names', ({ b, x }) => { const i = x(2); return [b.node('Exp', [i], {}), b.node('Exp', [i], {})]; }, 'Exp Exp'],
    ['a twin of an output reads the output', ({ b, x }) => { const i = x(2); return [b.node('Neg', [b.node('Exp', [i], {})], {}), b.node('Exp', [i], {}, { outputs: ['y'] })]; }, 'Exp Neg'],
  ]);

  it('tells constants that differ in the middle apart', async () => {
    const values = Array.from({ length: 100 }, () => 1);
    const graph = sketch(({ b, x }) => {
      const [one, other] = [values, values.with(50, 2)].map((list) => b.constant(fromNumbers('float32', [100], list)));
      return b.node('Add', [b.node('Mul', [x(100), one!], {}), other!], {});
    });
    expect((await applyPass(commonSubexpressions, graph)).graph.constants.size).toBe(2);
  });
});

describe('dead code', () => {
  testRows(deadCode, [
    ['nodes that nothing reads', ({ b, x }) => { const i = x(2); b.node('Exp', [b.node('Neg', [i], {})], {}); return b.node('Relu', [i], {}); }, 'Relu'],
    ['a Split keeps its outputs', ({ b, x }) => b.nodeOutputs('Split', [x(4)], { axis: 0, num_outputs: 2 }, { outputs: 2 })[0]!, 'Split'],
  ]);

  it('drops optional outputs that nothing reads', async () => {
    const graph = sketch(({ b, x }) => b.nodeOutputs('MaxPool', [x(1, 1, 4, 4)], { ...POOL, storage_order: 0 }, { outputs: 2 })[0]!);
    const result = await applyPass(deadCode, graph);
    expect(result.rewrites).toEqual({ output: 1 });
    expect(result.graph.nodes[0]!.outputs).toHaveLength(1);
  });
});

describe('shape constants', () => {
  testRows(shapeConstants, [
    [
      'shape arithmetic of an exported flatten',
      ({ b, x, n, ints }) => {
        const i = x(2, 3, 4);
        const size = b.node('Gather', [b.node('Shape', [i], { start: 0, end: undefined }), n(0, 'int64')], { axis: 0 });
        const shape = b.node('Concat', [b.node('Unsqueeze', [size, ints(0)], {}), ints(-1)], { axis: 0 });
        return b.node('Reshape', [i, shape], { allowzero: 0 });
      },
      'Reshape',
    ],
    ['an output keeps its node', ({ b, x }) => b.node('Shape', [x(2, 3)], { start: 0, end: undefined }), 'Shape'],
    ['what depends on data stays', ({ b, x }) => b.node('Relu', [b.node('Exp', [x(2)], {})], {}), 'Exp Relu'],
  ]);
});

describe('constant folding', () => {
  testRows(constantFolding, [
    ['a chain of constants', ({ b, x, w }) => b.node('Add', [x(2, 3), b.node('Exp', [b.node('Transpose', [w(3, 2)], { perm: [1, 0] })], {})], {}), 'Add'],
    ['an output keeps its node', ({ b, w, x }) => [b.node('Exp', [w(2)], {}), b.node('Relu', [x(2)], {})], 'Exp Relu'],
    ['weights don’t grow', ({ b, x, w, ints }) => b.node('Add', [x(200, 200), b.node('Expand', [w(200), ints(200, 200)], {})], {}), 'Expand Add'],
    ['large ones that don’t grow are folded', ({ b, x, w }) => b.node('MatMul', [x(1, 200), b.node('Transpose', [w(200, 200)], { perm: [1, 0] })], {}), 'MatMul'],
    [
      'dequantized weights stay quantized',
      ({ b, x, n }) => {
        const quantized = b.constant(fromNumbers('int8', [2], [3, 4]));
        return b.node('Add', [x(2), b.node('DequantizeLinear', [quantized, n(0.5)], { axis: 1, block_size: 0 })], {});
      },
      'DequantizeLinear Add',
    ],
  ]);

  it('leaves what the evaluator can’t do and folds the rest', async () => {
    const graph = sketch(({ b, x, w }) => b.node('Sum', [x(2), b.node('Exp', [w(2)], {}), b.node('Neg', [w(2)], {})], {}));
    const result = await constantFolding.run(graph, {
      target: 'onnx',
      fusion: 'on',
      fold: (part) =>
        part.nodes.some((node) => node.op === 'Exp')
          ? Promise.reject(new Error('no Exp here'))
          : Promise.resolve(new Map(part.outputs.map((id) => [id, fromNumbers('float32', [2], [1, 2])]))),
    });
    expect(result.graph.nodes.map((node) => node.op)).toEqual(['Exp', 'Sum']);
    expect(result.rewrites).toEqual({ constant: 1 });
  });

  it('throws where the evaluator gives another type than inferred', async () => {
    const graph = sketch(({ b, x, w }) => b.node('Add', [x(2), b.node('Exp', [w(2)], {})], {}));
    const fold = async () => new Map([['Exp_0', fromNumbers('float32', [1], [1])]]);
    await expect(constantFolding.run(graph, { target: 'onnx', fusion: 'on', fold })).rejects.toThrow('float32[1]');
  });
});
