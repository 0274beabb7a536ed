/**
 * What a lowering sees: the node's values as device tensors, and the program it appends to.
 */
import type { Expr } from '../../../ir/expr.ts';
import type { AnyNode, Graph, Node, ValueId } from '../../../ir/graph.ts';
import type { OpKind } from '../../../ir/ops.ts';
import type { Dims, DType, Tensor, TensorType } from '../../../ir/tensor.ts';
import type { EngineLayer } from '../../../engine/engine.ts';
import type { Storage } from '../../../engine/plan.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Candidate, TacticProblem } from '../tactics/tactic.ts';
import type { RowSums } from '../kernels/packed/spec.ts';
import type { KernelCall } from './call.ts';
import type { DeviceTensor, Layout, View } from './tensor.ts';

/** Elements of a derived constant, as the device stores them. */
export type HostArray = Float32Array | Int32Array | Uint32Array | Uint16Array | Int8Array | Uint8Array;

/** How an output is stored: as its type says, or in the fewest bytes that its precision and layout allow. */
export type StorageWish = 'canonical' | 'narrow';

/** A value by element: an expression of inputs, with views over the axes of the value. */
export interface Computed {
  readonly inputs: readonly { readonly tensor: DeviceTensor; readonly view: View }[];
  readonly expr: Expr;
}

/** A node without a kernel: the one that reads its output does its work. */
export interface LeftToReader {
  readonly node: AnyNode;
  /** Its output by element; undefined where its reader knows the node. */
  readonly computed: Computed | undefined;
}

/** A normalization of rows without a kernel: the products that read it do its work (normalizations.ts). */
export interface LeftNormalization {
  readonly node: AnyNode;
  /** Which kernels do: packed ones of halves, or those of few rows. */
  readonly by: 'packed' | 'few-rows';
  /** What is normalized, row by row; halves for packed kernels. */
  readonly source: DeviceTensor;
  /** Elements of a row. */
  readonly count: number;
  readonly epsilon: number;
  /** Rows get the mean 0; otherwise they keep theirs. */
  readonly centers: boolean;
  /** By element of a row. */
  readonly scale: Tensor;
  readonly bias: Tensor | undefined;
  /** The product that comes first, and the pairs (mean, 1 / deviation) by row that it writes where somebody wants them. */
  readonly first: AnyNode;
  readonly moments: DeviceTensor | undefined;
  /** Of what is normalized, where whoever stored it left them. */
  readonly rowSums: RowSums | undefined;
}

export interface LowerContext {
  readonly graph: Graph;
  readonly profile: DeviceProfile;
  /** Whether the build stores floating-point values as f16 where it can. */
  readonly half: boolean;
  /** Whether products of f32 may be made of halves on subgroup matrices. */
  readonly split: boolean;
  /** Whether products of halves may be summed in halves. */
  readonly halfSums: boolean;
  type(id: ValueId): TensorType;
  /** The value where it is known at build; '' gives undefined. */
  constant(id: ValueId): Tensor | undefined;
  /** The integers of a value known at build; '' and others give undefined. */
  ints(id: ValueId): readonly number[] | undefined;
  /** Whether outputs may be windows of inputs. */
  readonly windows: boolean;
  /** The value on the device in the layout that it has, with memory of its own: a window is copied. Constants are linear. */
  tensor(id: ValueId): DeviceTensor;
  /**
   * The value on the device in this layout, and in the storage that is wished for; converts it (once per value) where it lies
   * otherwise. Without a wish the storage stays what it is: every kernel reads every storage.
   */
  tensorIn(id: ValueId, layout: Layout, wish?: StorageWish): DeviceTensor;
  /** As {@link tensor}, but a window stays one: for kernels that address the value through `viewOf`. */
  source(id: ValueId): DeviceTensor;
  /** As {@link tensorIn}, but a window stays one. */
  sourceIn(id: ValueId, layout: Layout, wish?: StorageWish): DeviceTensor;
  /** Whether a build of halves may hold the value in halves: no calibration saw it beyond them. */
  fitsHalves(id: ValueId): boolean;
  /** The value copied out of the memory that it shares with others, in the layout that it has. */
  copy(id: ValueId): DeviceTensor;
  /** Uploads a constant that a kernel wants in a form of its own; made only if a kernel of the program reads it. Equal keys share one upload. */
  pack(key: string, spec: { readonly dtype: DType; readonly dims: Dims; readonly storage: Storage }, make: () => HostArray): DeviceTensor;
  /** A value that is none of the graph's, between two kernels of one node: an activation, no scratch memory that a tactic could do without. */
  intermediate(dtype: DType, dims: Dims, layout: Layout, storage: Storage): DeviceTensor;
  /** Memory between two kernels of one node. */
  scratch(dtype: DType, dims: Dims, storage?: Storage): DeviceTensor;
  /**
   * The node's output, to be written by a kernel of this node. A wish for 'narrow' is granted where the build stores halves (or the
   * value is an 8-bit integer) and the innermost stored extent is whole 16-byte vectors; the kernel must then write four elements at a time.
   */
  define(id: ValueId, layout: Layout, wish?: StorageWish): DeviceTensor;
  /**
   * As {@link define}, for kernels that address the output through `viewOf`: it may be a window of the concatenation that reads it.
   * The kernel may bind nothing but the node's own values, their conversions, constants and scratch memory.
   */
  target(id: ValueId, layout: Layout, wish?: StorageWish): DeviceTensor;
  /** Where a part of this concatenation was written already: the memory that its output has. */
  home(id: ValueId): DeviceTensor | undefined;
  /** Like {@link define}, in the storage of a tensor that the kernel passes through. */
  defineLike(id: ValueId, layout: Layout, source: DeviceTensor): DeviceTensor;
  /** Like {@link target}, in the storage of a tensor that the kernel passes through. */
  targetLike(id: ValueId, layout: Layout, source: DeviceTensor): DeviceTensor;
  /** This node's kernel does the work of one that reads its output, and writes that one's output too. */
  take(reader: AnyNode): void;
  /** What this node has to do itself, where no kernel has written the value: it is the only reader. */
  left(id: ValueId): LeftToReader | undefined;
  /** Sums of a value's rows, where the kernel that stored it left them. */
  rowSums(id: ValueId): RowSums | undefined;
  /** Tells that a kernel of this node leaves the sums of its output's rows. */
  giveRowSums(id: ValueId, sums: RowSums): void;
  /** The normalization that this value is, where no kernel has written it: its readers do its work. */
  normalization(id: ValueId): LeftNormalization | undefined;
  /** One i32: how much there is along the bounded axis of an output (ops/bounded.ts), to be written by a kernel of this node. */
  length(id: ValueId): DeviceTensor;
  /** Gives the output the bytes of a tensor, or of the window that it is: reshapes and splits cost nothing. */
  alias(id: ValueId, source: DeviceTensor, layout: Layout): void;
  /** Dispatches the kernels of one of the candidates, which are ranked by the cost model. */
  choose(problem: TacticProblem, candidates: readonly Candidate[]): void;
  dispatch(call: KernelCall): void;
}

