/**
 * Constants are added where what they are added to is computed: in the epilogue of a product, and not by a kernel behind copies of its result.
 *
 * A vision transformer adds its positions behind the reshape, the transpose and the concatenation with the class token that follow its patches'
 * convolution. The constant moves up through all of them, so that the class token's sum is known at build and the patches' is part of the convolution.
 */
import { type GraphEditor, type Replacement, unionOrigins } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { type Dims, elementCount, fromNumbers, sameDims, type Tensor, toNumbers } from '../ir/tensor.ts';
import { broadcastTwo } from '../ops/shapes.ts';
import { broadcastStrides, offsets, rowMajorStrides } from '../ops/values.ts';
import { isElementwise } from './expr-of.ts';
import { applyRules, type Pass, type Rule } from './pass.ts';
import { VIEWS } from './reshapes.ts';
import { addInts, FLOATS, positiveAxis } from './tensors.ts';

/** The rules; values in `wide` stay what they are. */
const rulesFor = (wide: ReadonlySet<ValueId>): readonly Rule[] => [
  // concat(a, x, …) + c = concat(a + c₁, x + c₂, …) where all but x are constants, and x is as in the next rule
  { name: 'addend-before-concat', ops: ['Add'], rewrite: (node, edit) => beforeConcat(node, edit, wide) },
  // view(x) + c = view(x + view⁻¹(c)), transposes likewise, where x is a product or what is computed element by element
  { name: 'addend-before-view', ops: ['Add'], rewrite: (node, edit) => beforeView(node, edit, wide) },
];

/**
 * A sum that moves may be stored where it was not before, in halves, whose largest is 65,504: masks of attention stay where they are, and what
 * is small beside that changes nothing about which sums halves hold.
 */
const LARGEST = 1000;

interface Addition {
  /** What is added to, read by nothing else, and of the sum's own type. */
  readonly value: ValueId;
  readonly source: AnyNode;
  /** More than one number: single ones are part of any kernel. */
  readonly addend: Tensor;
  readonly addendId: ValueId;
}

function additionOf(node: AnyNode, edit: GraphEditor, wide: ReadonlySet<ValueId>): Addition | undefined {
  const [value, addendId] = edit.constant(node.inputs[0]) ? [node.inputs[1]!, node.inputs[0]!] : [node.inputs[0]!, node.inputs[1]!];
  const addend = edit.constant(addendId);
  const source = edit.producer(value);
  const output = node.outputs[0]!;
  const { dtype, dims } = edit.type(output);
  if (!addend || !source || edit.onlyConsumer(value) !== node || !FLOATS.has(dtype) || elementCount(addend.dims) < 2) return undefined;
  if (!sameDims(edit.type(value).dims, dims) || elementCount(dims) === 0) return undefined;
  // What the graph gives out, or no half holds, is written in f32 under its own name.
  if (edit.isOutput(output) || wide.has(output) || wide.has(value)) return undefined;
  return toNumbers(addend).every((element) => Math.abs(element) <= LARGEST) ? { value, source, addend, addendId } : undefined;
}

function beforeConcat(node: AnyNode, edit: GraphEditor, wide: ReadonlySet<ValueId>): boolean {
  const addition = additionOf(node, edit, wide);
  if (addition?.source.op !== 'Concat') return false;
  const { source, addend, addendId } = addition;
  const computed = source.inputs.filter((id) => constantOf(id, edit) === undefined);
  if (computed.length !== 1 || !computed.every((id) => arithmeticAbove(id, edit, wide))) return false;
  const { dims } = edit.type(addition.value);
  const axis = positiveAxis((source as Node<'Concat'>).attrs.axis, dims.length);
  let start = 0;
  const inputs = source.inputs.map((id) => {
    const type = edit.type(id);
    const share = edit.addConstant(sliceOf(addend, dims.length, axis, start, type.dims[axis]!), addendId);
    start += type.dims[axis]!;
    return plusConstant(id, share, node, edit);
  });
  edit.replaceNode(node, { op: 'Concat', inputs, attrs: (source as Node<'Concat'>).attrs, origins: unionOrigins(source, node) });
  return true;
}

/** The constant that a part of a concatenation is, or repeats. */
function constantOf(id: ValueId, edit: GraphEditor): Tensor | undefined {
  const expand = edit.producer(id);
  return edit.constant(expand?.op === 'Expand' && edit.onlyConsumer(id) ? expand.inputs[0] : id);
}

/** The part with its share added: a constant again where it was one, repeated as it was. */
function plusConstant(id: ValueId, shareId: ValueId, node: AnyNode, edit: GraphEditor): ValueId {
  const type = edit.type(id);
  const share = edit.constant(shareId)!;
  const own = constantOf(id, edit);
  if (!own) return edit.add({ op: 'Add', inputs: [id, shareId], attrs: {}, origins: node.origins, name: node.name, type });
  const sum = edit.addConstant(sumOf(own, share), id);
  if (sameDims(edit.type(sum).dims, type.dims)) return sum;
  const inputs = [sum, addInts(edit, type.dims, `${id}_shape`)];
  return edit.add({ op: 'Expand', inputs, attrs: {}, origins: node.origins, name: node.name, type });
}

