/**
 * Transposes cancelled, composed, folded into Gemm, and sunk below elementwise ops where they can then cancel.
 *
 * tf2onnx brackets every convolution of an NHWC network with two of them; sinking brings the brackets together. A transpose
 * only ever moves towards the outputs, so that the rules terminate.
 */
import type { GraphEditor } from '../ir/edit.ts';
import { unionOrigins } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { elementCount, sameDims, type TensorType } from '../ir/tensor.ts';
import { ELEMENTWISE_OPS, isElementwise } from './expr-of.ts';
import { rulePass, type Rule } from './pass.ts';
import { VIEWS } from './reshapes.ts';
import { addInts, composePerms, isIdentityPerm, positiveAxis } from './tensors.ts';

type Transpose = Node<'Transpose'>;

const RULES: readonly Rule[] = [
  // transpose(transpose(x, p), q) = transpose(x, p∘q); x where p∘q is the identity
  { name: 'transpose-of-transpose', ops: ['Transpose'], rewrite: compose },
  // view(transpose(view(x))) = transpose(view(x)) where the views only merge and split leading axes: [B·H, L, D] for [B, H, L, D]
  { name: 'transpose-between-views', ops: ['Reshape'], rewrite: betweenViews },
  // gemm(Aᵀ, B) with transA flipped
  { name: 'transpose-into-gemm', ops: ['Gemm'], rewrite: intoGemm },
  // f(transpose(a), transpose(b), …) = transpose(f(a, b, …)) with f's axis renamed
  { name: 'transpose-below', ops: [...ELEMENTWISE_OPS, 'Concat', 'Softmax', 'LogSoftmax'], rewrite: sink },
];

function compose(node: AnyNode, edit: GraphEditor): boolean {
  const outer = node as Transpose;
  const inner = transposeOf(outer.inputs[0]!, edit);
  if (!inner) return false;
  const perm = composePerms(inner.attrs.perm, outer.attrs.perm);
  const [source, output] = [inner.inputs[0]!, outer.outputs[0]!];
  if (isIdentityPerm(perm) && edit.canReplaceValue(output, source)) edit.replaceValue(output, source);
  else edit.replaceNode(node, { op: 'Transpose', inputs: [source], attrs: { perm }, origins: unionOrigins(inner, outer) });
  return true;
}

function betweenViews(node: AnyNode, edit: GraphEditor): boolean {
  const transpose = transposeOf(node.inputs[0]!, edit);
  const view = transpose && edit.producer(transpose.inputs[0]);
  if (!transpose || !view || !VIEWS.has(view.op) || edit.onlyConsumer(node.inputs[0]!) !== node) return false;
  const merged = edit.type(transpose.inputs[0]!).dims;
  const { dims: after, dtype } = edit.type(node.outputs[0]!);
  if (transpose.attrs.perm.join() !== '0,2,1' || after.length < 4 || !sameDims(after.slice(-2), [merged[2]!, merged[1]!])) return false;
  const perm = [...after.keys()].slice(0, -2).concat(after.length - 1, after.length - 2);
  const before = perm.map((axis) => after[axis]!);
  const source = reshapeTo({ dtype, dims: before }, view, edit);
  edit.replaceNode(node, { op: 'Transpose', inputs: [source], attrs: { perm }, origins: unionOrigins(transpose, node) });
  return true;
}

/** The source of a view in another shape. */
function reshapeTo(type: TensorType, view: AnyNode, edit: GraphEditor): ValueId {
  const source = view.inputs[0]!;
  if (sameDims(edit.type(source).dims, type.dims)) return source;
  const inputs = [source, addInts(edit, type.dims, `${view.name}_shape`)];
  const allowzero = type.dims.includes(0) ? 1 : 0;
  return edit.add({ op: 'Reshape', inputs, attrs: { allowzero }, origins: view.origins, name: view.name, type });
}

