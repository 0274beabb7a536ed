/**
 * TensorProto to and from tensor values, in every form that the format has: raw bytes, typed fields, external files.
 *
 * Raw bytes stay views of the file's bytes. The typed fields follow onnx.proto3: small integers, bool, float16 and bfloat16
 * bits in int32_data, of types of few bits the bytes that hold them; uint32 and uint64 in uint64_data.
 */
import type { onnx as Onnx } from 'onnx-proto';
import { type FewBits, isFewBits } from '../ir/few-bits.ts';
import { DTYPE_BITS, elementCount, tensorBytes, typedView, type DType, type Tensor } from '../ir/tensor.ts';
import { dtypeOfOnnx, ONNX_DTYPE } from '../ops/specs.ts';
import { elementName } from './dtype.ts';
import { externalReader, type ExternalRange, type ExternalReader } from './external.ts';
import { toBigInt, toInteger } from './integers.ts';
import { invalid, quote } from './invalid.ts';
import { onnx } from './proto.ts';
import type { TensorValue } from './value.ts';

type TensorProto = Onnx.ITensorProto;

/** Elements beyond this many fit nowhere; a shape that claims them is taken for damage. */
export const MAX_ELEMENTS = 2 ** 33;

const EXTERNAL = 1;

/** The tensor that a message holds. Throws TsrtError MODEL_INVALID, naming `place`, for one that contradicts itself. */
export function decodeTensor(proto: TensorProto, place: string, external: ExternalReader = externalReader(undefined)): TensorValue {
  const dims = decodeDims(proto.dims ?? [], place);
  const number = proto.dataType ?? 0;
  if (number === 0) throw invalid('a tensor has no element type', place);
  const dtype = dtypeOfOnnx(number);
  if (proto.segment) return { kind: 'unsupported', dtype: `${elementName(number)} in segments`, dims };
  if (dtype === undefined) {
    return elementName(number) === 'string' ? decodeStrings(proto, dims, place) : { kind: 'unsupported', dtype: elementName(number), dims };
  }
  const type = { dtype, dims };
  const expectedBytes = tensorBytes(type);
  let data: Uint8Array;
  if (proto.dataLocation === EXTERNAL) data = external.read(externalRange(proto, place), expectedBytes, place);
  else if (proto.rawData && proto.rawData.length > 0) data = plainBytes(proto.rawData);
  else if (isFewBits(dtype)) data = Uint8Array.from(proto.int32Data ?? []);
  else data = decodeTyped(proto, dtype, elementCount(dims), place);
  if (data.length !== expectedBytes) {
    throw invalid(`a tensor of type ${dtype}[${dims.join(',')}] needs ${expectedBytes} bytes and has ${data.length}`, place);
  }
  return { kind: 'tensor', tensor: { dtype, dims, data: dtype === 'bool' ? normalizeBools(data) : data } };
}

/** Dimensions checked one by one and in their product, which must stay an exact integer. */
export function decodeDims(raw: readonly unknown[], place: string): number[] {
  const dims = raw.map((dim) => toInteger(dim, place));
  if (dims.length > 64) throw invalid(`a tensor has ${dims.length} dimensions`, place);
  let count = 1;
  for (const dim of dims) {
    if (dim < 0) throw invalid(`a tensor has the negative dimension ${dim}`, place);
    // A zero hides the others from the product, yet not from what reads them.
    count *= Math.max(dim, 1);
    if (count > MAX_ELEMENTS) throw invalid(`a tensor has dimensions [${dims.join(',')}], more elements than any memory holds`, place);
  }
  return dims;
}

function externalRange(proto: TensorProto, place: string): ExternalRange {
  const entries = new Map((proto.externalData ?? []).map((entry) => [entry.key ?? '', entry.value ?? '']));
  const integer = (key: string): number | undefined => {
    const text = entries.get(key);
    if (text === undefined || text === '') return undefined;
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!Number.isSafeInteger(value)) throw invalid(`external data has the ${key} ${quote(text)}`, place);
    return value;
  };
  return { location: entries.get('location') ?? '', offset: integer('offset') ?? 0, length: integer('length') };
}

function decodeTyped(proto: TensorProto, dtype: Exclude<DType, FewBits>, count: number, place: string): Uint8Array {
  const field = typedField(proto, dtype);
  if (field.length !== count) throw invalid(`a tensor of ${count} ${dtype} elements has ${field.length} values`, place);
  const data = new Uint8Array((count * DTYPE_BITS[dtype]) / 8);
  const view = typedView({ dtype, dims: [count], data });
  if (view instanceof BigInt64Array || view instanceof BigUint64Array) {
    for (let i = 0; i < count; i++) view[i] = toBigInt(field[i]);
  } else if (dtype === 'uint32') {
    for (let i = 0; i < count; i++) view[i] = Number(BigInt.asUintN(32, toBigInt(field[i])));
  } else {
    const numbers = field as readonly number[];
    for (let i = 0; i < count; i++) view[i] = numbers[i]!;
  }
  return data;
}

function typedField(proto: TensorProto, dtype: Exclude<DType, FewBits>): readonly unknown[] {
  switch (dtype) {
    case 'float32':
      return proto.floatData ?? [];
    case 'float64':
      return proto.doubleData ?? [];
    case 'int64':
      return proto.int64Data ?? [];
    case 'uint32':
    case 'uint64':
      return proto.uint64Data ?? [];
    case 'float16':
    case 'bfloat16':
    case 'int8':
    case 'uint8':
    case 'int16':
    case 'uint16':
    case 'int32':
    case 'bool':
      return proto.int32Data ?? [];
    default:
      return dtype satisfies never;
  }
}

function decodeStrings(proto: TensorProto, dims: readonly number[], place: string): TensorValue {
  const data = proto.stringData ?? [];
  if (data.length !== elementCount(dims)) throw invalid(`a tensor of ${elementCount(dims)} strings has ${data.length} values`, place);
  const decoder = new TextDecoder();
  return { kind: 'strings', dims, strings: data.map((bytes) => decoder.decode(bytes)) };
}

/** Any non-zero byte is true; the IR knows 0 and 1 only. */
function normalizeBools(data: Uint8Array): Uint8Array {
  return data.some((byte) => byte > 1) ? data.map((byte) => (byte === 0 ? 0 : 1)) : data;
}

/** The same bytes as a Uint8Array proper: a Node Buffer's `slice` shares memory where everybody else's copies. */
function plainBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A tensor as a message, its bytes as raw_data. */
export function encodeTensor(tensor: Tensor, name = ''): Onnx.TensorProto {
  return onnx.TensorProto.create({ name, dims: [...tensor.dims], dataType: ONNX_DTYPE[tensor.dtype], rawData: tensor.data });
}

/** A tensor as a message whose bytes are all of the file `location`. */
export function encodeOutside({ dtype, dims, data }: Tensor, name: string, location: string): Onnx.TensorProto {
  const externalData = Object.entries({ location, offset: '0', length: String(data.byteLength) }).map(([key, value]) => ({ key, value }));
  return onnx.TensorProto.create({ name, dims: [...dims], dataType: ONNX_DTYPE[dtype], dataLocation: EXTERNAL, externalData });
}
