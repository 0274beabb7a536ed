/**
 * `run`: suite → model → engines → accuracy → measurement → records. One call that wires the stages; each of them knows
 * nothing of the others.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type ErrorReport, reportError, TsrtError } from '../../errors.ts';
import { createSystemClock } from '../../measure/clock.ts';
import { availableCores } from '../../measure/environment.ts';
import { measureCases } from '../../measure/orchestrate.ts';
import { DEFAULT_TIMING, type MeasurePlan } from '../../measure/plan.ts';
import { createYardstick } from '../../measure/yardstick.ts';
import { readModel } from '../../onnx/model.ts';
import type { Registry } from '../../registry.ts';
import { newRunId } from '../../results/names.ts';
import type { BenchRecord, Case } from '../../results/record.ts';
import { runFilePath } from '../../results/store.ts';
import { openRunWriter, type RunWriter } from '../../results/writer.ts';
import { outputName } from '../../suite/accuracy.ts';
import { type Dataset, openDataset } from '../../suite/datasets.ts';
import { baselineVariantId, expandCases, overrideSuite } from '../../suite/expand.ts';
import { loadSuite } from '../../suite/load.ts';
import { type ResolvedModel, resolveModel } from '../../suite/models.ts';
import type { Suite } from '../../suite/schema.ts';
import type { OnRunEvent } from '../events.ts';
import { openRegistry } from '../registry.ts';
import { answerCheck } from './answers.ts';
import { type AccuracyOutcome, assessAccuracy, numericsKey } from './accuracy.ts';
import { type BuiltEngine, buildEngines, engineKey, type EngineOutcome } from './engines.ts';
import { type TimingInputs, timingInputs } from './inputs.ts';
import { createProvenance, NO_DEVICE } from './provenance.ts';
import { measuredRecord, type RecordContext, unbuiltRecord } from './records.ts';
import { classCount, fixedBatch, openReferences, type References } from './reference.ts';
import type { RunRequest, RunResult } from './request.ts';
import { resumeRun } from './resume.ts';

/** Everything that is fixed before the first engine is built. */
interface Sweep {
  readonly request: RunRequest;
  readonly registry: Registry;
  readonly suite: Suite;
  readonly model: ResolvedModel;
  readonly modelBytes: Uint8Array;
  /** Cases still to do. */
  readonly cases: readonly Case[];
  readonly writer: RunWriter;
  /** Engines and inputs of this run; removed at its end. */
  readonly folder: string;
  readonly context: RecordContext;
}

