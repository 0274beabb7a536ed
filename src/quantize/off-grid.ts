/**
 * Values without a grid, for a runtime whose products compute what follows them before they write: what is added to another product's sums,
 * what an activation makes of the sums (the gate of x·σ(x) among it), and sums that only ops on reals read, as those of a head.
 *
 * onnxruntime passes integers from op to op, so that there each of these values has a grid.
 */
import { consumers, typeOf, type AnyNode, type Graph, type ValueId } from '../ir/graph.ts';
import { sameDims } from '../ir/tensor.ts';
import { isElementwiseNode } from '../passes/expr-of.ts';
import type { Placement } from './placement.ts';
import { jointSums, type JointSums } from './sums.ts';

export interface OffGrid {
  /** Each of two added convolutions' partner, whose scale it shares. */
  readonly partners: JointSums['partners'];
  readonly unrounded: ReadonlySet<ValueId>;
}

export const ON_GRID: OffGrid = { partners: new Map(), unrounded: new Set() };

export function offGrid(graph: Graph, placement: Placement): OffGrid {
  const { partners, values } = jointSums(graph, placement);
  return { partners, unrounded: new Set([...values, ...inRegisters(graph, placement)]) };
}

function inRegisters(graph: Graph, { quantized, roles, activations, sharedWith }: Placement): ReadonlySet<ValueId> {
  const readers = consumers(graph);
  const shared = new Set([...sharedWith.keys(), ...sharedWith.values()]);
  const found = new Set<ValueId>();
  for (const node of graph.nodes) {
    if (roles.get(node.name) !== 'product') continue;
    const direct = node.outputs[0]!;
    const value = readers.get(direct)?.find(({ name }) => activations.has(name))?.outputs[0] ?? direct;
    if (!quantized.has(value) || shared.has(value)) continue;
    const next = readers.get(value) ?? [];
    if (next.every(({ name }) => !roles.has(name))) found.add(value);
    else if (!graph.outputs.includes(value)) for (const id of activated(value, next)) found.add(id);
  }
  return found;

  /** The value, and that of its gate, where all that reads them is one activation of it alone; else nothing. */
  function activated(value: ValueId, [first, second, ...more]: readonly AnyNode[]): readonly ValueId[] {
    if (!first || more.length > 0) return [];
    if (!second) return isActivation(first, [value]) ? [value] : [];
    for (const [gate, product] of [[first, second], [second, first]] as const) {
      const opened = gate.outputs[0]!;
      const alone = readers.get(opened)?.length === 1 && !graph.outputs.includes(opened) && !shared.has(opened);
      if (alone && product.op === 'Mul' && isActivation(gate, [value]) && isActivation(product, [value, opened])) return [value, opened];
    }
    return [];
  }

  /** Whether a node computes each element from the same element of these values, and from constants. */
  function isActivation(node: AnyNode, of: readonly ValueId[]): boolean {
    const dims = typeOf(graph, of[0]!).dims;
    return isElementwiseNode(node) && sameDims(typeOf(graph, node.outputs[0]!).dims, dims) && node.inputs.every((id) => !id || of.includes(id) || graph.constants.has(id));
  }
}
