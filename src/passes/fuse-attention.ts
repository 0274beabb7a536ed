/**
 * Scaled dot-product attention as one kernel: softmax(s·QKᵀ + mask)·V (Vaswani et al. 2017, arXiv:1706.03762).
 *
 * The scale may stand after the product or on Q and K (exporters split it as √s on each); K may come transposed or with the
 * transpose to take in. Three-dimensional attention (batch and heads in one axis) runs as a batch of one.
 *
 * PyTorch's scaled_dot_product_attention gives zeros for a query that sees no key, which has no softmax. Its exporters write that as
 * Where(IsNaN(weights), 0, weights) behind the softmax; the kernel does it at its end.
 *
 * Where heads of queries share keys and values, the kernel reads these as they were before a model repeated or broadcast them (shared-heads.ts).
 *
 * Models in halves may have the softmax in floats, between two casts: the kernel has scores and weights in floats anyway.
 *
 * Scores may be bent by a cap before the mask: cap·tanh(s·QKᵀ / cap) (Gemma 2, arXiv:2408.00118).
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { type Dims, sameDims } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { broadcastsTo } from '../ops/shapes.ts';
import { rulePass } from './pass.ts';
import { matchPattern, named, number, op, uniformValue, value } from './pattern.ts';
import { becomeReshape, viewAs } from './reshapes.ts';
import { addUnrepeated, repeatedHeads } from './shared-heads.ts';
import { FLOATS, positiveAxis } from './tensors.ts';

/** A value with the factors taken off it, and the nodes that applied them. */
interface Scaled {
  readonly id: ValueId;
  readonly scale: number;
  readonly nodes: readonly AnyNode[];
}

interface Scores {
  readonly query: ValueId;
  readonly key: ValueId;
  readonly transposedKey: 0 | 1;
  readonly mask: ValueId | undefined;
  readonly scale: number;
  /** 0 where scores have none. */
  readonly softcap: number;
  readonly nodes: readonly AnyNode[];
}

function fuse(node: AnyNode, edit: GraphEditor): boolean {
  const weights = node.op === 'MatMul' ? findWeights(node, edit) : undefined;
  if (!weights) return false;
  const { softmax } = weights;
  const { dims, dtype } = edit.type(softmax.outputs[0]!);
  const rank = dims.length;
  if ((rank !== 3 && rank !== 4) || !FLOATS.has(dtype) || positiveAxis(softmax.attrs.axis, rank) !== rank - 1) return false;
  const scores = findScores(softmax, edit);
  if (!scores || !sameDims(edit.type(scores.query).dims.slice(0, -2), dims.slice(0, -2))) return false;
  if (scores.mask && !broadcastsTo(edit.type(scores.mask).dims, dims)) return false;
  // Casts between the products may have hidden that these are of two types.
  if (edit.type(scores.query).dtype !== edit.type(node.outputs[0]!).dtype) return false;
  const shared = sharedOperands(scores.key, node.inputs[1]!, dims.slice(0, -2), edit);
  if (!shared) return false;
  replace(node, { ...scores, zeroEmptyRows: weights.zeroEmptyRows, nodes: [...scores.nodes, ...weights.nodes, node] }, shared, edit);
  return true;
}

interface Weights {
  readonly softmax: Node<'Softmax'>;
  readonly zeroEmptyRows: 0 | 1;
  readonly nodes: readonly AnyNode[];
}

const ZERO_WHERE_NAN = op('Where', op('IsNaN', named('weights', 'Softmax', value('scores'))), number(0), value('weights'));

/** The softmax that `product` alone reads, as it is or with zeros in place of NaN. */
function findWeights(product: AnyNode, edit: GraphEditor): Weights | undefined {
  const cast = uncast(product.inputs[0]!, product, edit);
  const last = soleProducer(cast.id, cast.nodes[0] ?? product, edit);
  if (last?.op === 'Softmax') return { softmax: last, zeroEmptyRows: 0, nodes: [last, ...cast.nodes] };
  const match = last && matchPattern(ZERO_WHERE_NAN, last, edit);
  const softmax = match?.node('weights');
  // A zero of more axes would give the weights these.
  if (softmax?.op !== 'Softmax' || !sameType(edit.type(softmax.outputs[0]!), edit.type(last!.outputs[0]!))) return undefined;
  return { softmax, zeroEmptyRows: 1, nodes: [...match!.nodes.toReversed(), ...cast.nodes] };
}

