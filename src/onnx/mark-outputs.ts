/** A model whose inner values can be read: its file with more outputs, and with nothing else changed. */
import type { TensorType } from '../ir/tensor.ts';
import { ONNX_DTYPE } from '../ops/specs.ts';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';

/** The file with these values, by name, as its outputs in place of its own. Sizes stay open. */
export function markOutputs(bytes: Uint8Array, values: ReadonlyMap<string, TensorType>): Uint8Array {
  const model = onnx.ModelProto.decode(boundedReader(bytes));
  const output = [...values].map(([name, { dtype }]) => ({ name, type: { tensorType: { elemType: ONNX_DTYPE[dtype] } } }));
  return onnx.ModelProto.encode(onnx.ModelProto.create({ ...model, graph: { ...model.graph, output } })).finish().slice();
}
