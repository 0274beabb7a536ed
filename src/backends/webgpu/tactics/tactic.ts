/**
 * What every tactic has in common: a name, the scratch memory that it needs, and the kernels that it stands for. Kernels are generated
 * only for a candidate that is chosen or timed.
 */
import type { KernelCall } from '../lower/call.ts';

/** A problem that several kernels can solve. */
export interface TacticProblem {
  /** `Conv f16 1x3136x64x576`: kind, type of the operands, batch × rows × columns × depth. Equal problems get equal tactics. */
  readonly key: string;
  readonly flops: number;
}

export interface Candidate {
  /** Unique among the candidates of one problem; what a list of frozen tactics holds. */
  readonly name: string;
  readonly scratchBytes: number;
  kernels(): readonly KernelCall[];
}

/** The key and the work of a matrix product or of a convolution that is one. */
export function productProblem(
  label: string,
  element: 'f32' | 'f16' | 'i8',
  shape: { readonly batch: number; readonly rows: number; readonly columns: number; readonly depth: number },
): TacticProblem {
  const { batch, rows, columns, depth } = shape;
  return { key: `${label} ${element} ${batch}x${rows}x${columns}x${depth}`, flops: 2 * batch * rows * columns * depth };
}
