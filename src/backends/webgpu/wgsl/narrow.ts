/** Integers of 8 and 16 bits in 32-bit registers: wrapping as C does, saturating as quantization does. */
import { DTYPE_BITS, type DType } from '../../../ir/tensor.ts';
import { registerType } from './access.ts';
import { typeName, type Width } from './module.ts';

/** `code` brought back into the type's range after an operation that may have left it. */
export function wrapInteger(dtype: DType, code: string, width: Width = 1): string {
  const bits = DTYPE_BITS[dtype];
  const scalar = registerType(dtype);
  if (bits >= 32 || (scalar !== 'i32' && scalar !== 'u32')) return code;
  return scalar === 'u32' ? `(${code}) & ${width === 1 ? `${2 ** bits - 1}u` : `${typeName(scalar, width)}(${2 ** bits - 1}u)`}` : `extractBits(${code}, 0u, ${bits}u)`;
}

/** Least and greatest value of an integer type of up to 32 bits. */
export function integerRange(dtype: DType): readonly [number, number] {
  const bits = DTYPE_BITS[dtype];
  return registerType(dtype) === 'u32' ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
}

/** A whole f32 saturated to the type. */
export function saturate(dtype: DType, code: string): string {
  const [low, high] = integerRange(dtype);
  return `${registerType(dtype)}(clamp(${code}, ${low}.0f, ${high}.0f))`;
}
