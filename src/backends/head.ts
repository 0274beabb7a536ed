/** What of a model the IR holds: all of it, or the head of one whose tail onnxruntime runs as it is. */
import type { Graph } from '../ir/graph.ts';
import { cutTail, type Tail } from '../onnx/tail.ts';
import type { BuildInput } from './backend.ts';

export interface Head {
  readonly graph: Graph;
  /** Undefined where the graph is the whole model. */
  readonly tail: Tail | undefined;
}

/** Undefined where nothing that is worth it comes before what the IR can't hold. */
export function headOf({ graph, model }: Pick<BuildInput, 'graph' | 'model'>): Head | undefined {
  if (graph.ok) return { graph: graph.graph, tail: undefined };
  const tail = graph.held && cutTail(model.bytes, graph.held);
  return tail && { graph: tail.head, tail };
}
