/**
 * What a custom op is: everything that a plugin says of an op that ONNX lacks, as one value.
 *
 * An op needs types, inference and a reference; what else it gives (decomposition, expression, WGSL kernels, patterns) decides
 * where it runs. A `Custom` node of the IR carries its definition, so that no later stage asks a registry. Prior art:
 * PyTorch's `torch.library` (one op, several implementations, a fake kernel for shapes), TensorRT's IPluginV3 (what a user has
 * to write by hand there).
 */
import type { Expr } from './expr.ts';
import type { DType, Dims, TensorType } from './tensor.ts';

// ---- Attributes: a small declarative schema ----

interface Described {
  readonly description?: string;
}

/** One attribute. Without `default` a model has to give it. Bounds are inclusive; the conformance kit draws values within them. */
export type AttributeSpec = Described &
  (
    | { readonly type: 'int' | 'float'; readonly default?: number; readonly min?: number; readonly max?: number }
    | { readonly type: 'string'; readonly default?: string; readonly choices?: readonly string[] }
    | {
        readonly type: 'ints' | 'floats';
        readonly default?: readonly number[];
        readonly length?: number;
        readonly min?: number;
        readonly max?: number;
      }
  );

/** The attributes of an op, by name. What a model gives beside them is refused by name. */
export type AttributeSpecs = Readonly<Record<string, AttributeSpec>>;

type AttributeValue<S extends AttributeSpec> = S extends { readonly type: 'int' | 'float' }
  ? number
  : S extends { readonly choices: readonly (infer C)[] }
    ? C
    : S extends { readonly type: 'string' }
      ? string
      : readonly number[];

/** The values that specs describe, defaults filled in. */
export type AttributeValues<A extends AttributeSpecs = AttributeSpecs> = { readonly [K in keyof A]: AttributeValue<A[K]> };

// ---- Operands ----

/**
 * An input. `T` is the op's element type, the same for all operands that say so. A dimension is a number, or a name that
 * stands for one size throughout the op; `any` is any shape, the same for all inputs that say so.
 */
export interface OpInput extends Described {
  readonly name: string;
  /** Default `T`. */
  readonly dtype?: 'T' | DType;
  readonly dims: readonly (number | string)[] | 'any';
  readonly optional?: true;
  /** Where the conformance kit draws values from; default [-2, 2]. */
  readonly values?: readonly [number, number];
}

/**
 * Sizes by name: a range that the conformance kit draws from, or a size that follows from those before it and from the attributes.
 * What does not fit together all the same, `infer` refuses.
 */
export type SizeSpecs<A extends AttributeSpecs = AttributeSpecs> = Readonly<
  Record<string, readonly [number, number] | ((sizes: Readonly<Record<string, number>>, attrs: AttributeValues<A>) => number)>
>;

/** A tensor of the reference: numbers in row-major order; float16 and bool come as numbers too. */
export interface ReferenceTensor extends TensorType {
  readonly values: Float64Array;
}

/**
 * An op's inputs, in its order. An optional input that is absent is undefined, whatever the type says: that keeps ops without
 * optional inputs plain to write.
 */
export type Operands<T> = readonly T[];

// ---- Implementations ----

/**
 * What a decomposition is written with. Values are names; `''` is an optional input that is absent. `K` are the op table's kinds,
 * which lie beside this contract: `defineOp` binds them.
 */
export interface Decomposer<K extends string = string> {
  /** The node's inputs, in the order of the op's. */
  readonly inputs: readonly string[];
  type(value: string): TensorType;
  /** Adds a standard ONNX node (opset 22) and gives its first output. Attributes as ONNX has them; defaults are filled in. */
  op(kind: K, inputs: readonly string[], attributes?: Readonly<Record<string, number | string | readonly number[]>>): string;
  /** As `op`, for a node with several outputs. */
  ops(kind: K, inputs: readonly string[], outputs: number, attributes?: Readonly<Record<string, number | string | readonly number[]>>): readonly string[];
  constant(dtype: DType, dims: Dims, values: readonly number[]): string;
}

/** A tensor as a WGSL kernel sees it: `name` is a storage array of `count` elements of type `scalar`, row-major. */
export interface KernelBuffer extends TensorType {
  readonly name: string;
  /** int64 is held as i32, bool and small unsigned types as u32 (0 or 1), small signed types as i32. */
  readonly scalar: 'f32' | 'f16' | 'i32' | 'u32';
  readonly count: number;
}

