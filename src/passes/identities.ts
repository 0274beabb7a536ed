/**
 * Identities: nodes that give one of their inputs unchanged, and spellings that have a plainer one.
 *
 * Each rule is a row; its equation stands beside it. `x → y` reads: readers of x read y.
 */
import { type GraphEditor, unionOrigins } from '../ir/edit.ts';
import type { AnyNode, Node } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { sameDims, type DType } from '../ir/tensor.ts';
import { rulePass, type Rule } from './pass.ts';
import { matchPattern, op, uniformValue, value, type Pattern } from './pattern.ts';
import { constantInts, isIdentityPerm } from './tensors.ts';

/** A rule that lets readers of a node's first output read one of its inputs, where `holds`. */
function passThrough<K extends OpKind>(name: string, op: K, holds: (node: Node<K>, edit: GraphEditor) => boolean, input = 0): Rule {
  return {
    name,
    ops: [op],
    rewrite: (node, edit) => holds(node as unknown as Node<K>, edit) && forward(node, input, edit),
  };
}

/** y = x: readers of y read x, unless y is an output whose name nobody can take over or has another type than x. */
function forward(node: AnyNode, input: number, edit: GraphEditor): boolean {
  const [from, to] = [node.outputs[0], node.inputs[input]];
  const othersUnread = node.outputs.slice(1).every((id) => !id || (!edit.isOutput(id) && edit.consumers(id).length === 0));
  if (!from || !to || !othersUnread || !edit.canReplaceValue(from, to)) return false;
  edit.replaceValue(from, to);
  return true;
}

/** y = x ∘ c with c the op's neutral element. Types that broadcasting with c changes are kept by `forward`. */
function neutral(name: string, op: OpKind, element: number, sides: readonly number[]): Rule {
  return {
    name,
    ops: [op],
    rewrite: (node, edit) =>
      sides.some((side) => uniformValue(edit.constant(node.inputs[side])) === element && forward(node, 1 - side, edit)),
  };
}

/** A rule whose pattern equals one of the values that it binds. */
function collapses(name: string, ops: readonly OpKind[], pattern: Pattern, to: string): Rule {
  return {
    name,
    ops,
    rewrite(node, edit) {
      const found = matchPattern(pattern, node, edit);
      const from = node.outputs[0]!;
      if (!found || !edit.canReplaceValue(from, found.value(to))) return false;
      edit.replaceValue(from, found.value(to));
      return true;
    },
  };
}

const keepsDims = (node: AnyNode, edit: GraphEditor): boolean =>
  sameDims(edit.type(node.inputs[0]!).dims, edit.type(node.outputs[0]!).dims);

const isOff = (node: AnyNode, index: number, edit: GraphEditor): boolean =>
  !node.inputs[index] || uniformValue(edit.constant(node.inputs[index])) === 0;

const x = value('x');

const RULES: readonly Rule[] = [
  passThrough('identity', 'Identity', () => true),
  passThrough('dropout', 'Dropout', (node, edit) => isOff(node as AnyNode, 2, edit)), // inference: y = x
  passThrough('cast', 'Cast', () => true), // the types decide: x: T → T
  passThrough('cast-like', 'CastLike', () => true),
  passThrough('reshape', 'Reshape', () => true), // as do the shapes
  passThrough('squeeze', 'Squeeze', () => true),
  passThrough('unsqueeze', 'Unsqueeze', () => true),
  passThrough('flatten', 'Flatten', () => true),
  passThrough('expand', 'Expand', () => true),
  passThrough('tile', 'Tile', () => true),
  passThrough('concat-one', 'Concat', (node) => node.inputs.length === 1),
  passThrough('split-one', 'Split', (node) => node.outputs.length === 1),
  passThrough('sum-one', 'Sum', (node) => node.inputs.length === 1),
  passThrough('max-one', 'Max', (node) => node.inputs.length === 1),
  passThrough('min-one', 'Min', (node) => node.inputs.length === 1),
  passThrough('mean-one', 'Mean', (node) => node.inputs.length === 1),
  passThrough('transpose', 'Transpose', (node) => isIdentityPerm(node.attrs.perm)),
  // The whole of every axis, forwards; a step of −1 keeps the shape and turns the elements around.
  passThrough('slice-whole', 'Slice', (node, edit) => {
    const steps = constantInts(node as AnyNode, 4, edit);
    return steps !== undefined && steps.every((step) => step > 0);
  }),
  passThrough('pad-zero', 'Pad', (node, edit) => constantInts(node as AnyNode, 1, edit)?.every((pad) => pad === 0) ?? false),
  passThrough('pool-one', 'MaxPool', (node) => isPointPool(node.attrs)),
  neutral('add-zero', 'Add', 0, [0, 1]),
  neutral('sub-zero', 'Sub', 0, [1]),
  neutral('mul-one', 'Mul', 1, [0, 1]),
  neutral('div-one', 'Div', 1, [1]),
  neutral('pow-one', 'Pow', 1, [1]),
  collapses('neg-neg', ['Neg'], op('Neg', op('Neg', x)), 'x'), // −(−x) = x
  collapses('not-not', ['Not'], op('Not', op('Not', x)), 'x'),
  collapses('relu-relu', ['Relu'], op('Relu', { kind: 'op', op: 'Relu', inputs: [x], name: 'y' }), 'y'), // max(max(x,0),0)
  { name: 'cast-there-and-back', ops: ['Cast'], rewrite: castBack },
  { name: 'transposed-by-vector', ops: ['MatMul'], rewrite: turnAround },
  { name: 'concat-empty', ops: ['Concat'], rewrite: dropEmptyParts },
  { name: 'reduce-none', ops: ['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceProd'], rewrite: reduceNothing },
];

