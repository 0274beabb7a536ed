/** Loop whose iterations are known at build is unrolled: against onnxruntime, which counts while it runs. */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph, type ImportOptions, type ImportResult } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { encodeTensor } from '../../../src/onnx/tensor.ts';
import { branch, choose, repeat, scan } from './graphs.ts';
import { floats, ints, modelBytes, node, value, type ModelParts } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

const yes = fromNumbers('bool', [], [1]);
/** The iteration, whether it goes on, and one value that is carried; inside of the body under these names. */
const bodyInputs = ['i', 'on', 'carried'];

function imported(parts: ModelParts, options?: ImportOptions): ImportResult {
  return importGraph(readModel(typed(parts)), options);
}

/** onnxruntime asks for the types of a body's inputs. */
function typed(parts: ModelParts): Uint8Array {
  for (const { opType, attribute } of parts.nodes ?? []) {
    if (opType === 'Scan') continue;
    for (const { g } of attribute ?? []) for (const [index, input] of (g?.input ?? []).entries()) input.type = value('', index === 0 ? 'int64' : index === 1 ? 'bool' : 'float32', []).type!;
  }
  for (const { attribute } of parts.nodes ?? []) for (const { g } of attribute ?? []) for (const input of g?.input?.slice(2) ?? []) delete input.type?.tensorType?.shape;
  return modelBytes(parts);
}

async function expectSame(parts: ModelParts, dims: readonly number[]): Promise<Graph> {
  const result = imported(parts, { inputShapes: { x: dims } });
  if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
  const x = fromNumbers('float32', dims, Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)));
  const expected = await runOnnx(typed(parts), { x });
  const found = await runOnnx(exportGraph(result.graph), { x });
  for (const [name, tensor] of Object.entries(expected)) expect(disagreement(found[name]!, tensor)).toBe(0);
  return result.graph;
}

function reasonsOf(parts: ModelParts): readonly string[] {
  const result = imported(parts);
  return result.ok ? [] : result.unsupported.map(({ op, reason }) => `${op}: ${reason}`);
}

/** What a script's `for i in range(x.size(1))` becomes: a column each time, carried and gathered. */
const columns: ModelParts = {
  opset: 16,
  inputs: [value('x', 'float32', ['N', 'C'])],
  outputs: ['y', 'all'].map((name) => value(name, 'float32', [])),
  initializers: { one: ints([1], []), yes },
  nodes: [
    node('Shape', ['x'], ['shape']),
    node('Gather', ['shape', 'one'], ['count'], { axis: 0 }),
    node('ReduceSum', ['x'], ['start'], { keepdims: 0 }),
    repeat(
      ['count', 'yes', 'start'],
      ['y', 'all'],
      bodyInputs,
      branch(
        [node('Gather', ['x', 'i'], ['column'], { axis: 1 }), node('Mul', ['carried', 'w'], ['scaled']), node('Add', ['scaled', 'column'], ['sum']), node('Identity', ['on'], ['again'])],
        ['again', 'sum', 'column'],
        [encodeTensor(floats([0.5], []), 'w')],
      ),
    ),
  ],
};

