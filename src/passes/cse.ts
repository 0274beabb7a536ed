/**
 * Common subexpressions: equal constants become one, and so do nodes that compute the same from the same.
 */
import { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import { formatType, type Tensor } from '../ir/tensor.ts';
import type { Pass, PassResult } from './pass.ts';

export const commonSubexpressions: Pass = {
  name: 'common-subexpressions',
  summary: 'compute equal things once',
  run: mergeEqual,
};

function mergeEqual(graph: Graph): PassResult {
  const edit = new GraphEditor(graph);
  const constants = mergeConstants(graph, edit);
  let merged = 0;
  const seen = new Map<string, AnyNode>();
  for (const name of edit.names()) {
    const node = edit.node(name);
    if (!node || node.op === 'Custom') continue;
    const key = nodeKey(node);
    const original = seen.get(key) && edit.node(seen.get(key)!.name);
    if (original && takeOver(node, original, edit)) merged++;
    else if (!original) seen.set(key, node);
  }
  return { graph: edit.finish(), rewrites: { constant: constants, node: merged } };
}

/** Two equal large constants differ early or late, if they differ at all: the full comparison is then rare. */
const SAMPLE_BYTES = 32;

function mergeConstants(graph: Graph, edit: GraphEditor): number {
  const buckets = new Map<string, [ValueId, Tensor][]>();
  let merged = 0;
  for (const [id, tensor] of graph.constants) {
    if (edit.isOutput(id) || edit.consumers(id).length === 0) continue;
    const { data } = tensor;
    const key = `${formatType(tensor)} ${data.subarray(0, SAMPLE_BYTES).join()} ${data.subarray(-SAMPLE_BYTES).join()}`;
    const bucket = buckets.get(key) ?? [];
    const twin = bucket.find(([, other]) => sameBytes(other.data, data));
    if (twin) {
      edit.replaceValue(id, twin[0]);
      merged++;
    } else buckets.set(key, [...bucket, [id, tensor]]);
  }
  return merged;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || (a.length === b.length && a.every((byte, index) => byte === b[index]));
}

function nodeKey(node: AnyNode): string {
  const attrs = Object.entries(node.attrs).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([node.op, node.inputs, attrs, node.outputs.length], exactNumber);
}

/** JSON writes infinities, NaN and -0 as other numbers. */
function exactNumber(_: string, value: unknown): unknown {
  return typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0)) ? `number ${1 / value} ${value}` : value;
}

/** Lets the readers of `node` read `original`. A graph output that can't be renamed keeps its node. */
function takeOver(node: AnyNode, original: AnyNode, edit: GraphEditor): boolean {
  const pairs = node.outputs.map((id, index) => [id, original.outputs[index] ?? ''] as const).filter(([id]) => id);
  if (!pairs.every(([from, to]) => to && edit.canReplaceValue(from, to))) return false;
  for (const [from, to] of pairs) edit.replaceValue(from, to);
  return true;
}
