/** AttributeProto to plain data: one union, integers as numbers, tensors decoded. */
import type { onnx as Onnx } from 'onnx-proto';
import type { ExternalReader } from './external.ts';
import { toBigInt, toInteger, toSaturated } from './integers.ts';
import { invalid, quote } from './invalid.ts';
import { decodeTensor } from './tensor.ts';
import type { OnnxAttribute } from './value.ts';

type AttributeProto = Onnx.IAttributeProto;

const TYPE_NAMES = [
  'undefined', 'float', 'int', 'string', 'tensor', 'subgraph', 'floats', 'ints', 'strings', 'list of tensors', 'list of subgraphs',
  'sparse tensor', 'list of sparse tensors', 'type', 'list of types',
] as const;

/** All attributes of a node by name. `place` names the node. */
export function decodeAttributes(
  opType: string,
  protos: readonly AttributeProto[],
  place: string,
  external: ExternalReader,
): Map<string, OnnxAttribute> {
  const attributes = new Map<string, OnnxAttribute>();
  for (const proto of protos) {
    const name = proto.name ?? '';
    if (name === '') throw invalid('a node has an attribute without a name', place);
    if (attributes.has(name)) throw invalid(`a node has the attribute ${quote(name)} twice`, place);
    attributes.set(name, decodeAttribute(opType, proto, `${place}, attribute ${quote(name)}`, external));
  }
  return attributes;
}

function decodeAttribute(opType: string, proto: AttributeProto, place: string, external: ExternalReader): OnnxAttribute {
  if (proto.refAttrName) return { kind: 'reference', name: proto.refAttrName };
  const type = TYPE_NAMES[typeNumber(proto)];
  switch (type) {
    case 'float':
      return { kind: 'float', value: proto.f ?? 0 };
    case 'int':
      if (opType === 'Constant') return int64Constant([proto.i], []);
      return { kind: 'int', value: toInteger(proto.i, place) };
    case 'string':
      return { kind: 'string', value: new TextDecoder().decode(proto.s ?? new Uint8Array()) };
    case 'floats':
      return { kind: 'floats', value: proto.floats ?? [] };
    case 'ints':
      return decodeInts(opType, proto.ints ?? [], place);
    case 'strings':
      return { kind: 'strings', value: (proto.strings ?? []).map((bytes) => new TextDecoder().decode(bytes)) };
    case 'tensor':
      if (!proto.t) throw invalid('a tensor attribute has no tensor', place);
      return { kind: 'tensor', value: decodeTensor(proto.t, place, external) };
    case 'undefined':
    case undefined:
      throw invalid('an attribute has no known type', place);
    default:
      return { kind: 'opaque', what: type };
  }
}

/** The declared type; files of IR version 1 may leave it out, and then the field that is set tells. */
function typeNumber(proto: AttributeProto): number {
  if (proto.type) return proto.type;
  if (proto.t) return 4;
  if (proto.g) return 5;
  if (proto.s && proto.s.length > 0) return 3;
  if (proto.ints && proto.ints.length > 0) return 7;
  if (proto.floats && proto.floats.length > 0) return 6;
  if (proto.strings && proto.strings.length > 0) return 8;
  if (Object.hasOwn(proto, 'i')) return 2;
  return Object.hasOwn(proto, 'f') ? 1 : 0;
}

function decodeInts(opType: string, ints: readonly unknown[], place: string): OnnxAttribute {
  if (opType === 'Constant') return int64Constant(ints, [ints.length]);
  // The bounds of Slice (opset < 10) use the ends of int64 for "as far as it goes".
  if (opType === 'Slice') return { kind: 'ints', value: ints.map(toSaturated) };
  return { kind: 'ints', value: ints.map((value) => toInteger(value, place)) };
}

/** Constant's integers are data and keep all 64 bits. */
function int64Constant(values: readonly unknown[], dims: readonly number[]): OnnxAttribute {
  const data = new Uint8Array(BigInt64Array.from(values, toBigInt).buffer);
  return { kind: 'tensor', value: { kind: 'tensor', tensor: { dtype: 'int64', dims, data } } };
}
