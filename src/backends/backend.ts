/**
 * The contract between the harness and whatever executes an engine.
 *
 * Small on purpose: probe, supports, build, load; then a session that runs and an execution that can be timed. Backends
 * never print, never read flags or the environment beyond what their driver demands, and raise TsrtError for what a user
 * can mend.
 */
import type { Binding, BuildOptions, Engine, EngineHeader, MemoryLedger } from '../engine/engine.ts';
import type { RegisteredOp } from '../ir/custom.ts';
import type { Graph } from '../ir/graph.ts';
import type { PixelInput } from '../ir/pixels.ts';
import type { Tensor } from '../ir/tensor.ts';
import type { Held } from '../onnx/import.ts';
import type { TensorValue } from '../onnx/value.ts';
import type { Calibration, CalibrationStamp } from '../quantize/calibration.ts';
import type { OptionSpecs } from './options.ts';

/** A device that a backend can use. */
export interface DeviceInfo {
  /** Short and stable, fit for a folder name: `nvidia-h200`, `cpu-amd-epyc-9b14-2c`. Same slug: records are comparable. */
  readonly slug: string;
  readonly kind: 'cpu' | 'gpu' | 'fake';
  readonly description: string;
  /** Vendor, architecture, driver, feature list, limits: whatever changes results, as strings. */
  readonly properties: Readonly<Record<string, string>>;
}

/** What `doctor` shows, and what decides between running and `skipped`. */
export type Availability =
  | {
      readonly status: 'available';
      readonly version: string;
      /** The first is the default. */
      readonly devices: readonly DeviceInfo[];
      /** Devices that are used only where they are named, because they are slow, say: the names to give. */
      readonly optional?: readonly string[];
      /** Set by the harness where a device was named: its slug, which builds and loads are asked for. */
      readonly chosen?: string;
    }
  | { readonly status: 'unavailable'; readonly reason: string; readonly fix: string };

/** One reason why a graph can't be built as asked. All of them are reported at once. */
export interface Unsupported {
  readonly node: string;
  /** The op, with domain where it is not ONNX's own. */
  readonly op: string;
  readonly reason: string;
}

/** A model on its way to an engine. */
export interface BuildInput {
  /**
   * The imported graph, or why the IR can't hold the model (control flow, sequences, data-dependent shapes …). A backend
   * that can run the model's own bytes may still do so and must say it in the header's notices. `held`: the part that the IR
   * holds, where there is one.
   */
  readonly graph: { readonly ok: true; readonly graph: Graph } | { readonly ok: false; readonly unsupported: readonly Unsupported[]; readonly held?: Held };
  readonly model: {
    readonly name: string;
    readonly sha256: string;
    /** The ONNX file itself. */
    readonly bytes: Uint8Array;
    /** Its folder where it came from disk: external data lies there. */
    readonly folder: string | undefined;
    readonly inputs: readonly Binding[] | undefined;
    readonly outputs: readonly Binding[] | undefined;
    /** Weights of few bits, which the graph holds as floats, in a file that runs as it is at the sizes asked for. */
    readonly hasFewBits?: boolean;
    /** Products that may quantize what they read to int8 (onnx/accuracy-levels.ts). */
    readonly allowsInt8?: boolean;
  };
  readonly options: BuildOptions;
  /** Ops of plugins; those in the graph carry their definition, these may be found in it by their patterns. */
  readonly customOps?: readonly RegisteredOp[];
  /** Ranges of activations; int8 needs them, unless the model comes with scales of its own. */
  readonly calibration?: { readonly cache: Calibration; readonly stamp: CalibrationStamp } | undefined;
  /** Image inputs and what their pixels become; read by builds that take pictures as bytes. */
  readonly pixels?: readonly PixelInput[] | undefined;
}

/** Tactics by problem, from a file. */
export interface FrozenTactics {
  readonly tactics: ReadonlyMap<string, string>;
  /** The file, for messages. */
  readonly place: string;
}

/** How a build may measure kernels; for backends that choose between some. */
export interface TuningContext {
  /** File of measured times, read and added to; undefined: nothing outlives the build. */
  readonly cacheFile?: string | undefined;
  /** No measurement starts after this time. */
  readonly budgetMs?: number | undefined;
  /** Decides in place of times and cost model. */
  readonly frozen?: FrozenTactics | undefined;
}

