/** Element types as the Open Inference Protocol names them, and numbers of JSON as tensors of them. */
import { TsrtError } from '../errors.ts';
import { DTYPE_BITS, fromNumbers, toNumbers, typedView, type Dims, type DType, type Tensor } from '../ir/tensor.ts';

/** The protocol's types but for BYTES: engines have no strings. BF16 is Triton's. */
const DTYPE_OF = {
  BOOL: 'bool',
  UINT8: 'uint8',
  UINT16: 'uint16',
  UINT32: 'uint32',
  UINT64: 'uint64',
  INT8: 'int8',
  INT16: 'int16',
  INT32: 'int32',
  INT64: 'int64',
  FP16: 'float16',
  BF16: 'bfloat16',
  FP32: 'float32',
  FP64: 'float64',
} as const satisfies Record<string, DType>;

/** A type of the protocol. */
export type Datatype = keyof typeof DTYPE_OF;

export const DATATYPES = Object.keys(DTYPE_OF) as Datatype[];

const DATATYPE_OF: ReadonlyMap<DType, Datatype> = new Map(DATATYPES.map((datatype) => [DTYPE_OF[datatype], datatype]));

export function dtypeOf(datatype: Datatype): DType {
  return DTYPE_OF[datatype];
}

/** The protocol's name of a type; undefined for types of few bits, which it does not have. */
export function datatypeOf(dtype: DType): Datatype | undefined {
  return DATATYPE_OF.get(dtype);
}

/**
 * The tensor of an input's `data`: elements in the order of rows, flat or in arrays as deep as `dims`. As many elements as there are, which need not be
 * as many as `dims` says. Throws TsrtError USAGE for arrays of other lengths than `dims` and for what is no element of the type.
 */
export function tensorOfJson(input: string, dtype: DType, dims: Dims, data: unknown): Tensor {
  const elements = elementsOf(input, dims, data);
  const fits = CHECKS[dtype] ?? integerCheck(dtype);
  const wrong = elements.findIndex((element) => !fits.test(element));
  if (wrong >= 0) throw new TsrtError('USAGE', `${input}: expected ${fits.expected} for ${dtype}, found ${shown(elements[wrong])} as element ${wrong}`, { fix: fits.fix });
  return fromNumbers(dtype, dims, elements.map(Number));
}

function elementsOf(input: string, dims: Dims, data: unknown): readonly unknown[] {
  if (!Array.isArray(data)) throw new TsrtError('USAGE', `${input}: expected data as an array, found ${shown(data)}`);
  if (!Array.isArray(data[0])) return data;
  let level: unknown[] = [data];
  for (const [axis, dim] of dims.entries()) {
    const wrong = level.find((part) => !Array.isArray(part) || part.length !== dim);
    if (wrong !== undefined) throw new TsrtError('USAGE', `${input}: expected arrays of ${dim} along axis ${axis} of [${dims.join(',')}], found ${Array.isArray(wrong) ? `one of ${wrong.length}` : shown(wrong)}`);
    level = level.flat();
  }
  return level;
}

/** What an element of a type is in JSON. */
interface ElementCheck {
  readonly expected: string;
  readonly fix: string;
  test(element: unknown): boolean;
}

const NUMBER: ElementCheck = { expected: 'a number', fix: 'send NaN and infinities as binary data', test: (element) => typeof element === 'number' };
const CHECKS: Readonly<Partial<Record<DType, ElementCheck>>> = {
  float16: NUMBER,
  bfloat16: NUMBER,
  float32: NUMBER,
  float64: NUMBER,
  bool: { expected: 'true or false', fix: 'numbers are not booleans here', test: (element) => typeof element === 'boolean' },
};

/** JSON's numbers are read as doubles, which hold every integer up to 2^53. */
function integerCheck(dtype: DType): ElementCheck {
  const bits = DTYPE_BITS[dtype];
  const isSigned = dtype.startsWith('int');
  const end = isSigned ? 2 ** (bits - 1) : 2 ** bits;
  return {
    expected: bits === 64 ? 'an integer within ±2^53' : `an integer from ${isSigned ? -end : 0} to ${end - 1}`,
    fix: bits === 64 ? 'send larger ones as binary data' : 'give numbers that fit the type',
    test: (element) => Number.isSafeInteger(element) && (element as number) < end && (element as number) >= (isSigned ? -end : 0),
  };
}

function shown(element: unknown): string {
  const text = JSON.stringify(element) ?? 'nothing';
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** The elements as a JSON array, flat. 64-bit integers have all their digits. Throws TsrtError USAGE for NaN and infinities, which JSON can't say. */
export function jsonOfTensor(output: string, tensor: Tensor): string {
  const { dtype } = tensor;
  if (dtype === 'bool') return `[${Array.from(tensor.data, (byte) => byte !== 0).join(',')}]`;
  const isHalf = dtype === 'float16' || dtype === 'bfloat16';
  const elements: ArrayLike<number | bigint> & { join(by: string): string } = isHalf ? toNumbers(tensor) : typedView(tensor);
  if (NUMBER === CHECKS[dtype] && !Array.prototype.every.call(elements, Number.isFinite)) {
    throw new TsrtError('USAGE', `${output}: the answer has NaN or infinities, which JSON can't represent`, { fix: 'ask for it as binary data: "parameters": {"binary_data": true}' });
  }
  return `[${elements.join(',')}]`;
}
