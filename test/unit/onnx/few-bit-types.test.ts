/**
 * Types of few bits at import: weights of 4-bit integers behind DequantizeLinear and quantization to floats of 8 bits compared with onnxruntime, which has these; what
 * it lacks, with float64 and a table of numbers.
 */
import { describe, expect, it } from 'vitest';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { fromNumbers, type DType, type Tensor, toNumbers } from '../../../src/ir/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { encode, floats, modelProto, node, value, type INode } from './models.ts';
import { castTo, type Scaled } from '../../helpers/few-bits-reference.ts';
import { disagreement, runOnnx } from './run.ts';

const [UINT4, INT4] = [21, 22];
const packed = (count: number): Uint8Array => Uint8Array.from({ length: Math.ceil(count / 2) }, (_, i) => (i * 37 + 9) % 256);
const x = fromNumbers('float32', [3, 10], Array.from({ length: 30 }, (_, i) => (((i * 7919 + 13) % 401) - 200) / 100));

interface Weights {
  readonly type?: number;
  readonly dims?: readonly number[];
  readonly scales: Tensor;
  readonly attributes: Readonly<Record<string, number>>;
  readonly hasZeros?: boolean;
  /** Each byte as a number of int32_data. */
  readonly isTyped?: boolean;
  readonly nodes?: readonly INode[];
}

function model({ type = UINT4, dims = [10, 3], scales, attributes, hasZeros = false, isTyped = false, nodes = [node('MatMul', ['x', 'v'], ['y'])] }: Weights): Uint8Array {
  const proto = modelProto({
    opset: 21, inputs: [value('x', 'float32', [3, 10])], outputs: [value('y', 'float32', [3, 3])], initializers: { s: scales },
    nodes: [node('DequantizeLinear', ['w', 's', ...(hasZeros ? ['z'] : [])], ['v'], attributes), ...nodes],
  });
  proto.irVersion = 10;
  const count = dims.reduce((a, b) => a * b, 1);
  const own = isTyped ? { int32Data: [...packed(count)] } : { rawData: packed(count) };
  proto.graph!.initializer!.push({ name: 'w', dims: [...dims], dataType: type, ...own });
  if (hasZeros) proto.graph!.initializer!.push({ name: 'z', dims: [...scales.dims], dataType: type, rawData: packed(scales.data.length / 4) });
  return encode(proto);
}

const steps = (...dims: number[]): Tensor => floats(Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => 0.1 + i / 50), dims);

describe('weights of 4 bits', () => {
  it.each(Object.entries({
    'by blocks': [{ scales: steps(3, 3), attributes: { axis: 0, block_size: 4 }, hasZeros: true }, 'DequantizeLinear MatMul'],
    'by blocks, signed, in typed data': [{ type: INT4, scales: steps(3, 3), attributes: { axis: 0, block_size: 4 }, isTyped: true }, 'DequantizeLinear MatMul'],
    'by blocks of rows': [{ dims: [3, 10], scales: steps(3, 2), attributes: { axis: -1, block_size: 5 }, hasZeros: true, nodes: [node('Transpose', ['v'], ['t'], { perm: [1, 0] }), node('MatMul', ['x', 't'], ['y'])] }, 'DequantizeLinear Transpose MatMul'],
    'by columns': [{ type: INT4, scales: steps(3), attributes: { axis: 1 }, hasZeros: true }, 'DequantizeLinear MatMul'],
  } satisfies Record<string, [Weights, string]>))('%s', async (_, [weights, left]) => {
    const bytes = model(weights);
    const imported = importGraph(readModel(bytes));
    if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
    expect(imported.graph.nodes.map(({ op }) => op).join(' ')).toBe(left);
    const [expected, actual] = [await runOnnx(bytes, { x }), await runOnnx(exportGraph(imported.graph), { x })];
    expect(disagreement(actual.y!, expected.y!, 1e-5, 1e-5)).toBeLessThanOrEqual(1);
  });

  it('that something else reads stay', () => {
    const imported = importGraph(readModel(model({ scales: steps(3, 3), attributes: { axis: 0, block_size: 4 }, nodes: [node('MatMul', ['x', 'v'], ['y']), node('Identity', ['w'], ['u'])] })));
    if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
    expect(imported.graph.types.get('u')).toEqual({ dtype: 'uint4', dims: [10, 3] });
  });

  it('that are fewer than their shape says make the file invalid', () => {
    const proto = modelProto({ nodes: [node('Relu', ['x'], ['y'])] });
    proto.graph!.initializer = [{ name: 'w', dims: [10], dataType: UINT4, rawData: new Uint8Array(4) }];
    expect(() => readModel(encode(proto))).toThrow(/uint4\[10\] needs 5 bytes and has 4/);
  });
});

/** Quantized and back: y = DQ(Q(x)), x float32[4,6] beyond what the type has. */
interface Quantized {
  readonly dtype: DType;
  readonly scales?: Tensor;
  readonly attributes?: Readonly<Record<string, number>>;
  readonly saturate?: 0 | 1;
  readonly isConstant?: boolean;
  readonly output?: DType;
}

const values = Array.from({ length: 24 }, (_, i) => ((i % 2 === 0 ? 1 : -1) * 1.37 ** (i - 3) * (1 + i / 7)) / 3);

function fakeQuantized({ dtype, scales = floats([0.75], []), attributes = {}, saturate = 1, isConstant = false, output }: Quantized): Uint8Array {
  const data = floats(values, [4, 6]);
  const proto = modelProto({
    opset: output ? 23 : 21,
    inputs: isConstant ? [] : [value('x', 'float32', [4, 6])],
    outputs: [value('y', output ?? 'float32', [4, 6])],
    initializers: { s: scales, ...(isConstant && { x: data }) },
    nodes: [
      node('QuantizeLinear', ['x', 's'], ['q'], { ...attributes, saturate, output_dtype: ONNX_DTYPE[dtype] }),
      node('DequantizeLinear', ['q', 's'], ['y'], { ...attributes, ...(output && { output_dtype: ONNX_DTYPE[output] }) }),
    ],
  });
  proto.irVersion = output ? 11 : 10;
  return encode(proto);
}

