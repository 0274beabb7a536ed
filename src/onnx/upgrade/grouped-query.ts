/**
 * GroupQueryAttention of onnxruntime's `com.microsoft` domain: what language decoders are exported to. Causal attention whose heads of keys
 * and values are shared, with rotary embeddings and a cache that each sample has filled to a length of its own.
 */
import { fromNumbers, type Tensor, toNumbers } from '../../ir/tensor.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { capped, joinHeads, LEAST, scoresOf, shareHeads, splitHeads } from './heads.ts';
import { anglesAt, turn } from './rotary.ts';
import { inputOf, int64Input, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** Where the new rows stand among all. */
interface Times {
  readonly rows: number;
  /** Keys that there are with the new ones, of the longest sample. */
  readonly total: number;
  /** Keys that are older than the first new row: a number, or by sample as int64[batch], where the data decide it. */
  readonly before: number | string;
  /** The last key of each sample, as int64[batch], where it may not be the last of all. */
  readonly last?: string;
}

const range = (length: number, first = 0): Tensor => fromNumbers('int64', [length], Array.from({ length }, (_, at) => first + at));

function refuseForms(node: SourceNode, scope: Scope): void {
  const isSet = (index: number): boolean => (node.inputs[index] ?? '') !== '';
  if (isSet(12) || isSet(13) || numberAttribute(node, 'kv_cache_bit_width', 0) !== 0) throw new UnsupportedError('a cache of quantized keys and values is not supported');
  if (numberAttribute(node, 'causal', 1) !== 1) throw new UnsupportedError("attribute 'causal' of 0 is not supported");
  if (numberAttribute(node, 'sliding_window_cache', 0) !== 0) throw new UnsupportedError("attribute 'sliding_window_cache' is not supported");
  if (node.outputs[3] && scope.isUsed(node.outputs[3])) throw new UnsupportedError('the products of queries and keys (output_qk) are used');
}

/** Queries, keys and values as [batch, length, heads, size]: side by side in the first input, or one by one. */
function operandsOf(node: SourceNode, scope: Scope): readonly [string, string, string] {
  const counts = ['num_heads', 'kv_num_heads', 'kv_num_heads'].map((name) => numberAttribute(node, name)) as [number, number, number];
  const data = inputOf(node, 0);
  const isPacked = (node.inputs[1] ?? '') === '';
  const size = scope.type(data).dims[2]! / (counts[0] + 2 * counts[1]);
  if (isPacked && !Number.isInteger(size)) throw new ShapeError(`[${scope.type(data).dims.join(',')}] are not queries of ${counts[0]} heads with keys and values of ${counts[1]}`);
  const widths = counts.map((heads) => heads * size);
  const parts = isPacked
    ? scope.emit(node, 'Split', [data, int64Input(scope, widths)], { axis: -1 }, widths.map(() => scope.freshValue(`${node.name}/part`)))
    : [0, 1, 2].map((index) => inputOf(node, index));
  return parts.map((id, index) => splitHeads(node, scope, id, counts[index]!)) as [string, string, string];
}

/** Where all are new (a prompt), the lengths say which keys are padding behind a sample. */
function timesOf(node: SourceNode, scope: Scope, rows: number): Times {
  const total = scope.known(inputOf(node, 6))?.[0];
  if (total === undefined) throw new NotStaticError('how many keys there are (total_sequence_length) is not known at build');
  if (total < rows) throw new ShapeError(`${rows} rows are more than the ${total} that there are in all (total_sequence_length)`);
  const lengths = inputOf(node, 5);
  const known = scope.constant(lengths);
  if (total === rows) return { rows, total, before: 0, ...(known && toNumbers(known).every((last) => last >= total - 1) ? {} : { last: wide(node, scope, lengths) }) };
  const first = new Set(known && toNumbers(known).map((last) => last + 1 - rows));
  const [before] = first;
  if (before !== undefined && (before < 0 || before + rows > total)) throw new ShapeError(`${before + rows} keys (seqlens_k) are not between the ${rows} new ones and the ${total} in all`);
  if (first.size === 1) return { rows, total, before: before! };
  return { rows, total, before: scope.emit(node, 'Add', [wide(node, scope, lengths), scalarInput(scope, 'int64', 1 - rows)], {})[0]! };
}

/** Lengths as int64[batch]. */
function wide(node: SourceNode, scope: Scope, lengths: string): string {
  const [flat] = scope.emit(node, 'Reshape', [lengths, int64Input(scope, [-1])], {});
  return scope.emit(node, 'Cast', [flat!], { to: ONNX_DTYPE.int64 })[0]!;
}

/** `numbers` by sample, for [batch, 1, 1, 1]. */
function bySample(node: SourceNode, scope: Scope, numbers: string, axes: readonly number[]): string {
  return scope.emit(node, 'Unsqueeze', [numbers, int64Input(scope, axes)], {})[0]!;
}

/** Given or counted; of those that are given with a prompt, onnxruntime takes the very first, and counts from there. */
function positionsOf(node: SourceNode, scope: Scope, { rows, total, before }: Times): string {
  const given = node.inputs[9] ?? '';
  if (given !== '' && total !== rows) return given;
  if (typeof before === 'number' && given === '') return scope.addConstant(range(rows, before));
  const first = (): string => scope.emit(node, 'Slice', [scope.emit(node, 'Reshape', [given, int64Input(scope, [-1])], {})[0]!, ...[0, 1].map((number) => int64Input(scope, [number]))], {})[0]!;
  const start = typeof before === 'string' ? bySample(node, scope, before, [1]) : first();
  return scope.emit(node, 'Add', [start, scope.addConstant(range(rows))], {})[0]!;
}

/** Every head by its root mean square, where input `index` has the gains; then turned to its position. */
function placed(node: SourceNode, scope: Scope, data: string, index: number, times: Times): string {
  const gains = node.inputs[index] ?? '';
  const id = gains === '' ? data : scope.emit(node, 'RMSNormalization', [data, gains], { axis: -1, epsilon: numberAttribute(node, 'qk_norm_epsilon', 1e-6) })[0]!;
  if (numberAttribute(node, 'do_rotary', 0) === 0) return id;
  const angles = anglesAt(node, scope, 7, positionsOf(node, scope, times));
  return turn(node, scope, id, 2, { angles, turned: 2 * scope.type(inputOf(node, 7)).dims[1]!, isInterleaved: numberAttribute(node, 'rotary_interleaved', 0) !== 0 });
}

/** Rows from `start` to `end` of [batch, heads, length, size]. */
function rowsOf(node: SourceNode, scope: Scope, id: string, start: number, end: number): string {
  if (start === 0 && end === scope.type(id).dims[2]) return id;
  return scope.emit(node, 'Slice', [id, ...[start, end, 2].map((number) => int64Input(scope, [number]))], {})[0]!;
}

/** With zeros behind, up to `length` rows. */
function padded(node: SourceNode, scope: Scope, id: string, length: number, outputs?: readonly string[]): string {
  const missing = length - scope.type(id).dims[2]!;
  if (missing === 0) return outputs ? scope.emit(node, 'Identity', [id], {}, outputs)[0]! : id;
  return scope.emit(node, 'Pad', [id, int64Input(scope, [0, 0, 0, 0, 0, 0, missing, 0])], {}, outputs)[0]!;
}

/** All keys or values, the older ones from the input `past`; the cache, which may be longer, as the output `present`. */
function cached(node: SourceNode, scope: Scope, current: string, past: string, present: string, times: Times): string {
  const { total, before } = times;
  const older = past === '' ? 0 : scope.type(past).dims[2]!;
  const length = Math.max(older, total);
  const outputs = present !== '' && scope.isUsed(present) ? [present] : undefined;
  if (typeof before === 'string') {
    if (past === '') throw new ShapeError('earlier keys and values are missing (past_key, past_value)');
    return rowsOf(node, scope, inserted(node, scope, current, padded(node, scope, past, length), before, outputs), 0, total);
  }
  if (before > older) throw new ShapeError(`${older} earlier keys and values are given, but ${before} are needed`);
  const all = before === 0 ? current : scope.emit(node, 'Concat', [rowsOf(node, scope, past, 0, before), current], { axis: 2 })[0]!;
  if (outputs) padded(node, scope, all, length, outputs);
  return rowsOf(node, scope, padded(node, scope, all, Math.max(total, scope.type(all).dims[2]!)), 0, total);
}

/** `past` with the rows of `current` behind each sample's own, and zeros behind these. */
function inserted(node: SourceNode, scope: Scope, current: string, past: string, before: string, outputs: readonly string[] | undefined): string {
  const { dims, dtype } = scope.type(past);
  const [batch, heads, length, size] = dims as readonly [number, number, number, number];
  const rows = scope.type(current).dims[2]!;
  const column = scope.addConstant({ ...range(length), dims: [1, 1, length, 1] });
  const [place] = scope.emit(node, 'Sub', [column, bySample(node, scope, before, [1, 2, 3])], {});
  const isBefore = (limit: number): string => scope.emit(node, 'Less', [place!, scalarInput(scope, 'int64', limit)], {})[0]!;
  const spread = (): string => {
    const [index] = scope.emit(node, 'Clip', [place!, scalarInput(scope, 'int64', 0), scalarInput(scope, 'int64', rows - 1)], {});
    const [whole] = scope.emit(node, 'Expand', [index!, int64Input(scope, [batch, heads, length, size])], {});
    return scope.emit(node, 'GatherElements', [current, whole!], { axis: 2 })[0]!;
  };
  const [fresh] = scope.emit(node, 'Where', [isBefore(rows), rows === 1 ? current : spread(), scalarInput(scope, dtype, 0)], {});
  return scope.emit(node, 'Where', [isBefore(0), past, fresh!], {}, outputs)[0]!;
}

/** What is added to the scores: nothing at keys up to each row's own, the least number at later ones and at those before its window. */
function timeMask(node: SourceNode, scope: Scope, query: string, { rows, total, before, last }: Times): string | undefined {
  const { dtype } = scope.type(query);
  const window = numberAttribute(node, 'local_window_size', -1);
  const least = LEAST[dtype] ?? LEAST.float32!;
  if (typeof before === 'number' && last === undefined) {
    const isSeen = (row: number, column: number): boolean => column <= before + row && (window < 0 || column > before + row - window);
    const values = Array.from({ length: rows * total }, (_, at) => (isSeen(Math.floor(at / total), at % total) ? 0 : least));
    return values.every((value) => value === 0) ? undefined : scope.addConstant(fromNumbers(dtype, [rows, total], values));
  }
  const columns = scope.addConstant(range(total));
  const column = (first: number): string => scope.addConstant({ ...range(rows, first), dims: [rows, 1] });
  const own = typeof before === 'number' ? column(before) : scope.emit(node, 'Add', [bySample(node, scope, before, [1, 2, 3]), column(0)], {})[0]!;
  const [limit] = last === undefined ? [own] : scope.emit(node, 'Min', [own, bySample(node, scope, last, [1, 2, 3])], {});
  let [seen] = scope.emit(node, 'LessOrEqual', [columns, limit!], {});
  if (window >= 0) {
    const [left] = scope.emit(node, 'Sub', [own, scalarInput(scope, 'int64', window)], {});
    const [near] = scope.emit(node, 'Greater', [columns, left!], {});
    [seen] = scope.emit(node, 'And', [seen!, near!], {});
  }
  return scope.emit(node, 'Where', [seen!, scalarInput(scope, dtype, 0), scalarInput(scope, dtype, least)], {})[0]!;
}

/** The mask of time with the bias of the scores; longer biases are for a longer cache. */
function addendOf(node: SourceNode, scope: Scope, query: string, times: Times): string | undefined {
  const mask = timeMask(node, scope, query, times);
  const bias = node.inputs[10] ?? '';
  if (bias === '') return mask;
  const columns = scope.type(bias).dims.at(-1)!;
  const [cut] = columns > times.total ? scope.emit(node, 'Slice', [bias, ...[0, times.total, -1].map((number) => int64Input(scope, [number]))], {}) : [bias];
  return mask === undefined ? cut : scope.emit(node, 'Add', [mask, cut!], {})[0]!;
}

interface Scored {
  readonly key: string;
  readonly value: string;
  readonly addend: string | undefined;
}

/**
 * A softmax that may attend to nothing has exp(sink) in its denominator: a key and a value of zeros say that, whose score is the sink (0 of a
 * smooth softmax).
 */
function withSink(node: SourceNode, scope: Scope, { key, value, addend }: Scored, total: number): Scored {
  const sink = node.inputs[11] ?? '';
  if (sink === '' && numberAttribute(node, 'smooth_softmax', 0) <= 0) return { key, value, addend };
  const widened = (id: string, before: number, after: number): string => scope.emit(node, 'Pad', [id, int64Input(scope, [before, after]), '', int64Input(scope, [-1])], {})[0]!;
  const longer = { key: padded(node, scope, key, total + 1), value: padded(node, scope, value, total + 1) };
  const wide = addend === undefined ? undefined : widened(addend, 0, 1);
  if (sink === '') return { ...longer, addend: wide };
  const [column] = scope.emit(node, 'Reshape', [sink, int64Input(scope, [1, -1, 1, 1])], {});
  const only = widened(column!, total, 0);
  return { ...longer, addend: wide === undefined ? only : scope.emit(node, 'Add', [wide, only], {})[0]! };
}

const groupQueryAttention: Rule = (node, scope) => {
  refuseForms(node, scope);
  const [query, key, value] = operandsOf(node, scope);
  const [, rows, heads, size] = scope.type(query).dims as readonly [number, number, number, number];
  const times = timesOf(node, scope, rows);
  const turnedQuery = headsFirst(node, scope, placed(node, scope, query, 14, times));
  const own = [placed(node, scope, key, 15, times), value].map((id) => headsFirst(node, scope, id));
  const all = own.map((id, index) => cached(node, scope, id, node.inputs[3 + index] ?? '', node.outputs[1 + index] ?? '', times)) as [string, string];
  const scored = withSink(node, scope, { key: all[0], value: all[1], addend: addendOf(node, scope, turnedQuery, times) }, times.total);
  const shared = [scored.key, scored.value].map((id) => shareHeads(node, scope, id, heads));
  const products = capped(node, scope, scoresOf(node, scope, turnedQuery, shared[0]!, numberAttribute(node, 'scale', 0) || 1 / Math.sqrt(size)));
  const [scores] = scored.addend === undefined ? [products] : scope.emit(node, 'Add', [products, scored.addend], {});
  const [weights] = scope.emit(node, 'Softmax', [scores!], { axis: -1 });
  joinHeads(node, scope, scope.emit(node, 'MatMul', [weights!, shared[1]!], {})[0]!);
};

function headsFirst(node: SourceNode, scope: Scope, id: string): string {
  return scope.emit(node, 'Transpose', [id], { perm: [0, 2, 1, 3] })[0]!;
}

export const GROUPED_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([['GroupQueryAttention', groupQueryAttention]]);
