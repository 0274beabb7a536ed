/**
 * What language decoders are exported to in onnxruntime's domain: read as standard ops that compute what onnxruntime computes, and that
 * become one attention kernel on webgpu.
 */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { elementCount, fromNumbers, toNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph, type ImportResult } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { countOps, expectSame, optimize } from '../../helpers/passes.ts';
import { floats, ints, modelBytes, node, value, type AttributeValue } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

const domain = 'com.microsoft';

interface Case {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs?: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
  /** Values that the model does not know. */
  readonly data: Readonly<Record<string, Tensor>>;
  readonly constants?: Readonly<Record<string, Tensor>>;
}

/** Values between −2 and 2 without a pattern that an error could hide behind. */
function sample(dims: readonly number[], seed = 13, dtype: DType = 'float32'): Tensor {
  return fromNumbers(dtype, dims, Array.from({ length: elementCount(dims) }, (_, i) => (((i * 7919 + seed) % 401) - 200) / 100));
}

const bytes = (dims: readonly number[]): Tensor => fromNumbers('uint8', dims, Array.from({ length: elementCount(dims) }, (_, i) => (i * 151 + 7) % 256));
/** Numbers of a type of 4 bits, as many as a byte's pattern gives. */
const few = (dtype: 'int4' | 'uint4', dims: readonly number[]): Tensor => fromNumbers(dtype, dims, Array.from({ length: elementCount(dims) }, (_, i) => ((i * 151 + 7) % 16) - (dtype === 'int4' ? 8 : 0)));
const whole = (dims: readonly number[], numbers: readonly number[]): Tensor => fromNumbers('int32', dims, numbers);

function bytesOf({ op, inputs, outputs = ['y'], attributes = {}, data, constants = {} }: Case, types?: Readonly<Record<string, Tensor>>): Uint8Array {
  const named = outputs.filter((name) => name !== '');
  return modelBytes({
    opset: 17,
    domains: { [domain]: 1 },
    inputs: Object.entries(data).map(([name, { dtype, dims }]) => value(name, dtype, dims)),
    initializers: constants,
    nodes: [node(op, [...inputs], [...outputs], attributes, { domain })],
    // Without types, onnxruntime finds them.
    outputs: named.map((name) => (types?.[name] ? value(name, types[name].dtype, types[name].dims) : { name, type: { tensorType: { elemType: ONNX_DTYPE[Object.values(data)[0]!.dtype] } } })),
  });
}

const imported = (test: Case): ImportResult => importGraph(readModel(bytesOf(test)));

function graphOf(result: ImportResult): Graph {
  if (!result.ok) throw new Error(JSON.stringify(result.unsupported));
  return result.graph;
}

/** The imported graph beside what onnxruntime makes of the model: names of outputs of another type or with other numbers. */
async function wrong(graph: Graph, data: Case['data'], expected: Readonly<Record<string, Tensor>>, tolerance = 2e-5): Promise<readonly string[]> {
  const actual = await runOnnx(exportGraph(graph), data);
  return Object.entries(expected).flatMap(([name, { dtype, dims, ...rest }]) => {
    const type = graph.types.get(name);
    const error = disagreement(actual[name]!, { dtype, dims, ...rest }, tolerance, tolerance);
    return type?.dtype === dtype && type.dims.join() === dims.join() && error <= 1 ? [] : [`${name}: ${error}`];
  });
}

/** As {@link wrong}, of a case whose op onnxruntime has for the processor. */
const asOnnxruntime = async (test: Case, tolerance?: number): Promise<readonly string[]> => wrong(graphOf(imported(test)), test.data, await runOnnx(bytesOf(test), test.data), tolerance);

/** A product of 5 rows of 40 with 6 columns, or another number of them, of few bits. */
function product(bits: number, block: number, more: { readonly inputs?: readonly string[]; readonly constants?: Readonly<Record<string, Tensor>>; readonly dtype?: DType; readonly columns?: number } = {}): Case {
  const blocks = Math.ceil(40 / block);
  const { dtype = 'float32', inputs = [], constants = {}, columns = 6 } = more;
  return {
    op: 'MatMulNBits', inputs: ['x', 'w', 's', ...inputs], attributes: { K: 40, N: columns, bits, block_size: block },
    data: { x: sample([5, 40], 13, dtype) }, constants: { w: bytes([columns, blocks, (block * bits) / 8]), s: sample([columns * blocks], 3, dtype), ...constants },
  };
}

