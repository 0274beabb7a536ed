/** The check of an upgrade: the model as it came and the model that was imported and written again compute the same. */
import { expect } from 'vitest';
import { elementCount, fromNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { modelBytes, node, value, type AttributeValue, type INode } from './models.ts';
import { disagreement, runOnnx } from './run.ts';

export interface Case {
  readonly opset: number;
  readonly nodes: readonly INode[];
  /** The input x. */
  readonly x?: readonly number[];
  readonly dtype?: DType;
  readonly outputs?: Readonly<Record<string, DType>>;
  readonly initializers?: Readonly<Record<string, Tensor>>;
  readonly domains?: Readonly<Record<string, number>>;
  /** How far off a number may be that is nearly 0; 1e-6 unless given. */
  readonly absolute?: number;
  /** Ops of the graph that results, in order, where that is the point. */
  readonly ops?: readonly string[];
}

/** Values between −2 and 2 without a pattern that an error could hide behind. */
export function sample(dims: readonly number[], dtype: DType = 'float32'): Tensor {
  const count = elementCount(dims);
  const numbers = Array.from({ length: count }, (_, i) => (((i * 7919 + 13) % 401) - 200) / 100);
  return fromNumbers(dtype, dims, dtype.startsWith('float') ? numbers : numbers.map((number) => Math.round(number * 20)));
}

export const one = (op: string, opset: number, attributes: Record<string, AttributeValue> = {}, more: Partial<Case> & { readonly inputs?: string[]; readonly outs?: string[]; readonly domain?: string } = {}): Case => {
  const { inputs = ['x'], outs = ['y'], domain, ...rest } = more;
  return { opset, nodes: [node(op, inputs, outs, attributes, domain ? { domain } : {})], ...(domain ? { domains: { [domain]: 1 } } : {}), ...rest };
};

/** onnxruntime, which has kernels of every opset from 7 on, is the oracle. */
export async function expectSameAsModel(test: Case): Promise<void> {
  const { opset, nodes, x = [2, 3], dtype = 'float32', outputs = { y: 'float32' }, initializers = {}, domains = {}, absolute = 1e-6, ops } = test;
  const input = sample(x, dtype);
  const parts = { opset, nodes, inputs: [value('x', dtype, x)], initializers, domains };
  // The original declares no output shapes: onnxruntime finds them.
  const untyped = Object.entries(outputs).map(([name, type]) => ({ name, type: { tensorType: { elemType: ONNX_DTYPE[type] } } }));
  const original = modelBytes({ ...parts, outputs: untyped });
  const expected = await runOnnx(original, { x: input });
  const typed = Object.entries(expected).map(([name, tensor]) => value(name, tensor.dtype, tensor.dims));
  const imported = importGraph(readModel(modelBytes({ ...parts, outputs: typed })));
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  const { graph } = imported;
  expect(ops ?? graph.nodes.map((item) => item.op)).toEqual(graph.nodes.map((item) => item.op));
  const actual = await runOnnx(exportGraph(graph), { x: input });
  for (const [name, tensor] of Object.entries(expected)) {
    expect(graph.types.get(name)).toEqual({ dtype: tensor.dtype, dims: tensor.dims });
    expect({ name, error: disagreement(actual[name]!, tensor, absolute, 1e-5) }).toEqual({ name, error: expect.toSatisfy((error: number) => error <= 1) });
  }
}
