/** What a sweep is asked to measure, and what it tells while and after it does. */
import type { DeviceInfo, LoadSteps, TensorMap } from '../backends/backend.ts';
import type { Case, MemoryReading, RecordWarning, Round } from '../results/record.ts';
import type { InputSource } from './inputs.ts';
import type { Failure, TimingPolicy } from './messages.ts';

export interface MeasurePlan {
  readonly cases: readonly CasePlan[];
  /** Plugin modules that workers load to find backends. */
  readonly plugins: readonly string[];
  /** Decides the order of every round and the arrivals of server load. */
  readonly seed: number;
  readonly rounds: number;
  /** Rounds with which a case counts as completed when the budget ends before the others; from 1 to `rounds`. */
  readonly minRounds: number;
  readonly isolation: Isolation;
  readonly timing: TimingPolicy;
  /** Rounds, ascending and below `rounds`, after which whoever reads the events may end cases; default: none. */
  readonly looks?: readonly number[];
  /** Time for the whole sweep; undefined: as long as it takes. */
  readonly budgetMs: number | undefined;
  /** A worker that is silent for longer, beyond what its task should take, is killed. */
  readonly timeoutMs: number;
  /** Arguments for the workers' Node, such as a heap limit. */
  readonly nodeArguments?: readonly string[];
}

/**
 * - `round`: a fresh process for every case and round. Memory layout and compilation differ from process to process and can
 *   move timings by more than the change that is looked for; only fresh processes sample that (Georges, Buytaert and Eeckhout,
 *   OOPSLA 2007; Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009; Kalibera and
 *   Jones, ISMM 2013).
 * - `case`: one process per case, which waits between its rounds. Cheaper where loading is slow, blind to that variance, and
 *   all engines are in memory at once.
 */
export type Isolation = 'round' | 'case';

export interface CasePlan {
  readonly case: Case;
  readonly enginePath: string;
  /** Device slug; undefined: the backend's first. */
  readonly device: string | undefined;
  readonly inputs: InputSource;
  /** How the outputs for `inputs` differ from what they should be; undefined where they are right. Asked in every process. */
  readonly checkAnswer?: (outputs: TensorMap) => string | undefined;
  /** With isolation by case the engine is loaded beforehand by a process that leaves, so that the driver has its kernels for all others (`compilesAtLoad`). */
  readonly loadFirst?: boolean;
  /** What the backend's `workerEnvironment` gives. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whose worker it is, where it is not this tool's own: another version's, which speaks the same WORKER_PROTOCOL. */
  readonly worker?: WorkerHome;
}

/** A worker of another checkout. */
export interface WorkerHome {
  /** Its module. */
  readonly entry: string;
  /** Folder in which it runs. */
  readonly folder: string;
  /** In place of the plan's. */
  readonly plugins: readonly string[];
}

/** A second and a half per round, warm-up included, where an execution takes less than 100 ms. */
export const DEFAULT_TIMING: TimingPolicy = { sampleMs: 500, minSamples: 5, maxSamples: 2000, maxWarmupMs: 3000 };

/** Default for {@link MeasurePlan.timeoutMs}. */
export const DEFAULT_TIMEOUT_MS = 120_000;

/** How a case ended. Rounds that had ended are kept in every form. */
export type CaseOutcome = CompletedOutcome | FailedOutcome | AbortedOutcome;

export interface CompletedOutcome {
  readonly status: 'completed';
  readonly rounds: readonly Round[];
  readonly device: DeviceInfo;
  /** Medians over the processes. */
  readonly loadMs: number;
  readonly loadSteps?: LoadSteps;
  /** Of the process that loaded the engine before all others and left. */
  readonly loadFirstMs?: number;
  readonly firstRunMs: number;
  /** Of the process with the median peak. */
  readonly memory: MemoryReading;
  readonly warnings: readonly RecordWarning[];
}

export interface FailedOutcome extends Failure {
  readonly status: 'failed';
  readonly rounds: readonly Round[];
}

export interface AbortedOutcome {
  readonly status: 'aborted';
  readonly reason: 'interrupted' | 'budget';
  readonly rounds: readonly Round[];
}

/** A case between two rounds. */
export interface OpenCase {
  readonly case: Case;
  readonly device: DeviceInfo;
  readonly rounds: readonly Round[];
}

export type MeasureEvent =
  | { readonly kind: 'round-started'; readonly case: Case; readonly round: number; readonly rounds: number }
  | { readonly kind: 'round-done'; readonly case: Case; readonly round: Round; readonly rounds: number }
  /** After the rounds of a look, with what is still open. Cases whose ids are put into `settled` are complete. */
  | { readonly kind: 'look'; readonly look: number; readonly open: readonly OpenCase[]; readonly settled: Set<string> }
  /** Once for every case, as soon as nothing more will be measured of it. */
  | { readonly kind: 'case-done'; readonly case: Case; readonly outcome: CaseOutcome };
