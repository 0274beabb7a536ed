/**
 * What an engine is: the header that describes it and the named binary parts that it runs from.
 *
 * An engine is bound to a backend and (where the backend says so) to a device fingerprint. Running one needs neither the
 * model nor the compiler. The file form is file.ts; prior art: TensorRT's serialized engine, ONNX Runtime's ORT format.
 */
import type { PluginStamp } from '../ir/custom.ts';
import type { PixelInput } from '../ir/pixels.ts';
import type { DType } from '../ir/tensor.ts';
import type { PassReport } from '../passes/pass.ts';
import type { CalibrationStamp } from '../quantize/calibration.ts';

export const PRECISIONS = ['fp32', 'fp16', 'int8', 'mixed'] as const;
/** `fp32`, `fp16`: how numbers are held; `int8`: products in integers by a calibration; `mixed`: the backend's choice node by node. */
export type Precision = (typeof PRECISIONS)[number];

export const FUSIONS = ['on', 'off'] as const;
export type Fusion = (typeof FUSIONS)[number];

/** Everything that decides what a build gives. Every field is part of the engine's identity. */
export interface BuildOptions {
  readonly backend: string;
  readonly precision: Precision;
  readonly fusion: Fusion;
  /** Binds the model's symbolic batch dimension. */
  readonly batch: number;
  /** Sizes for other symbolic dimensions, by the model's name for each. */
  readonly dims: Readonly<Record<string, number>>;
  /** Shapes for inputs, by name; wins over `batch` and `dims`. */
  readonly inputShapes: Readonly<Record<string, readonly number[]>>;
  /** Passes switched off by name. */
  readonly disabledPasses: readonly string[];
  /** Upper bound for scratch memory in bytes. */
  readonly workspaceBytes: number | undefined;
  /** Options that only the backend knows, such as `threads` (onnxruntime) or `tune` (webgpu); schema given by the backend. */
  readonly backendOptions: Readonly<Record<string, string | number | boolean>>;
}

/** An input or output of an engine. Shapes are static, but for an output marked `dynamic`. */
export interface Binding {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly number[];
  /**
   * An output whose shape depends on data, or what a segment reads of one. `dims` are upper bounds where the graph is compiled; where a backend runs the model
   * unchanged, those of a trial run.
   */
  readonly dynamic?: true;
}

/** Bytes by purpose, as planned at build. */
export interface MemoryLedger {
  readonly weightBytes: number;
  readonly activationBytes: number;
  readonly workspaceBytes: number;
  /** Upload and readback buffers. */
  readonly stagingBytes: number;
}

/** One executed unit (a kernel, or a node that the backend runs whole), for `inspect` and for proofs of precision. */
export interface EngineLayer {
  readonly name: string;
  /** The op or kernel kind, such as `Conv`, `FusedConv`. */
  readonly kind: string;
  /** Precision in which its arithmetic runs. */
  readonly precision: DType;
  /** ONNX node names whose work it does. */
  readonly origins: readonly string[];
  readonly flops: number;
  readonly bytes: number;
  /** Chosen tactic, where the backend has tactics. */
  readonly tactic?: string;
}

/** What was measured of one candidate: nanoseconds of one layer (the mean over layers, where several have the problem), or why it did not run. */
export type TacticTime =
  | { readonly tactic: string; readonly ns: number; readonly spreadNs: number }
  | { readonly tactic: string; readonly refused: string };

/** One choice between kernels that compute the same. */
export interface TacticChoice {
  /** `Conv f16 1x3136x64x576`: what a list of frozen tactics calls it. */
  readonly problem: string;
  readonly tactic: string;
  /** What decided: the cost model, measured times, or a frozen list. */
  readonly by: 'model' | 'measured' | 'frozen';
  /** How many candidates the device has for it. */
  readonly candidates: number;
  /** Names of the layers that have it. */
  readonly layers: readonly string[];
  /** In the cost model's order; absent where nothing was measured. */
  readonly times?: readonly TacticTime[];
  /** Times of the whole network with the tactics that were tried in it; absent where none were. */
  readonly inNetwork?: readonly TacticTime[];
}

export const TUNE_LEVELS = ['none', 'fast', 'full'] as const;
export type TuneLevel = (typeof TUNE_LEVELS)[number];

/** How the tactics of an engine were tuned. */
export interface Tuning {
  readonly level: Exclude<TuneLevel, 'none'>;
  /** Candidates timed in this build, and those whose times came from a timing cache. */
  readonly measured: number;
  readonly reused: number;
  /** Candidates that the device refused. */
  readonly refused: number;
  /** Problems that the budget left to the cost model. */
  readonly unmeasured: number;
  /** Whole networks timed in this build; absent where there were none. */
  readonly networks?: number;
  /** Whether the device was seen to run at its full clock; absent where nothing was measured. */
  readonly clocks?: 'proven' | 'unproven' | 'software';
}

/** The choices of a build, for `inspect --tactics`. */
export interface TacticsReport {
  readonly tuning?: Tuning;
  readonly choices: readonly TacticChoice[];
}

/** What an engine says of itself: what it was built from and for, its inputs and outputs, its memory in bytes, what it needs to be loaded. */
export interface EngineHeader {
  readonly formatVersion: 1;
  readonly tool: { readonly name: 'tsrt-bench'; readonly version: string };
  readonly backend: string;
  readonly model: { readonly name: string; readonly sha256: string };
  readonly options: BuildOptions;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly memory: MemoryLedger;
  readonly passes: readonly PassReport[];
  /** What int8 ranges came from; absent where none were needed. */
  readonly calibration?: CalibrationStamp;
  readonly layers: readonly EngineLayer[];
  /** Inputs that take pictures as bytes, with what becomes of them; absent where there are none. */
  readonly pixels?: readonly PixelInput[];
  /** What products quantize the rows that they read to, in a model that runs unchanged and allows it; absent where none does. */
  readonly activations?: 'int8';
  /** Choices between kernels, where the backend has any. */
  readonly tactics?: TacticsReport;
  /** What the loading device must have, key by key; compared by name at load (fingerprint.ts). Empty: runs anywhere. */
  readonly requires: Readonly<Record<string, string>>;
  /** Things a user should know about the build: a model passed through unoptimized, a bound that was assumed. */
  readonly notices: readonly string[];
  /** Plugins without which it is not loaded (by name); absent where there are none. */
  readonly plugins?: readonly PluginStamp[];
  /** Data that only the backend reads, such as a plan. JSON. */
  readonly backendData: unknown;
}

/** An engine in memory. Parts are views of the file's bytes where it came from one. */
export interface Engine {
  readonly header: EngineHeader;
  readonly parts: ReadonlyMap<string, Uint8Array>;
}
