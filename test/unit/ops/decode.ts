/**
 * A small ONNX decoder for tests of shape inference, independent of the project's own reader.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import type { RawAttribute } from '../../../src/ops/def.ts';
import { dtypeOfOnnx } from '../../../src/ops/specs.ts';
import { elementCount, fromNumbers, tensorBytes } from '../../../src/ir/tensor.ts';
import type { Tensor } from '../../../src/ir/tensor.ts';

type ITensorProto = onnxProto.onnx.ITensorProto;
type INodeProto = onnxProto.onnx.INodeProto;

const { onnx } = onnxProto;

/** Something that the IR does not hold: strings, sequences, float8, subgraphs. */
export class Exotic extends Error {}

/** Signed 64-bit integers as bigints, whatever protobufjs gives. */
function big(value: unknown): bigint {
  return BigInt(String(value));
}

function tensor(proto: ITensorProto): Tensor {
  const dtype = dtypeOfOnnx(proto.dataType ?? 0);
  if (!dtype) throw new Exotic(`element type ${proto.dataType}`);
  const dims = (proto.dims ?? []).map(Number);
  const type = { dtype, dims };
  if (proto.rawData && proto.rawData.length > 0) return { ...type, data: proto.rawData };
  if (elementCount(dims) === 0) return { ...type, data: new Uint8Array() };
  const wide = proto.int64Data?.length ? proto.int64Data : (proto.uint64Data ?? []);
  if (dtype === 'int64' || dtype === 'uint64') {
    const data = new Uint8Array(tensorBytes(type));
    const view = new DataView(data.buffer);
    for (const [i, value] of wide.entries()) view.setBigInt64(8 * i, BigInt.asIntN(64, big(value)), true);
    return { ...type, data };
  }
  const lists: readonly (readonly unknown[] | null | undefined)[] = [proto.floatData, proto.int32Data, proto.doubleData, proto.uint64Data];
  const values = lists.find((list) => list && list.length > 0) ?? [];
  if (dtype === 'float16' || dtype === 'bfloat16') {
    return { ...fromNumbers('uint16', dims, values.map(Number)), dtype };
  }
  return fromNumbers(dtype, dims, values.map(Number));
}

export function readTensor(path: string): Tensor {
  return tensor(onnx.TensorProto.decode(readFileSync(path)));
}

const text = new TextDecoder();

function attributes(node: INodeProto): Map<string, RawAttribute> {
  const Types = onnx.AttributeProto.AttributeType;
  const raw = new Map<string, RawAttribute>();
  for (const attribute of node.attribute ?? []) {
    const name = attribute.name ?? '';
    switch (attribute.type) {
      case Types.INT:
        raw.set(name, Number(attribute.i));
        break;
      case Types.FLOAT:
        raw.set(name, attribute.f ?? 0);
        break;
      case Types.STRING:
        raw.set(name, text.decode(attribute.s ?? new Uint8Array()));
        break;
      case Types.INTS:
        raw.set(name, (attribute.ints ?? []).map(Number));
        break;
      case Types.FLOATS:
        raw.set(name, attribute.floats ?? []);
        break;
      case Types.STRINGS:
        raw.set(name, (attribute.strings ?? []).map((bytes) => text.decode(bytes)));
        break;
      case Types.TENSOR:
        raw.set(name, tensor(attribute.t ?? {}));
        break;
      default:
        throw new Exotic(`attribute type ${attribute.type}`);
    }
  }
  return raw;
}

export interface TestNode {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Throws Exotic where the IR has no form for one. */
  attributes(): Map<string, RawAttribute>;
}

export interface TestModel {
  readonly name: string;
  readonly opset: number;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly nodes: readonly TestNode[];
  initializers(): Map<string, Tensor>;
}

export function readTestModel(folder: string, name: string): TestModel {
  const model = onnx.ModelProto.decode(readFileSync(join(folder, name, 'model.onnx')));
  const graph = model.graph ?? {};
  const main = (model.opsetImport ?? []).find((entry) => !entry.domain);
  return {
    name,
    opset: Number(main?.version ?? 0),
    inputs: (graph.input ?? []).map((value) => value.name ?? ''),
    outputs: (graph.output ?? []).map((value) => value.name ?? ''),
    nodes: (graph.node ?? []).map((node) => ({
      op: node.opType ?? '',
      domain: node.domain ?? '',
      inputs: node.input ?? [],
      outputs: node.output ?? [],
      attributes: () => attributes(node),
    })),
    initializers: () => new Map((graph.initializer ?? []).map((proto) => [proto.name ?? '', tensor(proto)])),
  };
}

/** The tensors of a case's first data set, `input` or `output`, in order; the set may also lie beside the model. */
export function readDataSet(folder: string, name: string, kind: 'input' | 'output'): Tensor[] {
  const nested = join(folder, name, 'test_data_set_0');
  const set = existsSync(nested) ? nested : join(folder, name);
  const count = readdirSync(set).filter((file) => file.startsWith(`${kind}_`)).length;
  return Array.from({ length: count }, (_, i) => readTensor(join(set, `${kind}_${i}.pb`)));
}
