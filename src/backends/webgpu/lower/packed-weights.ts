/** Constant right matrices as the packed kernel reads them: in its usual order, and in that of the matrices where a tactic wants them so. */
import type { DType } from '../../../ir/tensor.ts';
import { inFragments } from '../kernels/packed/pack.ts';
import { packedColumns, type PackedWeights } from '../kernels/packed/spec.ts';
import type { LowerContext } from './context.ts';

interface Weights {
  /** What they are known by. */
  readonly key: string;
  readonly element: 'f16' | 'i8';
  readonly bytes: number;
  readonly columns: number;
  /** Groups with weights of their own. */
  readonly groups: number;
  readonly make: () => Uint16Array | Int8Array;
}

export function packedWeights({ key, element, bytes, columns, groups, make }: Weights, context: Pick<LowerContext, 'pack'>): PackedWeights {
  const dtype: DType = element === 'f16' ? 'float32' : 'int8';
  const spec = { dtype, dims: [element === 'f16' ? bytes / 2 : bytes], storage: element } as const;
  const stored = packedColumns(columns);
  const fragments = (vectors: number) => context.pack(`${key}:fragments of ${vectors}`, spec, () => inFragments(make(), bytes / 16 / stored, vectors));
  return { kind: 'packed', tensor: context.pack(key, spec, make), columns: stored, grouped: groups > 1, ...(groups === 1 && { fragments }) };
}
