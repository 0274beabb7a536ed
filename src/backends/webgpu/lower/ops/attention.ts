/**
 * Attention: one kernel that never writes the scores, or two where keys are divided (kernels/attention), or three: scores with scale and mask, softmax over their
 * rows, weighted sum.
 *
 * Projections give [batch, position, head, d]: operands are read through the transposes that exporters put behind them, and results
 * are written as the transpose that follows wants them, so that neither moves anything.
 */
import type { Expr } from '../../../../ir/expr.ts';
import type { Node, ValueId } from '../../../../ir/graph.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import { attentionKernels } from '../../kernels/attention/kernel.ts';
import { attentionProblemOf, type AttentionSpec } from '../../kernels/attention/spec.ts';
import { ATTENTION_LANES, type AttentionProblem, attentionScratchBytes, attentionTacticName, attentionTactics, readsKeysFewTimes } from '../../tactics/attention.ts';
import type { Candidate } from '../../tactics/tactic.ts';
import type { KernelCall } from '../call.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { soleReader } from '../readers.ts';
import { floatReason } from '../support.ts';
import { isAligned } from '../space.ts';
import { broadcastView, type DeviceTensor, narrowStorage, rowMajorStrides, storedBytes, type View, viewOf } from '../tensor.ts';
import { viewedAs } from '../windows.ts';
import { lowerProduct, matrixOperand, type ProductContext } from './matmul.ts';
import { gridToWrite } from './quantize.ts';
import { softmaxRows } from './rows.ts';

const scores: Expr = { kind: 'input', index: 0, dtype: 'float32' };
const mask: Expr = { kind: 'input', index: 1, dtype: 'float32' };

/** What becomes of a scaled score; undefined where it stays. */
function scoreEnd(softcap: number, isMasked: boolean): Expr | undefined {
  const cap: Expr = { kind: 'const', value: softcap, dtype: 'float32' };
  const bent: Expr = softcap === 0 ? scores : { kind: 'binary', fn: 'mul', a: { kind: 'unary', fn: 'tanh', x: { kind: 'binary', fn: 'div', a: scores, b: cap } }, b: cap };
  const end: Expr = isMasked ? { kind: 'binary', fn: 'add', a: bent, b: mask } : bent;
  return end === scores ? undefined : end;
}

/** The operands as [batch, head, row, d], k not transposed; q and the mask have as many heads as share one of k and v, times theirs. */
interface Heads {
  readonly q: DeviceTensor;
  readonly k: DeviceTensor;
  readonly v: DeviceTensor;
  readonly mask: DeviceTensor | undefined;
  readonly scale: number;
  readonly softcap: number;
  readonly zeroEmptyRows: boolean;
}

type Shape = [batch: number, heads: number, rows: number, extent: number];

/** Operands as they lie, each with rows that one kernel can read, and what it multiplies. */
interface ReadableHeads extends Heads {
  readonly element: AttentionSpec['element'];
}

const attention: Lowering<'FusedAttention'> = {
  unsupported: floatReason,
  lower(node, context) {
    const heads = readableHeads(node, context);
    const operands = heads && operandsOf(heads);
    const problem = operands && attentionProblemOf(operands);
    const tactics = problem ? attentionTactics(problem, context.profile) : [];
    if (!heads || !problem || tactics.length === 0) return lowerApart(node, context);
    const grid = gridToWrite(node.outputs[0]!, context);
    const taken = grid?.alone ? grid : undefined;
    if (taken) context.take(taken.node);
    const { tensor, view } = resultPlace((taken?.node ?? node).outputs[0]!, context);
    const output = { ...tensor, window: { ...view, boundBytes: storedBytes(tensor) } };
    const spec = { ...operands, output: { tensor: output, view: viewOf(output) }, end: taken?.end };
    const precision = problem.element === 'f16' ? 'float16' : 'float32';
    const fused = tactics.map((tactic): Candidate => ({
      name: attentionTacticName(tactic),
      scratchBytes: attentionScratchBytes(problem, tactic),
      kernels: () => attentionKernels(spec, tactic, context.profile, (elements) => context.scratch('float32', [elements])).map((call) => ({ ...call, precision })),
    }));
    const { element, heads: batch, rows, length, depth, depthV } = problem;
    const flops = 2 * batch * rows * length * (depth + depthV);
    const narrowing = [heads.k, heads.v].some(({ storage }) => storage !== element) ? ' from f32' : '';
    const key = `Attention ${element}${narrowing} ${batch}x${rows}x${length}x${depth}x${depthV}${heads.mask ? ' masked' : ''}${heads.softcap === 0 ? '' : ' capped'}${taken ? ' to bytes' : ''}`;
    context.choose({ key, flops }, [...fused, apart(heads, output, spec.end, problem, context)]);
  },
};