function intoGemm(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Gemm') return false;
  const swapped = (id: ValueId): Transpose | undefined => {
    const transpose = transposeOf(id, edit);
    return transpose && !isIdentityPerm(transpose.attrs.perm) ? transpose : undefined;
  };
  const [a, b] = [swapped(node.inputs[0]!), swapped(node.inputs[1]!)];
  if (!a && !b) return false;
  const inputs = [a?.inputs[0] ?? node.inputs[0]!, b?.inputs[0] ?? node.inputs[1]!, node.inputs[2] ?? ''];
  const flip = (flag: 0 | 1, by: unknown): 0 | 1 => (by ? (flag ? 0 : 1) : flag);
  const attrs = { ...node.attrs, transA: flip(node.attrs.transA, a), transB: flip(node.attrs.transB, b) };
  edit.replaceNode(node, { op: 'Gemm', inputs, attrs, origins: unionOrigins(...[a, b].filter((t) => t !== undefined), node) });
  return true;
}

function transposeOf(id: ValueId, edit: GraphEditor): Transpose | undefined {
  const node = edit.producer(id);
  return node?.op === 'Transpose' ? node : undefined;
}

function sink(node: AnyNode, edit: GraphEditor): boolean {
  const output = node.outputs[0]!;
  const { dims } = edit.type(output);
  const perm = commonPerm(node, dims.length, edit);
  if (!perm || !pays(node, edit)) return false;
  const inverse = perm.map((_, axis) => perm.indexOf(axis));
  const inputs = node.inputs.map((id) => transposeOf(id, edit)?.inputs[0] ?? moveConstant(id, inverse, edit));
  const before = { dtype: edit.type(output).dtype, dims: inverse.map((axis) => dims[axis]!) };
  const origins = unionOrigins(...node.inputs.map((id) => transposeOf(id, edit)).filter((t) => t !== undefined));
  const attrs = 'axis' in node.attrs ? { ...node.attrs, axis: perm[positiveAxis(node.attrs.axis as number, dims.length)]! } : node.attrs;
  const moved = edit.add({ op: node.op, inputs, attrs: attrs as never, origins: node.origins, name: node.name, type: before });
  edit.replaceNode(node, { op: 'Transpose', inputs: [moved], attrs: { perm }, origins });
  return true;
}

/** The permutation that reaches the node through every operand; undefined where they differ or one can't be moved. */
function commonPerm(node: AnyNode, rank: number, edit: GraphEditor): readonly number[] | undefined {
  const fixed = isElementwise(node.op) ? node.inputs.filter((id) => isMovableConstant(id, edit)) : [];
  const moved = node.inputs.filter((id) => id && !fixed.includes(id));
  const perms = moved.map((id) => (edit.onlyConsumer(id) ? transposeOf(id, edit)?.attrs.perm : undefined));
  const [first] = perms;
  return first?.length === rank && perms.every((perm) => perm?.join() === first.join()) ? first : undefined;
}

/** A constant with at most one axis longer than 1: its elements keep their order under any permutation. */
function isMovableConstant(id: ValueId, edit: GraphEditor): boolean {
  return edit.constant(id) !== undefined && edit.type(id).dims.filter((dim) => dim !== 1).length <= 1;
}

/** The constant as it broadcasts before the transpose: its shape, filled up to the full rank, with the axes moved back. */
function moveConstant(id: ValueId, inverse: readonly number[], edit: GraphEditor): ValueId {
  const tensor = edit.constant(id);
  if (!tensor || elementCount(tensor.dims) === 1) return id;
  const aligned = [...Array.from({ length: inverse.length - tensor.dims.length }, () => 1), ...tensor.dims];
  return edit.addConstant({ ...tensor, dims: inverse.map((axis) => aligned[axis]!) }, id);
}

/** Sinking pays where it merges transposes, or where the moved one meets another below and both may cancel. */
function pays(node: AnyNode, edit: GraphEditor): boolean {
  if (new Set(node.inputs.filter((id) => transposeOf(id, edit))).size > 1) return true;
  let reader = edit.onlyConsumer(node.outputs[0]!);
  while (reader && isElementwise(reader.op) && reader.inputs.filter((id) => id && !isMovableConstant(id, edit)).length === 1) {
    reader = edit.onlyConsumer(reader.outputs[0]!);
  }
  return reader?.op === 'Transpose';
}

export const transposes = rulePass({ name: 'transposes', summary: 'cancel, compose and sink transposes' }, RULES);
