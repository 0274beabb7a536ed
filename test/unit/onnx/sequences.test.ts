/** Sequences of known length are their elements: against onnxruntime, which has them as values. */
import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { cutTail } from '../../../src/onnx/tail.ts';
import { ints, modelBytes, node, value, type INode, type ModelParts } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

const x = fromNumbers('float32', [2, 7, 3], Array.from({ length: 42 }, (_, i) => Math.sin(i)));

function model(outputs: readonly string[], nodes: readonly INode[]): ModelParts {
  return {
    opset: 14,
    inputs: [value('x', 'float32', [2, 7, 3])],
    outputs: outputs.map((name) => value(name, name === 'n' ? 'int64' : 'float32', [])),
    initializers: { sizes: ints([4, 1, 2]), three: ints([3], []), zero: ints([0], []), one: ints([1], []), last: ints([-1], []), far: ints([3], []) },
    nodes,
  };
}

const split = node('SplitToSequence', ['x', 'sizes'], ['s'], { axis: 1 });

const CASES: readonly (readonly [string, ModelParts])[] = [
  ['parts of sizes that are given', model(['y', 'z'], [split, node('SequenceAt', ['s', 'zero'], ['y']), node('SequenceAt', ['s', 'last'], ['z'])])],
  ['parts of one size, and what is left', model(['y', 'n'], [node('SplitToSequence', ['x', 'three'], ['s'], { axis: -2 }), node('SequenceAt', ['s', 'last'], ['y']), node('SequenceLength', ['s'], ['n'])])],
  ['slices without their axis', model(['y'], [node('SplitToSequence', ['x'], ['s'], { axis: 1, keepdims: 0 }), node('SequenceAt', ['s', 'three'], ['y'])])],
  ['lists that grow and shrink, joined', model(['y'], [
    split,
    node('SequenceEmpty', [], ['e']),
    node('SequenceAt', ['s', 'one'], ['a']),
    node('SequenceInsert', ['e', 'x'], ['e1']),
    node('SequenceInsert', ['e1', 'a', 'zero'], ['e2']),
    node('SequenceInsert', ['e2', 'x'], ['e3']),
    node('SequenceErase', ['e3'], ['e4']),
    node('Identity', ['e4'], ['e5']),
    node('ConcatFromSequence', ['e5'], ['y'], { axis: 1 }),
  ])],
  ['tensors, stacked', model(['y'], [node('Exp', ['x'], ['a']), node('SequenceConstruct', ['x', 'a'], ['s']), node('ConcatFromSequence', ['s'], ['y'], { axis: -1, new_axis: 1 })])],
];

describe('sequences', () => {
  it.each(CASES)('%s', async (_, parts) => {
    const result = importGraph(readModel(modelBytes(parts)));
    if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
    const expected = await runOnnx(modelBytes(parts), { x });
    const found = await runOnnx(exportGraph(result.graph), { x });
    for (const [name, tensor] of Object.entries(expected)) expect(disagreement(found[name]!, tensor)).toBe(0);
  });

  it('are refused where a place is for the data to decide, and as outputs', () => {
    const place = [node('ArgMax', ['x'], ['i'], { axis: 0, keepdims: 0 }), node('ReduceMax', ['i'], ['m'], { keepdims: 0 })];
    const reasons = (parts: ModelParts): readonly string[] => {
      const result = importGraph(readModel(modelBytes(parts)));
      return result.ok ? [] : result.unsupported.map(({ op, reason }) => `${op}: ${reason}`);
    };
    expect(reasons(model(['y'], [split, ...place, node('SequenceAt', ['s', 'm'], ['y'])]))).toEqual(['SequenceAt: its place in the sequence is not known at build']);
    expect(reasons(model(['s'], [split]))).toEqual(["SplitToSequence: output 's' is a sequence, not a tensor"]);
  });

  it('beyond their ends are errors of the model', () => {
    expect(() => importGraph(readModel(modelBytes(model(['y'], [split, node('SequenceAt', ['s', 'far'], ['y'])]))))).toThrow('place 3 in a sequence of 3');
  });

  it('go to the tail with who reads them there, and stay in the head for who reads them here', async () => {
    const parts = model(['y', 'z'], [
      node('Exp', ['x'], ['e']),
      { ...split, input: ['e', 'sizes'] },
      node('ArgMax', ['sizes'], ['i'], { axis: 0, keepdims: 0 }),
      node('SequenceAt', ['s', 'one'], ['y']),
      node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }),
      node('Cast', ['sum'], ['n'], { to: 7 }),
      node('Mod', ['n', 'one'], ['place']),
      node('SequenceAt', ['s', 'place'], ['z']),
    ]);
    const bytes = modelBytes(parts);
    const result = importGraph(readModel(bytes));
    const tail = result.ok || !result.held ? undefined : cutTail(bytes, result.held);
    if (!tail) throw new Error('nothing is held');
    expect(tail.nodes.map(({ op }) => op)).toEqual(['SplitToSequence', 'SequenceAt']);
    const expected = await runOnnx(bytes, { x });
    const head = await runOnnx(exportGraph(tail.head), { x });
    const found: typeof head = { ...head, ...(await runOnnx(tail.bytes, { x, ...head })) };
    for (const [name, tensor] of Object.entries(expected)) expect(disagreement(found[name]!, tensor)).toBe(0);
  });
});
