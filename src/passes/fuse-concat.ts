/**
 * Concatenations of elementwise expressions as one kernel, with the elementwise op that reads them.
 *
 * A rotary embedding is x·cos + Concat(−x₂, x₁)·sin, or Concat(x₁·cos − x₂·sin, x₁·sin + x₂·cos) where exporters write it out: three kernels of
 * a few elements each, for queries and for keys, in every layer. Here each part is an expression of its own, and the reader is computed in
 * every part, over the elements of its other operands that belong there. Pairs that are stacked and reshaped (interleaved rotations) are parts
 * that lie in turn. Two such concatenations that read the same tables share a kernel. Prior art: XLA's fusion of concatenate and horizontal
 * fusion.
 */
import { unionOrigins, GraphEditor } from '../ir/edit.ts';
import { type ExprPart, type PartPlace, replaceInputs } from '../ir/expr.ts';
import { type AnyNode, type Graph, type Node, producers, type ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { sameDims } from '../ir/tensor.ts';
import { computedBy, isSayable, type Joining, MAX_INPUTS, operandAt, Operands, operandValue } from './joining.ts';
import { applyRules, type Pass } from './pass.ts';
import { operandExpr } from './region.ts';
import { positiveAxis } from './tensors.ts';

/** Stacked values that share a vector of four elements. */
const STACKED: ReadonlySet<number> = new Set([2, 4]);

/** Ops whose results are parts of other tensors or lie in them: a concatenation copies them in any case. What other kernels make is written into place. */
const VIEWS: ReadonlySet<OpKind> = new Set<OpKind>(['Flatten', 'Gather', 'Identity', 'Reshape', 'Slice', 'Split', 'Squeeze', 'Transpose', 'Unsqueeze']);

/** A concatenation, or a stack of values that a reshape lays side by side: its parts before anything is taken in. */
interface Layout {
  readonly axis: number;
  readonly root: AnyNode;
  readonly nodes: readonly AnyNode[];
  /** Each with the one node that may read it. */
  readonly parts: readonly (PartPlace & { readonly id: ValueId; readonly reader: AnyNode })[];
}

function layoutOf(node: Node<'Concat'>, edit: GraphEditor): Layout {
  const { dims } = edit.type(node.outputs[0]!);
  const axis = positiveAxis(node.attrs.axis, dims.length);
  let start = 0;
  const parts = node.inputs.map((id) => {
    const extent = edit.type(id).dims[axis]!;
    return { id, reader: node as AnyNode, start: (start += extent) - extent, step: 1, extent };
  });
  return stackOf(node, axis, edit) ?? { axis, root: node, nodes: [node], parts };
}

// reshape(concat(unsqueeze(a), unsqueeze(b))) = a₀ b₀ a₁ b₁ …
function stackOf(node: Node<'Concat'>, axis: number, edit: GraphEditor): Layout | undefined {
  const { dims } = edit.type(node.outputs[0]!);
  const root = edit.onlyConsumer(node.outputs[0]!);
  const count = node.inputs.length;
  const merged = [...dims.slice(0, -2), count * (dims.at(-2) ?? 0)];
  if (axis !== dims.length - 1 || dims.at(-1) !== count || !STACKED.has(count) || root?.op !== 'Reshape' || !sameDims(edit.type(root.outputs[0]!).dims, merged)) return undefined;
  const columns = node.inputs.map((id) => edit.producer(id));
  const own = dims.slice(0, -1);
  if (!columns.every((column) => column && edit.onlyConsumer(column.outputs[0]!) === node && (column.op === 'Unsqueeze' || column.op === 'Reshape') && sameDims(edit.type(column.inputs[0]!).dims, own))) return undefined;
  const parts = columns.map((column, start) => ({ id: column!.inputs[0]!, reader: column!, start, step: count, extent: own.at(-1)! }));
  return { axis: own.length - 1, root, nodes: [...columns.map((column) => column!), node, root], parts };
}

/** What a node computes of one part: an elementwise op, or a concatenation inside of it along the same axis. */
function computedPart(node: AnyNode, place: PartPlace, axis: number, edit: GraphEditor): { readonly inputs: readonly ValueId[]; readonly parts: readonly ExprPart[] } | undefined {
  const nested = node.op === 'FusedConcat' && node.outputs.length === 1 && node.attrs.joined[0]!.axis === axis ? node.attrs.joined[0] : undefined;
  if (nested && place.step === 1) return { inputs: node.inputs, parts: nested.parts.map((part) => ({ ...part, start: place.start + part.start })) };
  const own = computedBy(node, edit);
  return own && { inputs: own.inputs, parts: [{ ...place, expr: own.expr }] };
}

/** The concatenation with what is computed of its parts alone; undefined where a part is better written into place by who makes it. */
function joiningOf(node: Node<'Concat'>, edit: GraphEditor): (Joining & { readonly computed: number }) | undefined {
  const layout = layoutOf(node, edit);
  const { axis, root } = layout;
  const operands = new Operands();
  const parts: ExprPart[] = [];
  const computed: AnyNode[] = [];
  for (const { id, reader, ...place } of layout.parts) {
    const source = edit.producer(id);
    const isOurs = source !== undefined && edit.onlyConsumer(id) === reader && layout.parts.filter((part) => part.id === id).length === 1;
    const own = isOurs ? computedPart(source, place, axis, edit) : undefined;
    const inputs: ValueId[] = [...(own?.inputs ?? [])];
    const found = own?.parts ?? [{ ...place, expr: operandExpr(id, inputs, edit) }];
    if (own) computed.push(source!);
    // What is dequantized has no kernel that could write it into place.
    else if (source && inputs[0] === id && !VIEWS.has(source.op)) return undefined;
    parts.push(...found.map((part) => ({ ...part, expr: operands.renumbered(part.expr, inputs) })));
  }
  return { axis, dims: edit.type(root.outputs[0]!).dims, parts, operands: operands.list, root, nodes: [...computed, ...layout.nodes], computed: computed.length };
}

/** The concatenation with the elementwise node that alone reads it, computed in every part. */
function withReader(joining: Joining, edit: GraphEditor): Joining | undefined {
  const { axis, dims, root } = joining;
  const output = root.outputs[0]!;
  const reader = edit.onlyConsumer(output);
  const read = computedBy(reader, edit);
  if (!reader || !read?.inputs.includes(output) || !sameDims(edit.type(reader.outputs[0]!).dims, dims)) return undefined;
  const operands = new Operands(joining.operands);
  const parts = joining.parts.map((part) => {
    const expr = replaceInputs(read.expr, (index, dtype) => {
      const id = read.inputs[index]!;
      return id === output ? part.expr : { kind: 'input', index: operands.number(operandAt(id, part, axis - dims.length, edit)), dtype };
    });
    return { ...part, expr };
  });
  return { ...joining, parts, operands: operands.list, root: reader, nodes: [...joining.nodes, reader] };
}

function put({ axis, dims, parts, operands, root, nodes }: Joining, edit: GraphEditor): void {
  const inputs = operands.map((operand) => operandValue(operand, axis - dims.length, edit));
  edit.replaceNode(root, { op: 'FusedConcat', inputs, attrs: { joined: [{ axis, parts }] }, origins: unionOrigins(...nodes) });
}

function fuse(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Concat') return false;
  const joining = joiningOf(node, edit);
  const forms = joining ? [withReader(joining, edit), joining.computed > 0 && joining.parts.length > 1 ? joining : undefined] : [];
  const taken = forms.find((form) => form && form.operands.length <= MAX_INPUTS && isSayable(form, edit));
  if (taken) put(taken, edit);
  return taken !== undefined;
}

/** Concatenations that read a value together and don't depend on each other are one node, two at a time: the queries and the keys of a layer. */
function pair(graph: Graph): { readonly graph: Graph; readonly pairs: number } {
  const edit = new GraphEditor(graph);
  const made = producers(graph);
  const alone = graph.nodes.filter((node): node is Node<'FusedConcat'> => node.op === 'FusedConcat');
  const partners = new Map<AnyNode, AnyNode>();
  for (const [i, first] of alone.entries()) {
    if (partners.has(first)) continue;
    const second = alone.slice(i + 1).find((other) => !partners.has(other) && other.inputs.some((id) => first.inputs.includes(id)));
    if (!second || dependsOn(second, first, made, partners) || dependsOn(first, second, made, partners)) continue;
    merge(first, second, edit);
    partners.set(first, second).set(second, first);
  }
  return { graph: edit.finish(), pairs: partners.size / 2 };
}

function merge(first: Node<'FusedConcat'>, second: Node<'FusedConcat'>, edit: GraphEditor): void {
  const inputs = [...new Set([...first.inputs, ...second.inputs])];
  const moved = second.attrs.joined.map((joined) => ({
    ...joined,
    parts: joined.parts.map((part) => ({ ...part, expr: replaceInputs(part.expr, (index, dtype) => ({ kind: 'input', index: inputs.indexOf(second.inputs[index]!), dtype })) })),
  }));
  edit.setOutputs(second, []);
  const node = edit.replaceNode(first, { op: 'FusedConcat', inputs, attrs: { joined: [...first.attrs.joined, ...moved] }, origins: unionOrigins(first, second) });
  edit.setOutputs(node, [...first.outputs, ...second.outputs]);
}

/** Whether a node needs another one's result, however far back, where partners are one node already. */
function dependsOn(node: AnyNode, other: AnyNode, made: ReadonlyMap<ValueId, AnyNode>, partners: ReadonlyMap<AnyNode, AnyNode>): boolean {
  const seen = new Set<AnyNode>();
  const pending = [node];
  for (let next = pending.pop(); next; next = pending.pop()) {
    if (next === other) return true;
    for (const source of [partners.get(next), ...next.inputs.map((id) => made.get(id))]) {
      if (!source || seen.has(source)) continue;
      seen.add(source);
      pending.push(source);
    }
  }
  return false;
}

export const fuseConcat: Pass = {
  name: 'fuse-concat',
  summary: 'concatenations of elementwise expressions, and what reads them elementwise, as one kernel',
  targets: ['webgpu'],
  run(graph) {
    const { graph: fused, rewrites } = applyRules(graph, [{ name: 'concat', ops: ['Concat'], rewrite: fuse }]);
    const { graph: result, pairs } = pair(fused);
    return { graph: result, rewrites: { ...rewrites, pairs } };
  },
};
