/**
 * Runs a graph of the IR as it is and gives its outputs: what calibration and the search for sensitive nodes see of a network.
 * Optimized as far as the outputs allow, since they are many and the runs long; never timed.
 */
import { typeOf, type Graph, type ValueId } from '../../ir/graph.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { exportDivided } from '../../onnx/export.ts';
import type { TensorMap } from '../backend.ts';
import { inCarriers } from './few-bits.ts';
import { loadOrt, SILENT } from './library.ts';
import { AS_WRITTEN } from './options.ts';
import { externalData } from './parts.ts';
import { fromOrt, refuseForeignBindings, toOrt } from './tensors.ts';
import { sessionThreads } from './threads.ts';

export interface GraphRunner {
  /** Outputs by name; valid until the next run. */
  run(inputs: TensorMap): Promise<ReadonlyMap<ValueId, Tensor>>;
  dispose(): Promise<void>;
}

/** Throws TsrtError MODEL_UNSUPPORTED for an input or output of a type that onnxruntime-node does not bind. */
export async function openGraph(graph: Graph): Promise<GraphRunner> {
  refuseForeignBindings(graph);
  const ort = await loadOrt();
  const { bytes, files } = exportDivided(inCarriers(graph));
  const session = await ort.InferenceSession.create(bytes, { ...SILENT, externalData: externalData(files), ...AS_WRITTEN, graphOptimizationLevel: 'all', intraOpNumThreads: sessionThreads(0) });
  return {
    async run(inputs) {
      const feeds = Object.fromEntries(graph.inputs.map((name) => [name, toOrt(ort, inputs[name]!)]));
      const outputs = await session.run(feeds);
      return new Map(graph.outputs.map((id) => [id, fromOrt(outputs[id]!, typeOf(graph, id).dtype)]));
    },
    dispose: () => session.release(),
  };
}
