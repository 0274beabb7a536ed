/**
 * The `.pb` files of ONNX's test data: a TensorProto, SequenceProto or OptionalProto (onnx-data.proto), by the type that the
 * model gives the value. onnx-proto lacks the last two; their fields are read here.
 */
import { TsrtError } from '../errors.ts';
import { invalid } from './invalid.ts';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';
import { decodeTensor } from './tensor.ts';
import type { TensorValue } from './value.ts';

/** A value of a test case. `optional` without a value is ONNX's "none". */
export type TestValue =
  | TensorValue
  | { readonly kind: 'sequence'; readonly items: readonly TestValue[] }
  | { readonly kind: 'optional'; readonly value: TestValue | undefined };

export type TestValueKind = 'tensor' | 'sequence' | 'optional';

/** Field numbers that SequenceProto and OptionalProto share. */
const FIELD = { tensor: 3, sequence: 5, optional: 7 } as const;

const MAX_DEPTH = 16;

/** The value of a `.pb` file. Throws TsrtError MODEL_INVALID, naming `place`, for bytes that are not one. */
export function readTensorFile(bytes: Uint8Array, as: TestValueKind = 'tensor', place = 'test data'): TestValue {
  try {
    return decodeValue(bytes, as, place, 0);
  } catch (error) {
    if (error instanceof TsrtError) throw error;
    throw invalid(`the file is not a protobuf ${as}: ${error instanceof Error ? error.message : String(error)}`, place);
  }
}

function decodeValue(bytes: Uint8Array, as: TestValueKind, place: string, depth: number): TestValue {
  if (depth > MAX_DEPTH) throw invalid(`values are nested deeper than ${MAX_DEPTH}`, place);
  if (as === 'tensor') return decodeTensor(onnx.TensorProto.decode(boundedReader(bytes)), place);
  const items = messages(bytes).map(({ kind, content }) => decodeValue(content, kind, place, depth + 1));
  return as === 'sequence' ? { kind: 'sequence', items } : { kind: 'optional', value: items[0] };
}

function messages(bytes: Uint8Array): { readonly kind: TestValueKind; readonly content: Uint8Array }[] {
  const found: { kind: TestValueKind; content: Uint8Array }[] = [];
  const reader = boundedReader(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const kind = (Object.keys(FIELD) as (keyof typeof FIELD)[]).find((name) => FIELD[name] === tag >>> 3);
    if (kind && (tag & 7) === 2) found.push({ kind, content: reader.bytes() });
    else reader.skipType(tag & 7);
  }
  return found;
}
