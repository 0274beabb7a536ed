/** What the attention kernel computes: out = softmax(scale · q·kᵀ + mask)·v, for every head of every batch. */
import { STORAGE_BYTES } from '../../../../engine/plan.ts';
import type { Expr } from '../../../../ir/expr.ts';
import type { DeviceTensor, View } from '../../lower/tensor.ts';
import type { AttentionProblem } from '../../tactics/attention.ts';

export interface AttentionOperand {
  readonly tensor: DeviceTensor;
  /** In elements over [batch, head, row, element of the row]; for the mask the last two are query and key. */
  readonly view: View;
}

export interface AttentionSpec {
  readonly batch: number;
  readonly heads: number;
  /** Queries, and keys with their values. */
  readonly rows: number;
  readonly length: number;
  /** Extents of a query or key, and of a value. */
  readonly depth: number;
  readonly depthV: number;
  readonly scale: number;
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

/** What tactics are asked for. */
export function attentionProblemOf({ batch, heads, rows, length, depth, depthV, element, k, v }: Omit<AttentionSpec, 'output' | 'end'>): AttentionProblem {
  const keyBytes = depth * STORAGE_BYTES[k.tensor.storage] + depthV * STORAGE_BYTES[v.tensor.storage];
  return { heads: batch * heads, rows, length, depth, depthV, element, keyBytes };
}
