/**
 * The files of weights that lie beside a model. An engine that runs the model's own bytes carries them, so that it needs no
 * other file; onnxruntime takes them by name (its session option `externalData`). A reference, which is no file, lets onnxruntime map them.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { onnx as Onnx } from 'onnx-proto';
import { MAX_PART_BYTES } from '../../engine/file.ts';
import { TsrtError } from '../../errors.ts';
import { type ExternalReader, externalReader } from '../../onnx/external.ts';
import { onnx } from '../../onnx/proto.ts';
import type { SessionOptions } from './library.ts';

type TensorProto = Onnx.ITensorProto;
type GraphProto = Onnx.IGraphProto;

const EXTERNAL = onnx.TensorProto.DataLocation.EXTERNAL;

export interface ExternalFile {
  /** As the model names it. */
  readonly path: string;
  readonly data: Uint8Array;
}

/**
 * The files that the model's tensors name, each once. Throws TsrtError MODEL_INVALID for one outside the model's folder, MODEL_UNSUPPORTED for one that is
 * no part of an engine file because it has more than `maxBytes`.
 */
export function externalFiles(model: Uint8Array, folder: string | undefined, maxBytes = MAX_PART_BYTES): ExternalFile[] {
  return externalPaths(model).map((path) => ({ path, data: readWhole(folder, path, maxBytes) }));
}

/** Session options by which onnxruntime maps the model's files into memory itself, of whatever size. Throws TsrtError MODEL_INVALID for a file outside the model's folder. */
export function mappedFiles(model: Uint8Array, folder: string | undefined): SessionOptions {
  const paths = externalPaths(model);
  for (const path of paths) checkedSize(externalReader(folder), folder, path);
  return paths.length === 0 ? {} : { extra: { session: { model_external_initializers_file_folder_path: folder } } };
}

/** Their names alone, as the model has them. */
export function externalPaths(model: Uint8Array): string[] {
  const { graph, functions } = onnx.ModelProto.decode(model);
  const tensors = [...(graph ? graphTensors(graph) : []), ...nodeTensors(functions.flatMap((fn) => fn.node ?? []))];
  return [...new Set(tensors.flatMap(locationOf))];
}

function* graphTensors(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer ?? [];
  yield* nodeTensors(graph.node ?? []);
}

function* nodeTensors(nodes: readonly Onnx.INodeProto[]): Generator<TensorProto> {
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

function readWhole(folder: string | undefined, path: string, maxBytes: number): Uint8Array {
  const reader = externalReader(folder);
  const length = checkedSize(reader, folder, path);
  if (length > maxBytes) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the model runs unchanged, and its data file ${path} takes ${length} bytes: a part of an engine file has at most ${maxBytes}`, {
      fix: 'save the model with a data file for each tensor (in Python: onnx.save_model(…, save_as_external_data=True, all_tensors_to_one_file=False))',
    });
  }
  return reader.read({ location: path, offset: 0, length }, length, `external data ${path}`);
}

/** Bytes of a file. Reading nothing checks the location before anything is asked of the file system by its name. */
function checkedSize(reader: ExternalReader, folder: string | undefined, path: string): number {
  reader.read({ location: path, offset: 0, length: 0 }, 0, `external data ${path}`);
  return statSync(join(folder!, path)).size;
}
