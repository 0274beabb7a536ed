/**
 * A model of which the IR holds a part: the head is a graph like any other, the tail is all that the IR can't hold and what depends on
 * it, as an ONNX model with the nodes of the file. Nothing leads from the tail back into the head, so that one cut is enough; sizes
 * that the data decide, control flow and sequences stay inside the tail.
 */
import type { onnx as Onnx } from 'onnx-proto';
import { isFewBits } from '../ir/few-bits.ts';
import type { Graph, ValueId } from '../ir/graph.ts';
import { boundedAxis } from '../ops/bounded.ts';
import { ONNX_DTYPE } from '../ops/specs.ts';
import type { Held } from './import.ts';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';
import { encodeTensor } from './tensor.ts';

type GraphProto = Onnx.IGraphProto;
type NodeProto = Onnx.INodeProto;

export interface Tail {
  /** Its outputs are what the tail reads of it, and the model's outputs that it makes. */
  readonly head: Graph;
  /** The tail as an ONNX file. */
  readonly bytes: Uint8Array;
  /** The same with all sizes of its inputs left open: for a branch that is not taken at these sizes, and does not fit them. */
  readonly openBytes: () => Uint8Array;
  readonly nodes: readonly { readonly name: string; readonly op: string }[];
  /** What it reads: inputs of the model and outputs of the head. */
  readonly inputs: readonly ValueId[];
  /** The model's outputs, its own and the head's, in the model's order. */
  readonly outputs: readonly ValueId[];
}

/** Cuts the file that `held` was imported from; undefined where the head would have nothing to compute. */
export function cutTail(bytes: Uint8Array, held: Held): Tail | undefined {
  const model = onnx.ModelProto.decode(boundedReader(bytes));
  const { graph } = model;
  if (!graph) return undefined;
  const nodes = (graph.node ?? []).filter((node) => node.output?.some((name) => held.left.has(name)));
  const made = new Set(nodes.flatMap((node) => node.output ?? []));
  const read = new Set(nodes.flatMap(readsOf));
  const own = (graph.initializer ?? []).filter(({ name }) => read.has(name ?? ''));
  const given = new Set(own.map(({ name }) => name ?? ''));
  const known = [...held.graph.constants].filter(([name]) => read.has(name) && !given.has(name) && !made.has(name));
  const computed = new Set(held.graph.nodes.flatMap((node) => node.outputs));
  const crossing = (name: string): boolean => read.has(name) && !made.has(name);
  const inputs = [...held.graph.inputs, ...computed].filter(crossing);
  // The tail is the file's own nodes, to which onnxruntime-node can't give such values.
  if (inputs.some((name) => isFewBits(held.graph.types.get(name)!.dtype))) return undefined;
  const outputs = (graph.output ?? []).filter(({ name }) => made.has(name ?? ''));
  const kept = (graph.output ?? []).flatMap(({ name }) => (name && !made.has(name) ? [name] : []));
  const headOutputs = [...new Set([...kept, ...inputs.filter((name) => computed.has(name))])];
  if (headOutputs.every((name) => !computed.has(name))) return undefined;
  const encode = (sizes: 'bound' | 'open'): Uint8Array => {
    const tail = {
      ...graph,
      node: nodes,
      initializer: [...own, ...known.map(([name, tensor]) => encodeTensor(tensor, name))],
      input: inputs.map((name) => declare(held.graph, name, sizes)),
      output: outputs,
      // Types that were declared for other sizes.
      valueInfo: [],
    };
    return onnx.ModelProto.encode(onnx.ModelProto.create({ ...model, graph: tail })).finish().slice();
  };
  return {
    head: withOutputs(held.graph, headOutputs),
    bytes: encode('bound'),
    openBytes: () => encode('open'),
    nodes: nodes.map((node) => ({ name: node.name || node.output!.find(Boolean)!, op: node.opType ?? '' })),
    inputs,
    outputs: (graph.output ?? []).map(({ name }) => name ?? ''),
  };
}

/** Names that a node reads, and those of the graphs inside it. */
function readsOf(node: NodeProto): string[] {
  const graphs = (node.attribute ?? []).flatMap(({ g, graphs: more }) => [...(g ? [g] : []), ...(more ?? [])]);
  return [...(node.input ?? []), ...graphs.flatMap(graphReads)];
}

function graphReads(graph: GraphProto): string[] {
  return [...(graph.node ?? []).flatMap(readsOf), ...(graph.output ?? []).map(({ name }) => name ?? '')];
}

/** A length that the data decide is left open. */
function declare(graph: Graph, name: ValueId, sizes: 'bound' | 'open'): Onnx.IValueInfoProto {
  const { dtype, dims } = graph.types.get(name)!;
  const open = boundedAxis(graph, name);
  const dim = dims.map((size, axis) => (sizes === 'open' || axis === open ? {} : { dimValue: size }));
  return { name, type: { tensorType: { elemType: ONNX_DTYPE[dtype], shape: { dim } } } };
}

/** The graph with other outputs and the nodes and constants that they need. */
function withOutputs(graph: Graph, outputs: readonly ValueId[]): Graph {
  const needed = new Set(outputs);
  const nodes = graph.nodes.toReversed().filter((node) => {
    const wanted = node.outputs.some((id) => needed.has(id));
    if (wanted) for (const id of node.inputs) needed.add(id);
    return wanted;
  });
  const constants = new Map([...graph.constants].filter(([id]) => needed.has(id)));
  const types = new Map([...graph.types].filter(([id]) => constants.has(id) || !graph.constants.has(id)));
  return { ...graph, outputs, nodes: nodes.toReversed(), constants, types };
}
