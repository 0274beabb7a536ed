/** The stages of a run in their order: engines, accuracy, measurement. What comes out are records. */
import { dirname } from 'node:path';
import { createSystemClock } from '../../measure/clock.ts';
import { measureCases } from '../../measure/orchestrate.ts';
import { createYardstick } from '../../measure/yardstick.ts';
import { fixedBatch } from '../../onnx/bind.ts';
import { readModel } from '../../onnx/model.ts';
import type { BenchRecord } from '../../results/record.ts';
import { inModelFile } from '../model-file.ts';
import { type AccuracyOutcome, assessAccuracy, noteResults, numericsKey } from './accuracy.ts';
import { datasetOf } from './dataset.ts';
import { buildSweep, sweepCalibration } from './build-sweep.ts';
import { type BuiltEngine, engineKey, type EngineOutcome } from './engines.ts';
import { type TimingInputs, timingInputs } from './inputs.ts';
import { measurePlan } from './plan.ts';
import { withRanges } from './ranges.ts';
import { measuredRecord, unbuiltRecord } from './records.ts';
import { openReferences, type References } from './reference.ts';
import type { Sweep } from './sweep.ts';

/** Every record of the sweep, as its case ends. */
export async function* sweepRecords(sweep: Sweep): AsyncGenerator<BenchRecord> {
  const { request, cases, registry, model, modelBytes, folder, context } = sweep;
  const { signal, onEvent } = request;
  if (cases.length === 0) return;
  onEvent({ kind: 'stage', stage: 'build', text: `${new Set(cases.map((entry) => engineKey(entry.variant))).size} engines from ${model.name}` });
  const calibration = sweepCalibration(sweep);
  const outcomes = await buildSweep(sweep, { calibration });
  const engines = [...outcomes.values()].filter((outcome) => outcome.status === 'built');
  for (const entry of cases) {
    const outcome = outcomes.get(engineKey(entry.variant));
    if (outcome && outcome.status !== 'built') yield unbuiltRecord(context, entry, outcome);
  }
  if (engines.length === 0) return;

  const { inputs: modelInputs } = await inModelFile(model.path, () => readModel(modelBytes, { folder: dirname(model.path) }));
  const ownBatch = fixedBatch(modelInputs);
  const references = openReferences({ bytes: modelBytes, path: model.path, ownBatch }, registry);
  try {
    const inputs = timingInputs(folder, (batch) => datasetOf(sweep, engines, batch, batch), references, signal);
    const assessed = sweep.request.accuracy === false ? undefined : await withRanges(sweep, engines, await accuracyOf(sweep, engines, references), calibration);
    if (assessed) noteResults({ engines, kept: sweep.kept }, assessed);
    const accuracy = assessed ?? new Map<string, AccuracyOutcome>();
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
    timeoutMs: suite.measure.timeoutMs,
    kept: sweep.kept,
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
  const { plan, remarks } = await measurePlan(sweep, outcomes, inputs);
  onEvent({ kind: 'stage', stage: 'measure', text: `${plan.cases.length} cases × ${plan.rounds} rounds, interleaved` });
  let done = 0;
  for await (const event of measureCases(plan, { yardstick: createYardstick({ clock: createSystemClock() }) }, signal)) {
    switch (event.kind) {
      case 'round-started':
        break;
      case 'round-done':
        onEvent({ kind: 'progress', stage: 'measure', label: event.case.id, done: ++done, total: plan.cases.length * plan.rounds, unit: 'rounds' });
        break;
      case 'look':
        for (const id of request.watch?.settle(event.look, event.open) ?? []) event.settled.add(id);
        break;
      case 'case-done': {
        const engine = outcomes.get(engineKey(event.case.variant));
        if (engine?.status !== 'built') throw new Error(`case ${event.case.id} was measured without an engine`);
        yield measuredRecord(context, event.case, engine, event.outcome, accuracy.get(numericsKey(engine.variant.options, engine.prebuilt && engine.sha256)), remarks(event.case));
        break;
      }
      default:
        event satisfies never;
    }
  }
}
