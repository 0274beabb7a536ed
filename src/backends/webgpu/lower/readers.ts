/** Who reads a value, for lowerings that leave it as its readers can take it. */
import { type AnyNode, consumers, type Graph, type ValueId } from '../../../ir/graph.ts';

const KNOWN = new WeakMap<Graph, Map<ValueId, AnyNode[]>>();

/** The nodes that read a value. */
export function readersOf(graph: Graph, id: ValueId): readonly AnyNode[] {
  let map = KNOWN.get(graph);
  if (!map) KNOWN.set(graph, (map = consumers(graph)));
  return map.get(id) ?? [];
}

/** The one node that reads a value, where there is exactly one and the graph does not give the value out. */
export function soleReader(graph: Graph, id: ValueId): AnyNode | undefined {
  const readers = readersOf(graph, id);
  return readers.length === 1 && !graph.outputs.includes(id) ? readers[0] : undefined;
}

/** Ops that are windows of what they read. */
const VIEWS: ReadonlySet<string> = new Set(['Identity', 'Reshape', 'Slice', 'Split', 'Squeeze', 'Transpose', 'Unsqueeze']);

/** Whether all that becomes of a value, through ops that only view it, are queries, keys and values of attention. */
export function isForAttention(graph: Graph, id: ValueId): boolean {
  if (graph.outputs.includes(id)) return false;
  const readers = readersOf(graph, id);
  return readers.length > 0 && readers.every((node) => {
    if (node.op === 'FusedAttention') return node.inputs[3] !== id;
    if (VIEWS.has(node.op)) return node.inputs[0] === id && node.outputs.every((output) => output === '' || isForAttention(graph, output));
    return node.op === 'Gather' && node.inputs[0] === id && graph.constants.get(node.inputs[1]!)?.dims.length === 0 && isForAttention(graph, node.outputs[0]!);
  });
}
