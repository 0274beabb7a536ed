/**
 * Runs one ONNX node in onnxruntime, the oracle for shapes: a model around the node is written here, by hand.
 */
import onnxProto from 'onnx-proto';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { fromNumbers, typedView } from '../../../src/ir/tensor.ts';
import type { DType, Tensor } from '../../../src/ir/tensor.ts';
import type { RawAttribute } from '../../../src/ops/def.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';

const { onnx } = onnxProto;
const Types = onnx.AttributeProto.AttributeType;

function attributeProto(name: string, value: RawAttribute, integral: boolean): onnxProto.onnx.IAttributeProto {
  if (typeof value === 'number') return integral ? { name, type: Types.INT, i: value } : { name, type: Types.FLOAT, f: value };
  if (typeof value === 'string') return { name, type: Types.STRING, s: new TextEncoder().encode(value) };
  if ('dtype' in value) {
    return { name, type: Types.TENSOR, t: { dataType: ONNX_DTYPE[value.dtype], dims: [...value.dims], rawData: value.data } };
  }
  if (typeof value[0] === 'string') return { name, type: Types.STRINGS, strings: value.map((word) => new TextEncoder().encode(String(word))) };
  return { name, type: Types.INTS, ints: value.map(Number) };
}

export interface NodeCase {
  readonly op: string;
  readonly opset?: number;
  /** In ONNX's form; a number is an int attribute unless named in `floats`. */
  readonly attributes?: Readonly<Record<string, RawAttribute>>;
  readonly floats?: readonly string[];
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly DType[];
}

function modelBytes(node: NodeCase): Uint8Array {
  const valueInfo = (name: string, dtype: DType, dims?: readonly number[]): onnxProto.onnx.IValueInfoProto => ({
    name,
    type: {
      tensorType: { elemType: ONNX_DTYPE[dtype], ...(dims && { shape: { dim: dims.map((dimValue) => ({ dimValue })) } }) },
    },
  });
  const attributes = Object.entries(node.attributes ?? {});
  return onnx.ModelProto.encode({
    irVersion: 10,
    opsetImport: [{ domain: '', version: node.opset ?? 22 }],
    graph: {
      name: 'node',
      input: node.inputs.flatMap((tensor, i) => (tensor ? [valueInfo(`x${i}`, tensor.dtype, tensor.dims)] : [])),
      output: node.outputs.map((dtype, i) => valueInfo(`y${i}`, dtype)),
      node: [
        {
          opType: node.op,
          input: node.inputs.map((tensor, i) => (tensor ? `x${i}` : '')),
          output: node.outputs.map((_, i) => `y${i}`),
          attribute: attributes.map(([name, value]) => attributeProto(name, value, !node.floats?.includes(name))),
        },
      ],
    },
  }).finish();
}

/** Outputs of the node, as onnxruntime's CPU provider gives them. */
export async function runNode(node: NodeCase): Promise<Tensor[]> {
  const session = await InferenceSession.create(modelBytes(node), { logSeverityLevel: 4, intraOpNumThreads: 1, interOpNumThreads: 1 });
  try {
    const feeds = node.inputs.flatMap((tensor, i) =>
      tensor ? [[`x${i}`, new OrtTensor(tensor.dtype as 'float32', typedView(tensor) as Float32Array, [...tensor.dims])] as const] : [],
    );
    const results = await session.run(Object.fromEntries(feeds));
    return node.outputs.map((_, i) => {
      const result = results[`y${i}`]!;
      const values = Array.from(result.data as ArrayLike<number | bigint>, Number);
      return fromNumbers(result.type as DType, result.dims.map(Number), values);
    });
  } finally {
    await session.release();
  }
}
