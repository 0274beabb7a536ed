/**
 * Export: a Graph to the bytes of an ONNX model, deterministically and with every name kept.
 *
 * Written at the reference opset, or the newest that one of its ops needs. Weights are raw_data, little-endian: inline, or in files of their own where
 * they are more than one message should hold (onnx.proto3, TensorProto.external_data).
 */
import type { onnx as Onnx } from 'onnx-proto';
import { TsrtError } from '../errors.ts';
import { REFERENCE_OPSET, type AnyNode, type Graph, typeOf, type ValueId } from '../ir/graph.ts';
import type { CustomAttribute, OpKind } from '../ir/ops.ts';
import type { DType, Tensor } from '../ir/tensor.ts';
import { writeAttributes } from '../ops/attributes.ts';
import { boundedAxis } from '../ops/bounded.ts';
import type { AttrSpec, RawAttribute } from '../ops/def.ts';
import { ONNX_DTYPE } from '../ops/specs.ts';
import { OPS } from '../ops/table.ts';
import { onnx } from './proto.ts';
import { encodeOutside, encodeTensor } from './tensor.ts';

type IAttribute = Onnx.IAttributeProto;
type INode = Onnx.INodeProto;

/** IR version of ONNX 1.17, the first with the reference opset; each of the three opsets after it has one of its own. */
const IR_VERSION = 10;

/** Opsets of types that are newer than the reference opset. Between these opsets the vocabulary's ops gained types and kept their meaning. */
const TYPES_SINCE: { readonly [D in DType]?: number } = { float4e2m1: 23, float8e8m0: 24, int2: 25, uint2: 25 };

/** Protobuf's limit for one message. */
const MAX_BYTES = 2 ** 31 - 1;

/** Weights beyond `inlineBytes` together are divided: tensors of `tensorBytes` and more lie outside. */
export interface ExportLimits {
  readonly inlineBytes: number;
  readonly tensorBytes: number;
}

/** Half of protobuf's limit, because a reader holds an inline weight twice while it parses. */
const LIMITS: ExportLimits = { inlineBytes: 2 ** 30, tensorBytes: 2 ** 20 };

/** A model and the files that its tensors lie in, by the names that it has for them. */
export interface ExportedModel {
  readonly bytes: Uint8Array;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/**
 * Ops for which onnxruntime (1.30) has no kernel at the reference opset. Opset 22 changed nothing but element types
 * (bfloat16), so a graph with one of them is written at the opset before.
 */
const WITHOUT_KERNEL: ReadonlySet<OpKind> = new Set<OpKind>(['RoiAlign']);

type AttributeKind = Exclude<AttrSpec<unknown>['type'], 'internal'>;

/** The graph as an ONNX file. Throws TsrtError MODEL_UNSUPPORTED for weights beyond 2 GiB; a plain Error for internal ops. */
export function exportGraph(graph: Graph): Uint8Array {
  const weightBytes = bytesOf(graph);
  if (weightBytes > MAX_BYTES) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the weights take ${weightBytes} bytes, and one ONNX file holds less than 2 GiB`, {
      place: `graph ${graph.name}`,
      fix: 'choose a smaller precision, or a backend that takes weights of any size (onnxruntime, webgpu)',
    });
  }
  return encodeGraph(graph, encodeTensor);
}

/** The graph as an ONNX file of any size. Each file is one tensor's bytes without a copy. Throws a plain Error for internal ops. */
export function exportDivided(graph: Graph, { inlineBytes, tensorBytes }: ExportLimits = LIMITS): ExportedModel {
  const files = new Map<string, Uint8Array>();
  if (bytesOf(graph) <= inlineBytes) return { bytes: exportGraph(graph), files };
  const bytes = encodeGraph(graph, (tensor, name) => {
    if (tensor.data.byteLength < tensorBytes) return encodeTensor(tensor, name);
    const location = `tensor-${files.size}`;
    files.set(location, tensor.data);
    return encodeOutside(tensor, name, location);
  });
  return { bytes, files };
}

function bytesOf({ constants }: Graph): number {
  let bytes = 0;
  for (const tensor of constants.values()) bytes += tensor.data.byteLength;
  return bytes;
}

function encodeGraph(graph: Graph, encodeWeight: (tensor: Tensor, name: string) => Onnx.ITensorProto): Uint8Array {
  const imports = opsets(graph);
  const newest = Math.max(0, ...[...graph.types.values()].map(({ dtype }) => TYPES_SINCE[dtype] ?? 0));
  const model = onnx.ModelProto.create({
    irVersion: IR_VERSION + Math.max(0, newest - REFERENCE_OPSET),
    producerName: 'tsrt-bench',
    opsetImport: imports.map(([domain, version]) => ({ domain, version: domain === '' ? Math.max(version, newest) : version })),
    graph: {
      name: graph.name,
      input: graph.inputs.map((id) => valueInfo(graph, id)),
      output: graph.outputs.map((id) => valueInfo(graph, id)),
      // Only these can't be inferred by a reader.
      valueInfo: graph.nodes.filter((node) => node.op === 'Custom').flatMap((node) => node.outputs.filter(Boolean).map((id) => valueInfo(graph, id))),
      initializer: [...graph.constants].map(([name, tensor]) => encodeWeight(tensor, name)),
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

function valueInfo(graph: Graph, id: ValueId): Onnx.IValueInfoProto {
  const { dtype, dims } = typeOf(graph, id);
  const open = boundedAxis(graph, id);
  const shape = { dim: dims.map((dimValue, axis) => (axis === open ? { dimParam: `${id}_length` } : { dimValue })) };
  return { name: id, type: { tensorType: { elemType: ONNX_DTYPE[dtype], shape } } };
}
