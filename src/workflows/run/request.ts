/** What `run` is asked to do, and what it answers. */
import type { ResolvedConfig } from '../../config.ts';
import type { ErrorReport } from '../../errors.ts';
import type { OpenCase } from '../../measure/plan.ts';
import type { BenchRecord, Case } from '../../results/record.ts';
import type { SuiteOverrides } from '../../suite/expand.ts';
import type { OnRunEvent, Stage } from '../events.ts';
import type { TuningRequest } from '../tuning.ts';

export interface RunWatch {
  /** Numbers of rounds, ascending; the last is the end. */
  readonly rounds: readonly number[];
  /** Ids of the cases that need no more rounds. */
  readonly settle: (look: number, open: readonly OpenCase[]) => Iterable<string>;
}

export interface RunRequest {
  /** A suite's folder, file or name. */
  readonly suite: string;
  readonly settings: ResolvedConfig;
  /** Settings in place of the suite's own. */
  readonly overrides: SuiteOverrides;
  /** Which of the suite's cases; throws where they will not do. Called before the model is fetched. */
  readonly choose?: (cases: readonly Case[]) => readonly Case[];
  /** An ONNX file in place of the suite's model. */
  readonly modelFile: string | undefined;
  /** Engine files to measure in place of the suite's variants. */
  readonly engineFiles?: readonly string[];
  /** Builds those of them again that do not fit this model, device or version. */
  readonly rebuild?: boolean;
  /** At most this many inputs for the accuracy run. */
  readonly limit: number | undefined;
  /** False leaves the accuracy run out; every case's answer to one input is checked before its timing all the same. */
  readonly accuracy?: boolean;
  readonly tuning?: TuningRequest | undefined;
  /** Device slug, for backends that have several. */
  readonly device: string | undefined;
  /** Where somebody judges the cases while they are measured, and ends those that are decided. */
  readonly watch?: RunWatch;
  /** The command line, for the records. */
  readonly command?: string;
  /** Goes on with the latest unfinished run of this suite and device. */
  readonly resume: boolean;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

export interface RunResult {
  readonly suite: string;
  readonly runId: string;
  /** Where the records lie, one file for each device; none where no case has ended. */
  readonly files: readonly string[];
  readonly records: readonly BenchRecord[];
  readonly baselineVariant: string | undefined;
  readonly notices: readonly string[];
  /** How long each stage took, in milliseconds. */
  readonly stagesMs: Readonly<Partial<Record<Stage, number>>>;
  /** Records that could not be written where they belong, and where they are instead; undefined where all is well. */
  readonly unsaved: ErrorReport | undefined;
  /** Ended by the user; the finished cases are in `records`. */
  readonly interrupted: boolean;
}
