/** What a run knows before it does anything that takes long: suite, cases, backends, model, and the run that it goes on with. */
import { createHash } from 'node:crypto';
import type { Availability, Backend } from '../../backends/backend.ts';
import type { Precision } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { Registry } from '../../registry.ts';
import { newRunId } from '../../results/names.ts';
import type { Case } from '../../results/record.ts';
import { expandCases, idleParts, type Machine, overrideSuite } from '../../suite/expand.ts';
import { loadSuite } from '../../suite/load.ts';
import { type ResolvedModel, resolveModel } from '../../suite/models.ts';
import type { Suite } from '../../suite/schema.ts';
import { availableCores } from '../../system.ts';
import { chooseDevices, createProbe } from '../probe.ts';
import { requireLoaded } from '../engine-file.ts';
import { setApartAsCalibrated } from '../calibrate/suite.ts';
import { openRegistry } from '../registry.ts';
import { checkSuiteDataset, saysInputs } from '../suite-dataset.ts';
import { engineKey } from './engines.ts';
import { admitEngines, checkResumed, prebuiltCases, type PrebuiltEngines } from './prebuilt.ts';
import type { RunFacts } from './provenance.ts';
import type { RunRequest } from './request.ts';
import { type ResumedRun, resumeRun } from './resume.ts';

export interface PreparedRun {
  readonly suite: Suite;
  readonly registry: Registry;
  readonly machine: Machine;
  /** All cases of the suite, in its order. */
  readonly cases: readonly Case[];
  /** Of them, those whose engines are there already. */
  readonly prebuilt: PrebuiltEngines;
  readonly backends: readonly Backend[];
  readonly probe: (backend: Backend) => Promise<Availability>;
  readonly model: ResolvedModel;
  readonly facts: RunFacts;
  /** Undefined for a new run. */
  readonly resumed: ResumedRun | undefined;
}

/** Cheap checks come before the model is fetched. Throws TsrtError for whatever keeps the run from starting. */
export async function prepareRun(request: RunRequest): Promise<PreparedRun> {
  const { settings, signal, onEvent } = request;
  const { plugins, results, seed } = settings.config;
  const registry = await openRegistry(plugins);
  const written = await loadSuite(request.suite, { cwd: process.cwd(), plugins: registry.suites });
  const given = overrideSuite(written, request.overrides);
  const machine = { cores: availableCores() };
  for (const text of idleParts(written, machine)) onEvent({ kind: 'notice', text });
  const { engineFiles = [], overrides, rebuild = false, choose = (all: readonly Case[]) => all } = request;
  const { cases: all, prebuilt: engines } =
    engineFiles.length > 0 ? await prebuiltCases(engineFiles, given, overrides, machine) : { cases: expandCases(given, {}, machine), prebuilt: new Map() as PrebuiltEngines };
  const cases = choose(all);
  const suite = await setApartAsCalibrated(given, cases.some(({ variant }) => variant.options.precision !== 'fp32' && !engines.has(engineKey(variant))));
  if (cases.some(({ variant }) => isCalibratedOnNoise(variant.options.precision, suite) && !engines.has(engineKey(variant)))) {
    onEvent({ kind: 'notice', text: 'int8 ranges come from seeded numbers, like the inputs: times are valid, accuracy means nothing; name a calibration of real data in a suite (quantization.calibration), or describe its inputs' });
  }
  // Before backends are looked for: one may be of a plugin that an engine needs.
  requireLoaded([...engines.values()], registry.stamps);
  const backends = backendsOf(cases, registry);
  await checkSuiteDataset(suite, registry);
  const probe = createProbe(await chooseDevices(request.device ?? suite.device, backends));
  const model = await findModel(request, suite).catch((error: unknown) => {
    if (!signal.aborted) throw error;
    throw new TsrtError('INTERRUPTED', 'stopped before anything was measured', { fix: 'run it again: what was made of the model is in the cache' });
  });
  const prebuilt = await admitEngines(engines, { modelSha256: model.sha256, registry, probe, rebuild, onEvent });
  const suiteSha256 = hashOf(suite);
  const resumed = request.resume ? await resumeRun(results, { suite: suite.name, suiteSha256, modelSha256: model.sha256, seed }) : undefined;
  if (resumed) {
    checkResumed(prebuilt, resumed.finished);
    for (const text of resumed.notices) onEvent({ kind: 'notice', text });
    onEvent({ kind: 'notice', text: `resuming run ${resumed.runId}: ${resumed.finished.length} of ${cases.length} cases are done` });
  }
  const startedAt = resumed?.startedAt ?? new Date().toISOString();
  const runId = resumed?.runId ?? newRunId(new Date(startedAt), `${process.pid} ${performance.now()}`);
  const { name, sha256, source } = model;
  const facts: RunFacts = { runId, startedAt, model: { name, sha256, source }, suiteSha256, seed, ...(request.command !== undefined && { command: request.command }) };
  return { suite, registry, probe, machine, cases, prebuilt, backends, model, facts, resumed };
}

/** Whether a build would take its ranges from numbers that are made up by the inputs' types. */
function isCalibratedOnNoise(precision: Precision, suite: Suite): boolean {
  return !saysInputs(suite) && suite.quantization.calibration === undefined && (precision === 'int8' || precision === 'mixed');
}

/** Every backend of the sweep. Throws BACKEND_UNKNOWN, before a model is fetched for nothing. */
function backendsOf(cases: readonly Case[], registry: Registry): readonly Backend[] {
  return [...new Set(cases.map((entry) => entry.variant.options.backend))].map((name) => registry.backend(name));
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

/** What is measured, and how; not on what, which records say themselves, nor how long one may wait, which a resumed run may change. */
function hashOf({ file: _file, folder: _folder, sha256: _sha256, device: _device, ...definition }: Suite): string {
  const { budgetMs: _budget, timeoutMs: _timeout, ...measure } = definition.measure;
  return createHash('sha256').update(JSON.stringify({ ...definition, measure })).digest('hex');
}
