/** If whose condition is known at build is its branch: against onnxruntime, which decides while it runs. */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph, type ImportOptions, type ImportResult } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { encodeTensor } from '../../../src/onnx/tensor.ts';
import { branch, choose } from './graphs.ts';
import { floats, ints, modelBytes, node, value, type ModelParts } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

/** What PyTorch writes for squeeze(1): whether the axis is 1 is asked of the shape. */
const squeezed: ModelParts = {
  opset: 16,
  inputs: [value('x', 'float32', ['N', 'C', 3])],
  outputs: [value('y', 'float32', [])],
  initializers: { one: ints([1], []), axes: ints([1]) },
  nodes: [
    node('Shape', ['x'], ['shape']),
    node('Gather', ['shape', 'one'], ['size'], { axis: 0 }),
    node('Equal', ['size', 'one'], ['same']),
    choose('same', ['z'], branch([node('Squeeze', ['x', 'axes'], ['inner'])], ['inner']), branch([node('Identity', ['x'], ['inner'])], ['inner'])),
    node('Relu', ['z'], ['y']),
  ],
};

function imported(parts: ModelParts, options?: ImportOptions): ImportResult {
  return importGraph(readModel(modelBytes(parts)), options);
}

function graphOf(parts: ModelParts, options?: ImportOptions): Graph {
  const result = imported(parts, options);
  if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
  return result.graph;
}

async function expectSame(parts: ModelParts, dims: readonly number[]): Promise<Graph> {
  const graph = graphOf(parts, { inputShapes: { x: dims } });
  const x = fromNumbers('float32', dims, Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)));
  const expected = await runOnnx(modelBytes(parts), { x });
  const found = await runOnnx(exportGraph(graph), { x });
  for (const [name, tensor] of Object.entries(expected)) expect(disagreement(found[name]!, tensor)).toBe(0);
  return graph;
}

describe('branches', () => {
  it.each([[1, 'Squeeze', [2, 3]], [4, 'Identity', [2, 4, 3]]])('of %i channels: %s', async (channels, op, dims) => {
    const graph = await expectSame(squeezed, [2, channels, 3]);
    expect(graph.nodes.map((each) => each.op)).toEqual([op, 'Relu']);
    expect(graph.types.get('y')?.dims).toEqual(dims);
  });

  it('have values and weights of their own, under names that both may use', async () => {
    const weight = (scale: number) => [encodeTensor(floats([scale]), 'w')];
    const own = (op: string, scale: number) => branch([node(op, ['x', 'w'], ['t']), node('Abs', ['t'], ['u'])], ['u', 'w'], weight(scale));
    const parts: ModelParts = {
      inputs: [value('x', 'float32', ['N', 4])],
      outputs: ['y', 'v', 'p'].map((name) => value(name, 'float32', [])),
      initializers: { yes: fromNumbers('bool', [], [1]), no: fromNumbers('bool', [1], [0]) },
      nodes: [
        choose('yes', ['a', 'v'], own('Add', 2), own('Mul', 3)),
        choose('no', ['b', 'p'], own('Add', 2), own('Mul', 3)),
        node('Sub', ['a', 'b'], ['y']),
      ],
    };
    const graph = await expectSame(parts, [3, 4]);
    expect(graph.nodes.map((each) => each.op)).toEqual(['Add', 'Abs', 'Identity', 'Mul', 'Abs', 'Identity', 'Sub']);
  });

  it('may hold another If, and read what is around both', async () => {
    const inner = choose('flag', ['t'], branch([node('Add', ['x', 'outer'], ['s'])], ['s']), branch([node('Neg', ['x'], ['s'])], ['s']));
    const parts: ModelParts = {
      inputs: [value('x', 'float32', ['N', 4])],
      outputs: [value('y', 'float32', [])],
      initializers: { flag: fromNumbers('bool', [], [1]) },
      nodes: [
        node('Exp', ['x'], ['around']),
        choose('flag', ['y'], branch([node('Sqrt', ['around'], ['outer']), inner], ['t']), branch([node('Identity', ['x'], ['t'])], ['t'])),
      ],
    };
    const graph = await expectSame(parts, [2, 4]);
    expect(graph.nodes.map((each) => each.op)).toEqual(['Exp', 'Sqrt', 'Add']);
  });

  it('follow another batch than the one that the model fixes', () => {
    const fixed: ModelParts = { ...squeezed, inputs: [value('x', 'float32', [1, 1, 3])] };
    expect(graphOf(fixed, { batch: 5, rebatch: true }).types.get('y')?.dims).toEqual([5, 3]);
  });

  it('stay control flow where the data decide, and where they are not there', () => {
    const same = branch([node('Identity', ['x'], ['t'])], ['t']);
    const data: ModelParts = {
      inputs: [value('x', 'float32', ['N', 4])],
      outputs: [value('y', 'float32', [])],
      initializers: { zero: floats([0], []), flag: fromNumbers('bool', [], [1]) },
      nodes: [node('ReduceMax', ['x'], ['m'], { keepdims: 0 }), node('Greater', ['m', 'zero'], ['c']), choose('c', ['a'], same, same), node('If', ['flag'], ['b']), node('Add', ['a', 'b'], ['y'])],
    };
    const result = imported(data);
    expect(result.ok ? [] : result.unsupported.map(({ op, reason }) => `${op}: ${reason}`)).toEqual([
      'If: control flow has no static graph, unless its condition is known at build',
      'If: control flow has no static graph, unless its condition is known at build',
    ]);
  });
});
