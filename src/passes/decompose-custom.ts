/**
 * Custom ops in standard ones: a node whose op has no native route on the target is replaced by what its plugin says it is.
 *
 * The subgraph (ops/decomposition.ts) is spliced in under the node's name. Prior art: PyTorch's decompositions, ONNX's function bodies.
 */
import { freshName } from '../ir/build.ts';
import { opTitle } from '../ir/custom.ts';
import type { AnyNode, Graph, Node, ValueId } from '../ir/graph.ts';
import type { Tensor, TensorType } from '../ir/tensor.ts';
import { decomposes, webgpuRoute } from '../ops/custom-routes.ts';
import { type Decomposition, decompositionOf, type Operand } from '../ops/decomposition.ts';
import type { Pass, PassResult, Target } from './pass.ts';

export const decomposeCustom: Pass = {
  name: 'decompose-custom',
  summary: 'custom ops without a kernel of their own, in standard ones',
  basic: true,
  run: (graph, { target }) => decomposeCustomNodes(graph, target),
};

/** The graph with every custom node decomposed that has no native route on the target. Throws what names the plugin. */
export function decomposeCustomNodes(graph: Graph, target: Target): PassResult {
  const chosen = graph.nodes.filter((node) => node.op === 'Custom' && mustDecompose(node, graph, target));
  if (chosen.length === 0) return { graph, rewrites: {} };
  const types = new Map(graph.types);
  const constants = new Map(graph.constants);
  const names = { nodes: new Set(graph.nodes.map(({ name }) => name)), values: new Set(types.keys()) };
  const rewrites: Record<string, number> = {};
  const nodes = graph.nodes.flatMap((node): AnyNode[] => {
    if (node.op !== 'Custom' || !chosen.includes(node)) return [node];
    const { definition } = node.attrs;
    const part = decompositionOf(definition!, node.inputs.map((id) => operandOf(id, graph)), node.outputs.map((id) => graph.types.get(id)));
    rewrites[opTitle(definition!.op)] = (rewrites[opTitle(definition!.op)] ?? 0) + 1;
    return splice(node, part, { types, constants, names });
  });
  return { graph: { ...graph, nodes, types, constants }, rewrites };
}

function mustDecompose(node: Node<'Custom'>, graph: Graph, target: Target): boolean {
  const { definition } = node.attrs;
  if (!definition || !decomposes(definition.op)) return false;
  return target === 'onnx' || webgpuRoute(definition, node.inputs.map((id) => graph.types.get(id))) === 'decomposed';
}

function operandOf(id: ValueId, graph: Graph): Operand | undefined {
  const type = graph.types.get(id);
  return type && { type, constant: graph.constants.get(id) };
}

interface Splicing {
  readonly types: Map<ValueId, TensorType>;
  readonly constants: Map<ValueId, Tensor>;
  readonly names: { readonly nodes: Set<string>; readonly values: Set<string> };
}

/** The part's nodes under names of their own, reading the node's inputs and giving its outputs. */
function splice(node: Node<'Custom'>, { graph, inputs }: Decomposition, { types, constants, names }: Splicing): AnyNode[] {
  const renamed = new Map<ValueId, ValueId>([['', '']]);
  for (const [index, id] of inputs.entries()) if (id !== '') renamed.set(id, node.inputs[index]!);
  for (const [index, id] of graph.outputs.entries()) if (node.outputs[index]) renamed.set(id, node.outputs[index]);
  const rename = (id: ValueId): ValueId => {
    const known = renamed.get(id);
    if (known !== undefined) return known;
    const name = freshName(names.values, `${node.name}/${id}`);
    renamed.set(id, name);
    types.set(name, graph.types.get(id)!);
    const constant = graph.constants.get(id);
    if (constant) constants.set(name, constant);
    return name;
  };
  const last = graph.nodes.at(-1);
  return graph.nodes.map((part) => ({
    ...part,
    name: part === last ? node.name : freshName(names.nodes, `${node.name}/${part.name}`),
    inputs: part.inputs.map(rename),
    outputs: part.outputs.map(rename),
    origins: node.origins,
  })) as AnyNode[];
}
