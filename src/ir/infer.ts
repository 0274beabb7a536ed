/**
 * What the IR's tools may ask about ops without knowing the op table, which lies a layer above.
 *
 * `src/ops/builder.ts` binds these to the table; tests may bind their own.
 */
import type { AnyNode, ValueId } from './graph.ts';
import type { OpKind } from './ops.ts';
import { elementCount, toNumbers, type Tensor, type TensorType } from './tensor.ts';

/** The values that a node can see while its types are inferred. */
export interface ValueScope {
  type(id: ValueId): TensorType | undefined;
  constant(id: ValueId): Tensor | undefined;
  /** Integers known at build: an integer constant, or the result of shape arithmetic. */
  ints(id: ValueId): readonly number[] | undefined;
}

/** What is known of a node's outputs, one entry per output. */
export interface InferredOutputs {
  readonly types: readonly TensorType[];
  readonly ints: readonly (readonly number[] | undefined)[];
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

/** Shape arithmetic is done on vectors; anything longer is data. */
const MAX_KNOWN_INTS = 4096;

/** A scope over the given maps; `known` holds the integers found by shape arithmetic so far. */
export function createScope(
  types: ReadonlyMap<ValueId, TensorType>,
  constants: ReadonlyMap<ValueId, Tensor>,
  known: ReadonlyMap<ValueId, readonly number[]>,
): ValueScope {
  return {
    type: (id) => types.get(id),
    constant: (id) => constants.get(id),
    ints: (id) => {
      const computed = known.get(id);
      if (computed) return computed;
      const tensor = constants.get(id);
      if (!tensor || (tensor.dtype !== 'int64' && tensor.dtype !== 'int32')) return undefined;
      return elementCount(tensor.dims) <= MAX_KNOWN_INTS ? toNumbers(tensor) : undefined;
    },
  };
}
