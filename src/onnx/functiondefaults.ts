/**
 * Default values of function attributes: FunctionProto.attribute_proto, field 11, newer than the schema of onnx-proto. The
 * functions of PyTorch's exporter use it.
 */
import type { onnx as Onnx } from 'onnx-proto';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';

const MODEL_FUNCTIONS = 25;
const FUNCTION_ATTRIBUTE_PROTO = 11;
const LENGTH_DELIMITED = 2;

/** Attributes by function, in file order. */
export type FunctionDefaults = readonly (readonly Onnx.IAttributeProto[])[];

/** The default attributes of each function of a model. Throws what protobufjs throws. */
export function readFunctionDefaults(model: Uint8Array): FunctionDefaults {
  return fields(model, MODEL_FUNCTIONS).map((fn) =>
    fields(fn, FUNCTION_ATTRIBUTE_PROTO).map((attribute) => onnx.AttributeProto.decode(boundedReader(attribute))),
  );
}

function fields(message: Uint8Array, field: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  const reader = boundedReader(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === field && (tag & 7) === LENGTH_DELIMITED) found.push(reader.bytes());
    else reader.skipType(tag & 7);
  }
  return found;
}
