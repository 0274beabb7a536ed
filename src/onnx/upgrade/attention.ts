/**
 * Attention and rotary embeddings as one node each (https://onnx.ai/onnx/operators/onnx__Attention.html), read as the ops
 * that they stand for. What of it runs as one kernel is for a backend's passes to find.
 */
import { fromNumbers, HALF_MAX, toNumbers, type DType } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { inputOf, int64Input, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** [batch, length, heads·size], or [batch, heads, length, size] as it is: as the latter. */
export function byHead(node: SourceNode, scope: Scope, id: string, heads: number): string {
  const split = splitHeads(node, scope, id, heads);
  return split === id ? id : scope.emit(node, 'Transpose', [split], { perm: [0, 2, 1, 3] })[0]!;
}

/** [batch, length, heads·size] as [batch, length, heads, size]; of four dimensions as it is. */
function splitHeads(node: SourceNode, scope: Scope, id: string, heads: number): string {
  const { dims } = scope.type(id);
  if (dims.length === 4) return id;
  const [batch, length, hidden] = dims;
  if (dims.length !== 3 || heads < 1 || hidden! % heads !== 0) throw new ShapeError(`[${dims.join(',')}] can't be split into ${heads} heads`);
  return scope.emit(node, 'Reshape', [id, int64Input(scope, [batch!, length!, heads, hidden! / heads])], { allowzero: 1 })[0]!;
}

/** Back from [batch, heads, length, size] to the [batch, length, heads·size] that is the node's first output. */
export function joinHeads(node: SourceNode, scope: Scope, id: string): void {
  const [batch, heads, length, size] = scope.type(id).dims as readonly [number, number, number, number];
  const [rowsFirst] = scope.emit(node, 'Transpose', [id], { perm: [0, 2, 1, 3] });
  scope.emit(node, 'Reshape', [rowsFirst!, int64Input(scope, [batch, length, heads * size])], { allowzero: 1 }, node.outputs.slice(0, 1));
}

/** scale·QKᵀ. Queries take the whole scale: products of halves could be too large without it. */
export function scoresOf(node: SourceNode, scope: Scope, query: string, key: string, scale: number): string {
  const [scaled] = scope.emit(node, 'Mul', [query, scalarInput(scope, scope.type(query).dtype, scale)], {});
  const [turned] = scope.emit(node, 'Transpose', [key], { perm: [0, 1, 3, 2] });
  return scope.emit(node, 'MatMul', [scaled!, turned!], {})[0]!;
}

/** `current` with what is `past` in front of it, as the output `present` where that is used; [batch, heads, length, size] each. */
export function extend(node: SourceNode, scope: Scope, current: string, past: string, present: string): string {
  const wanted = present !== '' && scope.isUsed(present) ? [present] : undefined;
  if (past !== '') return scope.emit(node, 'Concat', [past, current], { axis: 2 }, wanted)[0]!;
  return wanted ? scope.emit(node, 'Identity', [current], {}, wanted)[0]! : current;
}

/** Every head of keys or values once for each of the queries' heads that share it. */
function shareHeads(node: SourceNode, scope: Scope, id: string, heads: number): string {
  const [batch, own, length, size] = scope.type(id).dims as readonly [number, number, number, number];
  if (own === heads) return id;
  if (own === 0 || heads % own !== 0) throw new ShapeError(`${heads} heads of queries can't share ${own} of keys and values`);
  const [column] = scope.emit(node, 'Unsqueeze', [id, int64Input(scope, [2])], {});
  const [repeated] = scope.emit(node, 'Expand', [column!, int64Input(scope, [batch, own, heads / own, length, size])], {});
  return scope.emit(node, 'Reshape', [repeated!, int64Input(scope, [batch, heads, length, size])], { allowzero: 1 })[0]!;
}

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

/** The least finite number of the types that have less than float32. */
export const LEAST: Partial<Record<DType, number>> = { float16: -HALF_MAX, bfloat16: -3.3895313892515355e38, float32: -3.4028234663852886e38 };

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

  let scores = scoresOf(node, scope, query, shared[0]!, numberAttribute(node, 'scale', 1 / Math.sqrt(size)));
  const cap = numberAttribute(node, 'softcap', 0);
  if (cap !== 0) {
    const limit = scalarInput(scope, dtype, cap);
    const [part] = scope.emit(node, 'Div', [scores, limit], {});
    const [bent] = scope.emit(node, 'Tanh', [part!], {});
    scores = scope.emit(node, 'Mul', [bent!, limit], {})[0]!;
  }
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

/** Pairs of every head's first elements turned by the angles of their position: (a·cos − b·sin, a·sin + b·cos). */
const rotaryEmbedding: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dims } = scope.type(data);
  const isFlat = dims.length === 3;
  const byRow = splitHeads(node, scope, data, numberAttribute(node, 'num_heads', 0));
  const size = scope.type(byRow).dims[3]!;
  const turned = numberAttribute(node, 'rotary_embedding_dim', 0) || size;
  if (turned > size || turned % 2 !== 0) throw new ShapeError(`${turned} elements of heads of ${size} can't be turned in pairs`);
  const part = (id: string, start: number, end: number, step = 1): string =>
    scope.emit(node, 'Slice', [id, ...[start, end, 3, step].map((number) => int64Input(scope, [number]))], {})[0]!;
  // [batch, length, pairs], with an axis for the heads.
  const [cos, sin] = [1, 2].map((index) => {
    const positions = node.inputs[3];
    const angles = positions ? scope.emit(node, 'Gather', [inputOf(node, index), positions], { axis: 0 })[0]! : inputOf(node, index);
    return scope.emit(node, 'Unsqueeze', [angles, int64Input(scope, [isFlat ? 2 : 1])], {})[0]!;
  });
  const isInterleaved = numberAttribute(node, 'interleaved', 0) !== 0;
  const [first, second] = isInterleaved ? [part(byRow, 0, turned, 2), part(byRow, 1, turned, 2)] : [part(byRow, 0, turned / 2), part(byRow, turned / 2, turned)];
  const product = (a: string, b: string): string => scope.emit(node, 'Mul', [a, b], {})[0]!;
  const pair = [
    scope.emit(node, 'Sub', [product(first, cos!), product(second, sin!)], {})[0]!,
    scope.emit(node, 'Add', [product(first, sin!), product(second, cos!)], {})[0]!,
  ];
  const rest = turned < size ? [part(byRow, turned, size)] : [];
  const whole = isInterleaved ? [interleave(node, scope, pair)] : pair;
  const [joined] = scope.emit(node, 'Concat', [...whole, ...rest], { axis: 3 });
  scope.emit(node, 'Reshape', [joined!, int64Input(scope, dims)], { allowzero: 1 }, node.outputs);
};

/** Element by element from either. */
function interleave(node: SourceNode, scope: Scope, pair: readonly string[]): string {
  const dims = scope.type(pair[0]!).dims;
  const columns = pair.map((id) => scope.emit(node, 'Unsqueeze', [id, int64Input(scope, [dims.length])], {})[0]!);
  const [joined] = scope.emit(node, 'Concat', columns, { axis: dims.length });
  return scope.emit(node, 'Reshape', [joined!, int64Input(scope, [...dims.slice(0, -1), 2 * dims.at(-1)!])], { allowzero: 1 })[0]!;
}

export const ATTENTION_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Attention', attention],
  ['RotaryEmbedding', rotaryEmbedding],
]);
