/**
 * Scaled dot-product attention as one kernel: softmax(s·QKᵀ + mask)·V (Vaswani et al. 2017, arXiv:1706.03762).
 *
 * The scale may stand after the product or on Q and K (exporters split it as √s on each); K may come transposed or with the
 * transpose to take in. Three-dimensional attention (batch and heads in one axis) runs as a batch of one.
 *
 * PyTorch's scaled_dot_product_attention gives zeros for a query that sees no key, which has no softmax. Its exporters write that as
 * Where(IsNaN(weights), 0, weights) behind the softmax; the kernel does it at its end.
 *
 * Where heads of queries share keys and values (grouped queries, Ainslie et al. 2023, arXiv:2305.13245) and there is one row, as for a token behind a cache,
 * the heads that share become rows: keys and values are read once for all of them, and no copy for each is made.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { type Dims, sameDims } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { broadcastsTo } from '../ops/shapes.ts';
import { rulePass } from './pass.ts';
import { matchPattern, named, number, op, uniformValue, value } from './pattern.ts';
import { becomeReshape } from './reshapes.ts';
import { addInts, FLOATS, positiveAxis } from './tensors.ts';

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
  const values = node.inputs[1]!;
  if (!scores || !sameBatch([scores.query, scores.key, values], dims.slice(0, -2), edit)) return false;
  if (scores.mask && !broadcastsTo(edit.type(scores.mask).dims, dims)) return false;
  replace(node, { ...scores, zeroEmptyRows: weights.zeroEmptyRows, nodes: [...scores.nodes, ...weights.nodes, node] }, values, edit);
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
  const last = soleProducer(product.inputs[0]!, product, edit);
  if (last?.op === 'Softmax') return { softmax: last, zeroEmptyRows: 0, nodes: [last] };
  const match = last && matchPattern(ZERO_WHERE_NAN, last, edit);
  const softmax = match?.node('weights');
  // A zero of more axes would give the weights these.
  if (softmax?.op !== 'Softmax' || !sameType(edit.type(softmax.outputs[0]!), edit.type(last!.outputs[0]!))) return undefined;
  return { softmax, zeroEmptyRows: 1, nodes: match!.nodes.toReversed() };
}

/** The node that gives `id`, where only `reader` reads it. */
function soleProducer(id: ValueId, reader: AnyNode, edit: GraphEditor): AnyNode | undefined {
  return edit.onlyConsumer(id) === reader ? edit.producer(id) : undefined;
}

/** s·QKᵀ + mask, with the mask on either side. */
function findScores(softmax: AnyNode, edit: GraphEditor): Scores | undefined {
  const sum = soleProducer(softmax.inputs[0]!, softmax, edit);
  const direct = findProduct(softmax.inputs[0]!, softmax, edit);
  if (direct || sum?.op !== 'Add') return direct;
  for (const side of [0, 1]) {
    const product = findProduct(sum.inputs[side]!, sum, edit);
    if (product) return { ...product, mask: sum.inputs[1 - side]!, nodes: [...product.nodes, sum] };
  }
  return undefined;
}

function findProduct(id: ValueId, reader: AnyNode, edit: GraphEditor): Scores | undefined {
  const outer = unscale({ id, scale: 1, nodes: [] }, reader, edit);
  const product = soleProducer(outer.id, outer.nodes[0] ?? reader, edit);
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
    nodes: [...query.nodes, ...inner.nodes, product, ...outer.nodes],
  };
}

function swapsLastTwo(perm: readonly number[]): boolean {
  const last = perm.length - 1;
  return perm.every((axis, index) => axis === (index === last ? last - 1 : index === last - 1 ? last : index));
}