/** Decides between tactics for a layer: the model's first, a measured one, or one from a list that was frozen. */
export type TacticChooser = (problem: TacticProblem, candidates: readonly Candidate[], layer: string) => Candidate;

export interface LowerOptions {
  /** Tactics that need more scratch memory are left out. Kernels that can't do without are not: the ledger tells. */
  readonly workspaceBytes?: number | undefined;
  readonly choose?: TacticChooser | undefined;
  /** Split, slice and join without copies where kernels and aliasing allow; default true. */
  readonly windows?: boolean | undefined;
  /** Floating-point values between kernels are stored as f16, and matrix products take f16 operands. */
  readonly half?: boolean | undefined;
  /** Products of f32 may be sums of products of halves, on devices that have matrices of them. */
  readonly split?: boolean | undefined;
  /** Products of halves are summed in halves, on devices that have such matrices. */
  readonly halfSums?: boolean | undefined;
  /** Requests that a session keeps under way at once. */
  readonly streams?: number | undefined;
  /** Inputs of uint8 that are bound as bytes, not as words; what reads them reads any strides. */
  readonly byteInputs?: ReadonlySet<ValueId> | undefined;
  /** Values that stay f32 all the same: what they reach is beyond binary16. */
  readonly keepFloat?: ReadonlySet<ValueId> | undefined;
}

export interface Lowering<K extends OpKind> {
  /** Inputs that are only read at build, as constants: their values need not fit the device's types. */
  readonly hostInputs?: readonly number[];
  /** Why this node has no kernel although the op has one (an attribute, a dtype, an input that is not constant). */
  unsupported?(node: Node<K>, graph: Graph): string | undefined;
  lower(node: Node<K>, context: LowerContext): void;
  /** The output by element, for a reader that takes it as an expression; undefined where it is none. */
  compute?(node: Node<K>, context: LowerContext): Computed | undefined;
}

export type LoweringTable = { readonly [K in OpKind]?: Lowering<K> };

/** A dispatch, and the layer that it belongs to. */
export interface ProgramStep {
  readonly call: KernelCall;
  readonly layer: number;
}

/** What moved no bytes, because something lies inside of something else. */
export interface InPlace {
  /** Values written straight into the concatenation that reads them. */
  readonly written: number;
  /** Parts and reshapes that are read where they lie. */
  readonly viewed: number;
}

/** A lowered graph: tensors without addresses. */
export interface Program {
  readonly inPlace: InPlace;
  readonly steps: readonly ProgramStep[];
  readonly layers: readonly EngineLayer[];
  /** Bytes by tensor id. */
  readonly tensorBytes: readonly number[];
  /** Ids of the tensors that are memory between the kernels of one node. */
  readonly scratch: ReadonlySet<number>;
  /** Makes the contents of constant tensors, by tensor id: all of them at once would be the weights a second time. */
  readonly constants: ReadonlyMap<number, () => HostArray>;
  readonly inputs: readonly { readonly name: string; readonly tensor: DeviceTensor }[];
  /** With the length along the axis of which the tensor's dims are an upper bound. */
  readonly outputs: readonly { readonly name: string; readonly tensor: DeviceTensor; readonly length?: { readonly tensor: DeviceTensor; readonly axis: number } }[];
}
