/**
 * A convolution that adds another one's result becomes one node with both: the projection on the shortcut of a residual block is then
 * multiplied in the same product, and never lies in memory.
 *
 * Prior art: TensorRT and oneDNN fuse the sum; that the two products are one along the depth is plain algebra, [A B]·[C; D] = A·C + B·D.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { Expr } from '../ir/expr.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { elementCount, fromNumbers, sameDims, type Tensor, toNumbers } from '../ir/tensor.ts';
import { rulePass } from './pass.ts';
import { FLOATS } from './tensors.ts';

/** What both convolutions and one more operand bind is what every device has room for. */
const MOST_EXTRAS = 1;

/** Scales that are the same but for the rounding of the numbers that they are made of. */
const SAME_SCALE = 1e-6;

/** Images of fewer channels have a kernel of their own. */
const FEW_CHANNELS = 4;

// f(conv(x, w) + b + (conv(x2, w2) + b2)) = fusedshortcut(x, w, b + b2, x2, w2)
function fuse(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'FusedConv' || !isPlain(node, edit)) return false;
  const [x, w, b = '', ...extras] = node.inputs as [ValueId, ValueId, ValueId?, ...ValueId[]];
  for (const [i, id] of extras.entries()) {
    const other = edit.producer(id);
    if (other?.op !== 'Conv' || !isPlain(other, edit) || !isReadOnce(id, extras, node, edit) || edit.type(other.inputs[0]!).dtype !== edit.type(x).dtype) continue;
    const epilogue = withoutSum(node.attrs.epilogue, i + 1);
    const bias = sumOf([b, other.inputs[2] ?? ''], edit);
    if (!epilogue || bias === undefined) continue;
    edit.replaceNode(node, {
      op: 'FusedShortcut',
      inputs: [x, w, bias === null ? '' : edit.addConstant(bias, `${node.name}_bias`), other.inputs[0]!, other.inputs[1]!, ...extras.toSpliced(i, 1)],
      attrs: { ...node.attrs, shortcut: other.attrs, epilogue },
      origins: unionOrigins(other, node),
    });
    return true;
  }
  return false;
}

// f(s ∘ convint(x, w) + b + (s ∘ convint(x2, w2) + b2)) = shortcutint(x, w, s, b + b2, x2, w2), where the sums have one scale
function fuseIntegers(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QuantizedConv' || !isPlainInteger(node, edit)) return false;
  const [x, w, scale, b = '', ...extras] = node.inputs as [ValueId, ValueId, ValueId, ValueId?, ...ValueId[]];
  if (extras.length > MOST_EXTRAS + 1) return false;
  for (const [i, id] of extras.entries()) {
    const other = edit.producer(id);
    if (other?.op !== 'QuantizedConv' || !isPlainInteger(other, edit) || other.attrs.epilogue.kind !== 'input' || other.inputs.length > 4) continue;
    if (!isReadOnce(id, extras, node, edit)) continue;
    const [x2, w2, scale2, b2 = ''] = other.inputs as [ValueId, ValueId, ValueId, ValueId?];
    const epilogue = withoutSum(node.attrs.epilogue, i + 1);
    const bias = sumOf([b, b2], edit);
    if (!epilogue || bias === undefined || !sameScales(scale, scale2, edit)) continue;
    const { epilogue: _plain, ...shortcut } = other.attrs;
    edit.replaceNode(node, {
      op: 'QuantizedShortcut',
      inputs: [x, w, scale, bias === null ? '' : edit.addConstant(bias, `${node.name}_bias`), x2, w2, ...extras.toSpliced(i, 1)],
      attrs: { ...node.attrs, shortcut, epilogue },
      origins: unionOrigins(other, node),
    });
    return true;
  }
  return false;
}

function isPlainInteger({ inputs, attrs }: Node<'QuantizedConv'>, edit: GraphEditor): boolean {
  return attrs.group === 1 && [1, 2].every((i) => edit.constant(inputs[i]) !== undefined) && edit.type(inputs[0]!).dims[1]! > FEW_CHANNELS;
}

function sameScales(a: ValueId, b: ValueId, edit: GraphEditor): boolean {
  const [first, second] = [toNumbers(edit.constant(a)!), toNumbers(edit.constant(b)!)];
  return Array.from(first).every((value, i) => Math.abs(value - second[i]!) <= SAME_SCALE * Math.abs(value));
}

/** Whether a node alone reads a value of its output's shape, as one operand. */
function isReadOnce(id: ValueId, extras: readonly ValueId[], node: AnyNode, edit: GraphEditor): boolean {
  return edit.onlyConsumer(id) === node && extras.indexOf(id) === extras.lastIndexOf(id) && sameDims(edit.type(id).dims, edit.type(node.outputs[0]!).dims);
}

/** One group of known weights, with more channels than the first layer of a network has. */
function isPlain({ inputs, attrs }: Node<'Conv'> | Node<'FusedConv'>, edit: GraphEditor): boolean {
  const { dtype, dims } = edit.type(inputs[0]!);
  return attrs.group === 1 && edit.constant(inputs[1]) !== undefined && FLOATS.has(dtype) && dims[1]! > FEW_CHANNELS;
}

/** The sum of two vectors, null where both are absent; undefined where one is not known. */
function sumOf(ids: readonly [ValueId, ValueId], edit: GraphEditor): Tensor | null | undefined {
  const present = ids.filter((id) => id !== '');
  const vectors = present.map((id) => edit.constant(id));
  if (vectors.length === 0) return null;
  if (vectors.some((vector) => vector === undefined)) return undefined;
  const [first, second] = vectors as [Tensor, Tensor?];
  if (!second) return first;
  const [a, c] = [toNumbers(first), toNumbers(second)];
  return fromNumbers(first.dtype, [elementCount(first.dims)], a.map((value, i) => value + c[i]!));
}

/** The expression with `accumulator + input` made the accumulator; undefined where either occurs in any other way. */
function withoutSum(expr: Expr, index: number): Expr | undefined {
  const counts = { accumulator: 0, input: 0, sums: 0 };
  const visit = (x: Expr): Expr => {
    switch (x.kind) {
      case 'input':
        if (x.index === 0) counts.accumulator++;
        if (x.index === index) counts.input++;
        return x.index > index ? { ...x, index: x.index - 1 } : x;
      case 'const':
        return x;
      case 'unary':
      case 'cast':
        return { ...x, x: visit(x.x) };
      case 'binary': {
        const { a, b } = x;
        const isSum = x.fn === 'add' && a.kind === 'input' && b.kind === 'input' && a.index !== b.index && [a, b].every((side) => side.index === 0 || side.index === index);
        if (isSum) counts.sums++;
        const sides = { a: visit(a), b: visit(b) };
        return isSum ? (a.index === 0 ? sides.a : sides.b) : { ...x, ...sides };
      }
      case 'select':
        return { ...x, condition: visit(x.condition), a: visit(x.a), b: visit(x.b) };
      default:
        return x satisfies never;
    }
  };
  const found = visit(expr);
  return counts.sums === 1 && counts.accumulator === 1 && counts.input === 1 ? found : undefined;
}

export const fuseShortcuts = rulePass(
  { name: 'fuse-shortcuts', summary: 'a convolution and the one whose result it adds as one product', targets: ['webgpu'] },
  [
    { name: 'shortcut', ops: ['FusedConv'], rewrite: fuse },
    { name: 'integer-shortcut', ops: ['QuantizedConv'], rewrite: fuseIntegers },
  ],
);
