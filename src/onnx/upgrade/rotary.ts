/**
 * Rotary embeddings (Su et al. 2021, arXiv:2104.09864): ONNX's op, onnxruntime's of the same name, and the turning that its attention does.
 */
import { fromNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { splitHeads } from './heads.ts';
import { inputOf, int64Input, numberAttribute, type Rule } from './rule.ts';

export interface Turning {
  /** Cosine and sine of every pair, [batch, length, pairs] or [length, pairs]. */
  readonly angles: readonly [string, string];
  /** How many of a head's elements are turned. */
  readonly turned: number;
  /** Pairs lie side by side, and not in two halves. */
  readonly isInterleaved: boolean;
}

/** Pairs of every head's first elements turned by the angles of their position: (a·cos − b·sin, a·sin + b·cos). Heads are axis 1 or 2 of four. */
export function turn(node: SourceNode, scope: Scope, id: string, headAxis: 1 | 2, { angles, turned, isInterleaved }: Turning): string {
  const size = scope.type(id).dims[3]!;
  if (turned > size || turned % 2 !== 0) throw new ShapeError(`${turned} elements of heads of ${size} can't be turned in pairs`);
  const part = (start: number, end: number, step = 1): string => scope.emit(node, 'Slice', [id, ...[start, end, 3, step].map((number) => int64Input(scope, [number]))], {})[0]!;
  const [cos, sin] = angles.map((angle) => scope.emit(node, 'Unsqueeze', [angle, int64Input(scope, [headAxis + scope.type(angle).dims.length - 3])], {})[0]!);
  const [first, second] = isInterleaved ? [part(0, turned, 2), part(1, turned, 2)] : [part(0, turned / 2), part(turned / 2, turned)];
  const product = (a: string, b: string): string => scope.emit(node, 'Mul', [a, b], {})[0]!;
  const pair = [
    scope.emit(node, 'Sub', [product(first, cos!), product(second, sin!)], {})[0]!,
    scope.emit(node, 'Add', [product(first, sin!), product(second, cos!)], {})[0]!,
  ];
  const rest = turned < size ? [part(turned, size)] : [];
  const whole = isInterleaved ? [interleave(node, scope, pair)] : pair;
  return scope.emit(node, 'Concat', [...whole, ...rest], { axis: 3 })[0]!;
}

/** Element by element from either. */
function interleave(node: SourceNode, scope: Scope, pair: readonly string[]): string {
  const dims = scope.type(pair[0]!).dims;
  const columns = pair.map((id) => scope.emit(node, 'Unsqueeze', [id, int64Input(scope, [dims.length])], {})[0]!);
  const [joined] = scope.emit(node, 'Concat', columns, { axis: dims.length });
  return scope.emit(node, 'Reshape', [joined!, int64Input(scope, [...dims.slice(0, -1), 2 * dims.at(-1)!])], { allowzero: 1 })[0]!;
}

/** The node's input 0, turned, in the shape that it came in. */
function turnInput(node: SourceNode, scope: Scope, heads: number, turning: Turning): void {
  const { dims } = scope.type(inputOf(node, 0));
  const isFlat = dims.length === 3;
  const result = turn(node, scope, splitHeads(node, scope, inputOf(node, 0), heads), isFlat ? 2 : 1, turning);
  scope.emit(node, 'Reshape', [result, int64Input(scope, dims)], { allowzero: 1 }, node.outputs);
}

/** Rows of the tables of cosines and sines, which are inputs `first` and the one behind it. */
export function anglesAt(node: SourceNode, scope: Scope, first: number, positions: string): readonly [string, string] {
  const rows = (index: number): string => scope.emit(node, 'Gather', [inputOf(node, index), positions], { axis: 0 })[0]!;
  return [rows(first), rows(first + 1)];
}

export const onnxRotary: Rule = (node, scope) => {
  const positions = node.inputs[3] ?? '';
  const angles = positions === '' ? ([inputOf(node, 1), inputOf(node, 2)] as const) : anglesAt(node, scope, 1, positions);
  const { dims } = scope.type(inputOf(node, 0));
  const heads = numberAttribute(node, 'num_heads', 0);
  const size = dims.length === 3 && heads > 0 ? dims[2]! / heads : dims.at(-1)!;
  const turned = numberAttribute(node, 'rotary_embedding_dim', 0) || size;
  turnInput(node, scope, heads, { angles, turned, isInterleaved: numberAttribute(node, 'interleaved', 0) !== 0 });
};

/** Its positions stand before the tables, or are one, from which a sample's rows go on; heads that are not counted are as wide as the tables say. */
export const microsoftRotary: Rule = (node, scope) => {
  if (numberAttribute(node, 'scale', 1) !== 1) throw new UnsupportedError("attribute 'scale' is not supported");
  if (numberAttribute(node, 'is_packed_batching', 0) !== 0) throw new UnsupportedError('samples of several lengths in one (is_packed_batching) are not supported');
  const { dims } = scope.type(inputOf(node, 0));
  const width = 2 * scope.type(inputOf(node, 2)).dims[1]!;
  const heads = numberAttribute(node, 'num_heads', 0) || dims.at(-1)! / width;
  const angles = anglesAt(node, scope, 2, positionsOf(node, scope, dims.length === 3 ? dims[1]! : dims[2]!));
  turnInput(node, scope, heads, { angles, turned: numberAttribute(node, 'rotary_embedding_dim', 0) || width, isInterleaved: numberAttribute(node, 'interleaved', 0) !== 0 });
};

function positionsOf(node: SourceNode, scope: Scope, length: number): string {
  const given = inputOf(node, 1);
  const { dtype, dims } = scope.type(given);
  if (dims.length !== 1) return given;
  if (dims[0] !== 1) throw new ShapeError(`positions of [${dims.join(',')}] are neither one nor one of each row`);
  return scope.emit(node, 'Add', [given, scope.addConstant(fromNumbers(dtype, [length], Array.from({ length }, (_, at) => at)))], {})[0]!;
}
