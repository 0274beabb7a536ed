/**
 * Models of opsets before 7, which onnxruntime has no kernels for: what they mean is written beside each as a model of a later opset.
 */
import { describe, expect, it } from 'vitest';
import { elementCount, fromNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { floats, ints, modelBytes, node, value, type INode } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

interface Case {
  readonly opset: number;
  readonly early: INode;
  readonly later: readonly INode[];
  readonly x?: readonly number[];
  readonly dtype?: DType;
  readonly gives?: DType;
  readonly initializers?: Readonly<Record<string, Tensor>>;
}

function sample(dims: readonly number[], dtype: DType = 'float32'): Tensor {
  return fromNumbers(dtype, dims, Array.from({ length: elementCount(dims) }, (_, i) => (dtype === 'float32' ? ((i * 37) % 19) / 8 - 1 : dtype === 'bool' ? Number(i % 3 === 0) : (i * 37) % 5)));
}

const column = { b: sample([3]), c: sample([3, 1]) };
const spread = (op: string, more: Partial<Case> = {}): Case => ({ opset: 6, early: node(op, ['x', 'b'], ['y'], { broadcast: 1, axis: 1 }), later: [node(op, ['x', 'c'], ['y'])], x: [2, 3, 4], initializers: column, ...more });
const ofType = (dtype: DType): Partial<Case> => ({ dtype, gives: 'bool', initializers: { b: sample([3], dtype), c: sample([3, 1], dtype) } });

const CASES: Readonly<Record<string, Case>> = {
  ...Object.fromEntries(['Add', 'Sub', 'Mul', 'Div', 'Pow'].map((op) => [`${op}-6 from an axis on`, spread(op, { initializers: { b: fromNumbers('float32', [3], [1, 2, 3]), c: fromNumbers('float32', [3, 1], [1, 2, 3]) } })])),
  ...Object.fromEntries(['And', 'Or', 'Xor'].map((op) => [`${op}-1 from an axis on`, spread(op, { opset: 1, ...ofType('bool') })])),
  'Equal-1 from an axis on': spread('Equal', { opset: 1, ...ofType('int32') }),
  ...Object.fromEntries(['Less', 'Greater'].map((op) => [`${op}-1 from an axis on`, spread(op, { opset: 1, gives: 'bool' })])),
  'Add-6 from an axis on, of two axes': spread('Add', { early: node('Add', ['x', 'b'], ['y'], { broadcast: 1, axis: 0 }), initializers: { b: sample([2, 3]), c: sample([2, 3, 1]) } }),
  'Add-6 from an axis counted from the back': spread('Add', { early: node('Add', ['x', 'b'], ['y'], { broadcast: 1, axis: -2 }) }),
  'Add-6 to the last axes': spread('Add', { early: node('Add', ['x', 'b'], ['y'], { broadcast: 1 }), initializers: { b: sample([3, 4]), c: sample([3, 4]) } }),
  'Add-6 of a single element, beside an axis': spread('Add', { initializers: { b: sample([1]), c: sample([1]) } }),
  'Add-6 with an axis and without broadcasting': spread('Add', { early: node('Add', ['x', 'b'], ['y'], { axis: 1 }), initializers: { b: sample([2, 3, 4]), c: sample([2, 3, 4]) } }),
  'Add-1 that may overwrite': spread('Add', { opset: 1, early: node('Add', ['x', 'b'], ['y'], { broadcast: 1, axis: 1, consumed_inputs: [0, 0] }) }),
  'PRelu-6 by channel': { opset: 6, early: node('PRelu', ['x', 'b'], ['y']), later: [node('PRelu', ['x', 'c'], ['y'])], x: [2, 3, 4], initializers: column },
  'PRelu-6 by channel, where the last axis has as many': { opset: 6, early: node('PRelu', ['x', 'b'], ['y']), later: [node('PRelu', ['x', 'c'], ['y'])], x: [2, 3, 3], initializers: column },
  'PRelu-1 of one slope': { opset: 1, early: node('PRelu', ['x', 'b'], ['y'], { consumed_inputs: [0, 0] }), later: [node('PRelu', ['x', 'b'], ['y'])], x: [2, 3, 4], initializers: { b: floats([0.3]) } },
  'Gemm-6': { opset: 6, early: node('Gemm', ['x', 'w', 'b'], ['y'], { broadcast: 1, transB: 1 }), later: [node('Gemm', ['x', 'w', 'b'], ['y'], { transB: 1 })], x: [2, 4], initializers: { w: sample([3, 4]), b: sample([3]) } },
  'Relu-1 that may overwrite': { opset: 1, early: node('Relu', ['x'], ['y'], { consumed_inputs: [0] }), later: [node('Relu', ['x'], ['y'])] },
  'Cast-1 by name': { opset: 1, early: node('Cast', ['x'], ['y'], { to: 'INT64' }), later: [node('Cast', ['x'], ['y'], { to: 7 })], gives: 'int64' },
  'Cast-1 of integers to FLOAT': { opset: 1, early: node('Cast', ['x'], ['y'], { to: 'FLOAT' }), later: [node('Cast', ['x'], ['y'], { to: 1 })], dtype: 'int32' },
  'Reshape-1': { opset: 1, early: node('Reshape', ['x'], ['y'], { shape: [0, -1, 2] }), later: [node('Reshape', ['x', 's'], ['y'])], x: [2, 6], initializers: { s: ints([0, -1, 2]) } },
  'Tile-1': { opset: 1, early: node('Tile', ['x', 't', 'a'], ['y']), later: [node('Tile', ['x', 'r'], ['y'])], x: [2, 3], initializers: { t: ints([3]), a: ints([1]), r: ints([1, 3]) } },
  'Concat-1 without an axis': { opset: 1, early: node('Concat', ['x', 'x'], ['y']), later: [node('Concat', ['x', 'x'], ['y'], { axis: 1 })] },
  'Upsample-1': { opset: 1, early: node('Upsample', ['x'], ['y'], { height_scale: { float: 2 }, width_scale: { float: 3 }, mode: 'nearest' }), later: [node('Resize', ['x', '', 's'], ['y'], { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' })], x: [1, 2, 2, 3], initializers: { s: floats([1, 1, 2, 3]) } },
  'Dropout-6': { opset: 6, early: node('Dropout', ['x'], ['y'], { is_test: 1 }), later: [node('Identity', ['x'], ['y'])] },
  'BatchNormalization-6': {
    opset: 6, early: node('BatchNormalization', ['x', 'b', 's', 'm', 'v'], ['y'], { is_test: 1, spatial: 1 }), later: [node('BatchNormalization', ['x', 'b', 's', 'm', 'v'], ['y'])], x: [2, 3, 4],
    initializers: { b: sample([3]), s: floats([1, 2, 3]), m: floats([0.5, 0, 1]), v: floats([1, 4, 2]) },
  },
  'GRU-3 without its sequence': {
    opset: 3, early: node('GRU', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 2, output_sequence: 0 }), later: [node('GRU', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 2 })], x: [3, 1, 2], initializers: { w: sample([1, 6, 2]), r: sample([1, 6, 2]) },
  },
};

describe('models of opsets before 7 mean what later ones say', () => {
  it.each(Object.entries(CASES))('%s', async (_, { opset, early, later, x = [2, 3], dtype = 'float32', gives = 'float32', initializers = {} }) => {
    const input = sample(x, dtype);
    const parts = (nodes: readonly INode[]) => ({ nodes, inputs: [value('x', dtype, x)], outputs: [{ name: 'y', type: { tensorType: { elemType: ONNX_DTYPE[gives] } } }], initializers });
    const expected = await runOnnx(modelBytes({ opset: 17, ...parts(later) }), { x: input });
    const imported = importGraph(readModel(modelBytes({ opset, ...parts([early]) })));
    if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
    const actual = await runOnnx(exportGraph(imported.graph), { x: input });
    expect(disagreement(actual.y!, expected.y!, 1e-6, 1e-5)).toBeLessThanOrEqual(1);
  });

  it('an operand that does not fit from its axis on is named', () => {
    const bytes = modelBytes({ opset: 6, nodes: [node('Add', ['x', 'b'], ['y'], { broadcast: 1, axis: 2 })], inputs: [value('x', 'float32', [2, 3, 4])], outputs: [value('y', 'float32', [2, 3, 4])], initializers: { b: sample([4, 1]) } });
    expect(() => importGraph(readModel(bytes))).toThrow(/\[4,1\] does not fit into 3 dimensions from axis 2 on/);
  });
});
