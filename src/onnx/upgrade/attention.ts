/**
 * Attention as one node (https://onnx.ai/onnx/operators/onnx__Attention.html), read as the ops that it stands for. What of it runs as
 * one kernel is for a backend's passes to find.
 */
import { fromNumbers, toNumbers } from '../../ir/tensor.ts';
import { UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { byHead, capped, extend, joinHeads, LEAST, scoresOf, shareHeads } from './heads.ts';
import { onnxRotary } from './rotary.ts';
import { inputOf, int64Input, numberAttribute, scalarInput, type Rule } from './rule.ts';

interface Mask {
  /** Added to the scores [batch, heads, rows, columns]. */
  readonly addend: string;
  /** Whether a row has a key at all, [.., rows, 1]: one that has none gives zeros. Undefined where all have. */
  readonly alive: string | undefined;
}

/** The mask that a node is given, and that of time: `before` keys are older than the first query. */
function maskOf(node: SourceNode, scope: Scope, query: string, [rows, columns, before]: readonly [number, number, number]): Mask | undefined {
  const { dtype } = scope.type(query);
  const isCausal = numberAttribute(node, 'is_causal', 0) !== 0;
  const passed = (past: number, ahead: number): number[] =>
    Array.from({ length: rows * columns }, (_, at) => (at % columns > Math.floor(at / columns) + before ? ahead : past));
  const given = node.inputs[3] ?? '';
  if (given === '') return isCausal ? { addend: scope.addConstant(fromNumbers(dtype, [rows, columns], passed(0, Number.NEGATIVE_INFINITY))), alive: undefined } : undefined;
  const type = scope.type(given);
  if (type.dims.at(-1) !== columns) throw new UnsupportedError(`the mask has ${type.dims.at(-1) ?? 0} columns for ${columns} keys`);
  const isBool = type.dtype === 'bool';
  const joined = (): string => {
    if (!isCausal) return given;
    const time = scope.addConstant(isBool ? fromNumbers('bool', [rows, columns], passed(1, 0)) : fromNumbers(dtype, [rows, columns], passed(0, Number.NEGATIVE_INFINITY)));
    return scope.emit(node, isBool ? 'And' : 'Add', [given, time], {})[0]!;
  };
  const mask = joined();
  const least = scalarInput(scope, dtype, LEAST[dtype] ?? LEAST.float32!);
  // The least number and not −∞: the scores of a row without keys would be NaN.
  const [addend] = isBool ? scope.emit(node, 'Where', [mask, scalarInput(scope, dtype, 0), least], {}) : [mask];
  const known = isCausal ? undefined : scope.constant(mask);
  if (known && everyRow(toNumbers(known), columns, (value) => (isBool ? value !== 0 : value !== Number.NEGATIVE_INFINITY))) return { addend: addend!, alive: undefined };
  const [numbers] = isBool ? scope.emit(node, 'Cast', [mask], { to: ONNX_DTYPE[dtype] }) : [mask];
  const [highest] = scope.emit(node, 'ReduceMax', [numbers!, int64Input(scope, [-1])], { keepdims: 1 });
  const [alive] = scope.emit(node, 'GreaterOrEqual', [highest!, isBool ? scalarInput(scope, dtype, 1) : least], {});
  return { addend: addend!, alive };
}

function everyRow(values: readonly number[], columns: number, holds: (value: number) => boolean): boolean {
  const alive = new Set(values.flatMap((value, at) => (holds(value) ? [Math.floor(at / columns)] : [])));
  return alive.size * columns === values.length;
}

/** softmax(cap(scale·QKᵀ) + mask)·V, with the keys and values of before in front of the new ones. */
const attention: Rule = (node, scope) => {
  if (node.inputs[6]) throw new UnsupportedError('how many keys are valid (nonpad_kv_seqlen) is up to the data');
  if (node.outputs[3] && scope.isUsed(node.outputs[3])) throw new UnsupportedError('the products of queries and keys (qk_matmul_output) are used');
  for (const side of ['left_window_size', 'right_window_size']) if (numberAttribute(node, side, -1) !== -1) throw new UnsupportedError(`attribute '${side}' is not supported`);
  const isFlat = scope.type(inputOf(node, 0)).dims.length === 3;
  const [queryHeads, ownHeads] = ['q_num_heads', 'kv_num_heads'].map((name) => numberAttribute(node, name, 0));
  const query = byHead(node, scope, inputOf(node, 0), queryHeads!);
  const [key, value] = [1, 2].map((index) => extend(node, scope, byHead(node, scope, inputOf(node, index), ownHeads!), node.inputs[3 + index] ?? '', node.outputs[index] ?? '')) as [string, string];
  const { dtype, dims } = scope.type(query);
  const [, heads, rows, size] = dims as readonly [number, number, number, number];
  const columns = scope.type(key).dims[2]!;
  const shared = [key, value].map((id) => shareHeads(node, scope, id, heads));
  const before = node.inputs[4] ? scope.type(node.inputs[4]).dims[2]! : 0;
  const mask = maskOf(node, scope, query, [rows, columns, before]);

  let scores = capped(node, scope, scoresOf(node, scope, query, shared[0]!, numberAttribute(node, 'scale', 1 / Math.sqrt(size))));
  if (mask) scores = scope.emit(node, 'Add', [scores, mask.addend], {})[0]!;
  const precision = numberAttribute(node, 'softmax_precision', ONNX_DTYPE[dtype]);
  const isOther = precision !== 0 && precision !== ONNX_DTYPE[dtype];
  if (isOther) scores = scope.emit(node, 'Cast', [scores], { to: precision })[0]!;
  let [weights] = scope.emit(node, 'Softmax', [scores], { axis: -1 });
  if (isOther) [weights] = scope.emit(node, 'Cast', [weights!], { to: ONNX_DTYPE[dtype] });
  const output = node.outputs.slice(0, 1);
  const dies = mask?.alive !== undefined;
  let [result] = scope.emit(node, 'MatMul', [weights!, shared[1]!], {}, isFlat || dies ? undefined : output);
  if (dies) [result] = scope.emit(node, 'Where', [mask.alive, result!, scalarInput(scope, dtype, 0)], {}, isFlat ? undefined : output);
  if (isFlat) joinHeads(node, scope, result!);
};

export const ATTENTION_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Attention', attention],
  ['RotaryEmbedding', onnxRotary],
]);