/** A stride that left points out would change the shape. */
function isPointPool({ kernel_shape, pads }: { readonly kernel_shape: readonly number[]; readonly pads: readonly number[] }): boolean {
  return kernel_shape.every((size) => size === 1) && pads.every((pad) => pad === 0);
}

/** Types that hold every value of another exactly. */
const WIDER: { readonly [D in DType]?: readonly DType[] } = {
  float16: ['float32', 'float64'],
  bfloat16: ['float32', 'float64'],
  float32: ['float64'],
  int32: ['int64', 'float64'],
  bool: ['uint8', 'int32', 'int64', 'float16', 'float32'],
};

/** cast(cast(x: T → W) → T) = x where W holds every T */
function castBack(node: AnyNode, edit: GraphEditor): boolean {
  const inner = edit.producer(node.inputs[0]);
  if (inner?.op !== 'Cast') return false;
  const [source, output] = [inner.inputs[0]!, node.outputs[0]!];
  const isExact = WIDER[edit.type(source).dtype]?.includes(inner.attrs.to) ?? false;
  if (!isExact || !edit.canReplaceValue(output, source)) return false;
  edit.replaceValue(output, source);
  return true;
}

/** aᵀ·v = v·a and v·aᵀ = a·v where v is a vector. onnxruntime's own fusion of the two forgets to transpose. */
function turnAround(node: AnyNode, edit: GraphEditor): boolean {
  const vector = node.inputs.findIndex((id) => edit.type(id).dims.length === 1);
  if (vector < 0) return false;
  const transposed = edit.producer(node.inputs[1 - vector]!);
  if (transposed?.op !== 'Transpose' || !swapsLastAxes(transposed.attrs.perm)) return false;
  const [v, a] = [node.inputs[vector]!, transposed.inputs[0]!];
  edit.replaceNode(node, { op: 'MatMul', inputs: vector === 0 ? [a, v] : [v, a], attrs: {}, origins: unionOrigins(transposed, node) });
  return true;
}

function swapsLastAxes(perm: readonly number[]): boolean {
  const rank = perm.length;
  return rank > 1 && perm.every((axis, place) => axis === (place < rank - 2 ? place : 2 * rank - 3 - place));
}

/** concat(a, ∅, b) = concat(a, b) */
function dropEmptyParts(node: AnyNode, edit: GraphEditor): boolean {
  const parts = node.inputs.filter((id) => !edit.type(id).dims.includes(0));
  if (parts.length === 0 || parts.length === node.inputs.length) return false;
  edit.replaceNode(node, { op: 'Concat', inputs: parts, attrs: node.attrs as { readonly axis: number }, origins: node.origins });
  return true;
}

/** Reductions over axes of length 1 that are kept, or over no axes at all, give x. */
function reduceNothing(node: AnyNode, edit: GraphEditor): boolean {
  const axes = constantInts(node, 1, edit);
  if (!axes || !keepsDims(node, edit)) return false;
  const { noop_with_empty_axes: noop } = node.attrs as { readonly noop_with_empty_axes: 0 | 1 };
  const { dims } = edit.type(node.inputs[0]!);
  const reduced = axes.length > 0 ? axes : noop ? [] : dims.keys();
  if (![...reduced].every((axis) => dims.at(axis) === 1)) return false;
  return forward(node, 0, edit);
}

export const identities = rulePass(
  { name: 'identities', summary: 'drop nodes that give their input unchanged' },
  RULES,
);

