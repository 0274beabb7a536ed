/**
 * The op vocabulary: the attributes of every op, with ONNX's names and every default filled in.
 *
 * Meanings are those of the ONNX operator schemas at REFERENCE_OPSET (https://onnx.ai/onnx/operators/); the
 * `com.microsoft` ops are those of onnxruntime's ContribOperators.md. What ONNX passes as an input (axes, shapes, pads)
 * stays an input here. An op without attributes has `None`.
 */
import type { CustomDefinition } from './custom.ts';
import type { RoundMode } from './few-bits.ts';
import type { DType, TensorType } from './tensor.ts';
import type { Expr, JoinedExprs } from './expr.ts';

export type None = Readonly<Record<never, never>>;

export interface ConvAttrs {
  readonly auto_pad: 'NOTSET';
  /** One entry per spatial axis. */
  readonly dilations: readonly number[];
  readonly group: number;
  readonly kernel_shape: readonly number[];
  /** Begin of every spatial axis, then end of every spatial axis; resolved from auto_pad by the importer. */
  readonly pads: readonly number[];
  readonly strides: readonly number[];
}

export interface PoolAttrs {
  readonly auto_pad: 'NOTSET';
  readonly ceil_mode: 0 | 1;
  readonly dilations: readonly number[];
  readonly kernel_shape: readonly number[];
  readonly pads: readonly number[];
  readonly strides: readonly number[];
}

export interface ReduceAttrs {
  readonly keepdims: 0 | 1;
  readonly noop_with_empty_axes: 0 | 1;
}

export interface RnnAttrs {
  readonly activations: readonly string[];
  readonly activation_alpha: readonly number[];
  readonly activation_beta: readonly number[];
  readonly clip: number | undefined;
  readonly direction: 'forward' | 'reverse' | 'bidirectional';
  readonly hidden_size: number;
  readonly layout: 0 | 1;
}

interface Axis {
  readonly axis: number;
}

/** Attributes by op. Keys are ONNX op types; the second half are the internal ops that passes make. */
export interface OpAttrs {
  // Elementwise, one input.
  Abs: None;
  Acos: None;
  Acosh: None;
  Asin: None;
  Asinh: None;
  Atan: None;
  Atanh: None;
  BitwiseNot: None;
  Ceil: None;
  Cos: None;
  Cosh: None;
  Erf: None;
  Exp: None;
  Floor: None;
  HardSwish: None;
  Identity: None;
  IsNaN: None;
  IsInf: { readonly detect_negative: 0 | 1; readonly detect_positive: 0 | 1 };
  Log: None;
  Mish: None;
  Neg: None;
  Not: None;
  Reciprocal: None;
  Relu: None;
  Round: None;
  Sigmoid: None;
  Sign: None;
  Sin: None;
  Sinh: None;
  Softplus: None;
  Softsign: None;
  Sqrt: None;
  Tan: None;
  Tanh: None;
  Celu: { readonly alpha: number };
  Elu: { readonly alpha: number };
  Gelu: { readonly approximate: 'none' | 'tanh' };
  HardSigmoid: { readonly alpha: number; readonly beta: number };
  LeakyRelu: { readonly alpha: number };
  Selu: { readonly alpha: number; readonly gamma: number };
  Shrink: { readonly bias: number; readonly lambd: number };
  Swish: { readonly alpha: number };
  ThresholdedRelu: { readonly alpha: number };
  /** `round_mode`: of a cast to float8e8m0. */
  Cast: { readonly to: DType; readonly saturate: 0 | 1; readonly round_mode?: RoundMode };
  CastLike: { readonly saturate: 0 | 1 };
  Clip: None;

  // Elementwise with broadcasting.
  Add: None;
  And: None;
  BitShift: { readonly direction: 'LEFT' | 'RIGHT' };
  BitwiseAnd: None;
  BitwiseOr: None;
  BitwiseXor: None;
  Div: None;
  Equal: None;
  Greater: None;
  GreaterOrEqual: None;
  Less: None;
  LessOrEqual: None;
  Max: None;
  Mean: None;
  Min: None;
  Mod: { readonly fmod: 0 | 1 };
  Mul: None;
  Or: None;
  PRelu: None;
  Pow: None;
  Sub: None;
  Sum: None;
  Where: None;
  Xor: None;