/** Runs a suite. Throws TsrtError for what keeps the whole run from starting; what befalls one case is in its record. */
export async function runSuite(asked: RunRequest): Promise<RunResult> {
  const notices: string[] = [];
  const request: RunRequest = {
    ...asked,
    onEvent: (event) => {
      if (event.kind === 'notice') notices.push(event.text);
      asked.onEvent(event);
    },
  };
  const { signal, settings, onEvent } = request;
  const suite = overrideSuite(await loadSuite(request.suite), request.overrides);
  const registry = await openRegistry(settings.config.plugins);
  const machine = { cores: availableCores() };
  const cases = expandCases(suite, {}, machine);
  const model = await findModel(request, suite);
  const suiteSha256 = hashOf(suite);
  const experiment = { suite: suite.name, suiteSha256, modelSha256: model.sha256, seed: settings.config.seed };
  const resumed = request.resume ? await resumeRun(settings.config.results, experiment) : undefined;
  const finished = new Set(resumed?.finished.map((record) => record.case.id));
  for (const text of resumed?.notices ?? []) onEvent({ kind: 'notice', text });
  if (resumed) onEvent({ kind: 'notice', text: `resuming run ${resumed.runId}: ${finished.size} of ${cases.length} cases are done` });

  const startedAt = resumed?.startedAt ?? new Date().toISOString();
  const runId = resumed?.runId ?? newRunId(new Date(startedAt), `${process.pid} ${performance.now()}`);
  const { name, sha256, source } = model;
  const provenance = createProvenance({ runId, startedAt, model: { name, sha256, source }, suiteSha256, seed: settings.config.seed });
  const writer = await openRunWriter({ results: settings.config.results, suite: suite.name, runId, resume: resumed !== undefined });
  const folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-'));
  const records: BenchRecord[] = [...(resumed?.finished ?? [])];
  let unsaved: ErrorReport | undefined;
  try {
    const fallbackDevice = await primaryDevice(registry, cases);
    const sweep: Sweep = {
      request,
      registry,
      suite,
      model,
      modelBytes: await readFile(model.path),
      cases: cases.filter((entry) => !finished.has(entry.id)),
      writer,
      folder,
      context: { provenance, fallbackDevice, untrained: model.untrained, budget: suite.accuracy },
    };
    for await (const record of sweepRecords(sweep)) {
      records.push(record);
      await writer.append(record).catch(notice(onEvent));
      onEvent({ kind: 'record', record, done: records.length, total: cases.length });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
    await writer.close().catch((error: unknown) => {
      unsaved = reportError(error);
    });
  }
  const device = records[0]?.provenance.environment.device.slug ?? NO_DEVICE.slug;
  return {
    suite: suite.name,
    runId,
    file: writer.paths[0] ?? runFilePath(settings.config.results, suite.name, device, runId),
    records: inCaseOrder(records, cases),
    baselineVariant: baselineVariantId(suite, cases, machine),
    notices,
    interrupted: signal.aborted,
    unsaved,
  };
}

/** Every record of the sweep, as its case ends. */
async function* sweepRecords(sweep: Sweep): AsyncGenerator<BenchRecord> {
  const { request, cases, registry, model, modelBytes, folder, context } = sweep;
  const { signal, onEvent } = request;
  if (cases.length === 0) return;
  onEvent({ kind: 'stage', stage: 'build', text: `${new Set(cases.map((entry) => engineKey(entry.variant))).size} engines from ${model.name}` });
  const outcomes = await buildEngines({
    cases,
    model: { name: model.name, bytes: modelBytes, folder: dirname(model.path) },
    registry,
    folder,
    signal,
    onEvent,
  });
  const engines = [...outcomes.values()].filter((outcome) => outcome.status === 'built');
  for (const entry of cases) {
    const outcome = outcomes.get(engineKey(entry.variant));
    if (outcome && outcome.status !== 'built') yield unbuiltRecord(context, entry, outcome);
  }
  if (engines.length === 0) return;

  const ownBatch = fixedBatch(readModel(modelBytes, { folder: dirname(model.path) }).inputs);
  const references = openReferences({ bytes: modelBytes, path: model.path, ownBatch }, registry);
  try {
    const inputs = timingInputs(folder, (batch) => datasetOf(sweep, engines, batch, batch), references);
    const accuracy = await accuracyOf(sweep, engines, references);
    yield* measuredRecords(sweep, outcomes, inputs, accuracy);
  } finally {
    await references.dispose();
  }
}

async function accuracyOf(sweep: Sweep, engines: readonly BuiltEngine[], references: References): Promise<ReadonlyMap<string, AccuracyOutcome>> {
  const { request, suite, model } = sweep;
  request.onEvent({ kind: 'stage', stage: 'accuracy', text: 'against the fp32 reference' });
  return assessAccuracy({
    engines,
    references,
    task: suite.task,
    untrained: model.untrained,
    plugins: request.settings.config.plugins,
    device: request.device,
    timeoutMs: suite.measure.timeoutMs,
    openDataset: async (batch) => {
      const dataset = await datasetOf(sweep, engines, batch, undefined);
      request.onEvent({ kind: 'stage', stage: 'dataset', text: dataset.description });
      for (const text of dataset.notices) request.onEvent({ kind: 'notice', text });
      return dataset;
    },
    signal: request.signal,
    onEvent: request.onEvent,
  });
}

async function* measuredRecords(
  sweep: Sweep,
  outcomes: ReadonlyMap<string, EngineOutcome>,
  inputs: TimingInputs,
  accuracy: ReadonlyMap<string, AccuracyOutcome>,
): AsyncGenerator<BenchRecord> {
  const { request, context } = sweep;
  const { signal, onEvent } = request;
  const plan = await measurePlan(sweep, outcomes, inputs);
  onEvent({ kind: 'stage', stage: 'measure', text: `${plan.cases.length} cases × ${plan.rounds} rounds, interleaved` });
  let done = 0;
  for await (const event of measureCases(plan, { yardstick: createYardstick({ clock: createSystemClock() }) }, signal)) {
    switch (event.kind) {
      case 'round-started':
        break;
      case 'round-done':
        onEvent({ kind: 'progress', stage: 'measure', label: event.case.id, done: ++done, total: plan.cases.length * plan.rounds, unit: 'rounds' });
        break;
      case 'case-done': {
        const engine = outcomes.get(engineKey(event.case.variant));
        if (engine?.status !== 'built') throw new Error(`case ${event.case.id} was measured without an engine`);
        yield measuredRecord(context, event.case, engine, event.outcome, accuracy.get(numericsKey(event.case.variant.options)));
        break;
      }
      default:
        event satisfies never;
    }
  }
}

async function measurePlan(sweep: Sweep, outcomes: ReadonlyMap<string, EngineOutcome>, inputs: TimingInputs): Promise<MeasurePlan> {
  const { request, suite, cases } = sweep;
  const { rounds, timeMs, timeoutMs, budgetMs, isolation } = suite.measure;
  const plans: MeasurePlan['cases'][number][] = [];
  for (const entry of cases) {
    const engine = outcomes.get(engineKey(entry.variant));
    if (engine?.status !== 'built') continue;
    const { batch, precision } = entry.variant.options;
    plans.push({
      case: entry,
      enginePath: engine.path,
      device: request.device,
      inputs: { kind: 'file', path: await inputs.path(batch) },
      checkAnswer: answerCheck(precision, await inputs.answer(batch, engine.backend)),
      environment: engine.environment,
    });
  }
  return {
    cases: plans,
    plugins: request.settings.config.plugins,
    seed: request.settings.config.seed,
    rounds,
    minRounds: Math.min(2, rounds),
    isolation,
    timing: { ...DEFAULT_TIMING, sampleMs: timeMs },
    budgetMs,
    timeoutMs,
  };
}

/** The suite's dataset in batches of `batch`; `limit` overrides how many samples there are. */
async function datasetOf({ request, suite }: Sweep, engines: readonly BuiltEngine[], batch: number, limit: number | undefined): Promise<Dataset> {
  const engine = engines.find(({ variant }) => variant.options.batch === batch);
  if (!engine) throw new Error(`no engine of batch ${batch}`);
  const { inputs, outputs } = engine.header;
  const scores = suite.task.kind === 'classification' ? outputName(suite.task.output, outputs.map(({ name }) => name)) : undefined;
  const { path, labels, labelOffset, skipBroken } = suite.dataset;
  const wanted = limit ?? request.limit;
  return openDataset({
    inputs: suite.inputs,
    bindings: inputs,
    batch,
    folder: path === undefined ? undefined : resolve(suite.folder, path),
    classes: classCount(outputs.find(({ name }) => name === scores)),
    labelsFile: labels,
    labelOffset,
    limit: wanted ?? suite.dataset.limit,
    skipBroken,
    samples: limit ?? request.limit ?? suite.accuracy.samples,
    seed: request.settings.config.seed,
    signal: request.signal,
  });
}

async function findModel({ modelFile, settings, signal, onEvent }: RunRequest, suite: Suite): Promise<ResolvedModel> {
  onEvent({ kind: 'stage', stage: 'model', text: modelFile ?? suite.model.name });
  const model = await resolveModel(suite, {
    modelFile,
    cacheFolder: settings.config.cache,
    signal,
    onProgress: (progress) => {
      if (progress.step === 'waiting') onEvent({ kind: 'stage', stage: 'model', text: 'waiting for another process that prepares the same model' });
      else onEvent({ kind: 'progress', stage: 'model', label: progress.step, done: progress.doneBytes, total: progress.totalBytes, unit: 'bytes' });
    },
  });
  for (const text of model.notices) onEvent({ kind: 'notice', text });
  return model;
}

/** The first device of the first backend that is there: where records of cases that reached none are kept. */
async function primaryDevice(registry: Registry, cases: readonly Case[]) {
  for (const name of new Set(cases.map((entry) => entry.variant.options.backend))) {
    const availability = await registry.backend(name).probe();
    if (availability.status === 'available' && availability.devices[0]) return availability.devices[0];
  }
  return NO_DEVICE;
}

/** A record that can't be saved is kept by the writer and tried again with the next; the run goes on. */
function notice(onEvent: OnRunEvent): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof TsrtError)) throw error;
    onEvent({ kind: 'notice', text: `${error.message} (${error.place}); it is kept and tried again` });
  };
}

/** Cases end in the order of the last round, which is random; people read them in the order of the suite. */
function inCaseOrder(records: readonly BenchRecord[], cases: readonly Case[]): BenchRecord[] {
  const place = new Map(cases.map((entry, index) => [entry.id, index]));
  return [...records].sort((a, b) => (place.get(a.case.id) ?? 0) - (place.get(b.case.id) ?? 0));
}

function hashOf({ file: _file, folder: _folder, sha256: _sha256, ...definition }: Suite): string {
  return createHash('sha256').update(JSON.stringify(definition)).digest('hex');
}
