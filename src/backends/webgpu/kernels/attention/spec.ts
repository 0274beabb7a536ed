/**
 * What the attention kernel computes: out = softmax(scale · q·kᵀ + mask)·v, for every head of every batch.
 *
 * Where heads of queries share a head of keys and values, their queries are rows of that one head: what is read of it serves all of them.
 */
import { STORAGE_BYTES } from '../../../../engine/plan.ts';
import type { Expr } from '../../../../ir/expr.ts';
import type { DeviceTensor, View } from '../../lower/tensor.ts';
import type { AttentionProblem } from '../../tactics/attention.ts';

export interface AttentionOperand {
  readonly tensor: DeviceTensor;
  /**
   * In elements over [batch, head, position, element]; for the mask the last is the key. Heads of keys and values are those of the spec; of queries, mask
   * and results there are `sharing` as many.
   */
  readonly view: View;
}

export interface AttentionSpec {
  readonly batch: number;
  /** Of keys and values. */
  readonly heads: number;
  /** Heads of queries that share one of these; they stand in a row. */
  readonly sharing: number;
  /** Queries of one head of keys, those of one position in a row: `sharing` × positions. */
  readonly rows: number;
  /** Keys with their values. */
  readonly length: number;
  /** Extents of a query or key, and of a value. */
  readonly depth: number;
  readonly depthV: number;
  readonly scale: number;
  /** Where not 0, a scaled score c is bent to softcap · tanh(c / softcap) before the mask is added. */
  readonly softcap: number;
  /** Whether a row that has no softmax, as one that sees no key, is zeros; else it is NaN. */
  readonly zeroEmptyRows: boolean;
  /** What is multiplied. */
  readonly element: 'f16' | 'f32';
  /** Of this element, or floats that become halves (those beyond them saturate) as they are read; rows are contiguous and begin at whole vectors of 16 bytes. */
  readonly q: AttentionOperand;
  readonly k: AttentionOperand;
  readonly v: AttentionOperand;
  readonly mask: AttentionOperand | undefined;
  readonly output: AttentionOperand;
  /** What a result becomes: an expression of it (input 0) and of the single elements of further tensors. */
  readonly end: { readonly expr: Expr; readonly inputs: readonly DeviceTensor[] } | undefined;
}

/** Code of the head and position of a query, where the row is one of the head of keys. */
export function queryPlace({ sharing, rows }: Pick<AttentionSpec, 'sharing' | 'rows'>, head: string, row: string): readonly [head: string, position: string] {
  if (sharing === 1) return [head, row];
  if (rows === sharing) return [`(${head} * ${sharing}u + ${row})`, '0u'];
  return [`(${head} * ${sharing}u + ${row} % ${sharing}u)`, `(${row} / ${sharing}u)`];
}

/** What tactics are asked for. */
export function attentionProblemOf({ batch, heads, rows, length, depth, depthV, element, k, v }: Omit<AttentionSpec, 'output' | 'end'>): AttentionProblem {
  const keyBytes = depth * STORAGE_BYTES[k.tensor.storage] + depthV * STORAGE_BYTES[v.tensor.storage];
  return { heads: batch * heads, rows, length, depth, depthV, element, keyBytes };
}
