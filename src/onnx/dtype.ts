/**
 * Element types by their number in TensorProto.DataType. The project holds DTYPES; the others have a name here, so that a
 * message can say what a model uses. Numbers above 16 are newer than the schema that onnx-proto carries (ONNX 1.10).
 */
import { DTYPE_BITS, type DType } from '../ir/tensor.ts';

const ELEMENT_NAMES = [
  'undefined', 'float32', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16', 'float64', 'uint32',
  'uint64', 'complex64', 'complex128', 'bfloat16', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz', 'uint4', 'int4',
  'float4e2m1', 'float8e8m0', 'uint2', 'int2',
] as const;

/** ONNX's name of an element type, or `type 99` for a number that it does not define. */
export function elementName(type: number): string {
  return ELEMENT_NAMES[type] ?? `type ${type}`;
}

/** The element type of this number where the project holds it. */
export function elementType(type: number): DType | undefined {
  const name = ELEMENT_NAMES[type];
  return name !== undefined && Object.hasOwn(DTYPE_BITS, name) ? (name as DType) : undefined;
}

/** The number of an element type in TensorProto.DataType. */
export function elementNumber(dtype: DType): number {
  return ELEMENT_NAMES.indexOf(dtype);
}
