/**
 * What onnxruntime's transformer optimizer fuses the layers of BERT, GPT and ViT to, in its `com.microsoft` domain
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md): read as the ops that it was fused from.
 */
import { fromNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { byHead, extend, joinHeads, LEAST, scoresOf } from './heads.ts';
import { microsoftRotary } from './rotary.ts';
import { inputOf, int64Input, intsAttribute, numberAttribute, scalar, scalarInput, type Rule } from './rule.ts';

/** layernorm(word + position + segment), how many tokens each sample has, and the sum itself. */
const embedLayerNormalization: Rule = (node, scope) => {
  const [, segments = '', , , , , , mask = '', places = ''] = node.inputs;
  const [ids, words, positions, gamma, beta] = [0, 2, 3, 5, 6].map((index) => inputOf(node, index)) as [string, string, string, string, string];
  const [normalized = '', count = '', total = ''] = node.outputs;
  const { dims } = scope.type(ids);
  if (dims.length !== 2) throw new ShapeError(`word ids of ${dims.length} dimensions`);
  const [batch, length] = dims as readonly [number, number];
  const rows = (table: string, indices: string): string => scope.emit(node, 'Gather', [table, indices], { axis: 0 })[0]!;
  const inOrder = (): string => scope.emit(node, 'Slice', [positions, ...[0, length, 0].map((number) => int64Input(scope, [number]))], {})[0]!;
  const wanted = total !== '' && scope.isUsed(total) ? [total] : undefined;
  let [sum] = scope.emit(node, 'Add', [rows(words, ids), places === '' ? inOrder() : rows(positions, places)], {}, segments === '' ? wanted : undefined);
  if (segments !== '') [sum] = scope.emit(node, 'Add', [sum!, rows(inputOf(node, 4), segments)], {}, wanted);
  scope.emit(node, 'LayerNormalization', [sum!, gamma, beta], { axis: -1, epsilon: numberAttribute(node, 'epsilon', 1e-12) }, [normalized]);
  if (count === '' || !scope.isUsed(count)) return;
  if (mask === '') {
    scope.emit(node, 'ConstantOfShape', [int64Input(scope, [batch])], { value: { ...scalar('int32', 0), dims: [1] } }, [count]);
    return;
  }
  const [isToken] = scope.emit(node, 'Equal', [mask, scalarInput(scope, scope.type(mask).dtype, 1)], {});
  const [ones] = scope.emit(node, 'Cast', [isToken!], { to: ONNX_DTYPE.int32 });
  scope.emit(node, 'ReduceSum', [ones!, int64Input(scope, [-1])], { keepdims: 0 }, [count]);
};

/** Queries, keys and values as [batch, heads, length, size]. */
interface Operands {
  readonly query: string;
  readonly key: string;
  readonly value: string;
}

/** Which of `columns` keys the integers of a mask keep, as bools that broadcast to [batch, heads, rows, columns]. */
function keptBy(node: SourceNode, scope: Scope, mask: string, [batch, , rows, columns]: readonly [number, number, number, number]): string {
  const { dims, dtype } = scope.type(mask);
  const whole = [batch, rows, columns];
  const isLengths = dims.length === 1 && dims[0] === batch;
  const isByKey = dims.length === 2 && dims[0] === batch && dims[1] === columns;
  const isByQuery = dims.length === 3 && dims.every((size, axis) => size === whole[axis]);
  if (!isLengths && !isByKey && !isByQuery) throw new UnsupportedError(`a mask of [${dims.join(',')}] is neither the lengths of ${batch} samples, nor [${batch},${columns}], nor [${whole.join(',')}]`);
  const [spread] = scope.emit(node, 'Unsqueeze', [mask, int64Input(scope, isLengths ? [1, 2, 3] : isByKey ? [1, 2] : [1])], {});
  const limit = isLengths ? scope.addConstant(fromNumbers(dtype, [columns], Array.from({ length: columns }, (_, at) => at))) : scalarInput(scope, dtype, 0);
  return scope.emit(node, 'Greater', [spread!, limit], {})[0]!;
}

/** What is added to the scores: `mask_filter_value` at keys that the mask leaves out, the least number at later ones, the bias. */
function addendOf(node: SourceNode, scope: Scope, { query, key }: Operands, mask: string, bias: string, before: number): string | undefined {
  const { dtype, dims } = scope.type(query);
  const [batch, heads, rows] = dims as readonly [number, number, number, number];
  const columns = scope.type(key).dims[2]!;
  const least = LEAST[dtype] ?? LEAST.float32!;
  const parts: string[] = [];
  if (mask !== '') {
    const filter = Math.max(numberAttribute(node, 'mask_filter_value', -10000), least);
    parts.push(scope.emit(node, 'Where', [keptBy(node, scope, mask, [batch, heads, rows, columns]), scalarInput(scope, dtype, 0), scalarInput(scope, dtype, filter)], {})[0]!);
  }
  // A single query is the newest: it attends to all.
  if (numberAttribute(node, 'unidirectional', 0) !== 0 && rows > 1) {
    if (before + rows !== columns) throw new UnsupportedError(`which of ${columns} keys come after each of ${rows} queries (unidirectional) is not said`);
    const time = Array.from({ length: rows * columns }, (_, at) => (at % columns > Math.floor(at / columns) + before ? least : 0));
    parts.push(scope.addConstant(fromNumbers(dtype, [rows, columns], time)));
  }
  // Not their sum, which could be −∞ in a whole row.
  const both = parts.length === 2 ? scope.emit(node, 'Min', parts, {})[0]! : parts[0];
  return both !== undefined && bias !== '' ? scope.emit(node, 'Add', [both, bias], {})[0]! : (both ?? (bias || undefined));
}

/** softmax(scale·QKᵀ + addend)·V, heads side by side: the node's first output. */
function attend(node: SourceNode, scope: Scope, { query, key, value }: Operands, addend: string | undefined): void {
  const scale = numberAttribute(node, 'scale', 0) || 1 / Math.sqrt(scope.type(query).dims[3]!);
  const products = scoresOf(node, scope, query, key, scale);
  const scores = addend === undefined ? products : scope.emit(node, 'Add', [products, addend], {})[0]!;
  const [weights] = scope.emit(node, 'Softmax', [scores], { axis: -1 });
  joinHeads(node, scope, scope.emit(node, 'MatMul', [weights!, value], {})[0]!);
}

/** Parts of `widths` along the last axis. */
function partsOf(node: SourceNode, scope: Scope, id: string, widths: readonly number[]): readonly string[] {
  return scope.emit(node, 'Split', [id, int64Input(scope, widths)], { axis: -1 }, widths.map(() => scope.freshValue(`${node.name}/part`)));
}

/** Attention of an input to itself, with the projections to queries, keys and values side by side. */
const attention: Rule = (node, scope) => {
  const [, , bias = '', mask = '', past = '', attentionBias = ''] = node.inputs;
  for (const name of ['do_rotary', 'past_present_share_buffer']) if (numberAttribute(node, name, 0) !== 0) throw new UnsupportedError(`attribute '${name}' is not supported`);
  const [data, weights] = [inputOf(node, 0), inputOf(node, 1)];
  const third = scope.type(weights).dims.at(-1)! / 3;
  const widths = intsAttribute(node, 'qkv_hidden_sizes') ?? [third, third, third];
  if (widths.length !== 3 || !widths.every(Number.isInteger)) throw new ShapeError(`[${scope.type(weights).dims.join(',')}] are not weights of queries, keys and values`);
  const [product] = scope.emit(node, 'MatMul', [data, weights], {});
  const [biased] = bias === '' ? [product] : scope.emit(node, 'Add', [product!, bias], {});
  const [query, ...own] = partsOf(node, scope, biased!, widths).map((id) => byHead(node, scope, id, numberAttribute(node, 'num_heads')));
  // Keys and values of before are one tensor, [2, batch, heads, length, size], and so is what is kept for the next time.
  const older = (index: number): string => (past === '' ? '' : scope.emit(node, 'Gather', [past, scope.addConstant(scalar('int64', index))], { axis: 0 })[0]!);
  const [key, value] = own.map((id, index) => extend(node, scope, id, older(index), '')) as [string, string];
  const present = node.outputs[1] ?? '';
  if (present !== '' && scope.isUsed(present)) {
    const pair = [key, value].map((id) => scope.emit(node, 'Unsqueeze', [id, int64Input(scope, [0])], {})[0]!);
    scope.emit(node, 'Concat', pair, { axis: 0 }, [present]);
  }
  const operands = { query: query!, key, value };
  attend(node, scope, operands, addendOf(node, scope, operands, mask, attentionBias, past === '' ? 0 : scope.type(past).dims[3]!));
};

/** Queries, keys and values as [batch, heads, length, size], with their biases. */
function projected(node: SourceNode, scope: Scope, heads: number): readonly string[] {
  const given = [0, 1, 2].map((index) => node.inputs[index] ?? '');
  const ranks = given.map((id) => (id === '' ? 0 : scope.type(id).dims.length));
  const packed = PACKED[ranks.join()];
  if (!packed) throw new UnsupportedError(`queries, keys and values of ${ranks.join(', ')} dimensions are not supported`);
  const apart = packed.flatMap((count, index) => (count === 1 ? [given[index]!] : unpack(node, scope, given[index]!, count, heads)));
  // Keys and values of four dimensions are by head, and have their bias.
  const width = (index: number): number => (ranks[index] === 4 ? heads * scope.type(given[index]!).dims[3]! : scope.type(apart[index]!).dims[2]!);
  const bias = node.inputs[3] ?? '';
  const biases = bias === '' ? [] : partsOf(node, scope, bias, [0, 1, 2].map(width));
  return apart.map((id, index) => byHead(node, scope, bias !== '' && ranks[index] !== 4 ? scope.emit(node, 'Add', [id, biases[index]!], {})[0]! : id, heads));
}

/** By the dimensions of queries, keys and values, how many of them each input holds. */
const PACKED: Readonly<Record<string, readonly number[]>> = { '3,3,3': [1, 1, 1], '3,4,4': [1, 1, 1], '5,0,0': [3], '3,5,0': [1, 2] };

/** [batch, length, heads, count, size] as `count` of [batch, length, heads·size]. */
function unpack(node: SourceNode, scope: Scope, id: string, count: number, heads: number): readonly string[] {
  const { dims } = scope.type(id);
  const [batch, length, , , size] = dims as readonly [number, number, number, number, number];
  if (dims[2] !== heads || dims[3] !== count) throw new ShapeError(`[${dims.join(',')}] is not [batch, length, ${heads}, ${count}, size]`);
  return Array.from({ length: count }, (_, index) => {
    const [one] = scope.emit(node, 'Gather', [id, scope.addConstant(scalar('int64', index))], { axis: 3 });
    return scope.emit(node, 'Reshape', [one!, int64Input(scope, [batch, length, heads * size])], { allowzero: 1 })[0]!;
  });
}

/** Attention of projected queries to keys and values, whose bias is still to add. */
const multiHeadAttention: Rule = (node, scope) => {
  const [, , , , mask = '', attentionBias = '', pastKey = '', pastValue = ''] = node.inputs;
  if (node.inputs[8] || node.inputs[9]) throw new UnsupportedError('how many keys are valid (past_sequence_length, cache_indirection) is up to the data');
  if (node.outputs[3] && scope.isUsed(node.outputs[3])) throw new UnsupportedError('the products of queries and keys (qk) are used');
  const [query, ...own] = projected(node, scope, numberAttribute(node, 'num_heads'));
  const [key, value] = own.map((id, index) => extend(node, scope, id, [pastKey, pastValue][index]!, node.outputs[1 + index] ?? '')) as [string, string];
  const operands = { query: query!, key, value };
  attend(node, scope, operands, addendOf(node, scope, operands, mask, attentionBias, pastKey === '' ? 0 : scope.type(pastKey).dims[2]!));
};

export const TRANSFORMER_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Attention', attention],
  ['MultiHeadAttention', multiHeadAttention],
  ['RotaryEmbedding', microsoftRotary],
  ['EmbedLayerNormalization', embedLayerNormalization],
]);