/** The model as engines of onnxruntime run it. */
async function runImported(bytes: Uint8Array, inputs: Readonly<Record<string, Tensor>>): Promise<Tensor> {
  const imported = importGraph(readModel(bytes));
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  const runner = await openGraph(imported.graph);
  try {
    return (await runner.run(inputs)).get('y')!;
  } finally {
    await runner.dispose();
  }
}

const byRow = floats([0.5, 0.3, 2, 1.7], [4]);
const byBlock = floats(Array.from({ length: 8 }, (_, i) => 0.2 + i / 5), [4, 2]);
const stepAt = ({ scales, attributes = {} }: Quantized, i: number): number => {
  const all = toNumbers(scales ?? floats([0.75], []));
  return all[all.length === 1 ? 0 : attributes['block_size'] ? 2 * Math.floor(i / 6) + Math.floor((i % 6) / 4) : Math.floor(i / 6)]!;
};

describe('quantization to few bits', () => {
  const float8 = ['float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz'] as const;
  const ways: readonly Omit<Quantized, 'dtype'>[] = [
    {}, { saturate: 0 }, { scales: byRow, attributes: { axis: 0 } }, { scales: byBlock, attributes: { axis: 1, block_size: 4 } }, { scales: byRow, attributes: { axis: -2 }, isConstant: true },
  ];
  const cases = [...float8, 'float4e2m1' as const].flatMap((dtype) => ways.map((way) => ({ ...way, dtype })));

  it.each(cases)('$dtype %j', async (way) => {
    const actual = await runImported(fakeQuantized(way), way.isConstant ? {} : { x: floats(values, [4, 6]) });
    const expected = values.map((x, i) => Math.fround(castTo(way.dtype as Scaled, Math.fround(Math.fround(x) / stepAt(way, i)), way.saturate ?? 1) * stepAt(way, i)));
    expect(toNumbers(actual)).toEqual(expected);
  });

  it.each(float8)('%s as onnxruntime does it', async (dtype) => {
    for (const way of [{ dtype }, { dtype, scales: byRow, attributes: { axis: 0 } }]) {
      const [bytes, inputs] = [fakeQuantized(way), { x: floats(values, [4, 6]) }];
      expect(disagreement(await runImported(bytes, inputs), (await runOnnx(bytes, inputs)).y!, 0, 0)).toBe(0);
    }
  });

  it.each(['int4', 'uint4', 'int2', 'uint2'] as const)('%s', async (dtype) => {
    const [low, high] = { int4: [-8, 7], uint4: [0, 15], int2: [-2, 1], uint2: [0, 3] }[dtype];
    for (const way of [{ dtype }, { dtype, scales: byBlock, attributes: { axis: 1, block_size: 4 } }]) {
      const actual = await runImported(fakeQuantized(way), { x: floats(values, [4, 6]) });
      const rounded = (ratio: number): number => (Math.abs(ratio - Math.trunc(ratio)) === 0.5 ? 2 * Math.round(ratio / 2) : Math.round(ratio));
      const expected = values.map((x, i) => Math.fround(Math.min(Math.max(rounded(Math.fround(Math.fround(x) / stepAt(way, i))), low!), high!) * stepAt(way, i)) + 0);
      expect(toNumbers(actual).map((each) => each + 0)).toEqual(expected);
    }
  });

  it('dequantizes to the type that is asked for, by scales that are powers of two', async () => {
    const scales = fromNumbers('float8e8m0', [4], [0.25, 1, 2, 8]);
    const way = { dtype: 'float8e4m3fn', scales, attributes: { axis: 0 }, output: 'float16' } as const;
    const actual = await runImported(fakeQuantized(way), { x: floats(values, [4, 6]) });
    expect(actual.dtype).toBe('float16');
    const expected = values.map((x, i) => castTo('float8e4m3fn', Math.fround(x) / stepAt(way, i), 1) * stepAt(way, i));
    expect(disagreement(actual, fromNumbers('float16', [4, 6], expected), 0, 0)).toBe(0);
  });

  it.each([
    ['a zero point that is none', fromNumbers('float8e4m3fn', [], [1]), {}, 'a zero point of float8e4m3fn other than 0 is not supported'],
    ['a division in halves', fromNumbers('float8e4m3fn', [], [0]), { precision: ONNX_DTYPE.float16 }, "attribute 'precision' is not supported for float8e4m3fn, but as float32"],
  ] as const)('refuses %s', (_, zero, attributes, reason) => {
    const bytes = encode(modelProto({ opset: 23, initializers: { s: floats([1], []), z: zero }, outputs: [value('y', 'float8e4m3fn', ['N', 4])], nodes: [node('QuantizeLinear', ['x', 's', 'z'], ['y'], attributes)] }));
    expect(importGraph(readModel(bytes))).toMatchObject({ ok: false, unsupported: [{ op: 'QuantizeLinear', reason }] });
  });

  it('refuses casts that would round twice', () => {
    const bytes = encode(modelProto({ inputs: [value('x', 'float64', [2])], outputs: [value('y', 'float8e5m2', [2])], nodes: [node('Cast', ['x'], ['y'], { to: ONNX_DTYPE.float8e5m2 })] }));
    expect(importGraph(readModel(bytes))).toMatchObject({ ok: false, unsupported: [{ reason: 'a cast from float64 to float8e5m2 is not supported' }] });
  });
});
