/**
 * Names of all element types in TensorProto.DataType, so that a message can say what a model uses; numbers above 16 are newer than
 * the schema that onnx-proto carries (ONNX 1.10). Those that the project holds have their numbers in the op table's specs.
 */
const ELEMENT_NAMES = [
  'undefined', 'float32', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16', 'float64', 'uint32',
  'uint64', 'complex64', 'complex128', 'bfloat16', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz', 'uint4', 'int4',
  'float4e2m1', 'float8e8m0', 'uint2', 'int2',
] as const;

/** ONNX's name of an element type, or `type 99` for a number that it does not define. */
export function elementName(type: number): string {
  return ELEMENT_NAMES[type] ?? `type ${type}`;
}