/** Indices into a table of 7 rows of 64. */
function table(bits: number, more: Partial<Case> = {}): Case {
  return {
    op: 'GatherBlockQuantized', inputs: ['w', 'i', 's'], attributes: { bits, block_size: 32, gather_axis: 0, quantize_axis: 1 },
    data: { i: ints([3, 0, 6, 6], [2, 2]) }, constants: { w: bytes([7, (64 * bits) / 8]), s: sample([7, 2]) }, ...more,
  };
}

describe('weights of few bits', () => {
  it.each(Object.entries({
    '4 bits': product(4, 16),
    '4 bits, blocks that end behind the row': product(4, 32),
    '4 bits, a block for the whole row': product(4, 64),
    '4 bits, packed zero points': product(4, 16, { inputs: ['z'], constants: { z: bytes([6 * 2]) } }),
    '4 bits, zero points of floats and a bias': product(4, 16, { inputs: ['z', '', 'b'], constants: { z: sample([6, 3], 5), b: sample([6]) } }),
    '4 bits, columns in an order of their own': product(4, 16, { inputs: ['', 'g'], constants: { g: whole([48], Array.from({ length: 48 }, (_, i) => (i * 7) % 3)) } }),
    '4 bits, more columns than are transposed together': product(4, 16, { columns: 70, inputs: ['z'], constants: { z: bytes([70 * 2]) } }),
    '8 bits': product(8, 32),
    '8 bits, zero points': product(8, 16, { inputs: ['z'], constants: { z: bytes([6, 3]) } }),
  }))('MatMulNBits of %s', async (_, test) => {
    expect(await asOnnxruntime(test)).toEqual([]);
    const { graph } = await optimize(graphOf(imported(test)), 'onnx');
    expect(graph.nodes.map(({ op }) => op)).toEqual(test.inputs.includes('b') ? ['Gemm'] : ['MatMul']);
    // For onnxruntime nothing of the packed form is left.
    expect([...graph.constants.values()].every(({ dtype }) => dtype === 'float32')).toBe(true);
    await expectSame(graphOf(imported(test)), graph);
  });

  it('MatMulNBits of halves', async () => {
    const test = product(4, 16, { dtype: 'float16' });
    expect(await asOnnxruntime(test, 4e-3)).toEqual([]);
    expect([...(await optimize(graphOf(imported(test)), 'onnx')).graph.constants.values()].map(({ dtype, dims }) => [dtype, dims])).toEqual([['float16', [40, 6]]]);
  });

  it.each(Object.entries({
    '4 bits': table(4),
    '4 bits, zero points': table(4, { inputs: ['w', 'i', 's', 'z'], constants: { w: bytes([7, 32]), s: sample([7, 2]), z: bytes([7, 1]) } }),
    '8 bits': table(8),
    'uint4': table(4, { constants: { w: few('uint4', [7, 64]), s: sample([7, 2]) } }),
    'int4, zero points': table(4, { inputs: ['w', 'i', 's', 'z'], constants: { w: few('int4', [7, 64]), s: sample([7, 2]), z: few('int4', [7, 2]) } }),
  }))('GatherBlockQuantized of %s', async (_, test) => {
    expect(await wrong(graphOf(imported(test)), test.data, await runOnnx(bytesOf(test, { y: sample([2, 2, 64]) }), test.data))).toEqual([]);
  });

  it('a product and its bias are one node', async () => {
    const test = product(4, 16, { inputs: ['', '', 'b'], constants: { b: sample([6]) } });
    const { graph } = await optimize(graphOf(imported(test)), 'webgpu');
    expect(countOps(graph)).toEqual({ WeightOnlyMatMul: 1 });
  });

  it.each(Object.entries({
    'weights that the data give': [{ ...product(4, 16), data: { x: sample([5, 40]), w: bytes([6, 3, 8]) }, constants: { s: sample([18]) } }, /not known at build/],
    'odd bits': [{ ...product(4, 16), attributes: { K: 40, N: 6, bits: 3, block_size: 16 } }, /weights of 3 bits/],
  } satisfies Record<string, [Case, RegExp]>))('refuses %s in words', (_, [test, reason]) => {
    expect(imported(test)).toMatchObject({ ok: false, unsupported: [{ reason: expect.stringMatching(reason) }] });
  });
});

