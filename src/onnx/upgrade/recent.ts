/** Ops of recent opsets that older ones say. */
import type { OpKind } from '../../ir/ops.ts';
import { DTYPE_BITS, fromNumbers, sameDims } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { INTEGER, isInteger } from '../../ops/dtypes.ts';
import { dtypeOfOnnx, ONNX_DTYPE } from '../../ops/specs.ts';
import type { RawRecord } from '../scope.ts';
import { inputOf, int64Input, knownInts, normalizeAxis, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** By doubling: after each step an element has the product of twice as many before it. */
const cumProd: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype, dims } = scope.type(data);
  const axis = normalizeAxis(knownInts(node, scope, 1, 'axis')[0]!, dims.length);
  const extent = dims[axis]!;
  const isReverse = numberAttribute(node, 'reverse', 0) !== 0;
  const one = scalarInput(scope, dtype, 1);
  /** Each element in the place of the one `by` behind it, with ones in front. */
  const shifted = (id: string, by: number, outputs?: readonly string[]): string => {
    const at = int64Input(scope, [axis]);
    const [from, to] = isReverse ? [by, extent] : [0, extent - by];
    const [kept] = scope.emit(node, 'Slice', [id, int64Input(scope, [from]), int64Input(scope, [to]), at], {});
    const pads = dims.flatMap(() => [0, 0]).with(isReverse ? dims.length + axis : axis, by);
    return scope.emit(node, 'Pad', [kept!, int64Input(scope, pads), one], {}, outputs)[0]!;
  };
  if (extent === 0) throw new UnsupportedError('products of nothing are not supported');
  const isExclusive = numberAttribute(node, 'exclusive', 0) !== 0;
  let product = isExclusive ? shifted(data, 1, extent === 1 ? node.outputs : undefined) : data;
  for (let by = 1; by < extent; by *= 2) [product] = scope.emit(node, 'Mul', [product, shifted(product, by)], {}, 2 * by >= extent ? node.outputs : undefined) as [string];
  if (extent === 1 && !isExclusive) scope.emit(node, 'Identity', [data], {}, node.outputs);
};

/** Swish of the first times the second. */
const swiGlu: Rule = (node, scope) => {
  const [gate] = scope.emit(node, 'Swish', [inputOf(node, 0)], { alpha: numberAttribute(node, 'alpha', 1) });
  scope.emit(node, 'Mul', [gate!, inputOf(node, 1)], {}, node.outputs);
};

/** Integers of one width, whose bits a cast keeps: numbers wrap. Bits of floats have no op in the vocabulary, those of 64 bits no device. */
const bitCast: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype: from } = scope.type(data);
  const to = dtypeOfOnnx(numberAttribute(node, 'to'));
  if (!to || DTYPE_BITS[to] !== DTYPE_BITS[from]) throw new ShapeError(`${from} has not the bits of ${to ?? 'the type asked for'}`);
  const keeps = from === to || (isInteger(from) && INTEGER.members.has(to) && DTYPE_BITS[to] < 64);
  if (!keeps) throw new UnsupportedError(`the bits of ${from} as ${to} are not supported`);
  scope.emit(node, 'Cast', [data], { to: ONNX_DTYPE[to] }, node.outputs);
};

/**
 * A cache with new entries along `axis`, for each sample from a place of its own, around its end if it is circular. Every entry of the cache looks
 * which new one is its own: Where over the whole, which is one elementwise kernel.
 */
const tensorScatter: Rule = (node, scope) => {
  const [past, update] = [inputOf(node, 0), inputOf(node, 1)];
  const { dims } = scope.type(past);
  const axis = normalizeAxis(numberAttribute(node, 'axis', -2), dims.length);
  const mode = node.attributes.get('mode') ?? 'linear';
  if (axis === 0 || axis === dims.length) throw new ShapeError(`axis ${axis} of ${dims.length} dimensions, the first of which is the batch`);
  if (mode !== 'linear' && mode !== 'circular') throw new ShapeError(`attribute 'mode' must be linear or circular, found ${JSON.stringify(mode)}`);
  const [length, rows] = [dims[axis]!, scope.type(update).dims[axis]!];
  if (!sameDims(scope.type(update).dims, dims.with(axis, rows)) || rows > length) throw new ShapeError(`[${scope.type(update).dims.join(',')}] are not entries of a cache of [${dims.join(',')}] along axis ${axis}`);
  const one = (op: OpKind, inputs: readonly string[], attributes: RawRecord = {}): string => scope.emit(node, op, inputs, attributes)[0]!;
  const int64 = (value: number): string => scalarInput(scope, 'int64', value);
  const entries = one('Reshape', [scope.addConstant(fromNumbers('int64', [length], Array.from({ length }, (_, at) => at))), int64Input(scope, dims.map((_, at) => (at === axis ? length : 1)))]);
  const starts = (node.inputs[2] ?? '') === '' ? int64(0) : one('Reshape', [inputOf(node, 2), int64Input(scope, dims.map((dim, at) => (at === 0 ? dim : 1)))]);
  const behind = one('Sub', [entries, starts]);
  const place = mode === 'circular' ? one('Mod', [behind, int64(length)]) : behind;
  const isNew = one('And', [one('GreaterOrEqual', [place, int64(0)]), one('Less', [place, int64(rows)])]);
  const spread = (): string => one('GatherElements', [update, one('Expand', [one('Clip', [place, int64(0), int64(rows - 1)]), int64Input(scope, dims)])], { axis });
  scope.emit(node, 'Where', [isNew, rows === 1 ? update : spread(), past], {}, node.outputs);
};

export const RECENT_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['BitCast', bitCast],
  ['CumProd', cumProd],
  ['SwiGLU', swiGlu],
  ['TensorScatter', tensorScatter],
]);
