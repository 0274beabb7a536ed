/**
 * A record: what one case of one run gave. The in-memory form; the wire form and its schema are in codec.ts.
 *
 * A failure is a record too. Raw samples are kept, so that everything shown later can be derived again (rebar's rule).
 */
import type { DeviceInfo, LoadSteps } from '../backends/backend.ts';
import type { BuildOptions, MemoryLedger, Tuning } from '../engine/engine.ts';
import type { PrecisionShares } from '../engine/precision.ts';
import type { ErrorReport } from '../errors.ts';

export const RECORD_SCHEMA_VERSION = 1;

export const SCENARIOS = ['single-stream', 'multi-stream', 'offline', 'server'] as const;
/** How load is offered: MLPerf Inference's four (Reddi et al., 2020). */
export type ScenarioName = (typeof SCENARIOS)[number];

/** How requests come: how many at once, and what of them is timed. */
export interface Scenario {
  readonly name: ScenarioName;
  /** Concurrent requests, for multi-stream and offline. */
  readonly streams: number;
  /** Offered load in requests per second, for server; Poisson arrivals. */
  readonly targetQps: number | undefined;
  /** Whether upload and download are inside the timed part. */
  readonly transfers: boolean;
  /** For server: requests hold one item each and are collected into the engine's batch, for which none waits longer; absent: a request is a batch. */
  readonly maxQueueDelayMs?: number;
}

/** One point of a sweep: which engine, on what, under which load. */
export interface Case {
  /** `onnxruntime/fp32/fusion-on/threads-2/b8/single-stream`: unique in the suite, stable between runs. */
  readonly id: string;
  readonly suite: string;
  readonly variant: Variant;
  readonly scenario: Scenario;
}

/** An engine variant: everything of a case that decides what is built. */
export interface Variant {
  /** `onnxruntime/fp32/fusion-on/threads-2`: the case id without batch and scenario. */
  readonly id: string;
  readonly options: BuildOptions;
}

/** Samples of one round of one case, in measurement order. */
export interface Round {
  readonly index: number;
  /** Position among the cases of its round: order effects can be told from it. */
  readonly position: number;
  readonly startedAt: string;
  /** Wall time of each timed sample. A sample may hold several executions: `executionsPerSample`. */
  readonly samplesNs: readonly number[];
  readonly executionsPerSample: number;
  /** Requests that ended in the round and the wall time they took together: throughput. One request holds `batch` items, or one where they are collected. */
  readonly requests: number;
  readonly elapsedNs: number;
  /** Batches that the requests took, where they are collected. */
  readonly batches?: number;
  /** The same by the harness's clock, where the samples are by an outside program's own: the rest is what talking to it took. */
  readonly wallElapsedNs?: number;
  /** What the device itself took for one execution after the samples, by its own clock, median; absent where it has none. */
  readonly deviceNs?: number;
  /** How the samples fall into slices, where two processes took turns: slice k of both sides of a pair were neighbours in time. */
  readonly slices?: readonly Slice[];
  readonly warmup: { readonly executions: number; readonly durationMs: number; readonly steady: boolean };
  readonly yardstick: readonly YardstickReading[];
  /** Cores that other processes kept busy while the samples were taken, mean; the load average where the platform can't tell. */
  readonly cpuLoad: number;
  /** Mean CPU clock at the end of the samples. */
  readonly clockMhz: number | undefined;
  /** What the start of the round's process took; absent where the process is that of an earlier round. */
  readonly start?: ProcessStart;
}

/** Consecutive samples of a round, and the wall time they took together. */
export interface Slice {
  readonly samples: number;
  readonly elapsedNs: number;
}

/** One fresh process: from the engine file to a session that is ready, and its first inference. */
export interface ProcessStart {
  readonly loadMs: number;
  readonly firstRunMs: number;
}

