/** What a dead or broken worker's last signs of life say about the cause. */
import type { ErrorReport } from '../errors.ts';
import type { FailureCause, FailureStage } from '../results/record.ts';
import type { Failure } from './messages.ts';

/** A failure on its way to becoming a case's outcome. */
export class WorkerFailure extends Error {
  override readonly name = 'WorkerFailure';
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.error.message);
    this.failure = failure;
  }
}

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The kernel killed a process for want of memory while this one lived. */
  readonly oomKilled: boolean;
}

/** What V8, libstdc++, ONNX Runtime, Dawn and the CUDA runtime write when memory runs out. */
const OUT_OF_MEMORY =
  /heap out of memory|array buffer allocation failed|invalid (typed )?array (buffer )?length|bad_alloc|bad allocation|failed to allocate memory|out of (device )?memory|cannot allocate memory/i;

const DOING = {
  build: 'building',
  load: 'loading the engine',
  answer: 'running it once',
  warmup: 'warming up',
  measure: 'taking samples',
} as const satisfies Record<FailureStage, string>;

/** The worker said what went wrong. */
export function reportedFailure(stage: FailureStage, error: ErrorReport, stderr: string): Failure {
  const cause = error.code === 'OUT_OF_MEMORY' || OUT_OF_MEMORY.test(error.message) ? 'out-of-memory' : 'error';
  return { stage, cause, error, stderr };
}

/** The worker ended without a word. */
export function exitFailure(stage: FailureStage, exit: Exit, stderr: string): Failure {
  const how = exit.signal ? `by ${exit.signal}` : `with status ${exit.code}`;
  const outOfMemory = OUT_OF_MEMORY.test(stderr) || (exit.signal === 'SIGKILL' && exit.oomKilled);
  if (!outOfMemory) return silentFailure(stage, 'crashed', `the worker process ended ${how} while ${DOING[stage]}`, stderr);
  const error: ErrorReport = {
    code: 'OUT_OF_MEMORY',
    message: `the worker process ran out of memory while ${DOING[stage]} (it ended ${how})`,
    fix: 'use a smaller batch, fewer streams or a lower precision, or a machine with more memory',
  };
  return { stage, cause: 'out-of-memory', error, stderr };
}

/** The worker did not answer in time and was killed. */
export function timeoutFailure(stage: FailureStage, timeoutMs: number, stderr: string): Failure {
  const message = `the worker process was killed after ${Math.round(timeoutMs / 100) / 10} s without an answer while ${DOING[stage]}`;
  return silentFailure(stage, 'timed-out', message, stderr);
}

/** The engine answered, and not what it should. `reason` says how it differs. */
export function wrongAnswer(reason: string, stderr: string): Failure {
  const error: ErrorReport = {
    code: 'ENGINE_INVALID',
    message: `the engine's answer is wrong, so it is not timed: ${reason}`,
    fix: '`tsrt-bench verify` shows which output differs; a model that draws random numbers has no single right answer',
  };
  return { stage: 'answer', cause: 'wrong-answer', error, stderr };
}

function silentFailure(stage: FailureStage, cause: FailureCause, message: string, stderr: string): Failure {
  return { stage, cause, error: { code: 'INTERNAL', message }, stderr };
}
