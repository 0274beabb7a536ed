/** A sitting: one worker process with one case's engine loaded, from its start to its end. */
import { WorkerFailure, wrongAnswer } from './failure.ts';
import type { AnsweredReply, BegunReply, LoadedReply, MemoryReply, RoundReading, SliceOrder } from './messages.ts';
import type { CasePlan, MeasurePlan } from './plan.ts';
import type { StartWorker, WorkerProcess } from './process.ts';
import type { ClosedRound } from './round.ts';

export interface Sitting {
  readonly loaded: LoadedReply;
  readonly answered: AnsweredReply;
  /** After the last round; undefined before the first. */
  memory(): MemoryReply | undefined;
  /** One round. Rejects with WorkerFailure. */
  measure(seed: number): Promise<RoundReading>;
  /** One round in parts: warms up, takes samples as often as asked, ends. Each rejects with WorkerFailure. */
  begin(seed: number): Promise<BegunReply>;
  slice(slice: SliceOrder): Promise<void>;
  end(): Promise<ClosedRound>;
  /** Ends the process in peace. Again: nothing happens. */
  close(): Promise<void>;
  /** Ends it at once. After close: nothing happens. */
  kill(): Promise<void>;
}

/** What a sitting needs to know of the plan that it belongs to. */
export type SittingPlan = Pick<MeasurePlan, 'plugins' | 'timing' | 'timeoutMs' | 'nodeArguments'>;

/**
 * Starts a worker, loads the engine, runs it once and checks the answer: nothing with a wrong answer is timed. Rejects with
 * WorkerFailure, the process ended. When `signal` fires the process is killed.
 */
export async function openSitting(plan: SittingPlan, casePlan: CasePlan, start: StartWorker, signal: AbortSignal | undefined): Promise<Sitting> {
  const { timeoutMs } = plan;
  const open = await startLoaded(plan, casePlan, start, signal);
  try {
    const answered = await askAnswer(open.worker, casePlan, timeoutMs);
    return converse({ ...open, answered, roundTimeoutMs: timeoutMs + roundLimitMs(plan, casePlan, answered.firstRunMs) });
  } catch (error) {
    await open.kill();
    throw error;
  }
}

/** Loads the engine in a process that leaves; resolves with how long loading took. Rejects with WorkerFailure, the process ended. */
export async function loadAndLeave(plan: SittingPlan, casePlan: CasePlan, start: StartWorker, signal: AbortSignal | undefined): Promise<number> {
  const { loaded, leave } = await startLoaded(plan, casePlan, start, signal);
  await leave();
  return loaded.loadMs;
}

type Loaded = Pick<Conversation, 'worker' | 'loaded' | 'leave' | 'kill'>;

async function startLoaded(plan: SittingPlan, casePlan: CasePlan, start: StartWorker, signal: AbortSignal | undefined): Promise<Loaded> {
  const { nodeArguments = [], timeoutMs } = plan;
  const { environment, worker: home } = casePlan;
  const worker = start({ environment, nodeArguments, ...(home && { entry: home.entry, folder: home.folder }) });
  const onAbort = (): void => void worker.kill();
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted) onAbort();
  const leave = async (): Promise<void> => {
    await worker.leave();
    signal?.removeEventListener('abort', onAbort);
  };
  const kill = async (): Promise<void> => {
    signal?.removeEventListener('abort', onAbort);
    await worker.kill();
  };
  try {
    return { worker, leave, kill, loaded: await worker.ask<'load'>({ kind: 'load', task: taskOf(plan, casePlan) }, timeoutMs) };
  } catch (error) {
    await kill();
    throw error;
  }
}

interface Conversation {
  readonly worker: WorkerProcess;
  readonly loaded: LoadedReply;
  readonly answered: AnsweredReply;
  readonly roundTimeoutMs: number;
  leave(): Promise<void>;
  kill(): Promise<void>;
}

function converse({ worker, loaded, answered, roundTimeoutMs, leave, kill }: Conversation): Sitting {
  let memory: MemoryReply | undefined;
  let open = true;
  const askMemory = async (): Promise<void> => {
    memory = await worker.ask<'memory'>({ kind: 'memory' }, roundTimeoutMs);
  };
  return {
    loaded,
    answered,
    memory: () => memory,
    async measure(seed) {
      const { reading } = await worker.ask<'round'>({ kind: 'round', seed }, roundTimeoutMs);
      await askMemory();
      return reading;
    },
    begin: (seed) => worker.ask<'begin'>({ kind: 'begin', seed }, roundTimeoutMs),
    async slice(slice) {
      await worker.ask<'slice'>({ kind: 'slice', slice }, roundTimeoutMs);
    },
    async end() {
      const { reading, ownLoad } = await worker.ask<'end'>({ kind: 'end' }, roundTimeoutMs);
      await askMemory();
      return { reading, ownLoad };
    },
    async close() {
      if (!open) return;
      open = false;
      await leave();
    },
    async kill() {
      open = false;
      await kill();
    },
  };
}

async function askAnswer(worker: WorkerProcess, { checkAnswer }: CasePlan, timeoutMs: number): Promise<AnsweredReply> {
  const answered = await worker.ask<'answer'>({ kind: 'answer', wantOutputs: checkAnswer !== undefined }, timeoutMs);
  const wrong = answered.outputs && checkAnswer?.(answered.outputs);
  if (wrong !== undefined) throw new WorkerFailure(wrongAnswer(wrong, worker.output()));
  return { ...answered, outputs: undefined };
}

function taskOf({ plugins, timing }: SittingPlan, { case: { variant, scenario }, ...casePlan }: CasePlan) {
  const { enginePath, device, inputs, worker } = casePlan;
  return { backend: variant.options.backend, plugins: worker?.plugins ?? plugins, enginePath, device, inputs, scenario, timing };
}

/** What a round may take if every execution were four times as slow as the first one was. */
function roundLimitMs({ timing }: SittingPlan, { case: { scenario } }: CasePlan, firstRunMs: number): number {
  const { sampleMs, minSamples, maxWarmupMs } = timing;
  const arrivalsMs = scenario.targetQps === undefined ? 0 : (minSamples / scenario.targetQps) * 1000;
  return 4 * (maxWarmupMs + sampleMs + arrivalsMs + (minSamples + 3) * scenario.streams * firstRunMs);
}
