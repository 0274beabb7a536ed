/**
 * 64-bit integers of the wire format. protobufjs hands them over as Long objects; nothing beyond this stage sees one.
 */
import { invalid } from './invalid.ts';

interface LongLike {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}

/** A wire integer as a number; one beyond ±(2^53 − 1) is an error that names `place`. */
export function toInteger(value: unknown, place: string): number {
  const number = approximate(value);
  if (!Number.isSafeInteger(number)) throw invalid(`the integer ${toBigInt(value)} is beyond ±2^53`, place);
  return number;
}

/** A wire integer as a number, held to ±(2^53 − 1): for bounds such as Slice's, where INT64_MAX means "to the end". */
export function toSaturated(value: unknown): number {
  return Math.min(Math.max(approximate(value), Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
}

export function toBigInt(value: unknown): bigint {
  if (typeof value === 'number') return BigInt(Math.trunc(value));
  if (!isLong(value)) return 0n;
  const bits = (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0);
  return value.unsigned ? bits : BigInt.asIntN(64, bits);
}

function approximate(value: unknown): number {
  if (typeof value === 'number') return value;
  if (!isLong(value)) return 0;
  const high = value.unsigned ? value.high >>> 0 : value.high;
  return high * 2 ** 32 + (value.low >>> 0);
}

function isLong(value: unknown): value is LongLike {
  return typeof value === 'object' && value !== null && 'low' in value && 'high' in value;
}
