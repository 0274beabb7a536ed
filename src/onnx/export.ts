/**
 * Export: a Graph to the bytes of an ONNX model, deterministically and with every name kept.
 *
 * Written at the reference opset, or the newest that one of its ops needs. Weights are inline raw_data, little-endian.
 */
import onnxProto from 'onnx-proto';
import { TsrtError } from '../errors.ts';
import { REFERENCE_OPSET, type AnyNode, type Graph, typeOf, type ValueId } from '../ir/graph.ts';
import type { CustomAttribute, OpKind } from '../ir/ops.ts';
import type { Tensor } from '../ir/tensor.ts';
import { writeAttributes } from '../ops/attributes.ts';
import { boundedAxis } from '../ops/bounded.ts';
import type { AttrSpec, RawAttribute } from '../ops/def.ts';
import { ONNX_DTYPE } from '../ops/specs.ts';
import { OPS } from '../ops/table.ts';
import { encodeTensor } from './tensor.ts';

const { onnx } = onnxProto;
type IAttribute = onnxProto.onnx.IAttributeProto;
type INode = onnxProto.onnx.INodeProto;

/** IR version of ONNX 1.17, the first with the reference opset. */
const IR_VERSION = 10;

/** Protobuf's limit for one message. */
const MAX_BYTES = 2 ** 31 - 1;

/**
 * Ops for which onnxruntime (1.30) has no kernel at the reference opset. Opset 22 changed nothing but element types
 * (bfloat16), so a graph with one of them is written at the opset before.
 */
const WITHOUT_KERNEL: ReadonlySet<OpKind> = new Set<OpKind>(['RoiAlign']);

type AttributeKind = Exclude<AttrSpec<unknown>['type'], 'internal'>;

/** The graph as an ONNX file. Throws TsrtError MODEL_UNSUPPORTED for weights beyond 2 GiB; a plain Error for internal ops. */
export function exportGraph(graph: Graph): Uint8Array {
  let weightBytes = 0;
  for (const tensor of graph.constants.values()) weightBytes += tensor.data.byteLength;
  if (weightBytes > MAX_BYTES) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the weights take ${weightBytes} bytes, and one ONNX file holds less than 2 GiB`, {
      place: `graph ${graph.name}`,
      fix: 'choose a smaller precision, or a backend that does not write ONNX',
    });
  }
  const model = onnx.ModelProto.create({
    irVersion: IR_VERSION,
    producerName: 'tsrt-bench',
    opsetImport: opsets(graph).map(([domain, version]) => ({ domain, version })),
    graph: {
      name: graph.name,
      input: graph.inputs.map((id) => valueInfo(graph, id)),
      output: graph.outputs.map((id) => valueInfo(graph, id)),
      // Only these can't be inferred by a reader.
      valueInfo: graph.nodes.filter((node) => node.op === 'Custom').flatMap((node) => node.outputs.filter(Boolean).map((id) => valueInfo(graph, id))),
      initializer: [...graph.constants].map(([name, tensor]) => encodeTensor(tensor, name)),
      node: graph.nodes.map(encodeNode),
    },
  });
  const bytes = onnx.ModelProto.encode(model).finish();
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Operator sets by domain; ONNX's own first, the others by name. */
function opsets(graph: Graph): [string, number][] {
  const versions = new Map<string, number>();
  let onnxVersion = graph.nodes.some((node) => WITHOUT_KERNEL.has(node.op)) ? REFERENCE_OPSET - 1 : REFERENCE_OPSET;
  const need = (domain: string, version: number): void => {
    if (domain === '') onnxVersion = Math.max(onnxVersion, version);
    else versions.set(domain, Math.max(versions.get(domain) ?? 1, version));
  };
  for (const node of graph.nodes) {
    if (node.op === 'Custom') need(node.attrs.domain, node.attrs.opset);
    else need(OPS[node.op].domain, OPS[node.op].since);
  }
  return [['', onnxVersion], ...[...versions].sort(([a], [b]) => (a < b ? -1 : 1))];
}

function encodeNode(node: AnyNode): INode {
  const shape = { name: node.name, input: [...node.inputs], output: [...node.outputs] };
  if (node.op === 'Custom') {
    const { domain, opType, attributes } = node.attrs;
    return { ...shape, domain, opType, attribute: attributes.map(encodeCustom) };
  }
  const { domain } = OPS[node.op];
  if (domain === 'internal') throw new Error(`${node.op} '${node.name}' has no form in ONNX`);
  const attributes = writeAttributes(node.op, node.attrs);
  // onnxruntime (1.30) copies it to the QLinearAveragePool that it makes, which refuses it.
  if (node.op === 'AveragePool' && node.attrs.dilations.every((dilation) => dilation === 1)) attributes.delete('dilations');
  return { ...shape, domain, opType: node.op, attribute: [...attributes].map(([name, { type, value }]) => encodeAttribute(name, type, value)) };
}

function encodeCustom({ name, kind, value }: CustomAttribute): IAttribute {
  return encodeAttribute(name, kind, value);
}

function encodeAttribute(name: string, kind: AttributeKind, value: RawAttribute): IAttribute {
  const { AttributeType } = onnx.AttributeProto;
  const encoder = new TextEncoder();
  switch (kind) {
    case 'int':
      return { name, type: AttributeType.INT, i: value as number };
    case 'float':
      return { name, type: AttributeType.FLOAT, f: value as number };
    case 'string':
      return { name, type: AttributeType.STRING, s: encoder.encode(value as string) };
    case 'ints':
      return { name, type: AttributeType.INTS, ints: [...(value as readonly number[])] };
    case 'floats':
      return { name, type: AttributeType.FLOATS, floats: [...(value as readonly number[])] };
    case 'strings':
      return { name, type: AttributeType.STRINGS, strings: (value as readonly string[]).map((text) => encoder.encode(text)) };
    case 'tensor':
      return { name, type: AttributeType.TENSOR, t: encodeTensor(value as Tensor) };
    default:
      return kind satisfies never;
  }
}

function valueInfo(graph: Graph, id: ValueId): onnxProto.onnx.IValueInfoProto {
  const { dtype, dims } = typeOf(graph, id);
  const open = boundedAxis(graph, id);
  const shape = { dim: dims.map((dimValue, axis) => (axis === open ? { dimParam: `${id}_length` } : { dimValue })) };
  return { name: id, type: { tensorType: { elemType: ONNX_DTYPE[dtype], shape } } };
}