describe('loops', () => {
  it.each([1, 4])('over a size of %i', async (size) => {
    const graph = await expectSame(columns, [3, size]);
    expect(graph.nodes.filter(({ op }) => op === 'Mul')).toHaveLength(size);
    expect(graph.types.get('all')?.dims).toEqual([size, 3]);
  });

  it('end when they say so, with another branch in every second iteration', async () => {
    const parts: ModelParts = {
      inputs: [value('x', 'float32', ['N', 4])],
      outputs: [value('y', 'float32', [])],
      initializers: { yes, two: ints([2], []), five: ints([5], []), zero: ints([0], []) },
      nodes: [
        repeat(
          ['', 'yes', 'x'],
          ['y'],
          bodyInputs,
          branch(
            [
              node('Mod', ['i', 'two'], ['rest']),
              node('Equal', ['rest', 'zero'], ['even']),
              choose('even', ['next'], branch([node('Exp', ['carried'], ['t'])], ['t']), branch([node('Neg', ['carried'], ['t'])], ['t'])),
              node('Less', ['i', 'five'], ['again']),
            ],
            ['again', 'next'],
          ),
        ),
      ],
    };
    const graph = await expectSame(parts, [2, 4]);
    expect(graph.nodes.map(({ op }) => op).filter((op) => op !== 'Identity')).toEqual(['Exp', 'Neg', 'Exp', 'Neg', 'Exp', 'Neg']);
  });

  it('that never run give what they start with', async () => {
    const parts: ModelParts = {
      initializers: { none: ints([0], []), yes },
      nodes: [repeat(['none', 'yes', 'x'], ['y'], bodyInputs, branch([node('Exp', ['carried'], ['e'])], ['on', 'e']))],
    };
    expect((await expectSame(parts, [2, 4])).nodes.map(({ op }) => op)).toEqual(['Identity']);
  });

  it('follow another batch than the one that the model fixes', () => {
    const fixed: ModelParts = { ...columns, inputs: [value('x', 'float32', [1, 3])], outputs: [value('y', 'float32', [])] };
    const start = [...fixed.nodes!];
    start[2] = node('ReduceSum', ['x', 'one'], ['start'], { keepdims: 0 });
    const result = imported({ ...fixed, nodes: start, initializers: { ...fixed.initializers, one: ints([1], []) } }, { batch: 5, rebatch: true });
    expect(result.ok && result.graph.types.get('y')?.dims).toEqual([5]);
  });

  it('are refused where the data decide, where they grow without bound, and with what their body lacks', () => {
    const loop = (inputs: string[], nodes: Parameters<typeof branch>[0], outputs = ['on', 'e']): ModelParts => ({
      initializers: { many: ints([1e6], []), two: ints([2], []), yes, limit: floats([9], []) },
      nodes: [repeat(inputs, ['y'], bodyInputs, branch(nodes, outputs))],
    });
    const exp = node('Exp', ['carried'], ['e']);
    const data = [exp, node('ReduceMax', ['e'], ['m'], { keepdims: 0 }), node('Less', ['m', 'limit'], ['again'])];
    expect(reasonsOf(loop(['', 'yes', 'x'], data, ['again', 'e']))).toEqual(['Loop: how often it runs is not known at build']);
    expect(reasonsOf(loop(['many', '', 'x'], [exp]))).toEqual(['Loop: unrolled, it would be more than 20000 nodes']);
    expect(reasonsOf(loop(['', 'yes', 'x'], [], ['on', 'carried']))).toEqual(['Loop: unrolled, it would be more than 20000 nodes']);
    expect(reasonsOf(loop(['two', '', 'x'], [node('Frobnicate', ['carried'], ['e'])]))).toEqual(['Frobnicate: not in the op vocabulary (opset 22)']);
  });
});

describe('scans', () => {
  /** A sum that is carried over the columns of x from the front and its rows from the back, and what each place gave. */
  const over = (attributes: Parameters<typeof scan>[2], opset = 16): ModelParts => ({
    opset,
    inputs: [value('x', 'float32', [3, 3])],
    outputs: ['last', 'all'].map((name) => value(name, 'float32', [])),
    initializers: { start: floats([0.25, 0.5, 0.75]) },
    nodes: [
      scan(['start', 'x', 'x'], ['last', 'all'], { num_scan_inputs: 2, ...attributes }, ['carried', 'a', 'b'], branch(
        [node('Mul', ['carried', 'a'], ['scaled']), node('Add', ['scaled', 'b'], ['sum']), node('Sub', ['sum', 'start'], ['given'])],
        ['sum', 'given'],
      )),
    ],
  });

  it.each<[string, Parameters<typeof scan>[2], readonly number[]]>([
    ['along the first axis', {}, [3, 3]],
    ['along other axes, from both ends', { scan_input_axes: [1, -2], scan_input_directions: [0, 1], scan_output_axes: [1], scan_output_directions: [1] }, [3, 3]],
    ['with places counted from the end', { scan_input_axes: [-1, 0], scan_output_axes: [-1] }, [3, 3]],
  ])('%s', async (_, attributes, dims) => {
    const graph = await expectSame(over(attributes), dims);
    expect(graph.nodes.filter(({ op }) => op === 'Mul')).toHaveLength(3);
  });

  it('are refused where lengths come with them, where axes disagree, and where they grow without bound', () => {
    expect(reasonsOf(over({}, 8))).toEqual(['Scan: a Scan of opset 8, with lengths, is not supported']);
    expect(() => reasonsOf({ ...over({ scan_input_axes: [0, 1] }), inputs: [value('x', 'float32', [3, 4])] })).toThrow('it runs over axes of 3, 4 elements');
    expect(reasonsOf({ ...over({}), inputs: [value('x', 'float32', [9000, 3])] })).toEqual(['Scan: unrolled, it would be more than 20000 nodes']);
    expect(() => reasonsOf(over({ scan_input_axes: [2, 0] }))).toThrow('axis 2 is out of range for [3,3]');
  });
});
