/** Who reads a value, for lowerings that leave it as its readers can take it. */
import { type AnyNode, consumers, type Graph, typeOf, type ValueId } from '../../../ir/graph.ts';
import { pickedRange } from './windows.ts';

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

/** Whether all that becomes of a value, through ops that only view it, ends in readers of a kind. */
function endsIn(graph: Graph, id: ValueId, isEnd: (node: AnyNode, id: ValueId) => boolean): boolean {
  if (graph.outputs.includes(id)) return false;
  const readers = readersOf(graph, id);
  return readers.length > 0 && readers.every((node): boolean => {
    if (isEnd(node, id)) return true;
    if (VIEWS.has(node.op)) return node.inputs[0] === id && node.outputs.every((output) => output === '' || endsIn(graph, output, isEnd));
    const isPicked = node.op === 'Gather' && node.inputs[0] === id && pickedRange(graph.constants.get(node.inputs[1]!), typeOf(graph, id).dims.at(node.attrs.axis)!) !== undefined;
    return isPicked && endsIn(graph, node.outputs[0]!, isEnd);
  });
}

const isOperand = (node: AnyNode, id: ValueId): boolean => node.op === 'FusedAttention' && node.inputs[3] !== id;

/** Whether a value becomes queries, keys and values of attention. */
export const isForAttention = (graph: Graph, id: ValueId): boolean => endsIn(graph, id, isOperand);

/** Whether a value becomes those, or parts of concatenations: whole rows of it are read, wherever they lie. */
export const isReadByRow = (graph: Graph, id: ValueId): boolean => endsIn(graph, id, (node, value) => isOperand(node, value) || node.op === 'Concat' || node.op === 'FusedConcat');

/** Whether integers become rows of products. */
export const isForRows = (graph: Graph, id: ValueId): boolean => endsIn(graph, id, (node, value) => node.op === 'QuantizedMatMul' && node.inputs.lastIndexOf(value) === 0);
