/**
 * The two sides of a paired measurement: the candidate's engines, built or given as `run` has them, and the baseline's, from
 * engine files or, for a self-test, the candidate's own.
 */
import { dirname, join } from 'node:path';
import { TsrtError } from '../../errors.ts';
import type { PairPlan, PairSettings } from '../../measure/pairs.ts';
import type { MeasurePlan } from '../../measure/plan.ts';
import { readModel } from '../../onnx/model.ts';
import type { Case } from '../../results/record.ts';
import { calibrationSource } from '../calibrate/suite.ts';
import { inModelFile, readModelFile } from '../model-file.ts';
import { datasetOf } from '../run/dataset.ts';
import { type BuiltEngine, buildEngines, engineKey, type EngineOutcome } from '../run/engines.ts';
import { timingInputs } from '../run/inputs.ts';
import { measurePlan } from '../run/plan.ts';
import { admitEngines, prebuiltCases, type PrebuiltEngines } from '../run/prebuilt.ts';
import { prepareRun } from '../run/prepare.ts';
import { createProvenance, NO_DEVICE } from '../run/provenance.ts';
import { fixedBatch, openReferences } from '../run/reference.ts';
import type { RecordContext } from '../run/records.ts';
import type { RunRequest } from '../run/request.ts';
import type { Sweep } from '../run/sweep.ts';

/** What both paired measurements ask for. */
export interface PairedRequest extends Omit<RunRequest, 'resume' | 'limit' | 'rebuild'> {
  /** Engine files of the baseline; undefined: the candidate's engines against themselves. */
  readonly against: readonly string[] | undefined;
}

/** Ready to be measured. */
export interface PairedSides {
  readonly suite: Sweep['suite'];
  readonly settings: PairSettings;
  readonly pairs: readonly PairPlan[];
  readonly context: RecordContext;
  readonly baseline: ReadonlyMap<string, EngineOutcome>;
  readonly candidate: ReadonlyMap<string, EngineOutcome>;
  /** Cases of the candidate that were to be compared, those that can't be built included. */
  readonly cases: readonly Case[];
}

/** Prepares both sides in `folder`. Throws what `run` throws, and USAGE where the baseline has an engine that no case is for. */
export async function prepareSides(request: PairedRequest, folder: string): Promise<PairedSides> {
  const { signal, onEvent, against } = request;
  const run: RunRequest = { ...request, resume: false, limit: undefined };
  const prepared = await prepareRun(run);
  const context: RecordContext = {
    provenance: createProvenance(prepared.facts),
    fallbackDevice: NO_DEVICE,
    untrained: prepared.model.untrained,
    budget: prepared.suite.accuracy,
  };
  const old = against && (await baselineEngines(against, request, prepared));
  const cases = old ? prepared.cases.filter((entry) => old.has(engineKey(entry.variant))) : prepared.cases;
  const modelBytes = await readModelFile(prepared.model.path);
  const sweep: Sweep = { ...prepared, request: run, modelBytes, cases, folder, context };
  const build = (prebuilt: PrebuiltEngines, into: string) => {
    onEvent({ kind: 'stage', stage: 'build', text: `${new Set(cases.map((entry) => engineKey(entry.variant))).size} engines of the ${into}` });
    const model = { name: prepared.model.name, bytes: modelBytes, path: prepared.model.path };
    const { registry, probe } = prepared;
    return buildEngines({ cases, prebuilt, model, registry, probe, calibration: calibrationOf(sweep), folder: join(folder, into), signal, onEvent });
  };
  const candidate = await build(prepared.prebuilt, 'candidate');
  const baseline = old ? await build(old, 'baseline') : candidate;
  const { settings, pairs } = await planPairs(sweep, baseline, candidate);
  return { suite: prepared.suite, settings, pairs, context, baseline, candidate, cases };
}

type Prepared = Awaited<ReturnType<typeof prepareRun>>;

async function baselineEngines(files: readonly string[], { onEvent }: PairedRequest, prepared: Prepared): Promise<PrebuiltEngines> {
  const { suite, machine, model, registry, probe, cases } = prepared;
  const { prebuilt } = await prebuiltCases(files, suite, {}, machine);
  const matched = matchEngines(prebuilt, new Set(cases.map((entry) => engineKey(entry.variant))));
  return admitEngines(matched, { modelSha256: model.sha256, registry, probe, rebuild: false, onEvent });
}

/** By variant and batch; one engine against one other is taken at the user's word, whatever their variants. */
function matchEngines(engines: PrebuiltEngines, known: ReadonlySet<string>): PrebuiltEngines {
  const [only] = known.size === 1 && engines.size === 1 ? known : [];
  if (only !== undefined) return new Map([...engines.values()].map((engine) => [only, engine]));
  for (const [key, { file }] of engines) {
    if (known.has(key)) continue;
    throw new TsrtError('USAGE', `no case is for the engine ${key}`, { place: file, fix: `the cases are for ${[...known].slice(0, 12).join(', ')}` });
  }
  return engines;
}

function calibrationOf({ suite, model, modelBytes, request: { settings, signal, onEvent } }: Sweep) {
  return calibrationSource({
    suite,
    model,
    modelBytes,
    seed: settings.config.seed,
    signal,
    onProgress: (done, total) => onEvent({ kind: 'progress', stage: 'build', label: 'calibrating', done, total, unit: 'samples' }),
    onNotice: (text) => onEvent({ kind: 'notice', text }),
  });
}

/** The cases whose engines both sides have, on the same inputs. */
async function planPairs(sweep: Sweep, baseline: ReadonlyMap<string, EngineOutcome>, candidate: ReadonlyMap<string, EngineOutcome>) {
  const { model, modelBytes, registry, folder, request } = sweep;
  const engines = [...candidate.values()].filter((outcome): outcome is BuiltEngine => outcome.status === 'built');
  const { inputs: modelInputs } = await inModelFile(model.path, () => readModel(modelBytes, { folder: dirname(model.path) }));
  const references = openReferences({ bytes: modelBytes, path: model.path, ownBatch: fixedBatch(modelInputs) }, registry);
  try {
    const inputs = timingInputs(folder, (batch) => datasetOf(sweep, engines, batch, batch), references, request.signal);
    const [before, after] = [await measurePlan(sweep, baseline, inputs), await measurePlan(sweep, candidate, inputs)];
    const old = new Map(before.plan.cases.map((plan) => [plan.case.id, plan]));
    const pairs = after.plan.cases.flatMap((plan): PairPlan[] => {
      const other = old.get(plan.case.id);
      return other ? [{ id: plan.case.id, baseline: other, candidate: plan }] : [];
    });
    return { settings: settingsOf(after.plan), pairs };
  } finally {
    await references.dispose();
  }
}

function settingsOf({ plugins, seed, timing, budgetMs, timeoutMs, nodeArguments }: MeasurePlan): PairSettings {
  return { plugins, seed, timing, budgetMs, timeoutMs, ...(nodeArguments && { nodeArguments }) };
}