/** Takes casts between halves and floats off a value that only `reader` reads. */
function uncast(id: ValueId, reader: AnyNode, edit: GraphEditor): Pick<Scaled, 'id' | 'nodes'> {
  const node = soleProducer(id, reader, edit);
  if (!isFloatCast(node, edit)) return { id, nodes: [] };
  const { id: source, nodes } = uncast(node.inputs[0]!, node, edit);
  return { id: source, nodes: [...nodes, node] };
}

function isFloatCast(node: AnyNode | undefined, edit: GraphEditor): node is Node<'Cast'> {
  const isFloat = (id: ValueId): boolean => edit.type(id).dtype === 'float16' || edit.type(id).dtype === 'float32';
  return node?.op === 'Cast' && isFloat(node.inputs[0]!) && isFloat(node.outputs[0]!);
}

/** The node that gives `id`, where only `reader` reads it. */
function soleProducer(id: ValueId, reader: AnyNode, edit: GraphEditor): AnyNode | undefined {
  return edit.onlyConsumer(id) === reader ? edit.producer(id) : undefined;
}

/** s·QKᵀ + mask, with the mask on either side. */
function findScores(softmax: AnyNode, edit: GraphEditor): Scores | undefined {
  const direct = findCapped(softmax.inputs[0]!, softmax, edit);
  const cast = uncast(softmax.inputs[0]!, softmax, edit);
  const sum = soleProducer(cast.id, cast.nodes[0] ?? softmax, edit);
  if (direct || sum?.op !== 'Add') return direct;
  for (const side of [0, 1]) {
    const product = findCapped(sum.inputs[side]!, sum, edit);
    if (product) return { ...product, mask: sum.inputs[1 - side]!, nodes: [...product.nodes, sum, ...cast.nodes] };
  }
  return undefined;
}

/** s·QKᵀ, or c·tanh(s·QKᵀ / c). */
function findCapped(id: ValueId, reader: AnyNode, edit: GraphEditor): Scores | undefined {
  const outer = unscale({ id, scale: 1, nodes: [] }, reader, edit, 'scores');
  const below = outer.nodes[0] ?? reader;
  const bent = soleProducer(outer.id, below, edit);
  if (bent?.op !== 'Tanh') return findProduct(outer, below, edit);
  const inner = unscale({ id: bent.inputs[0]!, scale: 1, nodes: [bent] }, bent, edit, 'scores');
  const product = findProduct(inner, inner.nodes[0]!, edit);
  return product && { ...product, scale: product.scale * outer.scale, softcap: Math.abs(outer.scale), nodes: [...product.nodes, ...outer.nodes] };
}

/** The product under the factors of `outer`, which end at `reader` where there are none. */
function findProduct(outer: Scaled, reader: AnyNode, edit: GraphEditor): Scores | undefined {
  const product = soleProducer(outer.id, reader, edit);
  if (product?.op !== 'MatMul') return undefined;
  const query = unscale({ id: product.inputs[0]!, scale: 1, nodes: [] }, product, edit);
  const key = unscale({ id: product.inputs[1]!, scale: 1, nodes: [] }, product, edit);
  const transpose = soleProducer(key.id, key.nodes[0] ?? product, edit);
  const isSwap = transpose?.op === 'Transpose' && swapsLastTwo(transpose.attrs.perm);
  const inner = isSwap ? unscale({ ...key, id: transpose.inputs[0]!, nodes: [transpose, ...key.nodes] }, transpose, edit) : key;
  return {
    query: query.id,
    key: inner.id,
    transposedKey: isSwap ? 0 : 1,
    mask: undefined,
    scale: outer.scale * query.scale * inner.scale,
    softcap: 0,
    nodes: [...query.nodes, ...inner.nodes, product, ...outer.nodes],
  };
}

function swapsLastTwo(perm: readonly number[]): boolean {
  const last = perm.length - 1;
  return perm.every((axis, index) => axis === (index === last ? last - 1 : index === last - 1 ? last : index));
}

