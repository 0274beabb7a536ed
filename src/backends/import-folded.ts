/**
 * Import where shapes follow from others by more than the arithmetic that the importer does itself, as the padding of PyTorch's detectors
 * does. What depends on constants alone is evaluated by onnxruntime, and the model imported again with it, until nothing new
 * is known.
 */
import type { Graph, ValueId } from '../ir/graph.ts';
import { elementCount, type Tensor } from '../ir/tensor.ts';
import { importGraph, type ImportOptions, type ImportResult } from '../onnx/import.ts';
import type { OnnxModel } from '../onnx/model.ts';
import { boundedAxisOfNode } from '../ops/bounded.ts';
import { evaluateConstants } from './onnxruntime/evaluate.ts';

/** Shapes are short; weights are no business of this. */
const MAX_ELEMENTS = 1024;

/** As {@link importGraph}. */
export async function importFolded(model: OnnxModel, options: ImportOptions): Promise<ImportResult> {
  let computed: ReadonlyMap<ValueId, Tensor> = new Map();
  for (;;) {
    const result = importGraph(model, { ...options, computed });
    if (result.ok || !result.held) return result;
    const more = await constantValues(result.held.graph, namesOf(model));
    if (more.size === 0) return result;
    computed = new Map([...computed, ...more]);
  }
}

/** Values that the file's nodes make, without those that the graph must keep making. */
function namesOf(model: OnnxModel): ReadonlySet<ValueId> {
  const names = new Set(model.nodes.flatMap((node) => node.outputs));
  for (const { name } of model.outputs) names.delete(name);
  return names;
}

/** Small values among `names` that nodes of the graph compute from constants; none where onnxruntime can't. */
async function constantValues(graph: Graph, names: ReadonlySet<ValueId>): Promise<ReadonlyMap<ValueId, Tensor>> {
  const known = new Set(graph.constants.keys());
  const nodes = graph.nodes.filter((node) => {
    if (node.op === 'Custom' || boundedAxisOfNode(graph, node) !== undefined || !node.inputs.every((id) => id === '' || known.has(id))) return false;
    for (const id of node.outputs) known.add(id);
    return true;
  });
  const outputs = nodes.flatMap((node) => node.outputs).filter((id) => names.has(id) && elementCount(graph.types.get(id)!.dims) <= MAX_ELEMENTS);
  if (outputs.length === 0) return new Map();
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const constants = new Map([...graph.constants].filter(([id]) => read.has(id)));
  return evaluateConstants({ ...graph, inputs: [], outputs, constants, nodes }).catch(() => new Map<ValueId, Tensor>());
}
