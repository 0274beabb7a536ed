/** Models built by hand for the tests, through onnx-proto. */
import onnxProto from 'onnx-proto';
import { encodeTensor } from '../../../src/onnx/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { fromNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';

const { onnx } = onnxProto;
const { AttributeType } = onnx.AttributeProto;

type IAttribute = onnxProto.onnx.IAttributeProto;
export type INode = onnxProto.onnx.INodeProto;
export type IModel = onnxProto.onnx.IModelProto;

export type AttributeValue = number | string | readonly number[] | Tensor | { readonly float: number } | { readonly floats: readonly number[] };

export function attribute(name: string, value: AttributeValue): IAttribute {
  if (typeof value === 'number') return { name, type: AttributeType.INT, i: value };
  if (typeof value === 'string') return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  if ('floats' in value) return { name, type: AttributeType.FLOATS, floats: [...value.floats] };
  if ('dtype' in value) return { name, type: AttributeType.TENSOR, t: encodeTensor(value) };
  return { name, type: AttributeType.INTS, ints: [...value] };
}

export function node(opType: string, input: string[], output: string[], attributes: Record<string, AttributeValue> = {}, more: INode = {}): INode {
  return { opType, input, output, name: `${opType}_of_${output[0]}`, attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)), ...more };
}

export function value(name: string, dtype: DType, dims: readonly (number | string)[]): onnxProto.onnx.IValueInfoProto {
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType: ONNX_DTYPE[dtype], shape: { dim } } } };
}

export interface ModelParts {
  readonly opset?: number;
  readonly inputs?: readonly onnxProto.onnx.IValueInfoProto[];
  readonly outputs?: readonly onnxProto.onnx.IValueInfoProto[];
  readonly initializers?: Readonly<Record<string, Tensor>>;
  readonly nodes?: readonly INode[];
  readonly domains?: Readonly<Record<string, number>>;
}

/** A model message; by default y = Relu(x), x float32[N,4]. */
export function modelProto(parts: ModelParts = {}): IModel {
  const { opset = 22, inputs = [value('x', 'float32', ['N', 4])], outputs = [value('y', 'float32', ['N', 4])], nodes = [node('Relu', ['x'], ['y'])] } = parts;
  return {
    irVersion: 8,
    producerName: 'test',
    opsetImport: [{ domain: '', version: opset }, ...Object.entries(parts.domains ?? {}).map(([domain, version]) => ({ domain, version }))],
    graph: {
      name: 'tested',
      node: [...nodes],
      input: [...inputs],
      output: [...outputs],
      initializer: Object.entries(parts.initializers ?? {}).map(([name, tensor]) => encodeTensor(tensor, name)),
    },
  };
}

export function encode(model: IModel): Uint8Array {
  return onnx.ModelProto.encode(onnx.ModelProto.create(model)).finish();
}

export function modelBytes(parts: ModelParts = {}): Uint8Array {
  return encode(modelProto(parts));
}

export function ints(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return fromNumbers('int64', dims, values);
}

export function floats(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return fromNumbers('float32', dims, values);
}
