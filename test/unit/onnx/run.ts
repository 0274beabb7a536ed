/** onnxruntime as the oracle: runs ONNX bytes on tensors. */
import * as ort from 'onnxruntime-node';
import { DTYPE_BITS, toNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { ortTensor } from '../../helpers/ort.ts';

/** The outputs of a model, in its order. Throws what onnxruntime throws for models that it does not take. */
export async function runOnnx(bytes: Uint8Array, inputs: Readonly<Record<string, Tensor>>, optimized = false): Promise<Record<string, Tensor>> {
  const session = await ort.InferenceSession.create(bytes, { graphOptimizationLevel: optimized ? 'all' : 'disabled', intraOpNumThreads: 1, logSeverityLevel: 4 });
  try {
    const wanted = Object.entries(inputs).filter(([name]) => session.inputNames.includes(name));
    const results = await session.run(Object.fromEntries(wanted.map(([name, tensor]) => [name, toOrt(tensor)])));
    return Object.fromEntries(session.outputNames.map((name) => [name, fromOrt(results[name]!)]));
  } finally {
    await session.release();
  }
}

function toOrt(tensor: Tensor): ort.Tensor {
  const { buffer } = tensor.data.slice();
  const data = (): ArrayBufferView => {
    switch (tensor.dtype) {
      case 'float32':
        return new Float32Array(buffer);
      case 'float64':
        return new Float64Array(buffer);
      case 'int8':
        return new Int8Array(buffer);
      case 'int16':
        return new Int16Array(buffer);
      case 'int32':
        return new Int32Array(buffer);
      case 'uint32':
        return new Uint32Array(buffer);
      case 'int64':
        return new BigInt64Array(buffer);
      case 'uint64':
        return new BigUint64Array(buffer);
      case 'uint8':
      case 'bool':
        return new Uint8Array(buffer);
      case 'uint16':
      case 'float16':
        return new Uint16Array(buffer);
      case 'bfloat16':
      case 'float8e4m3fn':
      case 'float8e4m3fnuz':
      case 'float8e5m2':
      case 'float8e5m2fnuz':
      case 'float8e8m0':
      case 'float4e2m1':
      case 'int4':
      case 'uint4':
      case 'int2':
      case 'uint2':
        throw new Error(`onnxruntime-node has no ${tensor.dtype}`);
      default:
        return tensor.dtype satisfies never;
    }
  };
  return ortTensor(tensor.dtype, data(), tensor.dims);
}

function fromOrt(tensor: ort.Tensor): Tensor {
  const view = tensor.data as unknown as Uint8Array;
  if (!(tensor.type in DTYPE_BITS)) throw new Error(`an output of type ${tensor.type}`);
  return { dtype: tensor.type as DType, dims: tensor.dims.map(Number), data: new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice() };
}

/** Largest |a − b| / (absolute + relative·|b|): at most 1 where all elements agree within the tolerances. NaN agrees with NaN. */
export function disagreement(actual: Tensor, expected: Tensor, absolute = 1e-5, relative = 1e-3): number {
  if (actual.dtype !== expected.dtype || actual.dims.join() !== expected.dims.join()) return Number.POSITIVE_INFINITY;
  const a = toNumbers(actual);
  const b = toNumbers(expected);
  let worst = 0;
  for (const [index, left] of a.entries()) {
    const right = b[index]!;
    if (Object.is(left, right) || left === right) continue;
    const error = Math.abs(left - right) / (absolute + relative * Math.abs(right));
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return worst;
}