/**
 * The operands as they lie, where each head's rows are contiguous and begin at whole vectors. On a build of halves the kernel multiplies halves: floats
 * that came from outside, or leave as outputs, it narrows as it reads them where it does so few times, as a decoder's token its cache.
 */
function readableHeads(node: Node<'FusedAttention'>, context: LowerContext): ReadableHeads | undefined {
  const { scale, softcap, transposedK, zeroEmptyRows } = node.attrs;
  const ids = node.inputs.slice(0, 3) as [ValueId, ValueId, ValueId];
  const [[, heads, positions], [, own, length]] = [ids[0], ids[2]].map((id) => context.type(id).dims) as [Shape, Shape];
  const wish = readsKeysFewTimes({ rows: (heads / own) * positions, length }) ? undefined : 'narrow';
  const operand = (id: ValueId, transposed: boolean): DeviceTensor | undefined => {
    const { dims } = context.type(id);
    if (elementCount(dims) === 0) return undefined;
    const tensor = context.half && !transposed && narrowStorage('float32', dims, 'linear') ? context.sourceIn(id, 'linear', wish) : context.source(id);
    const { offset, strides } = viewOf(tensor);
    const swapped = <T>(list: readonly T[]): T[] => (transposed ? [...list.slice(0, -2), list.at(-1)!, list.at(-2)!] : [...list]);
    const view: View = { offset, strides: swapped(strides) };
    if (view.strides.at(-1) !== 1 || (tensor.storage !== 'f16' && tensor.storage !== 'f32') || !isAligned(view, ATTENTION_LANES[tensor.storage], 3)) return undefined;
    return { ...tensor, dims: swapped(dims), layout: 'linear', window: { ...view, boundBytes: storedBytes(tensor) } };
  };
  const [q, k, v] = [operand(ids[0], false), operand(ids[1], transposedK === 1), operand(ids[2], false)];
  if (!q || !k || !v) return undefined;
  const isWhole = [q, v].every(({ dims }) => dims.at(-1)! % ATTENTION_LANES.f16 === 0);
  const element = context.half && isWhole && ids.every((id) => context.fitsHalves(id)) ? 'f16' : 'f32';
  if (element === 'f32' && [q, k, v].some(({ storage }) => storage !== 'f32')) return undefined;
  return { q, k, v, mask: node.inputs[3] ? context.sourceIn(node.inputs[3], 'linear') : undefined, scale, softcap, zeroEmptyRows: zeroEmptyRows === 1, element };
}

/** Where results go: in the order in which the transpose that alone reads them wants them, or row-major. */
function resultPlace(output: ValueId, context: LowerContext): { readonly tensor: DeviceTensor; readonly view: View } {
  const tensor = context.define(output, 'linear', 'narrow');
  const reader = context.windows ? soleReader(context.graph, output) : undefined;
  if (reader?.op !== 'Transpose' || reader.attrs.perm.join() !== '0,2,1,3') return { tensor, view: viewOf(tensor) };
  const [batch, heads, rows, depth] = tensor.dims as [number, number, number, number];
  const [outer, row, head] = rowMajorStrides([batch, rows, heads, depth]) as [number, number, number];
  const view = { offset: 0, strides: [outer, head, row, 1] };
  const viewed = viewedAs(tensor, tensor.dims, view);
  context.alias(output, viewed, viewed.layout);
  return { tensor, view };
}

function operandsOf({ q, k, v, mask: added, scale, softcap, zeroEmptyRows, element }: ReadableHeads): Omit<AttentionSpec, 'output' | 'end'> {
  const [batch, queryHeads, positions, depth] = q.dims as Shape;
  const [, heads, length, depthV] = v.dims as Shape;
  const sharing = queryHeads / heads;
  const operand = (tensor: DeviceTensor): AttentionSpec['q'] => ({ tensor, view: viewOf(tensor) });
  const mask = added && { tensor: added, view: broadcastView(added, [batch, queryHeads, positions, length]) };
  return { batch, heads, sharing, rows: sharing * positions, length, depth, depthV, scale, softcap, zeroEmptyRows, element, q: operand(q), k: operand(k), v: operand(v), mask };
}

