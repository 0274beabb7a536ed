/**
 * Tensors to and from onnxruntime's. Elements are shared, not copied, in both directions (but for unaligned ones).
 */
import { TsrtError } from '../../errors.ts';
import { isFewBits } from '../../ir/few-bits.ts';
import type { Graph, ValueId } from '../../ir/graph.ts';
import { fromNumbers, typedView, type DType, type Tensor } from '../../ir/tensor.ts';
import type { TensorValue } from '../../onnx/value.ts';
import { carried, carrierOf } from './carriers.ts';
import type { Ort, OrtSession, OrtTensor } from './library.ts';

/** What onnxruntime-node's tensors can be. It has no bfloat16; float16 is its bits. */
const ORT_DTYPES: ReadonlySet<string> = new Set<DType>([
  'float32', 'float16', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64', 'bool',
]);

export function isOrtDtype(dtype: string): boolean {
  return ORT_DTYPES.has(dtype);
}

/** Whether an engine's input or output can be of a type: types of few bits lie in wider ones. */
export function isBoundDtype(dtype: DType): boolean {
  return isOrtDtype(carrierOf(dtype));
}

/** Throws TsrtError MODEL_UNSUPPORTED for a graph with an input or output in bfloat16. */
export function refuseForeignBindings({ inputs, outputs, types }: Graph): void {
  const foreign = [...inputs, ...outputs].find((id) => !isBoundDtype(types.get(id)!.dtype));
  if (foreign !== undefined) throw unsupportedDtype(types.get(foreign)!.dtype, [foreign]);
}

/** Throws TsrtError MODEL_UNSUPPORTED for bfloat16. */
export function toOrt(ort: Ort, tensor: Tensor): OrtTensor {
  if (!isBoundDtype(tensor.dtype)) throw unsupportedDtype(tensor.dtype);
  const make = ort.Tensor as unknown as new (type: string, data: unknown, dims: readonly number[]) => OrtTensor;
  const { dtype, dims, data } = carried(tensor);
  const view = typedView({ dtype, dims, data });
  // Where JavaScript has a Float16Array (Node 24) the constructor makes one of halves, whose bytes the binding counts as none: microsoft/onnxruntime#32323.
  if (dtype === 'float16') return Object.assign(new make('uint16', view, dims), { type: dtype });
  return new make(dtype, view, dims);
}

/** As the type that was exported, of which a few bits' numbers come in a wider one. Throws TsrtError MODEL_UNSUPPORTED for strings and 4-bit integers. */
export function fromOrt(tensor: OrtTensor, exported?: DType): Tensor {
  const { type, dims, data } = tensor;
  if (!isOrtDtype(type) || !ArrayBuffer.isView(data)) throw unsupportedDtype(type);
  if (exported && isFewBits(exported) && type === carrierOf(exported)) return fromNumbers(exported, [...dims], data as ArrayLike<number> & ArrayBufferView);
  return { dtype: type as DType, dims: [...dims], data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** With strings, which the IR does not have. */
export function valueToOrt(ort: Ort, value: TensorValue): OrtTensor {
  switch (value.kind) {
    case 'tensor':
      return toOrt(ort, value.tensor);
    case 'strings':
      return new ort.Tensor('string', [...value.strings], value.dims);
    case 'unsupported':
      throw unsupportedDtype(value.dtype);
    default:
      return value satisfies never;
  }
}

export function valueFromOrt(tensor: OrtTensor, exported?: DType): TensorValue {
  if (tensor.type === 'string') return { kind: 'strings', dims: [...tensor.dims], strings: tensor.data as string[] };
  return { kind: 'tensor', tensor: fromOrt(tensor, exported) };
}

/**
 * Throws TsrtError MODEL_UNSUPPORTED where a session gives tensors that onnxruntime-node has no JavaScript form for: it ends the process with one of 4-bit
 * integers.
 */
export function refuseForeignOutputs(session: OrtSession): void {
  for (const output of session.outputMetadata) {
    if (output.isTensor && output.type !== 'string' && !isOrtDtype(output.type)) throw unsupportedDtype(output.type);
  }
}

function unsupportedDtype(dtype: string, details: readonly ValueId[] = []): TsrtError {
  return new TsrtError('MODEL_UNSUPPORTED', `onnxruntime-node has no ${dtype} tensors`, {
    details,
    fix: 'convert the model’s inputs and outputs to another type, such as float32',
  });
}