/** Takes multiplications and divisions by a number off a value that only `reader` reads. */
function unscale(value: Scaled, reader: AnyNode, edit: GraphEditor): Scaled {
  const taken: AnyNode[] = [];
  let { id, scale } = value;
  for (let below = reader; ; below = taken.at(-1)!) {
    const factor = factorOf(soleProducer(id, below, edit), edit);
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

/** The kernel takes every head from every operand: none of them is broadcast. */
function sameBatch(ids: readonly ValueId[], batch: readonly number[], edit: GraphEditor): boolean {
  return ids.every((id) => edit.type(id).dims.slice(0, -2).join() === batch.join() && edit.type(id).dims.length === batch.length + 2);
}

function replace(node: AnyNode, scores: Scores & Pick<Weights, 'zeroEmptyRows'>, values: ValueId, edit: GraphEditor): void {
  const output = edit.type(node.outputs[0]!);
  const attrs = { scale: scores.scale, transposedK: scores.transposedKey, zeroEmptyRows: scores.zeroEmptyRows };
  const origins = unionOrigins(...scores.nodes);
  const operands = [scores.query, scores.key, values];
  if (output.dims.length === 4) {
    const shared = sharedHeads(scores, values, output.dims, edit);
    if (shared) {
      const inputs = [shared.query, shared.key, shared.value, scores.mask ?? ''];
      const attention = edit.add({ op: 'FusedAttention', inputs, attrs, origins, name: node.name, type: { dtype: output.dtype, dims: shared.dims } });
      becomeReshape(node, attention, node.origins, edit);
      return;
    }
    edit.replaceNode(node, { op: 'FusedAttention', inputs: [...operands, scores.mask ?? ''], attrs, origins });
    return;
  }
  const batched = operands.map((id) => viewAs(id, [1, ...edit.type(id).dims], node.origins, edit));
  const type = { dtype: output.dtype, dims: [1, ...output.dims] };
  // A mask of rank 3 or less broadcasts to [1, B, S, L] as it stands.
  const inputs = [...batched, scores.mask ?? ''];
  const attention = edit.add({ op: 'FusedAttention', inputs, attrs, origins, name: node.name, type });
  becomeReshape(node, attention, node.origins, edit);
}

interface SharedHeads extends Record<'query' | 'key' | 'value', ValueId> {
  /** Of the attention: [batch, heads of keys, heads of queries that share one, size]. */
  readonly dims: Dims;
}

/** The operands with the heads that share as rows; undefined where none share, where there are more rows, and where the mask tells heads apart. */
function sharedHeads({ query, key, mask }: Scores, values: ValueId, [batch, heads, rows, size]: Dims, edit: GraphEditor): SharedHeads | undefined {
  const columns = [key, values].map((id) => beforeRepeated(id, edit));
  const [own, other] = columns.map((id) => (id === undefined ? undefined : edit.type(id).dims[1]));
  if (rows !== 1 || own === undefined || own !== other || (mask && (edit.type(mask).dims.at(-3) ?? 1) !== 1)) return undefined;
  const view = (id: ValueId, dims: Dims): ValueId => viewAs(id, dims, edit.producer(id)?.origins ?? [], edit);
  const unrepeated = columns.map((id) => view(id!, edit.type(id!).dims.toSpliced(2, 1))) as [ValueId, ValueId];
  return { query: view(query, [batch!, own, heads! / own, edit.type(query).dims[3]!]), key: unrepeated[0], value: unrepeated[1], dims: [batch!, own, heads! / own, size!] };
}

/** [batch, heads, 1, …], where `id` is every head of it several times. */
function beforeRepeated(id: ValueId, edit: GraphEditor): ValueId | undefined {
  const joined = edit.producer(id);
  const repeated = joined?.op === 'Reshape' ? edit.producer(joined.inputs[0]!) : undefined;
  if (repeated?.op !== 'Expand') return undefined;
  const [batch, heads, ...rest] = edit.type(id).dims;
  const [from, to] = [edit.type(repeated.inputs[0]!).dims, edit.type(repeated.outputs[0]!).dims];
  const isByHead = sameDims(to.toSpliced(2, 1, 1), from) && sameDims(to.toSpliced(1, 2, heads!), [batch!, heads!, ...rest]);
  return isByHead ? repeated.inputs[0] : undefined;
}

function viewAs(id: ValueId, dims: Dims, origins: readonly string[], edit: GraphEditor): ValueId {
  const inputs = [id, addInts(edit, dims, `${id}_shape`)];
  const attrs = { allowzero: dims.includes(0) ? (1 as const) : (0 as const) };
  return edit.add({ op: 'Reshape', inputs, attrs, origins, name: `${id}_viewed`, type: { dtype: edit.type(id).dtype, dims } });
}

// softmax(s·QKᵀ + mask)·V = attention(Q, K, V, mask)
export const fuseAttention = rulePass(
  { name: 'fuse-attention', summary: 'softmax(QK)V as one kernel', targets: ['webgpu'] },
  [{ name: 'attention', ops: ['MatMul'], rewrite: fuse }],
);