/** Two samples with heads of 16 elements: 4 of queries, 2 of keys and values; the angles of 16 positions. */
const size = 16;
const angles = { cos: sample([16, size / 2], 101), sin: sample([16, size / 2], 57) };

interface Grouped {
  readonly rows?: number;
  /** Rows of the cache, and how many keys there are in all. */
  readonly cache?: number;
  readonly total?: number;
  /** Keys of each sample without the last. */
  readonly last?: readonly number[];
  readonly isPacked?: boolean;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
  /** Inputs behind total_sequence_length. */
  readonly inputs?: readonly string[];
  readonly constants?: Readonly<Record<string, Tensor>>;
  /** Whether the lengths are known at build. */
  readonly isKnown?: boolean;
  readonly dtype?: DType;
  readonly keeps?: boolean;
}

function grouped({ rows = 3, cache = 0, total = rows + cache, last = [total - 1, total - 1], isPacked = false, attributes = {}, inputs = [], constants = {}, isKnown = false, dtype = 'float32', keeps = true }: Grouped): Case {
  const batch = last.length;
  const lengths = { n: whole([batch], last) };
  const older = { pk: sample([batch, 2, cache, size], 31, dtype), pv: sample([batch, 2, cache, size], 77, dtype) };
  const operands: Record<string, Tensor> = isPacked ? { x: sample([batch, rows, 8 * size], 13, dtype) } : { x: sample([batch, rows, 4 * size], 13, dtype), k: sample([batch, rows, 2 * size], 5, dtype), v: sample([batch, rows, 2 * size], 9, dtype) };
  return {
    op: 'GroupQueryAttention',
    inputs: ['x', ...(isPacked ? ['', ''] : ['k', 'v']), ...(cache > 0 ? ['pk', 'pv'] : ['', '']), 'n', 't', ...inputs],
    outputs: keeps ? ['y', 'nk', 'nv'] : ['y'],
    attributes: { num_heads: 4, kv_num_heads: 2, ...attributes },
    data: { ...operands, ...(cache > 0 ? older : {}), ...(isKnown ? {} : lengths) },
    constants: { t: whole([], [total]), ...(isKnown ? lengths : {}), ...constants },
  };
}

const rotary = { attributes: { do_rotary: 1 }, inputs: ['cos', 'sin'], constants: angles } as const;

