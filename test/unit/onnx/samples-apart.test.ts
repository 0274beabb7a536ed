/** A model of a fixed batch at another one: either every sample gets what it gets alone (onnxruntime says), or the node that mixes samples is named. */
import { describe, expect, it } from 'vitest';
import type { CustomOp } from '../../../src/ir/custom.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { floats, ints, modelBytes, type ModelParts, node, value } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

type Nodes = NonNullable<ModelParts['nodes']>;

const DIMS = [1, 4, 6];
const SIZE = 24;
const constant = (name: string, tensor: ReturnType<typeof floats>) => node('Constant', [], [name], { value: tensor });
const random = (count: number, seed: number): number[] => Array.from({ length: count }, (_, i) => Math.sin((i + 1) * 12.9898 * seed) * 2);

const modelOf = (nodes: Nodes, opset: number): Uint8Array => modelBytes({ inputs: [value('x', 'float32', DIMS)], outputs: [value('y', 'float32', DIMS)], nodes, opset });

/** Rows of all samples below each other: [4, 6] of one, [12, 6] of three; `nodes` make `r` of the rows `t`. */
const rows = (...nodes: Nodes): Nodes => [constant('flat', ints([4, 6])), node('Reshape', ['x', 'flat'], ['t']), ...nodes, constant('back', ints([1, 4, 6])), node('Reshape', ['r', 'back'], ['y'])];

/** How far the model, batched, is from what it gives for each sample alone: 1 is as far as it may be. */
async function batchedError(nodes: Nodes, batch: number, opset: number): Promise<number> {
  const bytes = modelOf(nodes, opset);
  const rebatched = importGraph(readModel(bytes), { batch, rebatch: true });
  if (!rebatched.ok) throw new Error(JSON.stringify(rebatched.unsupported));
  const numbers = random(batch * SIZE, 1);
  const { y } = await runOnnx(exportGraph(rebatched.graph), { x: floats(numbers, [batch, 4, 6]) });
  const step = y!.data.length / batch;
  const errors: number[] = [];
  for (let i = 0; i < batch; i++) {
    const alone = await runOnnx(bytes, { x: floats(numbers.slice(i * SIZE, (i + 1) * SIZE), DIMS) });
    errors.push(disagreement({ ...alone['y']!, data: y!.data.slice(step * i, step * (i + 1)) }, alone['y']!));
  }
  return Math.max(...errors);
}

const RNN = { hidden_size: 6 };
const recurrent = [constant('w', floats(random(36, 2), [1, 6, 6])), constant('h', floats(random(36, 3), [1, 6, 6]))];
const scores: Nodes = [constant('one', floats(random(6, 4), [6, 1])), node('MatMul', ['t', 'one'], ['scores'])];
const size: Nodes = [node('Shape', ['x'], ['shape']), constant('zero', ints([0], [])), node('Gather', ['shape', 'zero'], ['n'])];

