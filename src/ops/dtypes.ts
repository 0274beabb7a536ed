/**
 * Sets of element types as the ONNX schemas group them, with the words that messages use for them.
 */
import { DTYPES } from '../ir/tensor.ts';
import type { DType } from '../ir/tensor.ts';

export interface DTypeSet {
  /** Reads well after "must be": "a floating type". */
  readonly label: string;
  readonly members: ReadonlySet<DType>;
}

function set(label: string, members: Iterable<DType>): DTypeSet {
  return { label, members: new Set(members) };
}

const floats = ['float16', 'bfloat16', 'float32', 'float64'] as const;
const signed = ['int8', 'int16', 'int32', 'int64'] as const;
const unsigned = ['uint8', 'uint16', 'uint32', 'uint64'] as const;

export const ANY = set('any type', DTYPES);
export const FLOAT = set('a floating type', floats);
export const INTEGER = set('an integer type', [...signed, ...unsigned]);
export const UNSIGNED = set('an unsigned type', unsigned);
export const SIGNED_NUMBER = set('a signed number type', [...floats, ...signed]);
export const NUMBER = set('a number type', [...floats, ...signed, ...unsigned]);
export const BYTE = set('int8 or uint8', ['int8', 'uint8']);
export const BOOL = set('bool', ['bool']);
export const INDEX = set('int32 or int64', ['int32', 'int64']);
export const INT64 = set('int64', ['int64']);
export const INT32 = set('int32', ['int32']);
export const FLOAT32 = set('float32', ['float32']);
/** What QuantizeLinear makes and DequantizeLinear reads, of the types that the project holds. */
export const QUANTIZED = set('a quantized type', ['int8', 'uint8', 'int16', 'uint16', 'int32']);

export function isInteger(dtype: DType): boolean {
  return INTEGER.members.has(dtype) || dtype === 'bool';
}
