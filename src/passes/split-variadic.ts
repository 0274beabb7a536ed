/**
 * Sums and extremes of many operands, in steps of as many as a kernel binds on every adapter: WebGPU guarantees eight storage buffers, of which one is
 * the result.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import { fromNumbers } from '../ir/tensor.ts';
import { broadcast } from '../ops/shapes.ts';
import { applyRules, rulePass, type Rule } from './pass.ts';

const MOST = 7;

const RULES: readonly Rule[] = [
  // f(a, b, …, h, i) = f(f(a, …, g), h, i)
  { name: 'operands-in-steps', ops: ['Sum', 'Max', 'Min'], rewrite: inSteps },
  // mean(a, b, …) = sum(a, b, …) / n
  { name: 'mean-of-many', ops: ['Mean'], rewrite: meanAsSum },
];

function inSteps(node: AnyNode, edit: GraphEditor): boolean {
  if (node.inputs.length <= MOST || (node.op !== 'Sum' && node.op !== 'Max' && node.op !== 'Min')) return false;
  const first = partial(node, node.op, node.inputs.slice(0, MOST), edit);
  edit.replaceNode(node, { op: node.op, inputs: [first, ...node.inputs.slice(MOST)], attrs: {}, origins: node.origins });
  return true;
}

function meanAsSum(node: AnyNode, edit: GraphEditor): boolean {
  if (node.inputs.length <= MOST) return false;
  const count = edit.addConstant(fromNumbers(edit.type(node.outputs[0]!).dtype, [], [node.inputs.length]), `${node.name}_count`);
  edit.replaceNode(node, { op: 'Div', inputs: [partial(node, 'Sum', node.inputs, edit), count], attrs: {}, origins: node.origins });
  return true;
}

function partial(node: AnyNode, op: 'Sum' | 'Max' | 'Min', inputs: readonly ValueId[], edit: GraphEditor): ValueId {
  const type = { dtype: edit.type(inputs[0]!).dtype, dims: broadcast(...inputs.map((id) => edit.type(id).dims)) };
  return edit.add({ op, inputs, attrs: {}, origins: node.origins, name: node.name, type });
}

export const splitVariadic = rulePass({ name: 'split-variadic', summary: 'sums and extremes of many operands in steps that a kernel can bind', targets: ['webgpu'], basic: true }, RULES);

/** The graph as the pass leaves it. */
export const splitVariadicNodes = (graph: Graph): Graph => applyRules(graph, RULES).graph;