/** By what they do along the axis that has the samples, and along another one. */
const TABLE: readonly { readonly what: string; readonly mixing?: Nodes; readonly apart?: Nodes; readonly batch?: number; readonly opset?: number }[] = [
  { what: 'Softmax', mixing: rows(node('Softmax', ['t'], ['r'], { axis: 0 })), apart: rows(node('Softmax', ['t'], ['r'], { axis: 1 })) },
  { what: 'Softmax of scores', mixing: rows(...scores, node('Softmax', ['scores'], ['weights'], { axis: 0 }), node('Mul', ['t', 'weights'], ['r'])), apart: rows(...scores, node('Sigmoid', ['scores'], ['weights']), node('Mul', ['t', 'weights'], ['r'])) },
  { what: 'LogSoftmax', mixing: rows(node('LogSoftmax', ['t'], ['r'], { axis: -2 })), apart: rows(node('LogSoftmax', ['t'], ['r'], { axis: -1 })) },
  { what: 'LpNormalization', mixing: rows(node('LpNormalization', ['t'], ['r'], { axis: 0 })), apart: rows(node('LpNormalization', ['t'], ['r'], { axis: 1 })) },
  { what: 'CumSum', mixing: rows(constant('a', ints([0], [])), node('CumSum', ['t', 'a'], ['r'])), apart: rows(constant('a', ints([1], [])), node('CumSum', ['t', 'a'], ['r'])) },
  { what: 'LayerNormalization', apart: rows(constant('s', floats(random(6, 5), [6])), node('LayerNormalization', ['t', 's'], ['r'], { axis: 1 })) },
  { what: 'Slice', mixing: rows(constant('s', ints([-1])), constant('e', ints([-100])), constant('a', ints([0])), node('Slice', ['t', 's', 'e', 'a', 's'], ['r'])), apart: rows(constant('s', ints([-1])), constant('e', ints([-100])), constant('a', ints([1])), node('Slice', ['t', 's', 'e', 'a', 's'], ['r'])) },
  { what: 'Gather', mixing: rows(constant('i', ints([3, 2, 1, 0])), node('Gather', ['t', 'i'], ['r'], { axis: 0 })), apart: rows(constant('i', ints([5, 4, 3, 2, 1, 0])), node('Gather', ['t', 'i'], ['r'], { axis: 1 })) },
  { what: 'TopK', apart: rows(constant('k', ints([6])), node('TopK', ['t', 'k'], ['r', 'which'], { axis: 1 })) },
  { what: 'Trilu', mixing: rows(node('Trilu', ['t'], ['r'])), apart: [node('Trilu', ['x'], ['y'])] },
  { what: 'Pad and Slice', mixing: rows(constant('p', ints([1, 0, 0, 0])), node('Pad', ['t', 'p'], ['long']), constant('s', ints([0])), constant('e', ints([-1])), constant('a', ints([0])), node('Slice', ['long', 's', 'e', 'a'], ['r'])) },
  {
    what: 'Conv',
    mixing: rows(node('Transpose', ['t'], ['u'], { perm: [1, 0] }), constant('i', ints([0])), node('Unsqueeze', ['u', 'i'], ['image']), constant('w', floats(random(108, 6), [6, 6, 3])), node('Conv', ['image', 'w'], ['v'], { pads: [1, 1] }), node('Squeeze', ['v', 'i'], ['z']), node('Transpose', ['z'], ['r'], { perm: [1, 0] })),
    apart: [constant('w', floats(random(48, 6), [4, 4, 3])), node('Conv', ['x', 'w'], ['y'], { pads: [1, 1] })],
  },
  { what: 'an average pool', mixing: [node('Transpose', ['x'], ['u'], { perm: [1, 2, 0] }), node('AveragePool', ['u'], ['v'], { kernel_shape: [3], pads: [1, 1] }), node('Transpose', ['v'], ['y'], { perm: [2, 0, 1] })], apart: [node('AveragePool', ['x'], ['y'], { kernel_shape: [3], pads: [1, 1] })] },
  { what: 'a pool of channels that are those of all samples', apart: [node('Transpose', ['x'], ['u'], { perm: [1, 0, 2] }), node('MaxPool', ['u'], ['v'], { kernel_shape: [3], pads: [1, 1] }), node('Transpose', ['v'], ['y'], { perm: [1, 0, 2] })] },
  { what: 'RNN', mixing: [...recurrent, node('RNN', ['x', 'w', 'h'], ['z'], RNN), constant('a', ints([1])), node('Squeeze', ['z', 'a'], ['y'])], apart: [...recurrent, node('Transpose', ['x'], ['u'], { perm: [1, 0, 2] }), node('RNN', ['u', 'w', 'h'], ['z'], RNN), constant('a', ints([1])), node('Squeeze', ['z', 'a'], ['v']), node('Transpose', ['v'], ['y'], { perm: [1, 0, 2] })] },
  { what: 'Einsum', apart: rows(constant('w', floats(random(36, 7), [6, 6])), node('Einsum', ['t', 'w'], ['r'], { equation: 'ij,jk->ik' })) },
  { what: 'the size of the batch', mixing: [...size, node('Cast', ['n'], ['f'], { to: 1 }), node('Div', ['x', 'f'], ['y'])] },
  {
    what: 'the numbers of the samples',
    mixing: [...size, constant('step', ints([1], [])), node('Range', ['zero', 'n', 'step'], ['numbers']), constant('table', floats(random(60, 8), [10, 1, 6])), node('Gather', ['table', 'numbers'], ['own']), node('Add', ['x', 'own'], ['y'])],
  },
  {
    what: 'a table up to the size of the batch',
    mixing: [...size, constant('a', ints([0])), node('Unsqueeze', ['n', 'a'], ['end']), constant('table', floats(random(60, 8), [10, 1, 6])), node('Slice', ['table', 'a', 'end', 'a'], ['own']), node('Add', ['x', 'own'], ['y'])],
  },
  {
    what: 'ones for all samples, summed up',
    mixing: [...size, constant('a', ints([0])), node('Unsqueeze', ['n', 'a'], ['count']), constant('ones', ints([1, 1])), node('Concat', ['count', 'ones'], ['full'], { axis: 0 }), node('ConstantOfShape', ['full'], ['filled'], { value: floats([1]) }), node('CumSum', ['filled', 'zero'], ['numbers']), node('Mul', ['x', 'numbers'], ['y'])],
  },
  { what: 'a maximum that meets another axis', batch: 4, mixing: [constant('a', ints([1])), node('ReduceMax', ['x', 'a'], ['m'], { keepdims: 0 }), node('Sub', ['x', 'm'], ['y'])], apart: [constant('a', ints([1])), node('ReduceMax', ['x', 'a'], ['m'], { keepdims: 1 }), node('Sub', ['x', 'm'], ['y'])] },
  {
    what: 'a Squeeze of all ones',
    mixing: [node('Squeeze', ['x'], ['s']), node('Softmax', ['s'], ['t'], { axis: 0 }), constant('back', ints([-1, 4, 6])), node('Reshape', ['t', 'back'], ['y'])],
    apart: [node('Squeeze', ['x'], ['s']), node('Softmax', ['s'], ['t'], { axis: -1 }), constant('back', ints([-1, 4, 6])), node('Reshape', ['t', 'back'], ['y'])],
  },
  {
    what: 'a Squeeze of a batch in the middle',
    mixing: [node('Transpose', ['x'], ['u'], { perm: [1, 0, 2] }), node('Squeeze', ['u'], ['s']), node('Softmax', ['s'], ['t'], { axis: -2 }), constant('back', ints([4, -1, 6])), node('Reshape', ['t', 'back'], ['v']), node('Transpose', ['v'], ['y'], { perm: [1, 0, 2] })],
  },
  { what: 'Pad that shifts', mixing: [constant('p', ints([1, 0, 0, -1, 0, 0])), node('Pad', ['x', 'p'], ['y'])], apart: [constant('p', ints([0, 1, 0, 0, -1, 0])), node('Pad', ['x', 'p'], ['y'])] },
  {
    what: 'ScatterND',
    mixing: [constant('i', ints([0], [1, 1])), constant('u', floats(random(24, 9), DIMS)), node('ScatterND', ['x', 'i', 'u'], ['y'])],
    apart: [constant('i', ints([0], [1, 1])), constant('s', ints([0])), constant('e', ints([1])), node('Transpose', ['x'], ['t'], { perm: [1, 0, 2] }), node('Slice', ['t', 's', 'e'], ['f']), node('Neg', ['f'], ['u']), node('ScatterND', ['t', 'i', 'u'], ['r']), node('Transpose', ['r'], ['y'], { perm: [1, 0, 2] })],
  },
  {
    what: 'a batch that is spelled out beside attributes that became inputs',
    opset: 13,
    apart: [constant('flat', ints([1, 4, 2, 3])), node('Reshape', ['x', 'flat'], ['t']), node('ReduceMean', ['t'], ['m'], { axes: [3] }), node('Sub', ['t', 'm'], ['d']), node('ReduceMean', ['d'], ['k'], { axes: [1] }), node('Add', ['d', 'k'], ['f']), constant('back', ints([1, 4, 6])), node('Reshape', ['f', 'back'], ['y'])],
  },
  {
    what: 'ScatterElements',
    mixing: rows(constant('i', ints([1], [1, 1])), constant('u', floats(random(1, 9), [1, 1])), node('ScatterElements', ['t', 'i', 'u'], ['r'], { axis: 1 })),
    apart: [constant('i', ints([0, 3, 1, 2], [1, 4, 1])), constant('u', floats(random(4, 9), [1, 4, 1])), node('ScatterElements', ['x', 'i', 'u'], ['y'], { axis: 2 })],
  },
  {
    what: 'Resize by sizes with the batch in them',
    apart: [constant('up', ints([1, 4, 9])), node('Resize', ['x', '', '', 'up'], ['l'], { mode: 'linear' }), constant('down', ints([1, 4, 6])), node('Resize', ['l', '', '', 'down'], ['y'], { mode: 'linear' })],
  },
  {
    what: 'RNN with a constant state and lengths',
    opset: 14,
    apart: [...recurrent, constant('lengths', fromNumbers('int32', [1], [3])), constant('state', floats(random(6, 8), [1, 1, 6])), node('Transpose', ['x'], ['u'], { perm: [1, 0, 2] }), node('RNN', ['u', 'w', 'h', '', 'lengths', 'state'], ['z'], RNN), constant('a', ints([1])), node('Squeeze', ['z', 'a'], ['s']), node('Transpose', ['s'], ['y'], { perm: [1, 0, 2] })],
  },
  {
    what: 'GridSample by a constant grid',
    apart: [constant('image', ints([-1, 1, 4, 6])), node('Reshape', ['x', 'image'], ['p']), constant('grid', floats(random(48, 4).map((v) => v / 2), [1, 4, 6, 2])), node('GridSample', ['p', 'grid'], ['g'], { mode: 'linear' }), constant('back', ints([-1, 4, 6])), node('Reshape', ['g', 'back'], ['y'])],
  },
  { what: 'a mean of all samples that nothing reads', apart: [node('ReduceMean', ['x'], ['unread'], { keepdims: 0 }), node('Relu', ['x'], ['y'])] },
  {
    what: 'a state for every sample',
    apart: [...size, constant('four', ints([4])), constant('six', ints([6])), constant('a', ints([0])), node('Unsqueeze', ['n', 'a'], ['count']), node('Concat', ['count', 'four', 'six'], ['full'], { axis: 0 }), constant('begin', floats(random(6, 9), [1, 1, 6])), node('Expand', ['begin', 'full'], ['state']), node('Add', ['x', 'state'], ['y'])],
  },
];