describe('GroupQueryAttention', () => {
  it.each(Object.entries({
    'a prompt': grouped({}),
    'a prompt, packed': grouped({ isPacked: true }),
    'a prompt, rotary': grouped(rotary),
    'a prompt, packed, rotary by pairs side by side': grouped({ ...rotary, isPacked: true, attributes: { do_rotary: 1, rotary_interleaved: 1 } }),
    'a prompt into a longer cache': grouped({ ...rotary, cache: 7, total: 3 }),
    'a prompt with padding': grouped({ ...rotary, last: [2, 1] }),
    'a prompt with padding, known': grouped({ ...rotary, last: [0, 2], isKnown: true }),
    'a prompt with padding, a window': grouped({ rows: 5, last: [3, 4], attributes: { local_window_size: 3 } }),
    'a prompt, positions given': grouped({ ...rotary, inputs: ['cos', 'sin', 'at'], constants: { ...angles, at: ints([3, 9, 2, 4, 5, 9], [2, 3]) } }),
    'a token, a position given': grouped({ ...rotary, rows: 1, cache: 4, inputs: ['cos', 'sin', 'at'], constants: { ...angles, at: ints([9, 2], [2, 1]) } }),
    'a token': grouped({ ...rotary, rows: 1, cache: 4 }),
    'a token, lengths known': grouped({ ...rotary, rows: 1, cache: 4, isKnown: true }),
    'a token, lengths of their own': grouped({ ...rotary, rows: 1, cache: 4, last: [4, 2] }),
    'a token, lengths of their own, known': grouped({ ...rotary, rows: 1, cache: 4, last: [1, 4], isKnown: true }),
    'a token in a cache of fixed length': grouped({ ...rotary, rows: 1, cache: 8, total: 6, last: [5, 3] }),
    'a token in a cache of fixed length, packed, known': grouped({ ...rotary, rows: 1, cache: 8, total: 6, isKnown: true, isPacked: true }),
    'some tokens': grouped({ ...rotary, rows: 3, cache: 4, last: [6] }),
    'some tokens, known': grouped({ ...rotary, rows: 3, cache: 4, last: [6], isKnown: true }),
    'some tokens in a cache of fixed length': grouped({ ...rotary, rows: 2, cache: 9, total: 6, last: [5] }),
    'a window': grouped({ rows: 6, attributes: { local_window_size: 2 } }),
    'a window, a token': grouped({ rows: 1, cache: 5, last: [5, 3], attributes: { local_window_size: 3 } }),
    'scale and cap': grouped({ attributes: { scale: { float: 0.7 }, softcap: { float: 1.5 } } }),
    'smooth': grouped({ attributes: { smooth_softmax: 1 } }),
    'smooth, a token': grouped({ rows: 1, cache: 4, attributes: { smooth_softmax: 1 } }),
    'a bias of the scores': grouped({ inputs: ['', '', '', 'a'], constants: { a: sample([1, 4, 3, 3]) } }),
    'a bias of the scores, smooth, capped': grouped({ inputs: ['', '', '', 'a'], constants: { a: sample([2, 1, 3, 3]) }, attributes: { smooth_softmax: 1, softcap: { float: 1.5 } } }),
    'sinks': grouped({ inputs: ['', '', '', '', 'h'], constants: { h: sample([4]) } }),
    'sinks, a token': grouped({ rows: 1, cache: 4, last: [4, 2], inputs: ['', '', '', '', 'h'], constants: { h: sample([4]) } }),
  }))('%s', async (_, test) => {
    expect(await asOnnxruntime(test)).toEqual([]);
  });

  it.each(Object.entries({
    'a prompt': grouped({ ...rotary, keeps: false }),
    'a token': grouped({ ...rotary, rows: 1, cache: 4, last: [4, 2] }),
    'a prompt of known length': grouped({ ...rotary, isKnown: true }),
    'a window, smooth': grouped({ rows: 4, keeps: false, attributes: { local_window_size: 2, smooth_softmax: 1 } }),
  }))('%s is one kernel of attention on webgpu', async (_, test) => {
    const before = graphOf(imported(test));
    const { graph } = await optimize(before, 'webgpu');
    const { FusedAttention, MatMul, Softmax } = countOps(graph);
    expect({ FusedAttention, MatMul, Softmax }).toEqual({ FusedAttention: 1 });
    await expectSame(before, graph);
  });

  it.each(Object.entries({
    'one row': grouped({ ...rotary, rows: 1, cache: 4, last: [4, 2] }),
    'one row, without a mask': grouped({ rows: 1, cache: 4, isKnown: true }),
    'two rows': grouped({ ...rotary, rows: 2, cache: 4, last: [5], isKnown: true }),
    'one row, with a mask of each head': grouped({ rows: 1, cache: 4, isKnown: true, inputs: ['', '', '', '', 'h'], constants: { h: sample([4]) } }),
    'three rows, with a mask of each head and a cap': grouped({ inputs: ['', '', '', 'a'], constants: { a: sample([1, 4, 3, 3]) }, attributes: { softcap: { float: 1.5 } } }),
  }))('keys and values of %s are not copied for the heads that share them, on webgpu', async (_, test) => {
    const before = graphOf(imported(test));
    const { graph } = await optimize(before, 'webgpu');
    const { FusedAttention, Expand = 0 } = countOps(graph);
    expect({ FusedAttention, Expand }).toEqual({ FusedAttention: 1, Expand: 0 });
    await expectSame(before, graph);
  });

  it('norms queries and keys by head, which onnxruntime does on other devices than the processor', async () => {
    const gains = { gq: sample([size], 41), gk: sample([size], 23) };
    const { data, constants, ...plain } = grouped({ ...rotary, rows: 1, cache: 4, constants: { ...angles, ...gains } });
    const graph = graphOf(imported({ ...plain, data, constants: constants!, inputs: [...plain.inputs, '', '', '', '', '', 'gq', 'gk'] }));
    const normed = (id: 'x' | 'k', heads: number): Promise<Record<string, Tensor>> => {
      const { dims } = data[id]!;
      const split = { ...data[id]!, dims: [dims[0]!, dims[1]!, heads, size] };
      const bytes = modelBytes({ opset: 17, inputs: [value('h', 'float32', split.dims)], initializers: { g: gains[id === 'x' ? 'gq' : 'gk'] }, outputs: [value('n', 'float32', split.dims)], nodes: [node('SimplifiedLayerNormalization', ['h', 'g'], ['n'], { axis: -1, epsilon: { float: 1e-6 } })] });
      return runOnnx(bytes, { h: split });
    };
    const [x, k] = [(await normed('x', 4)).n!, (await normed('k', 2)).n!];
    const expected = await runOnnx(bytesOf({ ...plain, data, constants: constants! }), { ...data, x: { ...x, dims: data.x!.dims }, k: { ...k, dims: data.k!.dims } });
    expect(await wrong(graph, data, expected)).toEqual([]);
  });

  it.each(Object.entries({
    'a quantized cache': [grouped({ inputs: ['', '', '', '', '', 'q', 'q'], constants: { q: floats([1]) } }), /a cache of quantized keys/],
    'the products': [{ ...grouped({}), outputs: ['y', '', '', 'p'] }, /output_qk/],
    'a total that the data give': [{ ...grouped({ rows: 1, cache: 4 }), data: { ...grouped({ rows: 1, cache: 4 }).data, t: whole([], [5]) }, constants: {} }, /total_sequence_length\) is not known at build/],
  } satisfies Record<string, [Case, RegExp]>))('refuses %s in words', (_, [test, reason]) => {
    expect(imported(test)).toMatchObject({ ok: false, unsupported: [{ reason: expect.stringMatching(reason) }] });
  });
});