  // Matrix products and convolutions.
  Conv: ConvAttrs;
  ConvTranspose: ConvAttrs & { readonly output_padding: readonly number[] };
  ConvInteger: ConvAttrs;
  Einsum: { readonly equation: string };
  Gemm: { readonly alpha: number; readonly beta: number; readonly transA: 0 | 1; readonly transB: 0 | 1 };
  MatMul: None;
  MatMulInteger: None;

  // Pools.
  AveragePool: PoolAttrs & { readonly count_include_pad: 0 | 1 };
  GlobalAveragePool: None;
  GlobalLpPool: { readonly p: number };
  GlobalMaxPool: None;
  LpPool: PoolAttrs & { readonly p: number };
  MaxPool: PoolAttrs & { readonly storage_order: 0 | 1 };
  MaxUnpool: { readonly kernel_shape: readonly number[]; readonly pads: readonly number[]; readonly strides: readonly number[] };

  // Normalizations, softmax family, attention.
  BatchNormalization: { readonly epsilon: number; readonly momentum: number; readonly training_mode: 0 };
  GroupNormalization: { readonly epsilon: number; readonly num_groups: number; readonly stash_type: number };
  InstanceNormalization: { readonly epsilon: number };
  LRN: { readonly alpha: number; readonly beta: number; readonly bias: number; readonly size: number };
  LayerNormalization: { readonly axis: number; readonly epsilon: number; readonly stash_type: number };
  LpNormalization: { readonly axis: number; readonly p: 1 | 2 };
  MeanVarianceNormalization: { readonly axes: readonly number[] };
  RMSNormalization: { readonly axis: number; readonly epsilon: number; readonly stash_type: number };
  Hardmax: Axis;
  LogSoftmax: Axis;
  Softmax: Axis;

  // Reductions.
  ArgMax: { readonly axis: number; readonly keepdims: 0 | 1; readonly select_last_index: 0 | 1 };
  ArgMin: { readonly axis: number; readonly keepdims: 0 | 1; readonly select_last_index: 0 | 1 };
  CumSum: { readonly exclusive: 0 | 1; readonly reverse: 0 | 1 };
  ReduceL1: ReduceAttrs;
  ReduceL2: ReduceAttrs;
  ReduceLogSum: ReduceAttrs;
  ReduceLogSumExp: ReduceAttrs;
  ReduceMax: ReduceAttrs;
  ReduceMean: ReduceAttrs;
  ReduceMin: ReduceAttrs;
  ReduceProd: ReduceAttrs;
  ReduceSum: ReduceAttrs;
  ReduceSumSquare: ReduceAttrs;
  TopK: { readonly axis: number; readonly largest: 0 | 1; readonly sorted: 0 | 1 };

