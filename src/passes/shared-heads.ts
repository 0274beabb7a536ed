/**
 * Heads of keys and values that several heads of queries share (grouped queries, Ainslie et al. 2023, arXiv:2305.13245), where a model repeats them:
 * the value before it is repeated, so that attention reads that.
 *
 * Exporters write Unsqueeze → Expand → Reshape, before or behind the transposes that bring heads to the front and keys to columns; or Expand alone
 * where one head serves all (Shazeer 2019, arXiv:1911.02150).
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { Node, ValueId } from '../ir/graph.ts';
import { type Dims, elementCount, sameDims } from '../ir/tensor.ts';
import { VIEWS, viewAs } from './reshapes.ts';

/** A value of which every head stands there several times in a row. */
export interface RepeatedHeads {
  readonly source: ValueId;
  /** The source's elements in the same order, with each head once. */
  readonly dims: Dims;
  /** What turns that into the repeated value's order, first to last. */
  readonly transposes: readonly Node<'Transpose'>[];
  /** How often. */
  readonly times: number;
}

/** How […, heads, row, element] repeats its heads (its third axis from the end); undefined where it does not. */
export function repeatedHeads(id: ValueId, edit: GraphEditor): RepeatedHeads | undefined {
  const transposes: Node<'Transpose'>[] = [];
  let axis = edit.type(id).dims.length - 3;
  let value = id;
  for (let node = edit.producer(id); node?.op === 'Transpose'; node = edit.producer(value)) {
    transposes.unshift(node);
    axis = node.attrs.perm[axis]!;
    value = node.inputs[0]!;
  }
  const repeated = repeatedAlong(value, axis, edit);
  return repeated && { ...repeated, transposes };
}

// view(expand(x)) where the one axis that grows ends where `axis` does: [a, g, 1, …] → [a, g, r, …] → [a, g·r, …]
function repeatedAlong(value: ValueId, axis: number, edit: GraphEditor): Omit<RepeatedHeads, 'transposes'> | undefined {
  const last = edit.producer(value);
  const expand = last && VIEWS.has(last.op) ? edit.producer(last.inputs[0]) : last;
  if (expand?.op !== 'Expand') return undefined;
  const [source, expanded] = [expand.inputs[0]!, expand.outputs[0]!];
  const { dims } = edit.type(value);
  const to = edit.type(expanded).dims;
  const from = Array.from({ length: to.length }, (_, at) => edit.type(source).dims.at(at - to.length) ?? 1);
  const [grown, ...others] = [...to.keys()].filter((at) => from[at] !== to[at]);
  if (grown === undefined || others.length > 0 || elementCount(dims) === 0) return undefined;
  const times = to[grown]!;
  const endsThere = elementCount(to.slice(grown + 1)) === elementCount(dims.slice(axis + 1));
  return endsThere && dims[axis]! % times === 0 ? { source, dims: dims.with(axis, dims[axis]! / times), times } : undefined;
}

/** Adds the value with each head once, in the order of the repeated one. */
export function addUnrepeated({ source, dims, transposes }: RepeatedHeads, edit: GraphEditor): ValueId {
  const view = viewAs(viewedBy(source, dims, edit), dims, edit.producer(source)?.origins ?? [], edit);
  return transposes.reduce((input, { attrs, origins, name }) => {
    const { dtype, dims: before } = edit.type(input);
    return edit.add({ op: 'Transpose', inputs: [input], attrs, origins, name, type: { dtype, dims: attrs.perm.map((from) => before[from]!) } });
  }, view);
}

/** The value that has these dims and that `id` only views; else `id`. */
function viewedBy(id: ValueId, dims: Dims, edit: GraphEditor): ValueId {
  let value = id;
  while (!sameDims(edit.type(value).dims, dims)) {
    const view = edit.producer(value);
    if (!view || !VIEWS.has(view.op)) return id;
    value = view.inputs[0]!;
  }
  return value;
}
