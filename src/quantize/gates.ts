/**
 * Values that only a gate of themselves reads, x·σ(x) or hard-swish. What lies far below zero there makes nothing, so that a grid spends no steps on
 * it where its error is measured behind the gate: YOLOX-nano has sums down to −52 of which only those above −6 matter.
 */
import { consumers, type Graph, type ValueId } from '../ir/graph.ts';

/** What becomes of a value, element by element. */
export type Gate = (x: number) => number;

const swish: Gate = (x) => x / (1 + Math.exp(-x));
const hardSwish: Gate = (x) => (x * Math.min(6, Math.max(0, x + 3))) / 6;

export function gatesBehind(graph: Graph): ReadonlyMap<ValueId, Gate> {
  const readers = consumers(graph);
  const gates = new Map<ValueId, Gate>();
  for (const id of graph.types.keys()) {
    const [first, second, ...more] = readers.get(id) ?? [];
    if (!first || more.length > 0 || graph.outputs.includes(id)) continue;
    if (!second && first.op === 'HardSwish') gates.set(id, hardSwish);
    const opened = first.op === 'Sigmoid' ? first.outputs[0]! : undefined;
    // A gate comes before what it opens.
    if (opened && second?.op === 'Mul' && second.inputs.includes(opened) && readers.get(opened)!.length === 1) gates.set(id, swish);
  }
  return gates;
}