  // Data movement.
  Concat: Axis;
  ConstantOfShape: { readonly value: { readonly dtype: DType; readonly value: number } };
  DepthToSpace: { readonly blocksize: number; readonly mode: 'DCR' | 'CRD' };
  Dropout: { readonly seed: number };
  Expand: None;
  EyeLike: { readonly dtype: DType | undefined; readonly k: number };
  Flatten: Axis;
  Gather: Axis;
  GatherElements: Axis;
  GatherND: { readonly batch_dims: number };
  GridSample: {
    readonly align_corners: 0 | 1;
    readonly mode: 'linear' | 'nearest' | 'cubic';
    readonly padding_mode: 'zeros' | 'border' | 'reflection';
  };
  OneHot: Axis;
  Pad: { readonly mode: 'constant' | 'reflect' | 'edge' | 'wrap' };
  Range: None;
  Reshape: { readonly allowzero: 0 | 1 };
  Resize: {
    readonly antialias: 0 | 1;
    readonly axes: readonly number[] | undefined;
    readonly coordinate_transformation_mode:
      | 'half_pixel'
      | 'half_pixel_symmetric'
      | 'pytorch_half_pixel'
      | 'align_corners'
      | 'asymmetric'
      | 'tf_crop_and_resize'
      /** Only in opset 11 and 12; Resize-10 and Upsample are `asymmetric` with `floor`. */
      | 'tf_half_pixel_for_nn';
    readonly cubic_coeff_a: number;
    readonly exclude_outside: 0 | 1;
    readonly extrapolation_value: number;
    readonly keep_aspect_ratio_policy: 'stretch' | 'not_larger' | 'not_smaller';
    readonly mode: 'nearest' | 'linear' | 'cubic';
    readonly nearest_mode: 'round_prefer_floor' | 'round_prefer_ceil' | 'floor' | 'ceil';
  };
  ReverseSequence: { readonly batch_axis: number; readonly time_axis: number };
  RoiAlign: {
    readonly coordinate_transformation_mode: 'half_pixel' | 'output_half_pixel';
    readonly mode: 'avg' | 'max';
    readonly output_height: number;
    readonly output_width: number;
    readonly sampling_ratio: number;
    readonly spatial_scale: number;
  };
  ScatterElements: { readonly axis: number; readonly reduction: 'none' | 'add' | 'mul' | 'max' | 'min' };
  ScatterND: { readonly reduction: 'none' | 'add' | 'mul' | 'max' | 'min' };
  Shape: { readonly start: number; readonly end: number | undefined };
  Size: None;
  Slice: None;
  SpaceToDepth: { readonly blocksize: number };
  Split: { readonly axis: number; readonly num_outputs: number | undefined };
  Squeeze: None;
  Tile: None;
  Transpose: { readonly perm: readonly number[] };
  Trilu: { readonly upper: 0 | 1 };
  Unsqueeze: None;

  // Quantization.
  DequantizeLinear: { readonly axis: number; readonly block_size: number };
  DynamicQuantizeLinear: None;
  QLinearConv: ConvAttrs;
  QLinearMatMul: None;
  QuantizeLinear: { readonly axis: number; readonly block_size: number; readonly saturate: 0 | 1; readonly output_dtype: DType | undefined };

  // Recurrent.
  GRU: RnnAttrs & { readonly linear_before_reset: 0 | 1 };
  LSTM: RnnAttrs & { readonly input_forget: 0 | 1 };
  RNN: RnnAttrs;

  // Outputs whose length depends on data: static only where the data are known at build.
  /** [selected, 3] int64. */
  NonMaxSuppression: { readonly center_point_box: 0 | 1 };
  /** [rank, nonzeros] int64. */
  NonZero: None;

  /** An op that the vocabulary lacks, kept as it came. Types come from the model's value_info or a plugin. */
  Custom: {
    readonly domain: string;
    readonly opType: string;
    readonly opset: number;
    readonly attributes: readonly CustomAttribute[];
    /** Where a plugin knows the op. */
    readonly definition?: CustomDefinition;
  };

  // ---- Internal: made by passes, absent from models ----

