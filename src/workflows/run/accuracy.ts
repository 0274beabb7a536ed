/**
 * The accuracy run: the same inputs through the fp32 reference and through every variant whose numerics can differ, batch by
 * batch, so that memory stays bounded however large the dataset is.
 */
import { availableParallelism } from 'node:os';
import type { Backend, TensorMap } from '../../backends/backend.ts';
import { reportError, type ErrorReport } from '../../errors.ts';
import { WorkerFailure } from '../../measure/failure.ts';
import { openInference, type Inference } from '../../measure/inference.ts';
import type { BuildOptions } from '../../engine/engine.ts';
import { accuracyAccumulator, comparable, type AccuracyAccumulator, type AccuracyResult } from '../../suite/accuracy.ts';
import { formatNumber, formatPercent, plural } from '../../report/units.ts';
import { engineInputs } from '../../suite/pixels.ts';
import type { Dataset } from '../../suite/source.ts';
import type { Task } from '../../suite/schema.ts';
import type { OnRunEvent } from '../events.ts';
import type { BuiltEngine } from './engines.ts';
import type { KeptEngines } from './kept-engines.ts';
import type { References } from './reference.ts';

export interface AccuracyRequest {
  readonly engines: readonly BuiltEngine[];
  readonly references: References;
  readonly task: Task;
  readonly untrained: boolean;
  readonly plugins: readonly string[];
  readonly timeoutMs: number;
  /** Of the same run before it was cut off; told of what is found. */
  readonly kept?: KeptEngines | undefined;
  /** Opens the dataset in batches of a size. */
  readonly openDataset: (batch: number) => Promise<Dataset>;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

export type AccuracyOutcome =
  | { readonly status: 'assessed'; readonly result: AccuracyResult }
  | { readonly status: 'failed'; readonly error: ErrorReport };

/** Backend options that change how fast something is computed and not what. Any other may: another provider, TF32, a tuned kernel. */
const NEUTRAL_OPTIONS = new Set(['threads', 'executionMode', 'memoryArena', 'memoryPattern', 'spinning', 'streams']);

/**
 * Engines of the same key give the same numbers: threads and batch do not change what is computed. An engine that was built
 * before, by who knows which version, gives its own: `engineSha256`.
 */
export function numericsKey(options: BuildOptions, engineSha256?: string): string {
  const own = Object.entries(options.backendOptions).filter(([name]) => !NEUTRAL_OPTIONS.has(name));
  return JSON.stringify([options.backend, options.precision, options.fusion, options.disabledPasses, own.sort(([a], [b]) => (a < b ? -1 : 1)), engineSha256]);
}

/** Batches above this gain no speed that is worth their memory here. */
const MAX_BATCH = 32;

/** Engines that are loaded at once: a driver compiles kernels on a core or two. */
const AT_ONCE = Math.max(1, Math.min(8, Math.floor(availableParallelism() / 2)));

/** Outcomes by {@link numericsKey}. Rejects with the dataset's errors. */
export async function assessAccuracy(request: AccuracyRequest): Promise<ReadonlyMap<string, AccuracyOutcome>> {
  const chosen = new Map<string, BuiltEngine>();
  for (const engine of request.engines) {
    const key = numericsKey(engine.variant.options, engine.prebuilt && engine.sha256);
    const known = chosen.get(key);
    if (!known || isFaster(engine, known)) chosen.set(key, engine);
  }
  const outcomes = new Map<string, AccuracyOutcome>();
  for (const batch of new Set([...chosen.values()].map((engine) => engine.variant.options.batch))) {
    const engines = [...chosen].filter(([, engine]) => engine.variant.options.batch === batch);
    for (const [key, outcome] of await assessBatch(request, batch, new Map(engines))) outcomes.set(key, outcome);
    noteResults(request, outcomes);
  }
  return outcomes;
}

/** Tells what is kept of every engine of the same numbers: which of them is assessed depends on the cases that are left. */
export function noteResults({ engines, kept }: Pick<AccuracyRequest, 'engines' | 'kept'>, outcomes: ReadonlyMap<string, AccuracyOutcome>): void {
  for (const { variant, prebuilt, sha256 } of engines) {
    const outcome = outcomes.get(numericsKey(variant.options, prebuilt && sha256));
    if (outcome?.status === 'assessed') kept?.noteAccuracy(sha256, outcome.result);
  }
}

/** The larger batch (up to a bound), then the most threads: the same numbers, sooner. */
function isFaster(a: BuiltEngine, b: BuiltEngine): boolean {
  const rank = ({ variant: { options } }: BuiltEngine) => [Math.min(options.batch, MAX_BATCH + 1) % (MAX_BATCH + 1), Number(options.backendOptions['threads'] ?? 0)] as const;
  const [x, y] = [rank(a), rank(b)];
  return x[0] === y[0] ? x[1] > y[1] : x[0] > y[0];
}

/** A variant under assessment. */
interface Runner {
  /** As the table calls it. */
  readonly title: string;
  readonly backend: Backend;
  readonly header: BuiltEngine['header'];
  readonly inference: Inference;
  readonly accumulator: AccuracyAccumulator;
}

async function assessBatch(
  request: AccuracyRequest,
  batch: number,
  engines: ReadonlyMap<string, BuiltEngine>,
): Promise<Map<string, AccuracyOutcome>> {
  const { signal, onEvent, task, untrained, kept } = request;
  const dataset = await request.openDataset(batch);
  const outcomes = new Map<string, AccuracyOutcome>();
  for (const [key, { sha256 }] of engines) {
    const result = await kept?.accuracyOf(sha256, dataset.description);
    if (result) outcomes.set(key, { status: 'assessed', result });
  }
  if (outcomes.size === engines.size) return outcomes;
  const runners = new Map<string, Runner>();
  const fail = async (key: string, error: unknown): Promise<void> => {
    outcomes.set(key, { status: 'failed', error: error instanceof WorkerFailure ? error.failure.error : reportError(error) });
    await runners.get(key)?.inference.close();
    runners.delete(key);
  };
  let done = 0;
  try {
    const open = async ({ variant, backend, header, path, device, environment }: BuiltEngine): Promise<Runner> => {
      const { plugins, timeoutMs } = request;
      const inference = await openInference({ backend: backend.name, plugins, enginePath: path, device, environment, timeoutMs, signal });
      return { title: variant.id, backend, header, inference, accumulator: accuracyAccumulator(task, { inputs: dataset.description, untrained }) };
    };
    const waiting = [...engines].filter(([key]) => !outcomes.has(key));
    while (waiting.length > 0) {
      const together = waiting.splice(0, AT_ONCE);
      const opened = await Promise.allSettled(together.map(([, engine]) => open(engine)));
      for (const [i, [key]] of together.entries()) {
        const result = opened[i]!;
        if (result.status === 'fulfilled') runners.set(key, result.value);
        else await fail(key, result.reason);
      }
      signal.throwIfAborted();
    }
    for await (const given of dataset.batches(signal)) {
      const { inputs, labels, count } = given;
      const references = new Map<Backend, TensorMap>();
      for (const [key, { backend, header, inference, accumulator }] of runners) {
        signal.throwIfAborted();
        try {
          const reference = references.get(backend) ?? (await (await request.references.of(backend)).run(inputs, batch));
          references.set(backend, reference);
          accumulator.add({ variant: await inference.run(engineInputs(header, given)), reference: comparable(reference, header, task), labels, count, batch });
        } catch (error) {
          // Workers end with the run; that is no failure of theirs.
          signal.throwIfAborted();
          await fail(key, error);
        }
      }
      signal.throwIfAborted();
      if (runners.size === 0) break;
      done += count;
      onEvent({ kind: 'progress', stage: 'accuracy', label: plural(runners.size, 'variant'), done, total: dataset.size, unit: 'samples' });
    }
    if (dataset.skipped.length > 0) {
      onEvent({ kind: 'notice', text: `left out ${plural(dataset.skipped.length, 'image')} that can't be decoded, such as ${dataset.skipped[0]}` });
    }
    for (const [key, { accumulator }] of runners) outcomes.set(key, { status: 'assessed', result: accumulator.result() });
    return outcomes;
  } catch (error) {
    if (signal.aborted && done > 0) onEvent({ kind: 'notice', text: describeStopped([...runners.values()], done, dataset.size) });
    throw error;
  } finally {
    await Promise.all([...runners.values()].map(({ inference }) => inference.close()));
  }
}

/** What was seen of accuracy when the run was stopped: for the user, since a part of the samples makes no record. */
function describeStopped(runners: readonly Runner[], done: number, size: number): string {
  const readings = runners.map(({ title, accumulator }) => {
    const { top1Percent, agreementPercent, snrDb } = accumulator.result().reading;
    const words = [
      ...(top1Percent === undefined ? [] : [`top-1 ${formatPercent(top1Percent)}`]),
      ...(agreementPercent === undefined ? [] : [`as fp32 in ${formatPercent(agreementPercent)}`]),
      snrDb === undefined ? 'the same numbers as fp32' : `${formatNumber(snrDb)} dB of signal over error`,
    ];
    return `${title} ${words.join(', ')}`;
  });
  return `accuracy was stopped after ${done} of ${plural(size, 'sample')}, where it stood at: ${readings.join('; ')}`;
}