/** `gpu`: the device's workload by the host's clock, submitting included; `gpu-clock`: the same by the device's own. */
export const YARDSTICKS = ['cpu-arithmetic', 'memory', 'gpu', 'gpu-clock'] as const;

/** A fixed workload timed in every round: it moves only when the machine does. */
export interface YardstickReading {
  readonly workload: (typeof YARDSTICKS)[number];
  readonly durationNs: number;
}

/** Bytes by source; `undefined` where the platform can't tell. */
export interface MemoryReading {
  readonly planned: MemoryLedger;
  readonly residentAfterLoadBytes: number;
  readonly residentPeakBytes: number;
  /** Resident set of the worker before the engine was loaded: what the harness itself takes. */
  readonly residentBaselineBytes: number;
  readonly deviceBytes: number | undefined;
}

/** Agreement of a variant with the fp32 reference and, where there are labels, with the truth. */
export interface AccuracyReading {
  readonly samples: number;
  /** Percent, 0–100; undefined without labels. */
  readonly top1Percent: number | undefined;
  readonly top5Percent: number | undefined;
  /** Share of samples whose first class is the reference's, percent; undefined where outputs are no class scores. */
  readonly agreementPercent: number | undefined;
  /** Smallest over samples. */
  readonly cosineMin: number;
  readonly maxAbsError: number;
  /** Signal-to-noise ratio against the reference, decibels; undefined where the outputs are identical (infinite). */
  readonly snrDb: number | undefined;
  /** What the inputs were: a dataset's name and hash, or `synthetic`. */
  readonly inputs: string;
  /** Weights are seeded, not trained: accuracy only compares variants with each other. */
  readonly untrained: boolean;
  /** How the calibrated ranges fit these inputs; of int8 and mixed variants alone. */
  readonly ranges?: RangeReading;
}

/** Ranges that were calibrated, against values of other samples. */
export interface RangeReading {
  readonly samples: number;
  /** The worst first. */
  readonly tensors: readonly {
    readonly tensor: string;
    /** Share of the values that its range cuts off. */
    readonly clippedShare: number;
    /** How far the ends of its bulk (99.9 % of the values) moved, as a share of the bulk's width when it was calibrated. */
    readonly drift: number;
    /** Beyond what another sample of the same pictures gives. */
    readonly suspicious: boolean;
  }[];
}

/** Where and on what a record was made. */
export interface Environment {
  readonly device: DeviceInfo;
  readonly cpu: { readonly model: string; readonly cores: number; readonly governor: string | undefined };
  readonly memoryBytes: number;
  readonly os: string;
  readonly node: string;
  readonly packages: Readonly<Record<string, string>>;
  readonly loadAverage: readonly number[];
}

export interface Provenance {
  readonly runId: string;
  readonly startedAt: string;
  readonly tool: { readonly version: string; readonly revision: string | undefined };
  readonly model: { readonly name: string; readonly sha256: string; readonly source: string };
  readonly suiteSha256: string;
  readonly seed: number;
  /** What made the run, as a shell takes it in the folder where it was given; absent where it was no `run`. */
  readonly command?: string;
  readonly environment: Environment;
}

export type RecordWarning =
  | { readonly kind: 'not-steady'; readonly rounds: number }
  /** `loadAverage`: as `cpuLoad`, the median over the rounds. */
  | { readonly kind: 'busy-machine'; readonly loadAverage: number; readonly cores: number }
  | { readonly kind: 'clock-quantum'; readonly quantumNs: number; readonly executionsPerSample: number }
  | { readonly kind: 'few-samples'; readonly samples: number; readonly percentile: number }
  | { readonly kind: 'drift'; readonly yardstick: YardstickReading['workload']; readonly ratio: number }
  | { readonly kind: 'outliers'; readonly share: number }
  /** Of a request's time, how much the device works: the rest is the host's. */
  | { readonly kind: 'host-bound'; readonly latencyNs: number; readonly deviceNs: number }
  /** Requests came sooner than they were served: offered and answered per second. */
  | { readonly kind: 'overloaded'; readonly offeredQps: number; readonly answeredQps: number }
  | { readonly kind: 'untrained-weights' }
  /** What of the suite's accuracy budget the variant breaks, as a sentence. */
  | { readonly kind: 'over-budget'; readonly text: string }
  /** Something to act on that has no kind of its own. */
  | { readonly kind: 'notice'; readonly text: string }
  /** What the engine says of itself: nothing to act on. */
  | { readonly kind: 'note'; readonly text: string };

