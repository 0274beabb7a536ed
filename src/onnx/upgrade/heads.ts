/** What every form of attention is made of: heads split off and joined, scores, keys and values of before. */
import { type DType, HALF_MAX } from '../../ir/tensor.ts';
import { ShapeError } from '../../ops/def.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { int64Input, numberAttribute, scalarInput } from './rule.ts';

/** The least finite number of the types that have less than float32. */
export const LEAST: Partial<Record<DType, number>> = { float16: -HALF_MAX, bfloat16: -3.3895313892515355e38, float32: -3.4028234663852886e38 };

/** [batch, length, heads·size], or [batch, heads, length, size] as it is: as the latter. */
export function byHead(node: SourceNode, scope: Scope, id: string, heads: number): string {
  const split = splitHeads(node, scope, id, heads);
  return split === id ? id : scope.emit(node, 'Transpose', [split], { perm: [0, 2, 1, 3] })[0]!;
}

/** [batch, length, heads·size] as [batch, length, heads, size]; of four dimensions as it is. */
export function splitHeads(node: SourceNode, scope: Scope, id: string, heads: number): string {
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

/** Scores c bent to cap·tanh(c/cap), where the node has a cap. */
export function capped(node: SourceNode, scope: Scope, scores: string): string {
  const cap = numberAttribute(node, 'softcap', 0);
  if (cap === 0) return scores;
  const limit = scalarInput(scope, scope.type(scores).dtype, cap);
  const [part] = scope.emit(node, 'Div', [scores, limit], {});
  const [bent] = scope.emit(node, 'Tanh', [part!], {});
  return scope.emit(node, 'Mul', [bent!, limit], {})[0]!;
}

/** `current` with what is `past` in front of it, as the output `present` where that is used; [batch, heads, length, size] each. */
export function extend(node: SourceNode, scope: Scope, current: string, past: string, present: string): string {
  const wanted = present !== '' && scope.isUsed(present) ? [present] : undefined;
  if (past !== '') return scope.emit(node, 'Concat', [past, current], { axis: 2 }, wanted)[0]!;
  return wanted ? scope.emit(node, 'Identity', [current], {}, wanted)[0]! : current;
}

/** Every head of keys or values once for each of the queries' heads that share it. */
export function shareHeads(node: SourceNode, scope: Scope, id: string, heads: number): string {
  const [batch, own, length, size] = scope.type(id).dims as readonly [number, number, number, number];
  if (own === heads) return id;
  if (own === 0 || heads % own !== 0) throw new ShapeError(`${heads} heads of queries can't share ${own} of keys and values`);
  const [column] = scope.emit(node, 'Unsqueeze', [id, int64Input(scope, [2])], {});
  const [repeated] = scope.emit(node, 'Expand', [column!, int64Input(scope, [batch, own, heads / own, length, size])], {});
  return scope.emit(node, 'Reshape', [repeated!, int64Input(scope, [batch, heads, length, size])], { allowzero: 1 })[0]!;
}
