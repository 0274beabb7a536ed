/**
 * Placement: which values are written straight into the concatenation that reads them.
 *
 * Decided on the graph, before anything is lowered. A value gets one home, the largest concatenation that reads it; homes
 * nest. One rule limits this: WebGPU forbids that a dispatch reads and writes one buffer, even in disjoint parts, so a node
 * can't write into the buffer of which it reads another part. Of values in such a conflict some stay outside and are copied:
 * a small vertex cover of the conflicts, found greedily. Prior art: XLA's buffer assignment, MIOpen's and TensorRT's
 * concatenation elision.
 */
import { type AnyNode, type Graph, producers, typeOf, type ValueId } from '../../../ir/graph.ts';
import { elementCount } from '../../../ir/tensor.ts';
import { normalizeAxis } from '../../../ops/shapes.ts';
import { ELEMENTWISE_OPS } from '../../../passes/expr-of.ts';

/** A value's place in the output of a concatenation. */
export interface Slot {
  /** The concatenation's output. */
  readonly concat: ValueId;
  readonly axis: number;
  /** Elements before it along the axis. */
  readonly start: number;
  /** Whether convolutions or pools make one of the parts: the whole will then lie channels-last. */
  readonly image: boolean;
}

/** Ops that write nothing of their own where they can help it: their outputs lie in the memory of their first input. */
const VIEWS: ReadonlySet<string> = new Set(['Dropout', 'Flatten', 'Gather', 'Identity', 'Reshape', 'Slice', 'Split', 'Squeeze', 'Transpose', 'Unsqueeze']);

const IMAGE_MAKERS: ReadonlySet<string> = new Set(['AveragePool', 'Conv', 'ConvTranspose', 'FusedConv', 'FusedShortcut', 'LpPool', 'MaxPool']);
/** Ops whose output lies as an input of its rank does. */
const IMAGE_KEEPERS: ReadonlySet<string> = new Set([
  ...ELEMENTWISE_OPS, 'Concat', 'DepthToSpace', 'Dropout', 'FusedConcat', 'FusedElementwise', 'Identity', 'Pad', 'Resize', 'Slice', 'Split',
]);

/** The homes of all values that have one. */
export function planPlacement(graph: Graph): ReadonlyMap<ValueId, Slot> {
  const made = producers(graph);
  const slots = candidates(graph, made);
  for (;;) {
    const conflicts = findConflicts(graph, made, slots);
    if (conflicts.length === 0) return slots;
    slots.delete(worst(conflicts, graph));
  }
}

/** Every value that some node computes and a concatenation reads once, with the largest such concatenation. */
function candidates(graph: Graph, made: ReadonlyMap<ValueId, AnyNode>): Map<ValueId, Slot> {
  const slots = new Map<ValueId, Slot>();
  const isImage = imageTest(graph, made);
  const outputs = new Set(graph.outputs);
  const size = (id: ValueId): number => elementCount(typeOf(graph, id).dims);
  for (const node of graph.nodes) {
    if (node.op !== 'Concat') continue;
    const concat = node.outputs[0]!;
    const axis = normalizeAxis(node.attrs.axis, typeOf(graph, concat).dims.length);
    const image = node.inputs.some(isImage);
    let start = 0;
    for (const id of node.inputs) {
      const producer = made.get(id);
      const once = node.inputs.indexOf(id) === node.inputs.lastIndexOf(id);
      const rival = slots.get(id);
      if (producer && !VIEWS.has(producer.op) && !outputs.has(id) && once && size(id) > 0 && (!rival || size(rival.concat) <= size(concat))) {
        slots.set(id, { concat, axis, start, image });
      }
      start += typeOf(graph, id).dims[axis]!;
    }
  }
  return slots;
}

/** Whether a value is what convolutions or pools make of an image, as far as elementwise ops and the like keep it. */
function imageTest(graph: Graph, made: ReadonlyMap<ValueId, AnyNode>): (id: ValueId) => boolean {
  const known = new Map<ValueId, boolean>();
  const rank = (id: ValueId): number => typeOf(graph, id).dims.length;
  // In topological order, so that no recursion is needed however deep the graph.
  for (const node of graph.nodes) {
    for (const id of node.outputs) {
      if (id === '') continue;
      const keeps = (): boolean => node.inputs.some((input) => input !== '' && known.get(input) === true && rank(input) === rank(id));
      known.set(id, IMAGE_MAKERS.has(node.op) || (IMAGE_KEEPERS.has(node.op) && keeps()));
    }
  }
  return (id) => made.has(id) && known.get(id) === true;
}

type Conflict = readonly [ValueId, ValueId];

/** Pairs of values of which one must lie elsewhere; a value alone in its pair must go. */
function findConflicts(graph: Graph, made: ReadonlyMap<ValueId, AnyNode>, slots: ReadonlyMap<ValueId, Slot>): Conflict[] {
  const root = (id: ValueId): ValueId => {
    let at = id;
    for (let slot = slots.get(at); slot; slot = slots.get(at)) at = slot.concat;
    return at;
  };
  const base = (id: ValueId): ValueId => {
    let at = id;
    for (let node = made.get(at); node && VIEWS.has(node.op); node = made.get(at)) at = node.inputs[0]!;
    return at;
  };
  const conflicts: Conflict[] = [];
  for (const node of graph.nodes) {
    const placed = node.outputs.filter((id) => slots.has(id));
    const shares = (a: ValueId, b: ValueId): boolean => slots.has(a) && slots.has(b) && root(a) === root(b);
    if (node.op === 'Concat') {
      // What is copied into a buffer must not come from it.
      const target = root(node.outputs[0]!);
      for (const id of node.inputs.map(base)) {
        const slot = slots.get(id);
        if (slot && slot.concat !== node.outputs[0] && root(id) === target) conflicts.push([id, id]);
      }
      continue;
    }
    for (const [i, output] of placed.entries()) {
      // One dispatch would bind the buffer twice.
      for (const other of placed.slice(i + 1)) if (shares(output, other)) conflicts.push([output, other]);
      for (const id of new Set(node.inputs.filter(Boolean).map(base))) if (shares(output, id)) conflicts.push([output, id]);
    }
  }
  return conflicts;
}

/** The value in most conflicts; of equals the one that is cheapest to copy. */
function worst(conflicts: readonly Conflict[], graph: Graph): ValueId {
  const degree = new Map<ValueId, number>();
  for (const pair of conflicts) for (const id of new Set(pair)) degree.set(id, (degree.get(id) ?? 0) + (pair[0] === pair[1] ? conflicts.length : 1));
  const size = (id: ValueId): number => elementCount(typeOf(graph, id).dims);
  return [...degree.keys()].reduce((a, b) => (degree.get(b)! > degree.get(a)! || (degree.get(b) === degree.get(a) && size(b) < size(a)) ? b : a));
}

/** Whether convolutions and pools alone read a value, as their image. */
export function readAsImage(id: ValueId, graph: Graph): boolean {
  const readers = graph.nodes.filter((node) => node.inputs.includes(id));
  return readers.length > 0 && !graph.outputs.includes(id) && readers.every((node) => IMAGE_MAKERS.has(node.op) && node.inputs[0] === id);
}
