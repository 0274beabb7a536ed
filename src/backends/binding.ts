/** A graph's inputs and outputs as an engine's bindings. */
import type { Binding } from '../engine/engine.ts';
import { type Graph, typeOf, type ValueId } from '../ir/graph.ts';
import { boundedAxis } from '../ops/bounded.ts';

export function bindingOf(graph: Graph, id: ValueId): Binding {
  const binding = { name: id, ...typeOf(graph, id) };
  return boundedAxis(graph, id) === undefined ? binding : { ...binding, dynamic: true };
}
