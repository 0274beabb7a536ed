/**
 * Graphs inside of nodes, inlined: If with a condition that is known at build is its branch. Exporters write such nodes where they did not
 * know a size (PyTorch's squeeze of an axis that is 1 or is not).
 */
import { freshName } from '../ir/build.ts';
import type { OnnxBranch, OnnxNode } from './model.ts';
import type { TensorValue } from './value.ts';

/** Everything that a node reads, inside its branches too; what a branch makes for itself is among it. */
export function readsOf(node: OnnxNode): readonly string[] {
  const graphs = graphsOf(node);
  return graphs.length === 0 ? node.inputs : [...node.inputs, ...graphs.flatMap(({ nodes, outputs }) => [...nodes.flatMap(readsOf), ...outputs])];
}

function graphsOf({ branches, body }: OnnxNode): readonly OnnxBranch[] {
  return [...(branches ? [branches.yes, branches.no] : []), ...(body ? [body] : [])];
}

/** Names that are taken; those that are given out are added. */
export interface Names {
  readonly values: Set<string>;
  readonly nodes: Set<string>;
}

export interface Inlined {
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, TensorValue>;
  /** What the graph gives, by the names that its results have now. */
  readonly outputs: readonly string[];
}

/**
 * The branch in place of its node: its own values under fresh names, its results under the names of the node's outputs where it has such.
 * `given` are the values of the branch's inputs.
 */
export function inlineBranch(node: OnnxNode, branch: OnnxBranch, names: Names, given: ReadonlyMap<string, string> = new Map()): Inlined {
  const renamed = new Map(given);
  const made = branch.nodes.flatMap(({ outputs }) => outputs).filter((name) => name !== '');
  for (const [index, output] of branch.outputs.entries()) {
    const target = node.outputs[index] ?? '';
    if (target !== '' && made.includes(output) && !renamed.has(output)) renamed.set(output, target);
  }
  for (const name of [...branch.initializers.keys(), ...made]) {
    if (!renamed.has(name)) renamed.set(name, freshName(names.values, `${node.name}/${name}`));
  }
  const rename = (name: string): string => renamed.get(name) ?? name;
  const nodes = branch.nodes.map((inner) => ({ ...renameNode(inner, rename), name: freshName(names.nodes, `${node.name}/${inner.name || inner.opType}`) }));
  const passed = branch.outputs.flatMap((output, index): OnnxNode[] => {
    const target = node.outputs[index] ?? '';
    if (target === '' || rename(output) === target) return [];
    const name = freshName(names.nodes, `${node.name}/Identity`);
    return [{ name, opType: 'Identity', domain: '', opset: node.opset, inputs: [rename(output)], outputs: [target], attributes: new Map() }];
  });
  const initializers = new Map([...branch.initializers].map(([name, value]) => [rename(name), value]));
  return { nodes: [...nodes, ...passed], initializers, outputs: branch.outputs.map(rename) };
}

type Rename = (name: string) => string;

/** The node under other names, all that is inside of it too. ONNX gives no name twice in nested graphs. */
export function renameNode(node: OnnxNode, rename: Rename): OnnxNode {
  return changeBranches({ ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) }, ({ inputs, nodes, initializers, outputs }) => ({
    inputs: inputs.map(rename),
    nodes: nodes.map((inner) => renameNode(inner, rename)),
    initializers: new Map([...initializers].map(([name, value]) => [rename(name), value])),
    outputs: outputs.map(rename),
  }));
}

/** The node with other nodes in the graphs inside of it. */
export function changeInside(node: OnnxNode, change: (nodes: readonly OnnxNode[]) => readonly OnnxNode[]): OnnxNode {
  return changeBranches(node, (branch) => ({ ...branch, nodes: change(branch.nodes) }));
}

function changeBranches(node: OnnxNode, change: (branch: OnnxBranch) => OnnxBranch): OnnxNode {
  const { branches, body } = node;
  return { ...node, ...(branches && { branches: { yes: change(branches.yes), no: change(branches.no) } }), ...(body && { body: change(body) }) };
}