describe('a model of a fixed batch at another one', () => {
  const cases = (kind: 'apart' | 'mixing') => TABLE.flatMap(({ what, batch = 3, opset = 22, [kind]: nodes }) => (nodes ? [{ what, batch, opset, nodes }] : []));

  it.each(cases('apart'))('$what keeps samples apart', async ({ nodes, batch, opset }) => {
    expect(await batchedError(nodes, batch, opset)).toBeLessThanOrEqual(1);
  });

  it.each(cases('mixing'))('$what is refused where it mixes them', ({ nodes, batch, opset }) => {
    const model = readModel(modelOf(nodes, opset));
    expect(importGraph(model, { rebatch: false }).ok).toBe(true);
    expect(() => importGraph(model, { batch, rebatch: true })).toThrow(expect.objectContaining({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining('the model is fixed at batch 1') }));
  });
});

describe('a plugin’s op at another batch', () => {
  type Part = Partial<Pick<CustomOp, 'decompose' | 'expression' | 'kernels'>>;
  const op = (part: Part): CustomOp => ({ domain: 'd', name: 'Own', dtypes: ['float32'], attributes: {}, inputs: [{ name: 'x', dims: 'any' }], outputs: ['y'], infer: ({ inputs: [x] }) => [x!], reference: ({ inputs: [x] }) => [x!.values], ...part });
  const at = (part: Part, own: number, batch: number) => {
    const bytes = modelBytes({ inputs: [value('x', 'float32', [own, 4, 6])], outputs: [value('y', 'float32', [own, 4, 6])], nodes: [node('Own', ['x'], ['y'], {}, { domain: 'd' })], domains: { d: 1 } });
    return () => importGraph(readModel(bytes), { batch, rebatch: true, customOps: [{ op: op(part), plugin: { name: 'p', version: '1', sha256: '' } }] });
  };
  const centred = (axis: number): Part => ({ decompose: ({ graph }) => graph.op('Sub', [graph.inputs[0]!, graph.op('ReduceMean', [graph.inputs[0]!, graph.constant('int64', [1], [axis])], { keepdims: 1 })]) });
  const negated: Part = { expression: ({ inputs: [x] }) => ({ kind: 'unary', fn: 'neg', x: x! }) };
  /** By a factor of the batch's size. */
  const shared: Part = { decompose: ({ graph }) => graph.op('Mul', [graph.inputs[0]!, graph.constant('float32', [], [1 / graph.type(graph.inputs[0]!).dims[0]!])]) };
  const refused = expect.objectContaining({ code: 'MODEL_UNSUPPORTED', message: expect.stringMatching(/Custom 'Own_of_y' works along the batch/) as string });

  it.each([['along another axis', centred(2)], ['of single elements', negated]] as const)('keeps samples apart %s', (_, part) => {
    const found = at(part, 1, 3)();
    expect(found.ok && found.graph.types.get('y')?.dims).toEqual([3, 4, 6]);
  });

  it.each([['what it says it is mixes them', centred(0), 2], ['it depends on the size of the batch', shared, 1], ['nothing says what it is', {}, 1]] as const)('is refused where %s', (_, part, own) => {
    expect(at(part, own, 4)).toThrow(refused);
    expect(at(part, own, own)().ok).toBe(true);
  });
});