/** Named numbers that a kernel is generated from: tile sizes, unrolling. */
export type Tile = Readonly<Record<string, number>>;

/** What a kernel's scratch memory follows from: attributes, the operands' types, and one of the kernel's tiles. */
export interface ScratchSite<A extends AttributeSpecs = AttributeSpecs> {
  readonly attrs: AttributeValues<A>;
  readonly inputs: Operands<TensorType>;
  readonly outputs: readonly TensorType[];
  readonly tile: Tile;
}

/** What a kernel is generated for: the same with buffers that have names, the scratch memory too. The same site must give the same code. */
export interface KernelSite<A extends AttributeSpecs = AttributeSpecs> extends ScratchSite<A> {
  readonly inputs: Operands<KernelBuffer>;
  readonly outputs: readonly KernelBuffer[];
  /** By the names that {@link WgslKernel.scratch} gave. */
  readonly scratch: Readonly<Record<string, KernelBuffer>>;
}

/**
 * A compute kernel, or one pass of several. The tool declares the buffers that the code names and the entry point; `body` is what one invocation does and sees `i` (its
 * flat index), `lid` (index in the workgroup), `wid` and `groups` (vec3 of workgroup and count).
 */
export interface KernelCode {
  /** Functions, constants and workgroup variables. */
  readonly declarations?: string;
  readonly body: string;
  /** Invocations per workgroup. */
  readonly workgroupSize: number;
  /**
   * Number of invocations that do work: the others return before `body`. With barriers (or subgroup functions) in the code it is a
   * multiple of `workgroupSize`, so that all invocations of a workgroup reach them.
   */
  readonly threads: number;
}

/** A compute shader for some element types, generated anew for each node's shapes and attributes. */
export interface WgslKernel<A extends AttributeSpecs = AttributeSpecs> {
  /** Values of `T` that it computes. */
  readonly dtypes: readonly DType[];
  /** Choices, the default first. */
  readonly tiles?: readonly Tile[];
  /**
   * What one pass leaves for those after it, by the names that the code has for it, which are no operands'. The memory is other layers' as well: nothing is in
   * it before a pass of the same node writes it.
   */
  scratch?(site: ScratchSite<A>): Readonly<Record<string, TensorType>>;
  /** One kernel, or passes that run one after the other, each of which sees all that those before it wrote. A pass without threads is left out. */
  emit(site: KernelSite<A>): KernelCode | readonly KernelCode[];
}

/** The 8-bit grid of a value: x ≈ scale · (q − zeroPoint), which covers the real numbers from `low` to `high`. */
export interface Int8Grid {
  readonly scale: number;
  readonly zeroPoint: number;
  readonly low: number;
  readonly high: number;
}

/**
 * What becomes of int8 grids. `same`: the op moves elements or picks among them, so that the grid of its first data input goes out.
 * `own`: its output has a grid of its own, from calibration. A function: scales in, scale out; the interval of real numbers that the
 * output's grid is to cover, for an op that knows it better than a calibration's samples do, such as one that ends in a sigmoid. Of
 * `inputs` it gets the grids at the op's own indices; undefined for one that carries no activations.
 */
export interface Int8Behaviour<A extends AttributeSpecs = AttributeSpecs> {
  /** Indices of the inputs that carry activations; default [0]. */
  readonly inputs?: readonly number[];
  readonly output: 'same' | 'own' | ((site: { readonly attrs: AttributeValues<A>; readonly inputs: Operands<Int8Grid> }) => { readonly low: number; readonly high: number });
}

/** How far an implementation may be from the reference: within any one of these it is right. Unset means 0. */
export interface Tolerance {
  readonly ulps?: number;
  readonly absolute?: number;
  readonly relative?: number;
}

/** A subgraph that stands for the op; see {@link PatternExpr}. */
export interface OpPattern {
  readonly name: string;
  /** The subgraph's last node with what it computes; names in it are the `inputs` below. */
  readonly match: PatternExpr;
  /** Names bound by the pattern, in the order of the op's inputs; '' leaves an optional one out. */
  readonly inputs: readonly string[];
  /** The op's attributes, or undefined where the match is not the op after all. Default: none, that is the op's defaults. */
  attributes?(match: PatternMatch): Readonly<Record<string, number | string | readonly number[]>> | undefined;
}

