/**
 * What the parent process and a worker say to each other: one reply to each request, and a note in between when the
 * samples of a round begin.
 *
 * Messages travel by structured clone (child_process' advanced serialization), so tensors pass as they are.
 */
import type { DeviceInfo, LoadSteps, TensorMap } from '../backends/backend.ts';
import type { MemoryLedger } from '../engine/engine.ts';
import type { ErrorReport } from '../errors.ts';
import type { FailureCause, FailureStage, Round, Scenario } from '../results/record.ts';
import type { InputSource } from './inputs.ts';
import type { SamplePolicy } from './scenarios.ts';

/**
 * Raised with every change of a message or of a round: a worker of another version of the tool is refused where this differs,
 * never misread (a test holds the two together).
 */
export const WORKER_PROTOCOL = 3;

/** What a worker measures and how. Everything a worker needs to know comes with `load`. */
export interface WorkerTask {
  readonly backend: string;
  /** Plugin modules to load before the backend is looked up. */
  readonly plugins: readonly string[];
  readonly enginePath: string;
  /** Device slug; undefined: the backend's first. */
  readonly device: string | undefined;
  readonly inputs: InputSource;
  readonly scenario: Scenario;
  readonly timing: TimingPolicy;
}

export interface TimingPolicy extends SamplePolicy {
  /** A warm-up that is not steady by then ends anyway. */
  readonly maxWarmupMs: number;
}

export type Request =
  | { readonly kind: 'load'; readonly task: WorkerTask }
  | { readonly kind: 'answer'; readonly wantOutputs: boolean }
  | { readonly kind: 'infer'; readonly inputs: TensorMap }
  | { readonly kind: 'round'; readonly seed: number }
  /** A round in parts, between which the worker rests: it begins with the warm-up, its samples come in slices, and it ends. */
  | { readonly kind: 'begin'; readonly seed: number }
  | { readonly kind: 'slice'; readonly slice: SliceOrder }
  | { readonly kind: 'end' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'bye' };

/** A part of a round's samples. */
export interface SliceOrder {
  readonly extent: SamplePolicy;
  /** By which samples are cut: the same for both sides of a pair, so that theirs hold as many executions. */
  readonly executionNs: number;
}

/** A round as the worker sees it; the parent adds what it knows: index, position and the CPU's yardsticks. */
export type RoundReading = Omit<Round, 'index' | 'position'>;

export interface LoadedReply {
  readonly kind: 'loaded';
  /** From the engine file to a session that is ready. */
  readonly loadMs: number;
  /** Parts of it, where the backend can tell. */
  readonly loadSteps?: LoadSteps;
  readonly residentBaselineBytes: number;
  readonly residentAfterLoadBytes: number;
  readonly device: DeviceInfo;
  readonly planned: MemoryLedger;
  /** Of the clock that the rounds are timed by. */
  readonly quantumNs: number;
}

export interface AnsweredReply {
  readonly kind: 'answered';
  readonly firstRunMs: number;
  /** Where they were asked for. */
  readonly outputs: TensorMap | undefined;
}

export interface BegunReply {
  readonly kind: 'begun';
  /** Of one execution, at the end of the warm-up. */
  readonly executionNs: number;
  /** How long the process keeps a core busy after an execution. */
  readonly restMs: number;
}

export interface RoundReply {
  readonly kind: 'round';
  readonly reading: RoundReading;
  /** Cores that the worker itself kept busy while its samples were taken, rests included. */
  readonly ownLoad: number;
}

export interface MemoryReply {
  readonly kind: 'memory';
  readonly residentPeakBytes: number;
  readonly deviceBytes: number | undefined;
}

export type Reply =
  | LoadedReply
  | AnsweredReply
  | { readonly kind: 'inferred'; readonly outputs: TensorMap }
  | BegunReply
  | { readonly kind: 'sliced' }
  | RoundReply
  | MemoryReply
  | { readonly kind: 'bye' }
  | { readonly kind: 'failed'; readonly error: ErrorReport };

/** Sent between a round's warm-up and its samples, so that a crash can be put in its place. */
export interface SamplingNote {
  readonly kind: 'sampling';
}

/** The reply that each request gets when all goes well. */
export interface ReplyTo {
  readonly load: LoadedReply;
  readonly answer: AnsweredReply;
  readonly infer: Extract<Reply, { readonly kind: 'inferred' }>;
  readonly round: RoundReply;
  readonly begin: BegunReply;
  readonly slice: Extract<Reply, { readonly kind: 'sliced' }>;
  readonly end: RoundReply;
  readonly memory: MemoryReply;
  readonly bye: Extract<Reply, { readonly kind: 'bye' }>;
}

/** How a worker failed. */
export interface Failure {
  readonly stage: FailureStage;
  readonly cause: FailureCause;
  readonly error: ErrorReport;
  /** The end of what the worker wrote. */
  readonly stderr: string;
}