/** In float64, rounded once. */
function sumOf(a: Tensor, b: Tensor): Tensor {
  const dims = broadcastTwo(a.dims, b.dims)!;
  const [x, y] = [spread(a, dims), spread(b, dims)];
  return fromNumbers(a.dtype, dims, x.map((value, i) => value + y[i]!));
}

function spread(tensor: Tensor, dims: Dims): readonly number[] {
  return gathered(tensor, dims, broadcastStrides(tensor.dims, dims));
}

/** Elements in the order of `dims`, by their distances in the tensor. */
function gathered(tensor: Tensor, dims: Dims, strides: readonly number[], start = 0): readonly number[] {
  const values = toNumbers(tensor);
  return offsets(dims, strides, start).map((offset) => values[offset]!);
}

/** The share of `size` entries along an axis of what the tensor broadcasts to: all of it where it is the same for all entries. */
function sliceOf(tensor: Tensor, rank: number, axis: number, start: number, size: number): Tensor {
  const own = axis - (rank - tensor.dims.length);
  if ((tensor.dims[own] ?? 1) === 1) return tensor;
  const strides = rowMajorStrides(tensor.dims);
  const dims = tensor.dims.with(own, size);
  return fromNumbers(tensor.dtype, dims, gathered(tensor, dims, strides, start * strides[own]!));
}

/** Ops whose kernels end in an epilogue. */
const PRODUCTS: ReadonlySet<OpKind> = new Set(['Conv', 'Gemm', 'MatMul']);

function beforeView(node: AnyNode, edit: GraphEditor, wide: ReadonlySet<ValueId>): boolean {
  const addition = additionOf(node, edit, wide);
  const above = addition && arithmeticAbove(addition.value, edit, wide);
  if (!addition || !above || above.views.length === 0) return false;
  let { addend } = addition;
  for (const view of above.views) {
    const moved = view.op === 'Transpose' ? transposedBack(addend, view.attrs.perm) : reshapedBack(addend, edit.type(view.inputs[0]!).dims, edit.type(view.outputs[0]!).dims);
    if (!moved) return false;
    addend = moved;
  }
  const last = above.views.at(-1)!;
  const from = last.inputs[0]!;
  const sum = edit.add({ op: 'Add', inputs: [from, edit.addConstant(addend, addition.addendId)], attrs: {}, origins: node.origins, name: above.source.name, type: edit.type(from) });
  edit.replaceNode(last, { op: last.op, inputs: [sum, ...last.inputs.slice(1)], attrs: last.attrs, origins: last.origins } as Replacement<OpKind>);
  edit.replaceValue(node.outputs[0]!, addition.value);
  return true;
}

/**
 * The product, or the arithmetic that may follow one, whose result is this value, with the views and transposes between them, the nearest to the
 * value first; undefined where anything on the way is read by others too, who would need it without the sum.
 */
function arithmeticAbove(value: ValueId, edit: GraphEditor, wide: ReadonlySet<ValueId>): { readonly source: AnyNode; readonly views: readonly AnyNode[] } | undefined {
  const views: AnyNode[] = [];
  for (let id = value; edit.onlyConsumer(id) && !wide.has(id); ) {
    const source = edit.producer(id);
    if (!source) return undefined;
    if (source.op !== 'Transpose' && !VIEWS.has(source.op)) return PRODUCTS.has(source.op) || isElementwise(source.op) ? { source, views } : undefined;
    views.push(source);
    id = source.inputs[0]!;
  }
  return undefined;
}

/** The tensor's shape with leading ones up to this rank. */
function aligned({ dims }: Tensor, rank: number): Dims {
  return [...Array.from({ length: rank - dims.length }, () => 1), ...dims];
}

function transposedBack(addend: Tensor, perm: readonly number[]): Tensor {
  const after = aligned(addend, perm.length);
  const strides = rowMajorStrides(after);
  const before = perm.map((_, axis) => perm.indexOf(axis));
  const dims = before.map((axis) => after[axis]!);
  return fromNumbers(addend.dtype, dims, gathered(addend, dims, before.map((axis) => strides[axis]!)));
}

/** As the constant is before a view; undefined where no shape says it. Leading axes that both shapes have may be broadcast; behind them the constant has every element. */
function reshapedBack(addend: Tensor, before: Dims, after: Dims): Tensor | undefined {
  const dims = aligned(addend, after.length);
  const shared = dims.findIndex((dim, axis) => dim !== 1 || before[axis] !== after[axis]);
  if (shared < 0 || !sameDims(dims.slice(shared), after.slice(shared))) return undefined;
  return { ...addend, dims: [...dims.slice(0, shared), ...before.slice(shared)] };
}

export const earlyAddends: Pass = {
  name: 'early-addends',
  summary: 'constants are added where a product is computed, not behind copies of it',
  targets: ['webgpu'],
  run: (graph, { wide }) => applyRules(graph, rulesFor(wide ?? new Set())),
};
