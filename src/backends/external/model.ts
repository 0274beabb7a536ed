/**
 * A graph as data for programs in other languages: `graph.json` and `weights.bin`, so that nobody needs an ONNX reader.
 *
 * The ops are ONNX's at the reference opset, shapes are static, attributes have every default filled in: a program needs one
 * meaning per op. {@link moduleGraph} is for frameworks that bring modules of their own.
 */
import type { EngineLayer } from '../../engine/engine.ts';
import { isFewBits } from '../../ir/few-bits.ts';
import { REFERENCE_OPSET, typeOf, type Graph } from '../../ir/graph.ts';
import { nodeCost } from '../../ops/infer.ts';
import { exportGraph } from '../../onnx/export.ts';
import { readModel } from '../../onnx/model.ts';
import { PASSES } from '../../passes/pipeline.ts';
import type { BuildInput, Unsupported } from '../backend.ts';
import { evaluateConstants } from '../onnxruntime/evaluate.ts';
import { externalPaths } from '../onnxruntime/external.ts';

export const GRAPH_FORMAT = 1;

/** Weights start at multiples of this, which suits any element type and a cache line. */
const ALIGNMENT = 64;

/** A graph for programs without an ONNX reader: structure as JSON, weights beside it. */
export interface GraphFiles {
  /** UTF-8 JSON, described in docs/external-protocol.md. */
  readonly json: string;
  /** The constants, little-endian, at the offsets that the JSON gives. */
  readonly weights: Uint8Array;
}

/** The graph as JSON and weights. Throws a plain Error for a graph with internal ops other than attention. */
export function graphFiles(graph: Graph): GraphFiles {
  let end = 0;
  const constants = [...graph.constants].map(([name, { dtype, dims, data }]) => {
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = offset + data.byteLength;
    return { name, dtype, dims, offset, bytes: data.byteLength };
  });
  const weights = new Uint8Array(end);
  for (const { name, offset } of constants) weights.set(graph.constants.get(name)!.data, offset);
  const typed = (name: string) => ({ name, ...typeOf(graph, name) });
  const nodes = graph.nodes.map(({ op, name, inputs, outputs, attrs, origins }) => {
    if ('exprs' in attrs || 'joined' in attrs || 'epilogue' in attrs) throw new Error(`${op} '${name}' has no form outside`);
    return { op, name, inputs, outputs: outputs.map((id) => (id === '' ? { name: '', dtype: 'float32', dims: [] } : typed(id))), attrs, origins };
  });
  const content = { format: GRAPH_FORMAT, opset: REFERENCE_OPSET, name: graph.name, inputs: graph.inputs.map(typed), outputs: graph.outputs.map(typed), constants, nodes };
  return { json: JSON.stringify(content, finite), weights };
}

/** JSON has no infinities; a program would read null. They are written as Python and JavaScript both parse them. */
function finite(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

/** What is constant is computed, and nothing is said twice or in vain. */
const CLEANING = ['dead-code', 'shape-constants', 'constant-folding', 'identities', 'common-subexpressions'];

/** What a framework's user would have written where an exporter has spelt it out: single ops again. Nothing is fused or folded. */
const RECOVERING = ['recover-activations', 'recover-layer-norm', 'recover-rms-norm', 'recover-swish', 'fuse-attention'];

/** How a graph is prepared for a program. */
export interface ModuleGraphOptions {
  /** Whether normalizations, activations and attention become single ops; default true. */
  readonly recover?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** The imported graph as a framework's own module would have it: `LayerNormalization`, `Gelu`, `FusedAttention`, … */
export async function moduleGraph(graph: Graph, { recover = true, signal }: ModuleGraphOptions = {}): Promise<Graph> {
  let current = graph;
  for (const name of [...CLEANING, ...(recover ? RECOVERING : [])]) {
    signal?.throwIfAborted();
    const pass = PASSES.find((other) => other.name === name);
    if (!pass) throw new Error(`there is no pass '${name}'`);
    current = (await pass.run(current, { target: 'onnx', fusion: 'on', fold: evaluateConstants })).graph;
  }
  return current;
}

/** The model as one ONNX file with every shape static, weights inside; its own bytes where the IR can't hold it. */
export function exportModel({ graph, model }: BuildInput): Uint8Array {
  return graph.ok ? exportGraph(graph.graph) : model.bytes;
}

/** A model for a tool that reads ONNX and takes the sizes of open dimensions apart from the file. */
export interface ToolModel {
  readonly bytes: Uint8Array;
  /** Inputs whose shape the file leaves open, with the whole shape that is meant. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

/**
 * The model's own bytes where they are whole and fit the sizes that are asked for, so that a tool sees what its users give it; a
 * file with static shapes, at the reference opset, where the model fixes other sizes or keeps weights beside it.
 */
export function toolModel(input: BuildInput): ToolModel {
  const { model, graph } = input;
  const declared = readModel(model.bytes, { folder: model.folder });
  const bound = graph.ok ? new Map(graph.graph.inputs.map((id) => [id, typeOf(graph.graph, id).dims])) : new Map((model.inputs ?? []).map(({ name, dims }) => [name, dims]));
  const shapes = new Map<string, readonly number[]>();
  let fits = externalPaths(model.bytes).length === 0;
  for (const { name, type } of declared.inputs) {
    const dims = bound.get(name);
    if (type.kind !== 'tensor' || !dims) fits = false;
    else if (type.dims?.length !== dims.length || type.dims.some((dim) => typeof dim !== 'number')) shapes.set(name, dims);
    if (type.kind === 'tensor' && type.dims?.some((dim, axis) => typeof dim === 'number' && dim !== dims?.[axis])) fits = false;
  }
  return fits || !graph.ok ? { bytes: model.bytes, shapes } : { bytes: exportGraph(graph.graph), shapes: new Map() };
}

/** Values of few bits: the graph's form for programs has none that lie several to a byte, or that NumPy lacks. */
export function foreignTypes(graph: Graph): readonly Unsupported[] {
  const bound = [...graph.inputs, ...graph.outputs].map((id) => ({ node: id, op: 'binding', id }));
  const made = graph.nodes.flatMap(({ name, op, outputs }) => outputs.filter(Boolean).map((id) => ({ node: name, op: String(op), id })));
  return [...bound, ...made].flatMap(({ node, op, id }) => {
    const { dtype } = typeOf(graph, id);
    return isFewBits(dtype) ? [{ node, op, reason: `programs are given no ${dtype} tensors` }] : [];
  });
}

/** One layer per node, for an engine's header. */
export function layersOf(graph: Graph): EngineLayer[] {
  return graph.nodes.map((node) => {
    const operand = node.inputs.find(Boolean) ?? node.outputs.find(Boolean)!;
    return { name: node.name, kind: node.op, precision: typeOf(graph, operand).dtype, origins: node.origins, ...nodeCost(graph, node) };
  });
}