/** Takes multiplications and divisions by a number off a value that only `reader` reads, and casts off scores. */
function unscale(value: Scaled, reader: AnyNode, edit: GraphEditor, of: 'operand' | 'scores' = 'operand'): Scaled {
  const taken: AnyNode[] = [];
  let { id, scale } = value;
  for (let below = reader; ; below = taken.at(-1)!) {
    const node = soleProducer(id, below, edit);
    const factor = of === 'scores' && isFloatCast(node, edit) ? { node, of: node.inputs[0]!, by: 1 } : factorOf(node, edit);
    if (!factor) return { id, scale, nodes: [...taken.toReversed(), ...value.nodes] };
    id = factor.of;
    scale *= factor.by;
    taken.push(factor.node);
  }
}

/** What a multiplication or division by a number does, where it keeps the rank. */
function factorOf(node: AnyNode | undefined, edit: GraphEditor): { node: AnyNode; of: ValueId; by: number } | undefined {
  if (node?.op !== 'Mul' && node?.op !== 'Div') return undefined;
  const side = node.op === 'Mul' && edit.constant(node.inputs[0]) ? 1 : 0;
  const number = uniformValue(edit.constant(node.inputs[1 - side]));
  const of = node.inputs[side]!;
  if (!number || !sameType(edit.type(of), edit.type(node.outputs[0]!))) return undefined;
  return { node, of, by: node.op === 'Mul' ? number : 1 / number };
}

/**
 * Keys and values with as few heads as both have before they are repeated or broadcast to the `batch` (batch and heads, or both in one axis) of the
 * scores; undefined where the kernel can't share them so.
 */
function sharedOperands(key: ValueId, values: ValueId, batch: Dims, edit: GraphEditor): readonly [key: ValueId, values: ValueId] | undefined {
  const heads = batch.at(-1)!;
  const fits = (id: ValueId): boolean => {
    const own = edit.type(id).dims.slice(0, -2);
    return sameDims(own.slice(0, -1), batch.slice(0, -1)) && (own.at(-1) === heads || own.at(-1) === 1);
  };
  if (![key, values].every(fits)) return undefined;
  const count = (id: ValueId): number => edit.type(id).dims.at(-3)!;
  const [repeatedKey, repeatedValues] = [repeatedHeads(key, edit), repeatedHeads(values, edit)];
  if (count(key) / (repeatedKey?.times ?? 1) === count(values) / (repeatedValues?.times ?? 1)) {
    return [repeatedKey ? addUnrepeated(repeatedKey, edit) : key, repeatedValues ? addUnrepeated(repeatedValues, edit) : values];
  }
  return count(key) === count(values) ? [key, values] : undefined;
}

function replace(node: AnyNode, scores: Scores & Pick<Weights, 'zeroEmptyRows'>, [key, values]: readonly [ValueId, ValueId], edit: GraphEditor): void {
  const { query, mask = '', scale, softcap, transposedKey, zeroEmptyRows } = scores;
  const output = edit.type(node.outputs[0]!);
  const attrs = { scale, softcap, transposedK: transposedKey, zeroEmptyRows };
  const origins = unionOrigins(...scores.nodes);
  const [ownKey, ownValues] = [key, values].map((id) => asItWas(id, edit)) as [ValueId, ValueId];
  if (output.dims.length === 4) {
    edit.replaceNode(node, { op: 'FusedAttention', inputs: [query, ownKey, ownValues, mask], attrs, origins });
    return;
  }
  const batched = [query, ownKey, ownValues].map((id) => viewAs(id, [1, ...edit.type(id).dims], node.origins, edit));
  const type = { dtype: output.dtype, dims: [1, ...output.dims] };
  // A mask of rank 3 or less broadcasts to [1, B, S, L] as it stands.
  const attention = edit.add({ op: 'FusedAttention', inputs: [...batched, mask], attrs, origins, name: node.name, type });
  becomeReshape(node, attention, node.origins, edit);
}

/** A transpose of attention's own, for one that the graph gives out too: what is given out has a place and a type of its own, and attention reads any order. */
function asItWas(id: ValueId, edit: GraphEditor): ValueId {
  const node = edit.producer(id);
  if (node?.op !== 'Transpose' || !edit.isOutput(id)) return id;
  const { inputs, attrs, origins, name } = node;
  return edit.add({ op: 'Transpose', inputs, attrs, origins, name, type: edit.type(id) });
}

// softmax(s·QKᵀ + mask)·V = attention(Q, K, V, mask)
export const fuseAttention = rulePass(
  { name: 'fuse-attention', summary: 'softmax(QK)V as one kernel', targets: ['webgpu'] },
  [{ name: 'attention', ops: ['MatMul'], rewrite: fuse }],
);
