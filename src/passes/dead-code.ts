/**
 * Dead code: nodes, constants and optional outputs that nothing reads.
 */
import { GraphEditor, prune } from '../ir/edit.ts';
import type { AnyNode, Graph } from '../ir/graph.ts';
import { opDef } from '../ops/infer.ts';
import type { Pass, PassResult } from './pass.ts';

export const deadCode: Pass = {
  name: 'dead-code',
  summary: 'drop nodes, constants and optional outputs that nothing reads',
  basic: true,
  run: removeDeadCode,
};

function removeDeadCode(graph: Graph): PassResult {
  const pruned = prune(graph);
  const edit = new GraphEditor(pruned);
  let outputs = 0;
  for (const name of edit.names()) if (dropUnreadOutputs(edit.node(name)!, edit)) outputs++;
  const rewrites = {
    node: graph.nodes.length - pruned.nodes.length,
    constant: graph.constants.size - pruned.constants.size,
    output: outputs,
  };
  const changed = Object.values(rewrites).some((count) => count > 0);
  return { graph: changed ? edit.finish() : graph, rewrites };
}

/** Optional outputs only: how many outputs Split has is part of its meaning, so it keeps them all. */
function dropUnreadOutputs(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op === 'Split' || node.op === 'Custom') return false;
  const { min } = opDef(node.op).outputs;
  const isRead = (id: string): boolean => edit.isOutput(id) || edit.consumers(id).length > 0;
  const outputs = node.outputs.map((id, index) => (index < min || (id && isRead(id)) ? id : ''));
  while (outputs.length > min && !outputs.at(-1)) outputs.pop();
  if (outputs.length === node.outputs.length && outputs.every((id, index) => id === node.outputs[index])) return false;
  edit.setOutputs(node, outputs);
  return true;
}
