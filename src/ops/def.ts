/**
 * What the table says of each op: its signature, its attributes, the types it gives, the small integers it computes at
 * build time, and what it costs. Everything that is true of an op on every backend; kernels are the backends' own.
 */
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import type { Tensor, TensorType } from '../ir/tensor.ts';

/** How one attribute is read from and written to ONNX. */
export type AttrSpec<T> = {
  /** ONNX's attribute type; `internal` for what ONNX cannot say (attributes of internal and custom ops). */
  readonly type: 'int' | 'float' | 'string' | 'ints' | 'floats' | 'strings' | 'tensor' | 'internal';
  /** Value where the model gives none; absent: the attribute is required. `undefined` as a value: optional. */
  readonly default?: T;
  /** From ONNX's raw value (number, string, arrays of them, Tensor) to the IR's; also the place to reject bad values. */
  readonly decode?: (raw: RawAttribute) => T;
  /** Back to ONNX; `undefined` leaves the attribute out. */
  readonly encode?: (value: T) => RawAttribute | undefined;
};

export type RawAttribute = number | string | readonly number[] | readonly string[] | Tensor;

/** One spec per attribute of the op: a missing one does not compile. */
export type AttrSpecs<K extends OpKind> = { readonly [A in keyof OpAttrs[K]]-?: AttrSpec<OpAttrs[K][A]> };

/** What an op may know of its inputs while types are inferred. */
export interface InferContext {
  readonly inputCount: number;
  readonly outputCount: number;
  /** Type of input `index`; throws ShapeError where the model leaves out a required input. */
  type(index: number): TensorType;
  optionalType(index: number): TensorType | undefined;
  /** The value of input `index` where it is a constant. */
  constant(index: number): Tensor | undefined;
  /**
   * The integers of input `index` where they are known at build: a constant, or computed from shapes by `propagate`.
   * This is ONNX's "data propagation" for shape inference. Undefined where one is not a safe integer.
   */
  ints(index: number): readonly number[] | undefined;
  /**
   * As `ints`, for any element type. Integers beyond ±2^53 have lost their low bits: good enough to clamp with (the
   * INT64_MAX of a slice's end), not to compute with.
   */
  numbers(index: number): readonly number[] | undefined;
}

export interface OpCost {
  /** Floating-point (or integer) operations; a multiply-add counts two. */
  readonly flops: number;
  /** Bytes read and written if each tensor crosses device memory once. */
  readonly bytes: number;
}

export interface OpDef<K extends OpKind> {
  /** First opset of ONNX (or of its own domain) that has the op. */
  readonly since: number;
  /** ONNX domain, '' for ONNX's own; 'internal' for ops that only passes make. */
  readonly domain: '' | 'com.microsoft' | 'internal' | 'custom';
  readonly inputs: { readonly min: number; readonly max: number };
  readonly outputs: { readonly min: number; readonly max: number };
  readonly attrs: AttrSpecs<K>;
  /** Output types. Throws ShapeError for inputs that the op forbids, NotStaticError where a shape depends on data. */
  infer(attrs: OpAttrs[K], context: InferContext): readonly TensorType[];
  /**
   * The axis of the first output along which `infer` gave an upper bound, the rest being up to the data; undefined where it is exact
   * (bounded.ts).
   */
  bounds?(attrs: OpAttrs[K], context: InferContext): number | undefined;
  /** Small outputs known at build (shape arithmetic), one entry per output; integers beyond ±2^53 only as `numbers` has them. */
  propagate?(attrs: OpAttrs[K], context: InferContext): readonly (readonly number[] | undefined)[];
  /** Default where absent: one operation per output element, every tensor crossing memory once. */
  cost?(attrs: OpAttrs[K], inputs: readonly (TensorType | undefined)[], outputs: readonly TensorType[]): OpCost;
}

/** Every op has a definition, or the project does not compile. */
export type OpTable = { readonly [K in OpKind]: OpDef<K> };

/** The model is wrong: shapes or dtypes that the op forbids. The importer adds the node's name. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** The model is fine but an output's shape depends on data, which the IR does not hold. */
export class NotStaticError extends Error {
  override readonly name = 'NotStaticError';
}

/** The model is fine but asks for something that the op's definition leaves out: training, an attribute of a newer opset. */
export class UnsupportedError extends Error {
  override readonly name = 'UnsupportedError';
}
