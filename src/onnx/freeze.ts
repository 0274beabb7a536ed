/**
 * Inputs of a model file made constants of it: what TensorRT calls shape tensors has to be known when an engine is built. The file is changed
 * field by field (onnx.proto3), so that what no schema here knows stays in it byte for byte.
 */
import protobuf from 'protobufjs/minimal.js';
import type { Tensor } from '../ir/tensor.ts';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';
import { encodeTensor } from './tensor.ts';

/** Field numbers of ModelProto, GraphProto, ValueInfoProto and TensorProto. */
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const GRAPH_INPUT = 11;
const VALUE_NAME = 1;
const TENSOR_NAME = 8;
const LENGTH_DELIMITED = 2;

/** The model with these values for its inputs of these names, which it then no longer has. */
export function freezeInputs(model: Uint8Array, values: ReadonlyMap<string, Tensor>): Uint8Array {
  const names = new Set(values.keys());
  const parts = [...fieldsOf(model)].flatMap(({ number, whole, content }) =>
    number === MODEL_GRAPH ? delimited(MODEL_GRAPH, [...withoutInputs(content, names), ...initializers(values)]) : [whole],
  );
  return joined(parts);
}

function withoutInputs(graph: Uint8Array, names: ReadonlySet<string>): Uint8Array[] {
  return [...fieldsOf(graph)].flatMap(({ number, whole, content }) => {
    const name = number === GRAPH_INPUT ? textOf(content, VALUE_NAME) : number === GRAPH_INITIALIZER ? textOf(content, TENSOR_NAME) : undefined;
    return name !== undefined && names.has(name) ? [] : [whole];
  });
}

function initializers(values: ReadonlyMap<string, Tensor>): Uint8Array[] {
  return [...values].flatMap(([name, tensor]) => delimited(GRAPH_INITIALIZER, [onnx.TensorProto.encode(encodeTensor(tensor, name)).finish()]));
}

/** A text field of a message, of which nothing else is decoded: a model is made of its weights. */
function textOf(message: Uint8Array, wanted: number): string {
  let text = '';
  for (const { number, content } of fieldsOf(message)) if (number === wanted) text = new TextDecoder().decode(content);
  return text;
}

interface Field {
  readonly number: number;
  /** Tag, length and content, as they lie in the file. */
  readonly whole: Uint8Array;
  /** Of a field with a length; empty for others. */
  readonly content: Uint8Array;
}

function* fieldsOf(message: Uint8Array): Generator<Field> {
  const reader = boundedReader(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    const hasLength = (tag & 7) === LENGTH_DELIMITED;
    const content = hasLength ? reader.bytes() : new Uint8Array();
    if (!hasLength) reader.skipType(tag & 7);
    yield { number: tag >>> 3, whole: message.subarray(start, reader.pos), content };
  }
}

function delimited(number: number, content: readonly Uint8Array[]): Uint8Array[] {
  const bytes = content.reduce((sum, { length }) => sum + length, 0);
  return [protobuf.Writer.create().uint32((number << 3) | LENGTH_DELIMITED).uint32(bytes).finish(), ...content];
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
