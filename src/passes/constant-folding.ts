/**
 * Constant folding: subgraphs of constants are computed once, at build, by an evaluator that the caller gives.
 *
 * Weights must not grow: an Expand or Tile of a small constant to a large one stays a node. Dequantization of weights stays
 * too, because int8 kernels want the integers.
 */
import { GraphEditor, prune } from '../ir/edit.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { formatType, tensorBytes, type Tensor } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { boundedAxisOfNode } from '../ops/bounded.ts';
import type { Evaluator, Pass, PassResult } from './pass.ts';

/** A folded value may take this much, or as much as the constants that it is computed from. */
const FREE_BYTES = 64 * 1024;

/** Integers are what later stages want of weights (so quantizing them folds, and dequantizing does not); custom ops are not ours to run. */
const KEPT: ReadonlySet<OpKind> = new Set(['Custom', 'DequantizeLinear', 'DynamicQuantizeLinear']);

export const constantFolding: Pass = {
  name: 'constant-folding',
  summary: 'evaluate subgraphs of constants that do not grow the weights',
  async run(graph, { fold }) {
    return fold ? foldConstants(graph, fold, KEPT) : { graph, rewrites: {} };
  },
};

/** Folds every subgraph of constants that does not grow the weights; nodes of the kept kinds stay. */
export async function foldConstants(graph: Graph, fold: Evaluator, kept: ReadonlySet<OpKind>): Promise<PassResult> {
  const foldable = foldableNodes(graph, kept);
  if (foldable.size === 0) return { graph, rewrites: {} };
  const wanted = new Set<ValueId>();
  for (const node of graph.nodes) {
    if (foldable.has(node)) continue;
    for (const id of node.inputs) if (id && !graph.constants.has(id)) wanted.add(id);
  }
  const results = [...foldable].flatMap((node) => node.outputs.filter((id) => wanted.has(id)));
  const tensors = await evaluate(subgraph(graph, [...foldable], results), fold);
  const edit = new GraphEditor(graph);
  for (const [id, tensor] of tensors) edit.replaceValue(id, edit.addConstant(tensor, id));
  return { graph: edit.finish(), rewrites: { constant: tensors.size } };
}

/** Nodes that depend on constants only and whose outputs are worth keeping. A graph output keeps its node, for its name. */
function foldableNodes(graph: Graph, kept: ReadonlySet<OpKind>): Set<AnyNode> {
  const outputs = new Set(graph.outputs);
  /** Bytes that folding to a value may cost: of the constants it comes from, or of itself where that is less. */
  const sourceBytes = new Map<ValueId, number>();
  for (const [id, tensor] of graph.constants) sourceBytes.set(id, tensor.data.byteLength);
  const foldable = new Set<AnyNode>();
  for (const node of graph.nodes) {
    const inputs = node.inputs.filter(Boolean);
    if (kept.has(node.op) || boundedAxisOfNode(graph, node) !== undefined || node.outputs.some((id) => outputs.has(id))) continue;
    if (!inputs.every((id) => sourceBytes.has(id))) continue;
    const given = inputs.reduce((sum, id) => sum + sourceBytes.get(id)!, 0);
    const made = node.outputs.reduce((sum, id) => sum + (id ? tensorBytes(graph.types.get(id)!) : 0), 0);
    if (made > Math.max(FREE_BYTES, given)) continue;
    foldable.add(node);
    for (const id of node.outputs) if (id) sourceBytes.set(id, made);
  }
  return foldable;
}

/** The nodes that `results` need, as a graph without inputs. */
function subgraph(graph: Graph, nodes: readonly AnyNode[], results: readonly ValueId[]): Graph {
  return prune({ ...graph, name: `${graph.name} constants`, inputs: [], outputs: results, nodes });
}

/** All results at once; where the evaluator lacks an op, by halves, so that one foreign op does not stop the rest. */
async function evaluate(graph: Graph, fold: Evaluator): Promise<ReadonlyMap<ValueId, Tensor>> {
  const { outputs } = graph;
  if (outputs.length === 0) return new Map();
  try {
    return checked(graph, await fold(graph));
  } catch (error) {
    if (error instanceof WrongResult) throw error;
    if (outputs.length === 1) return new Map();
    const middle = outputs.length >> 1;
    const halves = [outputs.slice(0, middle), outputs.slice(middle)].map((half) => subgraph(graph, graph.nodes, half));
    const [first, second] = [await evaluate(halves[0]!, fold), await evaluate(halves[1]!, fold)];
    return new Map([...first, ...second]);
  }
}

class WrongResult extends Error {}

function checked(graph: Graph, tensors: ReadonlyMap<ValueId, Tensor>): ReadonlyMap<ValueId, Tensor> {
  for (const id of graph.outputs) {
    const [tensor, type] = [tensors.get(id), graph.types.get(id)!];
    if (!tensor || !sameType(tensor, type)) {
      throw new WrongResult(`the evaluator gave ${tensor ? formatType(tensor) : 'nothing'} for '${id}', not ${formatType(type)}`);
    }
  }
  return tensors;
}
