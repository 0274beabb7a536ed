/**
 * onnxruntime as the oracle of pass tests: runs a graph of ours, or an ONNX file, on given inputs.
 */
import * as ort from 'onnxruntime-node';
import { exportGraph } from '../../src/onnx/export.ts';
import { typeOf, type Graph, type ValueId } from '../../src/ir/graph.ts';
import { DTYPE_BITS, fromNumbers, elementCount, typedView, type DType, type Tensor, type TensorType } from '../../src/ir/tensor.ts';
import { seededRandom } from './random.ts';

/** No optimization of onnxruntime's own: it must compute what is written. */
const PLAIN: ort.InferenceSession.SessionOptions = { graphOptimizationLevel: 'disabled', intraOpNumThreads: 2, logSeverityLevel: 3 };

/** Outputs by name of a model given as ONNX bytes. */
export async function runModel(bytes: Uint8Array, inputs: ReadonlyMap<ValueId, Tensor>): Promise<Map<ValueId, Tensor>> {
  const session = await ort.InferenceSession.create(bytes, PLAIN);
  try {
    const feeds = Object.fromEntries([...inputs].map(([name, tensor]) => [name, toOrt(tensor)]));
    const results = await session.run(feeds);
    return new Map(session.outputNames.map((name) => [name, fromOrt(results[name]!)]));
  } finally {
    await session.release();
  }
}

/** Outputs by name of a graph. */
export function runGraph(graph: Graph, inputs: ReadonlyMap<ValueId, Tensor>): Promise<Map<ValueId, Tensor>> {
  return runModel(exportGraph(graph), inputs);
}

/** What constant folding asks for. */
export const fold = (graph: Graph): Promise<ReadonlyMap<ValueId, Tensor>> => runGraph(graph, new Map());

/** Seeded values for every input: floating ones in [-2, 2), integers in [0, 4), booleans. */
export function randomInputs(graph: Graph, seed: number): Map<ValueId, Tensor> {
  const random = seededRandom(seed);
  return new Map(graph.inputs.map((id) => [id, randomTensor(typeOf(graph, id), random)]));
}

export function randomTensor(type: TensorType, random: () => number): Tensor {
  const draw = type.dtype.startsWith('float') ? () => random() * 4 - 2 : () => Math.floor(random() * (type.dtype === 'bool' ? 2 : 4));
  return fromNumbers(type.dtype, type.dims, Array.from({ length: elementCount(type.dims) }, draw));
}

function toOrt({ dtype, dims, data }: Tensor): ort.Tensor {
  return ortTensor(dtype, typedView({ dtype, dims, data: data.slice() }), dims);
}

/** Halves as their bits on every Node: onnxruntime-node (1.30) takes no Float16Array, which its own constructor makes of them where there is one. */
export function ortTensor(dtype: DType, view: ArrayBufferView, dims: readonly number[]): ort.Tensor {
  const halves = dtype === 'float16';
  const tensor = new ort.Tensor((halves ? 'uint16' : dtype) as 'float32', view as Float32Array, [...dims]);
  return halves ? Object.assign(tensor, { type: dtype }) : tensor;
}

function fromOrt(tensor: ort.Tensor): Tensor {
  const dtype = tensor.type as DType;
  const values = tensor.data as Float32Array;
  const data = new Uint8Array(values.buffer, values.byteOffset, (values.length * DTYPE_BITS[dtype]) / 8);
  return { dtype, dims: [...tensor.dims], data: data.slice() };
}
