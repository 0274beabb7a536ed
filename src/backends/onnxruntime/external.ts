/**
 * The files of weights that lie beside a model. An engine that runs the model's own bytes carries them, so that it needs no
 * other file; onnxruntime takes them by name (its session option `externalData`).
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { externalReader } from '../../onnx/external.ts';

type TensorProto = onnxProto.onnx.ITensorProto;
type GraphProto = onnxProto.onnx.IGraphProto;

const EXTERNAL = onnxProto.onnx.TensorProto.DataLocation.EXTERNAL;

export interface ExternalFile {
  /** As the model names it. */
  readonly path: string;
  readonly data: Uint8Array;
}

/** The files that the model's tensors name, each once. Throws TsrtError MODEL_INVALID for one outside the model's folder. */
export function externalFiles(model: Uint8Array, folder: string | undefined): ExternalFile[] {
  return externalPaths(model).map((path) => ({ path, data: readWhole(folder, path) }));
}

/** Their names alone, as the model has them. */
export function externalPaths(model: Uint8Array): string[] {
  const { graph, functions } = onnxProto.onnx.ModelProto.decode(model);
  const tensors = [...(graph ? graphTensors(graph) : []), ...nodeTensors(functions.flatMap((fn) => fn.node ?? []))];
  return [...new Set(tensors.flatMap(locationOf))];
}

function* graphTensors(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer ?? [];
  yield* nodeTensors(graph.node ?? []);
}

function* nodeTensors(nodes: readonly onnxProto.onnx.INodeProto[]): Generator<TensorProto> {
  for (const attribute of nodes.flatMap((node) => node.attribute ?? [])) {
    if (attribute.t) yield attribute.t;
    yield* attribute.tensors ?? [];
    for (const graph of [attribute.g, ...(attribute.graphs ?? [])]) if (graph) yield* graphTensors(graph);
  }
}

function locationOf({ dataLocation, externalData }: TensorProto): string[] {
  if (dataLocation !== EXTERNAL) return [];
  return [externalData?.find((entry) => entry.key === 'location')?.value ?? ''];
}

function readWhole(folder: string | undefined, path: string): Uint8Array {
  const reader = externalReader(folder);
  const place = `external data ${path}`;
  // Reading nothing checks the location before anything is asked of the file system by its name.
  reader.read({ location: path, offset: 0, length: 0 }, 0, place);
  const length = statSync(join(folder!, path)).size;
  return reader.read({ location: path, offset: 0, length }, length, place);
}