/** What a build may use beside its input. `onProgress` counts in steps of the backend's own. */
export interface BuildContext {
  /** The device to build for, as in {@link LoadOptions}. */
  readonly device?: string | undefined;
  readonly tuning?: TuningContext | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((step: string, done: number, total: number) => void) | undefined;
}

/** Where an engine is loaded, and how loading is stopped. */
export interface LoadOptions {
  /** Which of the backend's devices, by slug, index or part of its name; undefined: the first. */
  readonly device: string | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Tensors by binding name. */
export type TensorMap = Readonly<Record<string, Tensor>>;

/** Bytes seen, not planned. */
export interface ObservedMemory {
  /** Device memory this session holds, where the backend can tell. */
  readonly deviceBytes: number | undefined;
  /** Resident set of a program that runs the engine outside of this process, where the platform can tell. */
  readonly outside?: { readonly nowBytes: number; readonly peakBytes: number };
}

/** Where loading spends its time, in milliseconds; the rest is the engine file and the opening of the device. */
export interface LoadSteps {
  /** Buffers made, weights handed to the driver. */
  readonly uploadMs: number;
  /** Kernels compiled by the driver. */
  readonly pipelinesMs: number;
}

/** A source of time. Only fake devices and outside programs bring one of their own; everything else is timed by the machine's. */
export interface Clock {
  /** `program`: time by an outside program's clock, real but without what the conversation with it takes. Default: simulated. */
  readonly source?: 'program';
  /** Monotonic, in nanoseconds. */
  now(): bigint;
  /** Resolves when `now()` has advanced by `durationNs`; on a fake clock, at once. */
  sleep(durationNs: number): Promise<void>;
}

/**
 * An engine loaded on a device, with its buffers. Not reentrant unless `maxInFlight` > 1.
 * Calls after `dispose()` reject; `dispose()` twice is fine.
 */
export interface Session {
  readonly header: EngineHeader;
  readonly device: DeviceInfo;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  /** Requests that may be under way at once. */
  readonly maxInFlight: number;
  /**
   * One whole request: upload, execute, download. Inputs are checked against the bindings (TsrtError USAGE). Their bytes are read when their turn
   * comes and are not copied before: leave them as they are until the answer is there.
   */
  run(inputs: TensorMap): Promise<TensorMap>;
  /** Puts inputs where the device reads them, so that execution can be timed without transfers. Leave them as they are for as long as the execution lives. */
  prepare(inputs: TensorMap): Promise<Execution>;
  /**
   * Requests in a row, where the backend can keep what is carried from one to the next on its device (see startLoop in loop.ts, which checks names
   * and types beforehand); undefined for what it can't.
   */
  loop?(carried: Readonly<Record<string, string>>, state: TensorMap): Promise<Loop | undefined>;
  /** Planned bytes. */
  readonly memory: MemoryLedger;
  observeMemory(): ObservedMemory;
  /** Where the backend can tell. */
  readonly loadSteps?: LoadSteps;
  /** Where present, the harness times and waits by this clock and not by the machine's. */
  readonly clock?: Clock;
  /**
   * Device time per layer of one execution, in graph order, where the backend can tell; times in nanoseconds. A layer that
   * the engine does not list is the backend's own fusion. Keep the engine for as long as you profile: a session need not.
   */
  profile?(inputs: TensorMap): Promise<readonly LayerTime[]>;
  /** Measures them at the first call, which takes up to a few seconds. */
  peaks?(): Promise<DevicePeaks>;
  /**
   * Time in nanoseconds that the device itself takes for one execution of the inputs that lie there, by its own clock: nothing of what the host does
   * before, meanwhile and after is in it. Where the device has such a clock; undefined where that says nothing, such as a span that ends before it began.
   */
  deviceTime?(): Promise<number | undefined>;
  /** Runs a fixed workload of the device's own, warmed up: its time moves only when the device does, and by the host's clock also with what submitting costs. */
  yardstick?(): Promise<DeviceYardstick>;
  dispose(): Promise<void>;
}

/** Time of a fixed workload. */
export interface DeviceYardstick {
  readonly durationNs: number;
  /** By the device's own clock, or by the host's. */
  readonly clock: 'device' | 'host';
}

/** Device time of one layer in one execution; `layer` is a name that the engine's header lists. */
export interface LayerTime {
  readonly layer: string;
  readonly durationNs: number;
  /** Further layers of the header, whose work it did too: they have no time of their own. */
  readonly alsoDid?: readonly string[];
  /** What the layer must move at least, as the backend stores it; where absent, the engine's own count stands. */
  readonly bytes?: number;
}

/** What a device reaches with nothing in its way, measured on it: the roofs of a roofline. */
export interface DevicePeaks {
  /** Reads and writes together. */
  readonly bytesPerSecond: number;
  /** Multiply-adds count two. Types of arithmetic that the device's kernels can use. */
  readonly operationsPerSecond: Readonly<Partial<Record<'float32' | 'float16' | 'int8', number>>>;
  /** Time of a kernel that does nothing. */
  readonly launchNs: number;
  /** The smallest step of the clock that layers are timed by. */
  readonly quantumNs: number;
}

/** Inputs bound on a device. */
export interface Execution {
  /**
   * Executes `count` times in order and resolves when the last has finished on the device; nothing is uploaded or downloaded.
   * The i-th execution starts after the (i−1)-th in queue order; a backend may overlap their host work.
   */
  execute(count: number): Promise<void>;
  /** The outputs of these inputs, whatever ran in the session meanwhile. */
  download(): Promise<TensorMap>;
  dispose(): Promise<void>;
}

/** Requests in a row, in which outputs become inputs of the next one. They run in the order in which they are asked for. */
export interface Loop {
  /** One request: the inputs that are not carried, and the outputs that are not. A request that fails leaves what is carried as it was, or as it would have made it. */
  step(inputs: TensorMap): Promise<TensorMap>;
  /** The carried inputs of the next step. */
  state(): Promise<TensorMap>;
  dispose(): Promise<void>;
}

/** The model of a reference. */
export interface ReferenceSource {
  readonly bytes: Uint8Array;
  /** Of the model's external data. */
  readonly folder: string | undefined;
  readonly allCores?: boolean;
}

/** A model's own bytes, loaded once and run on any number of inputs. */
export interface ReferenceModel {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(inputs: ReadonlyMap<string, TensorValue>): Promise<ReadonlyMap<string, TensorValue>>;
  dispose(): Promise<void>;
}

/**
 * Whatever builds engines and runs them. `build` throws TsrtError MODEL_UNSUPPORTED for what `supports` refuses, `load` ENGINE_INCOMPATIBLE for
 * an engine of another device or version; anything else that is thrown becomes a failed record, with the plugin's name.
 */
export interface Backend {
  readonly name: string;
  /** One sentence for `doctor` and help. */
  readonly description: string;
  /** What it reads from `BuildOptions.backendOptions`, for help and docs. */
  readonly options?: OptionSpecs;
  /** With a name, that device alone is listed; rejects with USAGE and the choices where it fits none. */
  probe(device?: string): Promise<Availability>;
  /** Why this input can't be built as asked; empty where it can. Does not need the device. */
  supports(input: BuildInput): readonly Unsupported[] | Promise<readonly Unsupported[]>;
  build(input: BuildInput, context: BuildContext): Promise<Engine>;
  load(engine: Engine, options: LoadOptions): Promise<Session>;
  /**
   * Opens a model as it is, without a build and unoptimized: the reference of numerical checks, and the only way to run
   * values that no engine binds (strings). Never timed. Many may be open at once: one thread is enough, unless `allCores` says
   * that this one has the machine.
   */
  reference?(model: ReferenceSource): Promise<ReferenceModel>;
  /**
   * A GPU's driver compiles an engine's kernels as it is loaded, and keeps them for later processes when the one that compiled them exits. Processes that
   * load an engine side by side would each compile it.
   */
  readonly compilesAtLoad?: boolean;
  /** Environment that a worker process must have before it starts (driver paths, say), for the device that it will open. */
  workerEnvironment?(device?: string): Promise<Readonly<Record<string, string>>>;
}
