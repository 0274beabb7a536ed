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
import { rulePass, type Rule } from './pass.ts';
import { VIEWS } from './reshapes.ts';
import { addInts, FLOATS, positiveAxis } from './tensors.ts';

const RULES: readonly Rule[] = [
  // concat(a, x, …) + c = concat(a + c₁, x + c₂, …) where all but x are constants
  { name: 'addend-before-concat', ops: ['Add'], rewrite: beforeConcat },
  // view(x) + c = view(x + view⁻¹(c)), transposes likewise, where x is a product or what is computed element by element
  { name: 'addend-before-view', ops: ['Add'], rewrite: beforeView },
];

interface Addition {
  /** What is added to, read by nothing else, and of the sum's own type. */
  readonly value: ValueId;
  readonly source: AnyNode;
  /** More than one number: single ones are part of any kernel. */
  readonly addend: Tensor;
  readonly addendId: ValueId;
}

function additionOf(node: AnyNode, edit: GraphEditor): Addition | undefined {
  const [value, addendId] = edit.constant(node.inputs[0]) ? [node.inputs[1]!, node.inputs[0]!] : [node.inputs[0]!, node.inputs[1]!];
  const addend = edit.constant(addendId);
  const source = edit.producer(value);
  const { dtype, dims } = edit.type(node.outputs[0]!);
  if (!addend || !source || edit.onlyConsumer(value) !== node || !FLOATS.has(dtype) || elementCount(addend.dims) < 2) return undefined;
  return sameDims(edit.type(value).dims, dims) ? { value, source, addend, addendId } : undefined;
}

function beforeConcat(node: AnyNode, edit: GraphEditor): boolean {
  const addition = additionOf(node, edit);
  if (addition?.source.op !== 'Concat') return false;
  const { source, addend, addendId } = addition;
  if (source.inputs.filter((id) => constantOf(id, edit) === undefined).length !== 1) return false;
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
  return edit.add({ op: 'Expand', inputs, attrs: {}, origins: unionOrigins(node), name: node.name, type });
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

function beforeView(node: AnyNode, edit: GraphEditor): boolean {
  const addition = additionOf(node, edit);
  const output = node.outputs[0]!;
  if (!addition || !edit.canReplaceValue(output, addition.value)) return false;
  const { value, addendId } = addition;
  const chain = viewsOf(value, edit);
  const source = edit.producer(chain.at(-1)?.inputs[0]);
  if (!source || !(PRODUCTS.has(source.op) || isElementwise(source.op))) return false;
  let { addend } = addition;
  for (const view of chain) {
    const moved = view.op === 'Transpose' ? transposedBack(addend, view.attrs.perm) : reshapedBack(addend, edit.type(view.inputs[0]!).dims, edit.type(view.outputs[0]!).dims);
    if (!moved) return false;
    addend = moved;
  }
  const last = chain.at(-1)!;
  const from = last.inputs[0]!;
  const sum = edit.add({ op: 'Add', inputs: [from, edit.addConstant(addend, addendId)], attrs: {}, origins: node.origins, name: source.name, type: edit.type(from) });
  edit.replaceNode(last, { op: last.op, inputs: [sum, ...last.inputs.slice(1)], attrs: last.attrs, origins: last.origins } as Replacement<OpKind>);
  edit.replaceValue(output, value);
  return true;
}

/** Views and transposes up from a value, the nearest first, as long as nothing else reads what they do. */
function viewsOf(value: ValueId, edit: GraphEditor): readonly (Node<'Transpose'> | AnyNode)[] {
  const chain: AnyNode[] = [];
  for (let id = value; edit.onlyConsumer(id); ) {
    const view = edit.producer(id);
    if (!view || (view.op !== 'Transpose' && !VIEWS.has(view.op))) return chain;
    chain.push(view);
    id = view.inputs[0]!;
  }
  // What the last one reads is read by others too: it would have to be kept beside the sum.
  return [];
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

export const earlyAddends = rulePass({ name: 'early-addends', summary: 'constants are added where a product is computed, not behind copies of it', targets: ['webgpu'] }, RULES);
