/**
 * What the IR's tools may ask about ops without knowing the op table, which lies a layer above.
 *
 * `src/ops/builder.ts` binds these to the table; tests may bind their own.
 */
import type { AnyNode, ValueId } from './graph.ts';
import type { OpKind } from './ops.ts';
import type { Tensor, TensorType } from './tensor.ts';

/** The values that a node can see while its types are inferred. */
export interface ValueScope {
  type(id: ValueId): TensorType | undefined;
  constant(id: ValueId): Tensor | undefined;
  /** The small value that an earlier node was found to compute whatever the graph's inputs hold (shape arithmetic). */
  known(id: ValueId): readonly number[] | undefined;
}

/** What is known of a node's outputs, one entry per output. */
export interface InferredOutputs {
  readonly types: readonly TensorType[];
  readonly known: readonly (readonly number[] | undefined)[];
}

export interface Arity {
  readonly min: number;
  readonly max: number;
}

/** The op table, as far as the IR's tools need it. */
export interface OpRules {
  signature(op: OpKind): { readonly inputs: Arity; readonly outputs: Arity };
  /** Throws what the op table throws for inputs that the op forbids. */
  infer(node: AnyNode, scope: ValueScope): InferredOutputs;
}

/** A scope over the given maps. */
export function createScope(
  types: ReadonlyMap<ValueId, TensorType>,
  constants: ReadonlyMap<ValueId, Tensor>,
  known: ReadonlyMap<ValueId, readonly number[]>,
): ValueScope {
  return { type: (id) => types.get(id), constant: (id) => constants.get(id), known: (id) => known.get(id) };
}