describe('RotaryEmbedding', () => {
  const turning = (x: Tensor, positions: Tensor, attributes: Record<string, AttributeValue> = {}, tables = angles): Case => ({ op: 'RotaryEmbedding', inputs: ['x', 'at', 'cos', 'sin'], attributes, data: { x }, constants: { at: positions, ...tables } });
  it.each(Object.entries({
    'a first position': turning(sample([2, 3, 4 * size]), ints([5])),
    'positions of each': turning(sample([2, 3, 4 * size]), ints([0, 1, 2, 7, 3, 9], [2, 3])),
    'by head': turning(sample([2, 4, 3, size]), ints([0, 1, 2, 7, 3, 9], [2, 3])),
    'by head, a first position': turning(sample([2, 4, 3, size]), ints([2])),
    'pairs side by side': turning(sample([2, 3, 4 * size]), ints([5]), { interleaved: 1 }),
    'a part of each head': turning(sample([2, 3, 4 * size]), ints([5]), { num_heads: 4, rotary_embedding_dim: 8 }, { cos: sample([16, 4], 101), sin: sample([16, 4], 57) }),
  }))('%s', async (_, test) => {
    expect(await asOnnxruntime(test)).toEqual([]);
  });
});

describe('MultiHeadAttention of packed operands, which onnxruntime has on other devices than the processor', () => {
  const [batch, length, heads, width] = [2, 3, 2, 8];
  /** Part `index` of [batch, length, heads, count, width], as [batch, length, heads·width]. */
  const part = (packed: Tensor, index: number): Tensor => {
    const [, rows, , count] = packed.dims as readonly [number, number, number, number];
    const values = toNumbers(packed).filter((_, i) => Math.floor(i / width) % count === index);
    return fromNumbers('float32', [batch, rows, heads * width], values);
  };
  const all = sample([batch, length, heads, 3, width]);
  const pairs = sample([batch, 5, heads, 2, width], 43);
  const [q, b] = [sample([batch, length, heads * width]), sample([3 * heads * width], 29)];
  it.each(Object.entries({
    'all in one': [['x'], { x: all }, { q: part(all, 0), k: part(all, 1), v: part(all, 2) }],
    'keys with values': [['q', 'kv'], { q, kv: pairs }, { q, k: part(pairs, 0), v: part(pairs, 1) }],
  } satisfies Record<string, [string[], Record<string, Tensor>, Record<string, Tensor>]>))('%s', async (_, [inputs, data, apart]) => {
    for (const bias of ['', 'b']) {
      const plain = { op: 'MultiHeadAttention', attributes: { num_heads: heads }, ...(bias === '' ? {} : { constants: { b } }) };
      const graph = graphOf(imported({ ...plain, inputs: [...inputs, ...['', '', ''].slice(inputs.length), bias], data }));
      expect(await wrong(graph, data, await runOnnx(bytesOf({ ...plain, inputs: ['q', 'k', 'v', bias], data: apart }), apart))).toEqual([]);
      const { graph: fused } = await optimize(graph, 'webgpu');
      expect(countOps(fused)).toMatchObject({ FusedAttention: 1 });
      await expectSame(graph, fused);
    }
  });
});
