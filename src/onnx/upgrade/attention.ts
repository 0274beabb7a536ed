/**
 * Attention as one node (https://onnx.ai/onnx/operators/onnx__Attention.html), read as the ops that it stands for. What of it runs as
 * one kernel is for a backend's passes to find.
 */
import { type DType, fromNumbers, toNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { byHead, capped, extend, joinHeads, LEAST, scoresOf, shareHeads } from './heads.ts';
import { onnxRotary } from './rotary.ts';
import { inputOf, int64Input, numberAttribute, scalarInput, type Rule } from './rule.ts';

interface Mask {
  /** Added to the scores [batch, heads, rows, columns]. */
  readonly addend: string;
  /** Which keys a row may see, where that is a bool. */
  readonly allowed: string | undefined;
  /** Whether a row has a key at all, [.., rows, 1]: one that has none gives zeros. Undefined where all have. */
  readonly alive: string | undefined;
}

/** Rows of queries, columns of keys, and how many keys are older than the first query. */
type Extents = readonly [rows: number, columns: number, before: number];

/** How far a query may look: at keys that are up to so many places older or newer than itself. */
interface Reach {
  readonly older: number;
  readonly newer: number;
}

function reachOf(node: SourceNode): Reach {
  const [older, newer] = ['left_window_size', 'right_window_size'].map((name) => {
    const size = numberAttribute(node, name, -1);
    if (size < -1) throw new ShapeError(`attribute '${name}' must be -1 or more, found ${size}`);
    return size === -1 ? Number.POSITIVE_INFINITY : size;
  }) as [number, number];
  return { older, newer: numberAttribute(node, 'is_causal', 0) === 0 ? newer : 0 };
}

/** Which keys each query may look at, row by row; undefined where all may look at all. */
function staticReach({ older, newer }: Reach, [rows, columns, before]: Extents): readonly boolean[] | undefined {
  if (older === Number.POSITIVE_INFINITY && newer === Number.POSITIVE_INFINITY) return undefined;
  return Array.from({ length: rows * columns }, (_, at) => {
    const distance = Math.floor(at / columns) + before - (at % columns);
    return distance <= older && -distance <= newer;
  });
}

/** The same as bool[batch, 1, rows or 1, columns], where the data say how many of each sample's keys are valid: its queries are the last of these. */
function reachByLengths(node: SourceNode, scope: Scope, lengths: string, { older, newer }: Reach, [rows, columns]: Extents): string {
  const counted = (length: number, dims: readonly number[], first = 0): string => scope.addConstant(fromNumbers('int64', dims, Array.from({ length }, (_, at) => first + at)));
  const column = counted(columns, [1, 1, 1, columns]);
  const [last] = scope.emit(node, 'Unsqueeze', [lengths, int64Input(scope, [1, 2, 3])], {});
  let [allowed] = scope.emit(node, 'Less', [column, last!], {}) as [string];
  if (older === Number.POSITIVE_INFINITY && newer === Number.POSITIVE_INFINITY) return allowed;
  const [place] = scope.emit(node, 'Add', [last!, counted(rows, [1, 1, rows, 1], -rows)], {});
  const [distance] = scope.emit(node, 'Sub', [place!, column], {});
  for (const [op, bound] of [['LessOrEqual', older], ['GreaterOrEqual', -newer]] as const) {
    if (!Number.isFinite(bound)) continue;
    const [isNear] = scope.emit(node, op, [distance!, scalarInput(scope, 'int64', bound)], {});
    [allowed] = scope.emit(node, 'And', [allowed, isNear!], {}) as [string];
  }
  return allowed;
}

/** The mask that the node is given, for all keys: those that it says nothing of are not looked at. */
function givenMask(node: SourceNode, scope: Scope, columns: number): string {
  const given = node.inputs[3] ?? '';
  if (given === '') return '';
  const { dtype, dims } = scope.type(given);
  const own = dims.at(-1) ?? 0;
  if (dims.length === 0 || own > columns) throw new ShapeError(`the mask has ${own} columns for ${columns} keys`);
  if (own === columns) return given;
  const pads = [...dims.map(() => 0), ...dims.map((_, axis) => (axis === dims.length - 1 ? columns - own : 0))];
  return scope.emit(node, 'Pad', [given, int64Input(scope, pads), scalarInput(scope, dtype, dtype === 'bool' ? 0 : Number.NEGATIVE_INFINITY)], {})[0]!;
}

/** The mask that a node is given, and what its queries may look at by their place. */
function maskOf(node: SourceNode, scope: Scope, query: string, extents: Extents): Mask | undefined {
  const { dtype } = scope.type(query);
  const [rows, columns] = extents;
  const given = givenMask(node, scope, columns);
  const lengths = node.inputs[6] ?? '';
  if (lengths !== '') {
    if (node.inputs[4]) throw new UnsupportedError('both past keys and a number of valid ones (nonpad_kv_seqlen) are given');
    const allowed = reachByLengths(node, scope, lengths, reachOf(node), extents);
    if (given === '') return ofBools(node, scope, allowed, dtype, columns);
    if (scope.type(given).dtype === 'bool') return ofBools(node, scope, scope.emit(node, 'And', [given, allowed], {})[0]!, dtype, columns);
    return ofNumbers(node, scope, scope.emit(node, 'Where', [allowed, given, scalarInput(scope, dtype, Number.NEGATIVE_INFINITY)], {})[0]!, dtype, columns);
  }
  const passed = staticReach(reachOf(node), extents);
  const bools = (): string => scope.addConstant(fromNumbers('bool', [rows, columns], passed!.map(Number)));
  const numbers = (): string => scope.addConstant(fromNumbers(dtype, [rows, columns], passed!.map((isSeen) => (isSeen ? 0 : Number.NEGATIVE_INFINITY))));
  if (given === '') {
    if (!passed) return undefined;
    return everyRow(passed.map(Number), columns, Boolean) ? { addend: numbers(), allowed: undefined, alive: undefined } : ofBools(node, scope, bools(), dtype, columns);
  }
  const isBool = scope.type(given).dtype === 'bool';
  const joined = passed ? scope.emit(node, isBool ? 'And' : 'Add', [given, isBool ? bools() : numbers()], {})[0]! : given;
  return isBool ? ofBools(node, scope, joined, dtype, columns) : ofNumbers(node, scope, joined, dtype, columns);
}

const leastOf = (scope: Scope, dtype: DType): string => scalarInput(scope, dtype, LEAST[dtype] ?? LEAST.float32!);

/** The least number and not −∞ is added: the scores of a row without keys would be NaN. */
function ofBools(node: SourceNode, scope: Scope, allowed: string, dtype: DType, columns: number): Mask {
  const [addend] = scope.emit(node, 'Where', [allowed, scalarInput(scope, dtype, 0), leastOf(scope, dtype)], {});
  const known = scope.constant(allowed);
  if (known && everyRow(toNumbers(known), columns, Boolean)) return { addend: addend!, allowed, alive: undefined };
  const [numbers] = scope.emit(node, 'Cast', [allowed], { to: ONNX_DTYPE[dtype] });
  return { addend: addend!, allowed, alive: isAlive(node, scope, numbers!, scalarInput(scope, dtype, 1)) };
}

function ofNumbers(node: SourceNode, scope: Scope, addend: string, dtype: DType, columns: number): Mask {
  const known = scope.constant(addend);
  const areAll = known && everyRow(toNumbers(known), columns, (value) => value !== Number.NEGATIVE_INFINITY);
  return { addend, allowed: undefined, alive: areAll ? undefined : isAlive(node, scope, addend, leastOf(scope, dtype)) };
}

/** Whether a number of the row is `least` or more. */
function isAlive(node: SourceNode, scope: Scope, numbers: string, least: string): string {
  const [highest] = scope.emit(node, 'ReduceMax', [numbers, int64Input(scope, [-1])], { keepdims: 1 });
  return scope.emit(node, 'GreaterOrEqual', [highest!, least], {})[0]!;
}

function everyRow(values: readonly number[], columns: number, holds: (value: number) => boolean): boolean {
  const alive = new Set(values.flatMap((value, at) => (holds(value) ? [Math.floor(at / columns)] : [])));
  return alive.size * columns === values.length;
}

/** The fourth output is the scores as they are multiplied, capped, masked, or behind the softmax. */
const OUTPUT_MODES = [0, 1, 2, 3] as const;

/** softmax(cap(scale·QKᵀ) + mask)·V, with the keys and values of before in front of the new ones. */
const attention: Rule = (node, scope) => {
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
  const products = node.outputs[3] ?? '';
  const mode = scope.isUsed(products) ? numberAttribute(node, 'qk_matmul_output_mode', 0) : undefined;
  if (mode !== undefined && !OUTPUT_MODES.some((known) => known === mode)) throw new ShapeError(`attribute 'qk_matmul_output_mode' must be 0, 1, 2 or 3, found ${mode}`);
  const give = (at: (typeof OUTPUT_MODES)[number], id: string): void => {
    if (mode === at) scope.emit(node, 'Identity', [id], {}, [products]);
  };

  const multiplied = scoresOf(node, scope, query, shared[0]!, numberAttribute(node, 'scale', 1 / Math.sqrt(size)));
  give(0, multiplied);
  const bent = capped(node, scope, multiplied);
  give(1, bent);
  let scores = mask ? scope.emit(node, 'Add', [bent, mask.addend], {})[0]! : bent;
  // As an output, what is not looked at is −∞ whatever the mask is of.
  give(2, mode === 2 && mask?.allowed !== undefined ? scope.emit(node, 'Where', [mask.allowed, bent, scalarInput(scope, dtype, Number.NEGATIVE_INFINITY)], {})[0]! : scores);
  const precision = numberAttribute(node, 'softmax_precision', ONNX_DTYPE[dtype]);
  const isOther = precision !== 0 && precision !== ONNX_DTYPE[dtype];
  if (isOther) scores = scope.emit(node, 'Cast', [scores], { to: precision })[0]!;
  let [weights] = scope.emit(node, 'Softmax', [scores], { axis: -1 }) as [string];
  if (isOther) [weights] = scope.emit(node, 'Cast', [weights], { to: ONNX_DTYPE[dtype] }) as [string];
  const orZero = (id: string, outputs?: readonly string[]): string => (mask?.alive === undefined ? id : scope.emit(node, 'Where', [mask.alive, id, scalarInput(scope, dtype, 0)], {}, outputs)[0]!);
  give(3, mode === 3 ? orZero(weights) : weights);
  const output = isFlat ? undefined : node.outputs.slice(0, 1);
  const [product] = scope.emit(node, 'MatMul', [weights, shared[1]!], {}, mask?.alive === undefined ? output : undefined) as [string];
  const result = orZero(product, output);
  if (isFlat) joinHeads(node, scope, result);
};

/** Without graphs of its own that change scores or weights: attention to all keys. */
const flexAttention: Rule = (node, scope) => {
  const other = [...node.attributes.keys()].find((name) => name !== 'scale' && name !== 'softmax_precision');
  if (other !== undefined) throw new UnsupportedError(`attribute '${other}' is not supported`);
  attention(node, scope);
};

/** Of the domain ai.onnx.preview. */
export const PREVIEW_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([['FlexAttention', flexAttention]]);

export const ATTENTION_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Attention', attention],
  ['RotaryEmbedding', onnxRotary],
]);