/** What the three kernels ask of a lowering's context. */
type ApartContext = ProductContext & Pick<LowerContext, 'dispatch'>;

/** The three kernels as one candidate. */
function apart(heads: Heads, output: DeviceTensor, end: AttentionSpec['end'], { heads: batch, rows, length }: AttentionProblem, context: LowerContext): Candidate {
  const scoreBytes = batch * rows * length * 4;
  return {
    name: 'three kernels',
    scratchBytes: context.half ? scoreBytes * 1.5 : scoreBytes * 2,
    kernels() {
      const calls: KernelCall[] = [];
      const { half, split, halfSums, profile } = context;
      const recorder: ApartContext = {
        half,
        split,
        halfSums,
        profile,
        pack: (key, spec, make) => context.pack(key, spec, make),
        scratch: (dtype, dims, storage) => context.scratch(dtype, dims, storage),
        dispatch: (call) => void calls.push(call),
        choose: (_, candidates) => void calls.push(...candidates[0]!.kernels()),
      };
      emitApart({ ...heads, transB: true }, output, end, recorder);
      return calls;
    },
  };
}

function emitApart(heads: Heads & { readonly transB: boolean }, output: DeviceTensor, end: AttentionSpec['end'], context: ApartContext): void {
  const { scale, softcap, zeroEmptyRows, transB } = heads;
  const own = heads.k.dims[1]!;
  const split = (tensor: DeviceTensor): DeviceTensor => (heads.q.dims[1] === own ? tensor : byOwnHead(tensor, own));
  const [q, k, v, out] = [heads.q, heads.k, heads.v, output].map(split) as [DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor];
  const added = heads.mask && split(heads.mask);
  const plain = { c: undefined, beta: 1, transA: false, epilogue: undefined };
  const raw = context.scratch('float32', [...q.dims.slice(0, -1), v.dims.at(-2)!]);
  const product = { ...plain, a: q, b: k, extras: added ? [added] : [], alpha: scale, transB };
  lowerProduct({ ...product, epilogue: scoreEnd(softcap, added !== undefined), output: raw }, context);
  // Weights lie between 0 and 1, which halves hold well; scores stay f32.
  const storage = context.half ? narrowStorage('float32', raw.dims, 'linear') : undefined;
  const weights = context.scratch('float32', raw.dims, storage);
  softmaxRows(zeroEmptyRows ? 'SafeSoftmax' : 'Softmax', raw, weights, raw.dims.length - 1, context);
  lowerProduct({ ...plain, a: weights, b: v, extras: end?.inputs ?? [], epilogue: end?.expr, alpha: 1, transB: false, output: out }, context);
}

/** [batch, heads, …, …] as [batch, head of keys, head of those that share it, …, …], where the products then broadcast. */
function byOwnHead(tensor: DeviceTensor, own: number): DeviceTensor {
  const { dims } = tensor;
  if (dims.length < 4) return tensor;
  const [batch, heads, ...rest] = dims as Shape;
  const { offset, strides } = viewOf(tensor);
  const sharing = Math.max(1, heads / own);
  const view = { offset, strides: strides.toSpliced(1, 1, strides[1]! * sharing, strides[1]!) };
  return { ...tensor, dims: [batch, heads / sharing, sharing, ...rest], layout: 'linear', window: { ...view, boundBytes: storedBytes(tensor) } };
}

/** The three kernels, with whatever copies they need. */
function lowerApart(node: Node<'FusedAttention'>, context: LowerContext): void {
  const [q, k, v] = node.inputs.slice(0, 3).map((id) => matrixOperand(id, context)) as [DeviceTensor, DeviceTensor, DeviceTensor];
  const added = node.inputs[3] ? context.sourceIn(node.inputs[3], 'linear') : undefined;
  const { scale, softcap, transposedK, zeroEmptyRows } = node.attrs;
  const output = context.define(node.outputs[0]!, 'linear', 'narrow');
  emitApart({ q, k, v, mask: added, scale, softcap, zeroEmptyRows: zeroEmptyRows === 1, transB: transposedK === 0 }, output, undefined, context);
}

export const ATTENTION_LOWERINGS: LoweringTable = { FusedAttention: attention };
