/**
 * Outputs whose length is up to the data. The IR is static: such a value has the type of its upper bound, and the one axis along
 * which less of it may be real. No node reads it (the importer refuses those that would), so that the bound is nowhere taken for
 * the length; as a graph output it is cut to what the data gave. Prior art: XLA's bounded dynamism, TensorRT's data-dependent
 * shapes (kMAX upper bounds and a size tensor).
 */
import { type Graph, typeOf, type ValueId } from '../ir/graph.ts';
import type { AnyNode } from '../ir/graph.ts';
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import type { InferContext, OpDef } from './def.ts';
import { inferContext } from './infer.ts';
import { OPS } from './table.ts';

/** The axis of a node's first output that is an upper bound; undefined where the shape is exact, as of nearly every node. */
export function boundedAxisOf<K extends OpKind>(op: K, attrs: OpAttrs[K], context: InferContext): number | undefined {
  return (OPS[op] as OpDef<K>).bounds?.(attrs, context);
}

/** The same for a value of a graph. */
export function boundedAxis(graph: Graph, id: ValueId): number | undefined {
  const node = graph.nodes.find(({ outputs }) => outputs[0] === id);
  return node && boundedAxisOfNode(graph, node);
}

export function boundedAxisOfNode(graph: Graph, node: AnyNode): number | undefined {
  if (!OPS[node.op].bounds) return undefined;
  const infos = node.inputs.map((input) => (input === '' ? undefined : { type: typeOf(graph, input), constant: graph.constants.get(input) }));
  return boundedAxisOf(node.op, node.attrs as OpAttrs[typeof node.op], inferContext(infos, node.outputs.length));
}
