/**
 * What language decoders are exported to in onnxruntime's domain: read as standard ops that compute what onnxruntime computes.
 */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { elementCount, fromNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph, type ImportResult } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { countOps, optimize } from '../../helpers/passes.ts';
import { ints, modelBytes, node, value, type AttributeValue } from './models.ts';
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

/** A product of 5 rows of 40 with 6 columns of few bits. */
function product(bits: number, block: number, more: { readonly inputs?: readonly string[]; readonly constants?: Readonly<Record<string, Tensor>>; readonly dtype?: DType } = {}): Case {
  const blocks = Math.ceil(40 / block);
  const { dtype = 'float32', inputs = [], constants = {} } = more;
  return {
    op: 'MatMulNBits', inputs: ['x', 'w', 's', ...inputs], attributes: { K: 40, N: 6, bits, block_size: block },
    data: { x: sample([5, 40], 13, dtype) }, constants: { w: bytes([6, blocks, (block * bits) / 8]), s: sample([6 * blocks], 3, dtype), ...constants },
  };
}

/** Indices into a table of 7 rows of 64. */
function table(bits: number, more: Partial<Case> = {}): Case {
  return {
    op: 'GatherBlockQuantized', inputs: ['w', 'i', 's'], attributes: { bits, block_size: 32, gather_axis: 0, quantize_axis: 1 },
    data: { i: ints([3, 0, 6, 6], [2, 2]) }, constants: { w: bytes([7, (64 * bits) / 8]), s: sample([7, 2]) }, ...more,
  };
}

describe('weights of few bits are dequantized at build', () => {
  it.each(Object.entries({
    '4 bits': product(4, 16),
    '4 bits, blocks that end behind the row': product(4, 32),
    '4 bits, a block for the whole row': product(4, 64),
    '4 bits, packed zero points': product(4, 16, { inputs: ['z'], constants: { z: bytes([6 * 2]) } }),
    '4 bits, zero points of floats and a bias': product(4, 16, { inputs: ['z', '', 'b'], constants: { z: sample([6, 3], 5), b: sample([6]) } }),
    '4 bits, columns in an order of their own': product(4, 16, { inputs: ['', 'g'], constants: { g: whole([48], Array.from({ length: 48 }, (_, i) => (i * 7) % 3)) } }),
    '8 bits': product(8, 32),
    '8 bits, zero points': product(8, 16, { inputs: ['z'], constants: { z: bytes([6, 3]) } }),
  }))('MatMulNBits of %s', async (_, test) => {
    expect(await asOnnxruntime(test)).toEqual([]);
    const graph = graphOf(imported(test));
    expect(graph.nodes.map(({ op }) => op)).toEqual(test.inputs.includes('b') ? ['MatMul', 'Add'] : ['MatMul']);
    // Nothing of the packed form is left.
    expect([...graph.constants.values()].every(({ dtype }) => dtype === 'float32')).toBe(true);
  });

  it('MatMulNBits of halves', async () => {
    const test = product(4, 16, { dtype: 'float16' });
    expect(await asOnnxruntime(test, 4e-3)).toEqual([]);
    expect([...graphOf(imported(test)).constants.values()].map(({ dtype, dims }) => [dtype, dims])).toEqual([['float16', [40, 6]]]);
  });

  it.each(Object.entries({
    '4 bits': table(4),
    '4 bits, zero points': table(4, { inputs: ['w', 'i', 's', 'z'], constants: { w: bytes([7, 32]), s: sample([7, 2]), z: bytes([7, 1]) } }),
    '8 bits': table(8),
  }))('GatherBlockQuantized of %s', async (_, test) => {
    expect(await wrong(graphOf(imported(test)), test.data, await runOnnx(bytesOf(test, { y: sample([2, 2, 64]) }), test.data))).toEqual([]);
  });

  it('a product and its bias are one node', async () => {
    const test = product(4, 16, { inputs: ['', '', 'b'], constants: { b: sample([6]) } });
    const { graph } = await optimize(graphOf(imported(test)), 'webgpu');
    expect(countOps(graph)).toEqual({ Gemm: 1 });
  });

  it.each(Object.entries({
    'weights that the data give': [{ ...product(4, 16), data: { x: sample([5, 40]), w: bytes([6, 3, 8]) }, constants: { s: sample([18]) } }, /not known at build/],
    'odd bits': [{ ...product(4, 16), attributes: { K: 40, N: 6, bits: 3, block_size: 16 } }, /weights of 3 bits/],
  } satisfies Record<string, [Case, RegExp]>))('refuses %s in words', (_, [test, reason]) => {
    expect(imported(test)).toMatchObject({ ok: false, unsupported: [{ reason: expect.stringMatching(reason) }] });
  });
});
