/**
 * Sums of two products, as at the end of a residual block whose shortcut has a convolution of its own: with one scale per output channel for
 * both, the sums in int32 can be added as they are, and neither needs a grid.
 *
 * The common scale is the larger of the two that the channel's weights ask for. What the other product loses by it is smaller than the
 * rounding of the one that asked for it; both are spared the rounding of their outputs.
 */
import { consumers, producers, typeOf, type Graph, type Node, type ValueId } from '../ir/graph.ts';
import { sameDims } from '../ir/tensor.ts';
import type { Placement } from './placement.ts';

export interface JointSums {
  /** Each of the two convolutions' partner, by name. */
  readonly partners: ReadonlyMap<string, Node<'Conv'>>;
  /** Their outputs, which stay off the grid. */
  readonly values: ReadonlySet<ValueId>;
}

/** Additions of two int8 convolutions that nothing else reads. */
export function jointSums(graph: Graph, { roles, sharedWith }: Placement): JointSums {
  const producer = producers(graph);
  const readers = consumers(graph);
  const partners = new Map<string, Node<'Conv'>>();
  const values = new Set<ValueId>();
  const shared = new Set([...sharedWith.keys(), ...sharedWith.values()]);
  for (const node of graph.nodes) {
    if (node.op !== 'Add' || !roles.has(node.name)) continue;
    const [a, b] = node.inputs.map((id) => {
      const source = producer.get(id);
      const alone = readers.get(id)?.length === 1 && !graph.outputs.includes(id) && !shared.has(id);
      return alone && source?.op === 'Conv' && source.attrs.group === 1 && roles.get(source.name) === 'product' ? source : undefined;
    });
    if (!a || !b || a === b || !sameDims(typeOf(graph, a.outputs[0]!).dims, typeOf(graph, b.outputs[0]!).dims)) continue;
    partners.set(a.name, b).set(b.name, a);
    for (const id of node.inputs) values.add(id);
  }
  return { partners, values };
}