/** Where a case stands in the suite of its run: records outlive their suites, and lie in the order in which they ended. */
export interface SuitePlace {
  readonly index: number;
  /** Whether the suite states speed-ups against its variant. */
  readonly baseline: boolean;
}

/** What every state shares. */
interface RecordBase {
  readonly schemaVersion: typeof RECORD_SCHEMA_VERSION;
  readonly case: Case;
  /** Absent where no run of a suite made the record, as in the pairs of a gate. */
  readonly inSuite?: SuitePlace;
  readonly provenance: Provenance;
  readonly warnings: readonly RecordWarning[];
}

export interface BuildReading {
  readonly engineSha256: string;
  readonly engineBytes: number;
  /** Median of `buildsMs`; 0 for an engine that was not built in this run. */
  readonly buildMs: number;
  /** Each build of the engine, in their order; absent where it was not built in this run. */
  readonly buildsMs?: readonly number[];
  /** Name of the engine file that was measured as it is, where it was not built in this run. */
  readonly engineFile?: string;
  readonly loadMs: number;
  /** Parts of it, where the backend tells them; the rest is the engine file and the opening of the device. */
  readonly loadSteps?: LoadSteps;
  /** Of the load before all others, in a process that left: `loadMs` finds what the driver compiled in it. Absent where there was none. */
  readonly loadFirstMs?: number;
  readonly firstRunMs: number;
  /** How the engine's kernels were chosen by timing them; absent where they were not. */
  readonly tuning?: Tuning;
  /** Share of the operations by the type in which they run, the proof of the precision; absent where the backend tells no operations. */
  readonly precision?: PrecisionShares;
}

/** A case that was measured to its end. */
export interface CompletedRecord extends RecordBase {
  readonly status: 'completed';
  readonly build: BuildReading;
  readonly rounds: readonly Round[];
  readonly memory: MemoryReading;
  readonly accuracy: AccuracyReading | undefined;
}

export const FAILURE_STAGES = ['build', 'load', 'answer', 'warmup', 'measure'] as const;
export type FailureStage = (typeof FAILURE_STAGES)[number];

export const FAILURE_CAUSES = ['error', 'crashed', 'timed-out', 'out-of-memory', 'wrong-answer'] as const;
export type FailureCause = (typeof FAILURE_CAUSES)[number];

/** Something broke: an error, a crash, a hang, no memory, a wrong answer. Rounds that had ended are kept. */
export interface FailedRecord extends RecordBase {
  readonly status: 'failed';
  readonly stage: FailureStage;
  readonly cause: FailureCause;
  readonly error: ErrorReport;
  readonly stderr: string;
  readonly rounds: readonly Round[];
}

/** Not attempted, for a reason known beforehand. */
export interface SkippedRecord extends RecordBase {
  readonly status: 'skipped';
  readonly reason: string;
  readonly fix: string | undefined;
}

/** Cut off by the user or a time budget; rounds that had ended are kept and `--resume` goes on. */
export interface AbortedRecord extends RecordBase {
  readonly status: 'aborted';
  readonly rounds: readonly Round[];
}

/** What became of one case of a run: one line of a results file; `status` tells which of the four it is. Schema: docs/record.schema.json. */
export type BenchRecord = CompletedRecord | FailedRecord | SkippedRecord | AbortedRecord;