/**
 * A subgraph as an expression: any value, a constant of one repeated number, any constant, alternatives, or an op. Commutative
 * ops match in both orders; a name that occurs twice is one value; nothing but the last node may be read from outside.
 */
export type PatternExpr =
  | { readonly kind: 'value'; readonly name: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'scalar' | 'constant'; readonly name: string }
  | { readonly kind: 'either'; readonly options: readonly PatternExpr[] }
  | { readonly kind: 'op'; readonly op: string; readonly inputs: readonly PatternExpr[]; readonly name?: string };

/** What a pattern has bound, by the names in it. Throws for a name that it has not. */
export interface PatternMatch {
  type(name: string): TensorType;
  /** The numbers of a bound constant. */
  numbers(name: string): readonly number[];
  /** The attributes of the node that gives a bound value. */
  attributes(name: string): Readonly<Record<string, unknown>>;
}

// ---- The op ----

/**
 * An op that ONNX lacks, or that a backend does: types, a reference, and whatever it gives of ways to run. Code of it that throws a
 * `ShapeError` blames the model; anything else that it throws names the plugin.
 */
export interface CustomOp<A extends AttributeSpecs = AttributeSpecs, K extends string = string> extends Described {
  /** The node's domain in the model, such as `com.acme`. */
  readonly domain: string;
  /** The node's op_type. */
  readonly name: string;
  /** First and last version of the domain's opset that it is for; default: every version. */
  readonly opset?: readonly [number, number];
  /** What `T` may be. */
  readonly dtypes: readonly DType[];
  readonly attributes: A;
  readonly inputs: readonly OpInput[];
  readonly outputs: readonly string[];
  /** Ranges for the names in `dims`; a name without an entry is drawn from 1 to 8, now and then up to 700, or 0. */
  readonly sizes?: SizeSpecs<A>;
  /** Types of the outputs. Throws a `ShapeError` for inputs that the op forbids: the message goes to the model's user. */
  infer(site: { readonly attrs: AttributeValues<A>; readonly inputs: Operands<TensorType> }): readonly TensorType[];
  /** What is right, in float64: the outputs' values in row-major order. Integers and bool as numbers. */
  reference(site: {
    readonly attrs: AttributeValues<A>;
    readonly inputs: Operands<ReferenceTensor>;
    readonly outputs: readonly TensorType[];
  }): readonly ArrayLike<number>[];
  /** The op in standard ONNX ops: it then runs on every backend. Gives the outputs. */
  decompose?(site: { readonly attrs: AttributeValues<A>; readonly graph: Decomposer<K> }): string | readonly string[];
  /** For an op with one output that maps elements to elements: the formula, over inputs that broadcast. It then fuses. */
  expression?(site: { readonly attrs: AttributeValues<A>; readonly inputs: readonly Expr[] }): Expr;
  readonly kernels?: readonly WgslKernel<A>[];
  readonly int8?: Int8Behaviour<A>;
  readonly patterns?: readonly OpPattern[];
  /** Operations per node, for costs; default: one per output element. */
  flops?(site: { readonly attrs: AttributeValues<A>; readonly inputs: Operands<TensorType>; readonly outputs: readonly TensorType[] }): number;
  /** By element type of the output; default: float32 64 ULP or 1e-5, float16 8 ULP or 2e-3, integers exact. */
  readonly tolerance?: { readonly [D in DType]?: Tolerance };
  /** `unspecified`: what becomes of NaN and infinities is nobody's promise, and is not checked. Default `propagates`. */
  readonly nonFinite?: 'propagates' | 'unspecified';
}

/** Which plugin something came from. The hash is of the code that was loaded. */
export interface PluginStamp {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
}

/** An op with the plugin that gave it. */
export interface RegisteredOp {
  readonly op: CustomOp;
  readonly plugin: PluginStamp;
}

/** What a `Custom` node of a known op carries. */
export interface CustomDefinition extends RegisteredOp {
  readonly attrs: AttributeValues;
}

/** `com.acme.Rope`. */
export function opTitle({ domain, name }: Pick<CustomOp, 'domain' | 'name'>): string {
  return domain === '' ? name : `${domain}.${name}`;
}

/** The name of a pattern's rule in pass reports; the engine's list of plugins is read from it. */
export function patternRuleName({ op }: Pick<RegisteredOp, 'op'>, { name }: Pick<OpPattern, 'name'>): string {
  return `${opTitle(op)}: ${name}`;
}
