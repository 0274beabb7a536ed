/** Weights of 4-bit integers behind DequantizeLinear, compared with onnxruntime, which has the type. */
import { describe, expect, it } from 'vitest';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { fromNumbers, type Tensor } from '../../../src/ir/tensor.ts';
import { encode, floats, modelProto, node, value, type INode } from './models.ts';
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
    'by blocks': [{ scales: steps(3, 3), attributes: { axis: 0, block_size: 4 }, hasZeros: true }, 'MatMul'],
    'by blocks, signed, in typed data': [{ type: INT4, scales: steps(3, 3), attributes: { axis: 0, block_size: 4 }, isTyped: true }, 'MatMul'],
    'by blocks of rows': [{ dims: [3, 10], scales: steps(3, 2), attributes: { axis: -1, block_size: 5 }, hasZeros: true, nodes: [node('Transpose', ['v'], ['t'], { perm: [1, 0] }), node('MatMul', ['x', 't'], ['y'])] }, 'Transpose MatMul'],
    'by columns': [{ type: INT4, scales: steps(3), attributes: { axis: 1 }, hasZeros: true }, 'DequantizeLinear MatMul'],
  } satisfies Record<string, [Weights, string]>))('%s', async (_, [weights, left]) => {
    const bytes = model(weights);
    const imported = importGraph(readModel(bytes));
    if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
    expect(imported.graph.nodes.map(({ op }) => op).join(' ')).toBe(left);
    const [expected, actual] = [await runOnnx(bytes, { x }), await runOnnx(exportGraph(imported.graph), { x })];
    expect(disagreement(actual.y!, expected.y!, 1e-5, 1e-5)).toBeLessThanOrEqual(1);
  });

  it('are refused where something else reads them', () => {
    const imported = importGraph(readModel(model({ scales: steps(3, 3), attributes: { axis: 0, block_size: 4 }, nodes: [node('MatMul', ['x', 'v'], ['y']), node('Identity', ['w'], ['u'])] })));
    expect(imported).toMatchObject({ ok: false, unsupported: [{ node: 'w', reason: 'elements of type uint4 are not supported' }] });
  });

  it('that are fewer than their shape says make the file invalid', () => {
    const proto = modelProto({ nodes: [node('Relu', ['x'], ['y'])] });
    proto.graph!.initializer = [{ name: 'w', dims: [10], dataType: UINT4, rawData: new Uint8Array(4) }];
    expect(() => readModel(encode(proto))).toThrow(/10 integers of 4 bits needs 5 bytes and has 4/);
  });
});
