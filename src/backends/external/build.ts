/** A model on its way to a program that builds engines: as ONNX, and as a graph where the IR holds it. */
import type { BuildInput } from '../backend.ts';
import type { Exchange } from './exchange.ts';
import { exportModel, graphFiles, moduleGraph } from './model.ts';

/** Names of files in the exchange folder. */
export interface ModelFiles {
  readonly name: string;
  readonly sha256: string;
  /** Every shape static; the model's own bytes where the IR can't hold it. */
  readonly onnx: string;
  /** Null where the IR can't hold the model. */
  readonly graph: string | null;
  readonly weights: string | null;
}

/** Writes the model's files. */
export async function writeModel(exchange: Exchange, input: BuildInput): Promise<ModelFiles> {
  const { graph, model } = input;
  const { name, sha256 } = model;
  const onnx = exchange.write('model.onnx', exportModel(input));
  if (!graph.ok) {
    await onnx;
    return { name, sha256, onnx: 'model.onnx', graph: null, weights: null };
  }
  const { json, weights } = graphFiles(await moduleGraph(graph.graph));
  await Promise.all([onnx, exchange.write('graph.json', json), exchange.write('weights.bin', weights)]);
  return { name, sha256, onnx: 'model.onnx', graph: 'graph.json', weights: 'weights.bin' };
}
