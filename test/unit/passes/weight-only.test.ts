import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { type Dims, elementCount, fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { countOps, expectSame, optimize } from '../../helpers/passes.ts';

interface Weights {
  readonly dtype?: 'int8' | 'uint8';
  readonly dims?: Dims;
  /** The integers are from here to less than there. */
  readonly range?: readonly [number, number];
  readonly axis?: number;
  readonly block?: number;
  readonly scales?: Dims;
  readonly zeros?: boolean;
}

const numbers = (dims: Dims, [low, high]: readonly [number, number]): number[] => Array.from({ length: elementCount(dims) }, (_, i) => low + ((i * 7919 + 5) % (high - low)));

/** What `end` makes of x [3, 32] and the dequantized weights. */
function network({ dtype = 'uint8', dims = [32, 5], range = [0, 16], axis = 0, block = 8, scales = [4, 5], zeros = false }: Weights, end: (b: ReturnType<typeof newGraphBuilder>, x: string, w: string) => string[]): Graph {
  const b = newGraphBuilder('weights');
  b.input('x', { dtype: 'float32', dims: [3, 32] });
  const steps = b.constant(fromNumbers('float32', scales, numbers(scales, [1, 9]).map((step) => step / 64)));
  const middles = zeros ? [b.constant(fromNumbers(dtype, scales, numbers(scales, range)))] : [];
  const w = b.node('DequantizeLinear', [b.constant(fromNumbers(dtype, dims, numbers(dims, range))), steps, ...middles], { axis, block_size: block });
  return b.finish(end(b, 'x', w));
}

const product = (b: ReturnType<typeof newGraphBuilder>, x: string, w: string): string[] => [b.node('MatMul', [x, w], {})];
const transposed = (b: ReturnType<typeof newGraphBuilder>, x: string, w: string): string[] => [b.node('MatMul', [x, b.node('Transpose', [w], { perm: [1, 0] })], {})];

/** Rows by indices [2, 3] that are an input. */
const gather = (name = 'i', axis = 0) => (b: ReturnType<typeof newGraphBuilder>, _: string, w: string): string[] => {
  b.input(name, { dtype: 'int64', dims: [2, 3] });
  return [b.node('Gather', [w, name], { axis })];
};

describe('weights that no kernel reads as they are', () => {
  it.each([
    ['int8', 0, [40]],
    ['uint8', 1, [41]],
    ['int8', 0, []],
  ] as const)('%s along axis %i, scales %j: are dequantized at build, however many there are', async (dtype, axis, scales) => {
    const dims = [40, 41, 4, 4];
    const range = dtype === 'int8' ? ([-128, 128] as const) : ([0, 256] as const);
    const b = newGraphBuilder('convolution');
    b.input('x', { dtype: 'float32', dims: [1, 41, 5, 5] });
    const operands = [fromNumbers(dtype, dims, numbers(dims, range)), fromNumbers('float32', scales, numbers(scales, [1, 9]).map((step) => step / 640)), fromNumbers(dtype, scales, numbers(scales, range))];
    const w = b.node('DequantizeLinear', operands.map((tensor) => b.constant(tensor)), { axis, block_size: 0 });
    const graph = b.finish([b.node('Conv', ['x', w], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [4, 4], pads: [0, 0, 0, 0], strides: [1, 1] })]);
    for (const fusion of ['on', 'off'] as const) {
      const { graph: folded } = await optimize(graph, 'webgpu', { fusion });
      expect(folded.nodes.map(({ op }) => op)).toEqual(['Conv']);
      await expectSame(graph, folded);
    }
  });
});