  /** One kernel for a tree of elementwise ops: out_i = exprs[i](inputs), inputs broadcast to the output's shape. */
  FusedElementwise: { readonly exprs: readonly Expr[] };
  /** One kernel for concatenations whose parts are elementwise expressions: output i = joined[i], over inputs that all share. */
  FusedConcat: { readonly joined: readonly JoinedExprs[] };
  /**
   * Conv (X, W, B?, extra…) with an epilogue: y = epilogue(conv(X,W) + B, extra…), extras broadcast to the output's shape.
   * In the expression, input 0 is the accumulator and input i the i-th extra.
   */
  FusedConv: ConvAttrs & { readonly epilogue: Expr };
  /** Two convolutions of one sum (X, W, B?, X2, W2, extra…): y = epilogue(conv(X,W) + conv(X2,W2) + B, extra…), the second with attributes of its own. */
  FusedShortcut: ConvAttrs & { readonly shortcut: ConvAttrs; readonly epilogue: Expr };
  /** Gemm/MatMul (A, B, C?, extra…) with an epilogue, as in FusedConv. Batched as MatMul is; trans flags apply to the last two axes. */
  FusedMatMul: { readonly alpha: number; readonly transA: 0 | 1; readonly transB: 0 | 1; readonly epilogue: Expr };
  /**
   * Convolution of 8-bit integers (X, W int8, scale [M], B?, extra…): y = epilogue(scale ∘ Σ (X − zeroPoint)·W + B, extra…), with sums in
   * int32, padding with the zero point, and the epilogue as in FusedConv.
   */
  QuantizedConv: ConvAttrs & { readonly zeroPoint: number; readonly epilogue: Expr };
  /**
   * Two convolutions of 8-bit integers of one sum (X, W int8, scale [M], B?, X2, W2 int8, extra…): y = epilogue(scale ∘ (Σ (X − zeroPoint)·W +
   * Σ (X2 − shortcut.zeroPoint)·W2) + B, extra…), as QuantizedConv.
   */
  QuantizedShortcut: ConvAttrs & { readonly zeroPoint: number; readonly shortcut: ConvAttrs & { readonly zeroPoint: number }; readonly epilogue: Expr };
  /** Product of 8-bit integers (A, B int8 [K,N] or [N,K], scale [N], C [N]?, extra…), as QuantizedConv. */
  QuantizedMatMul: { readonly zeroPoint: number; readonly transB: 0 | 1; readonly epilogue: Expr };
  /**
   * Product whose weights alone are integers (A, B int8 or uint8 [K,N] or [N,K], scale, zero?, C?, extra…), all three constants: y = epilogue(alpha ·
   * A·((B − zero) ∘ scale) + C, extra…), as FusedMatMul. Scales are one, one by column, or one by block of `block_size` depths and column, laid out as B is;
   * zero points as many, of B's type, or the one of the attribute. The integers fit `bits`, unsigned or signed.
   */
  WeightOnlyMatMul: { readonly bits: 2 | 4 | 8; readonly block_size: number; readonly zeroPoint: number; readonly alpha: number; readonly transB: 0 | 1; readonly epilogue: Expr };
  /**
   * Rows of a table of integers (B int8 or uint8 [R,C], indices, scale, zero?), all but the indices constants: y = ((B − zero) ∘ scale)[indices], as Gather
   * along axis 0. Scales are one, or one by row and block of `block_size` columns, row by row; zero points as many, of B's type, or the one of the attribute.
   * The integers fit `bits`, unsigned or signed.
   */
  WeightOnlyGather: { readonly bits: 2 | 4 | 8; readonly block_size: number; readonly zeroPoint: number };
  /**
   * Scaled dot-product attention: softmax(scale · Q Kᵀ + mask) V over q [B,H,S,D], k [B,G,L,D] (or [B,G,D,L] where
   * `transposedK`), v [B,G,L,E]; mask, where given, broadcasts to [B,H,S,L]. H is a multiple of G: as many heads of queries in a row share a head of
   * keys and values (head h reads head ⌊h·G/H⌋). Scores c = scale · Q Kᵀ are bent to softcap · tanh(c / softcap) before the mask where `softcap` is
   * not 0. A row without a softmax (every score −∞, or one that is NaN or +∞) is NaN, or zeros where `zeroEmptyRows`.
   */
  FusedAttention: { readonly scale: number; readonly softcap: number; readonly transposedK: 0 | 1; readonly zeroEmptyRows: 0 | 1 };
}

/** Every op kind of the IR: ONNX's names, and internal ones. */
export type OpKind = keyof OpAttrs;

/** An attribute of a custom op, decoded by ONNX's AttributeProto.type. */
export type CustomAttribute =
  | { readonly name: string; readonly kind: 'float' | 'int'; readonly value: number }
  | { readonly name: string; readonly kind: 'string'; readonly value: string }
  | { readonly name: string; readonly kind: 'floats' | 'ints'; readonly value: readonly number[] }
  | { readonly name: string; readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly name: string; readonly kind: 'tensor'; readonly value: TensorType & { readonly data: Uint8Array } };
