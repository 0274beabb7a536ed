/**
 * What a lowering sees: the node's values as device tensors, and the program it appends to.
 */
import type { Graph, Node, ValueId } from '../../../ir/graph.ts';
import type { OpKind } from '../../../ir/ops.ts';
import type { Dims, DType, Tensor, TensorType } from '../../../ir/tensor.ts';
import type { EngineLayer } from '../../../engine/engine.ts';
import type { Storage } from '../../../engine/plan.ts';
import type { DeviceProfile } from '../profile.ts';
import type { MatmulShape, MatmulTactic } from '../tactics/matmul.ts';
import type { KernelSource } from '../wgsl/module.ts';
import type { DeviceTensor, Layout } from './tensor.ts';

/** A kernel with its grid and the tensors of its bindings, in order. */
export interface KernelCall {
  readonly source: KernelSource;
  readonly operands: readonly DeviceTensor[];
  /** Any number of workgroups; folded into y where x alone cannot hold them. */
  readonly workgroups: readonly [number, number, number];
  readonly tactic?: string;
}

/** Elements of a derived constant, as the device stores them. */
export type HostArray = Float32Array | Int32Array | Uint32Array;

export interface LowerContext {
  readonly graph: Graph;
  readonly profile: DeviceProfile;
  type(id: ValueId): TensorType;
  /** The value where it is known at build; '' gives undefined. */
  constant(id: ValueId): Tensor | undefined;
  /** The integers of a value known at build; '' and others give undefined. */
  ints(id: ValueId): readonly number[] | undefined;
  /** The value on the device in the layout that it has. Constants are linear. */
  tensor(id: ValueId): DeviceTensor;
  /** The value on the device in this layout; converts it (once per value) where it lies otherwise. */
  tensorIn(id: ValueId, layout: Layout): DeviceTensor;
  /** Uploads a constant that a kernel wants in a form of its own. Equal keys share one upload. */
  pack(key: string, spec: { readonly dtype: DType; readonly dims: Dims; readonly storage: Storage }, make: () => HostArray): DeviceTensor;
  /** Memory between two kernels of one node. */
  scratch(dtype: DType, dims: Dims): DeviceTensor;
  /** The node's output, to be written by a kernel of this node. */
  define(id: ValueId, layout: Layout): DeviceTensor;
  /** Gives the output the bytes of a tensor: reshapes cost nothing. */
  alias(id: ValueId, source: DeviceTensor, layout: Layout): void;
  /** The tactic for a problem, of candidates that are ranked by the cost model. */
  choose(problem: MatmulShape, candidates: readonly MatmulTactic[]): MatmulTactic;
  dispatch(call: KernelCall): void;
}

/** Decides between tactics: the model's first, a measured one, or one from a list that was frozen. */
export type TacticChooser = LowerContext['choose'];

export interface LowerOptions {
  /** Tactics that need more scratch memory are left out. Kernels that can't do without are not: the ledger tells. */
  readonly workspaceBytes?: number | undefined;
  readonly choose?: TacticChooser | undefined;
}

export interface Lowering<K extends OpKind> {
  /** Inputs that are only read at build, as constants: their values need not fit the device's types. */
  readonly hostInputs?: readonly number[];
  /** Why this node has no kernel although the op has one (an attribute, a dtype, an input that is not constant). */
  unsupported?(node: Node<K>, graph: Graph): string | undefined;
  lower(node: Node<K>, context: LowerContext): void;
}

export type LoweringTable = { readonly [K in OpKind]?: Lowering<K> };

export type ProgramStep = { readonly kind: 'dispatch'; readonly call: KernelCall; readonly layer: number };

/** A lowered graph: tensors without addresses. */
export interface Program {
  readonly steps: readonly ProgramStep[];
  readonly layers: readonly EngineLayer[];
  /** Bytes by tensor id. */
  readonly tensorBytes: readonly number[];
  /** Ids of the tensors that are memory between the kernels of one node. */
  readonly scratch: ReadonlySet<number>;
  /** Contents of constant tensors, by tensor id. */
  readonly constants: ReadonlyMap<number, HostArray>;
  readonly inputs: readonly { readonly name: string; readonly tensor: DeviceTensor }[];
  readonly outputs: readonly { readonly name: string; readonly tensor: DeviceTensor }[];
}
