/**
 * The IR: an immutable graph of named values, in the manner of ONNX, with static shapes.
 *
 * A graph is in topological order and in single-assignment form. The op vocabulary (ops.ts) is ONNX's own at opset
 * {@link REFERENCE_OPSET}: the importer upgrades every older node to it, so that each later stage knows one meaning per op.
 * A few internal ops, which passes make and no model contains, complete it.
 */
import type { OpAttrs, OpKind } from './ops.ts';
import type { Tensor, TensorType } from './tensor.ts';

/** The ONNX opset whose semantics every node of the IR has. */
export const REFERENCE_OPSET = 22;

/** A value's name, unique in its graph: the ONNX tensor name where there is one. */
export type ValueId = string;

/** One operation. An absent optional input is `''`, as in ONNX; trailing absent ones are left out. */
export interface Node<K extends OpKind = OpKind> {
  readonly op: K;
  /** Unique in the graph; the ONNX node's name where there is one. */
  readonly name: string;
  readonly inputs: readonly ValueId[];
  /** `''` for an optional output that nobody uses. */
  readonly outputs: readonly ValueId[];
  readonly attrs: OpAttrs[K];
  /** Names of the ONNX nodes whose work this node does; fused nodes list several. Profiles and diffs join on it. */
  readonly origins: readonly string[];
}

/** A node of some kind, with `op` as discriminant. */
export type AnyNode = { [K in OpKind]: Node<K> }[OpKind];

/** A model with static shapes, as passes and backends see it; ops and attributes are ONNX's at one opset. Immutable. */
export interface Graph {
  readonly name: string;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  /** Type of every value: inputs, constants and node outputs. */
  readonly types: ReadonlyMap<ValueId, TensorType>;
  readonly constants: ReadonlyMap<ValueId, Tensor>;
  /** In topological order. */
  readonly nodes: readonly AnyNode[];
}

/** The type of a value that the graph is known to hold. Throws on a name that it does not hold, which is a bug. */
export function typeOf(graph: Graph, id: ValueId): TensorType {
  const type = graph.types.get(id);
  if (!type) throw new Error(`graph ${graph.name} has no value '${id}'`);
  return type;
}

/** Nodes by the value they produce. */
export function producers(graph: Graph): Map<ValueId, AnyNode> {
  const map = new Map<ValueId, AnyNode>();
  for (const node of graph.nodes) for (const output of node.outputs) if (output) map.set(output, node);
  return map;
}

/** Nodes by the values they read, in graph order; a node that reads a value twice is listed once. */
export function consumers(graph: Graph): Map<ValueId, AnyNode[]> {
  const map = new Map<ValueId, AnyNode[]>();
  for (const node of graph.nodes) {
    for (const input of new Set(node.inputs)) {
      if (!input) continue;
      const list = map.get(input);
      if (list) list.push(node);
      else map.set(input, [node]);
    }
  }
  return map;
}