describe('weight-only', () => {
  it.each(Object.entries({
    '4 bits by blocks': [network({ zeros: true }, product), 4],
    '2 bits by blocks of 16': [network({ range: [0, 4], block: 16, scales: [2, 5] }, product), 2],
    '4 bits where blocks are too short for words of 2': [network({ range: [0, 4] }, product), 4],
    '8 bits where blocks are too short for words of 4': [network({ block: 4, scales: [8, 5] }, product), 8],
    'signed 4 bits by columns': [network({ dtype: 'int8', range: [-8, 8], axis: 1, block: 0, scales: [5] }, product), 4],
    '8 bits of one scale': [network({ dtype: 'int8', range: [-128, 128], block: 0, scales: [] }, product), 8],
    'blocks along rows of a transpose': [network({ dims: [5, 32], axis: 1, scales: [5, 4] }, transposed), 4],
    'two products': [network({}, (b, x, w) => [...product(b, x, w), b.node('Relu', product(b, b.node('Neg', [x], {}), w), {})]), 4],
  } as const))('%s stay packed', async (_, [graph, bits]) => {
    const { graph: packed } = await optimize(graph, 'webgpu');
    const products = packed.nodes.filter((node) => node.op === 'WeightOnlyMatMul');
    expect(products.map(({ attrs }) => attrs.bits)).toEqual(graph.outputs.map(() => bits));
    expect(countOps(packed)['DequantizeLinear']).toBeUndefined();
    await expectSame(graph, packed);
  });

  it.each(Object.entries({
    'blocks that no word fills': network({ block: 6, scales: [6, 5] }, product),
    'blocks across the depth': network({ dims: [32, 8], axis: 1, block: 4, scales: [32, 2] }, product),
    'weights that something else reads': network({}, (b, x, w) => [...product(b, x, w), b.node('Relu', [w], {})]),
    'weights on the left': network({ dims: [5, 3], scales: [1, 3] }, (b, x, w) => [b.node('MatMul', [w, x], {})]),
    'a product with more operands than a device binds': network({ zeros: true }, (b, x, w) => {
      for (const name of ['p', 'q', 'r', 's']) b.input(name, { dtype: 'float32', dims: [3, 5] });
      return [['p', 'q', 'r', 's'].reduce((sum, name) => b.node('Add', [sum, b.node('Tanh', [name], {})], {}), b.node('Relu', product(b, x, w), {}))];
    }),
  }))('%s are dequantized at build', async (_, graph) => {
    const { graph: folded } = await optimize(graph, 'webgpu');
    const counts = countOps(folded);
    expect([counts['WeightOnlyMatMul'], counts['DequantizeLinear']]).toEqual([undefined, undefined]);
    await expectSame(graph, folded);
  });

  it.each(Object.entries({
    '4 bits by blocks': [network({ dims: [9, 32], axis: 1, scales: [9, 4], zeros: true }, gather()), { bits: 4, block_size: 8 }],
    '2 bits by blocks of 4': [network({ dims: [9, 32], axis: 1, range: [0, 4], block: 4, scales: [9, 8] }, gather()), { bits: 2, block_size: 4 }],
    'signed 4 bits by rows': [network({ dtype: 'int8', dims: [9, 12], range: [-8, 8], axis: 0, block: 0, scales: [9] }, gather()), { bits: 4, block_size: 12 }],
    '8 bits of one scale': [network({ dtype: 'int8', dims: [9, 12], range: [-128, 128], block: 0, scales: [] }, gather()), { bits: 8, block_size: 0 }],
    'blocks longer than rows': [network({ dims: [9, 12], axis: 1, block: 16, scales: [9, 1] }, gather()), { bits: 4, block_size: 12 }],
    'two gathers': [network({ dims: [9, 12], axis: -1, block: 4, scales: [9, 3] }, (b, x, w) => [...gather()(b, x, w), b.node('Relu', gather('j')(b, x, w), {})]), { bits: 4, block_size: 4 }],
  } as const))('tables of %s stay packed', async (_, [graph, attrs]) => {
    const { graph: packed } = await optimize(graph, 'webgpu');
    const gathers = packed.nodes.filter((node) => node.op === 'WeightOnlyGather');
    expect(gathers.map((node) => node.attrs)).toEqual(graph.outputs.map(() => expect.objectContaining(attrs)));
    expect([countOps(packed)['DequantizeLinear'], countOps(packed)['Gather']]).toEqual([undefined, undefined]);
    await expectSame(graph, packed);
  });

  it('a table that is the matrix of a product too stays packed for both', async () => {
    const graph = network({ dims: [9, 32], axis: 1, scales: [9, 4] }, (b, x, w) => [...gather()(b, x, w), ...transposed(b, x, w)]);
    const { graph: packed } = await optimize(graph, 'webgpu');
    expect(countOps(packed)).toEqual({ WeightOnlyGather: 1, WeightOnlyMatMul: 1 });
    await expectSame(graph, packed);
  });

  it.each(Object.entries({
    'rows that are no whole vectors': [network({ dims: [9, 30], axis: 1, block: 10, scales: [9, 3] }, gather()), { Gather: 1 }],
    'blocks that no vector fills': [network({ dims: [9, 32], axis: 1, block: 6, scales: [9, 6] }, gather()), { Gather: 1 }],
    'blocks of rows': [network({ dims: [8, 32], axis: 0, scales: [1, 32] }, gather()), { Gather: 1 }],
    'scales by column': [network({ dims: [9, 32], axis: 1, block: 0, scales: [32] }, gather()), { Gather: 1 }],
    'a gather of columns': [network({ dims: [9, 32], axis: 1, scales: [9, 4] }, gather('i', 1)), { Gather: 1 }],
    'a table that something else reads': [network({ dims: [9, 32], axis: 1, scales: [9, 4] }, (b, x, w) => [...gather()(b, x, w), b.node('Relu', [w], {})]), { Gather: 1, Relu: 1 }],
    'rows by indices that are known': [network({ dims: [9, 32], axis: 1, scales: [9, 4] }, (b, x, w) => [b.node('Add', [x, b.node('Gather', [w, b.constant(fromNumbers('int64', [3], [2, 0, -1]))], { axis: 0 })], {})]), { Add: 1 }],
  } as const))('%s are dequantized at build', async (_, [graph, counts]) => {
    const { graph: folded } = await optimize(graph, 'webgpu');
    expect(countOps(folded)).toEqual(counts);
    await expectSame(graph, folded);
  });

  it('needs fusion, and a kernel', async () => {
    const graph = network({}, product);
    for (const { graph: plain } of [await optimize(graph, 'webgpu', { fusion: 'off' }), await optimize(graph, 'onnx')]) expect(countOps(plain)).toEqual({ MatMul: 1 });
  });
});
