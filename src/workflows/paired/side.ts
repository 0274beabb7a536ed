/**
 * One side of a paired measurement, ready to be measured: engines, inputs, right answers and, where asked, accuracy, all as
 * files and data. It may be made in this process or by another version of the tool (revision/), and crosses the process
 * boundary as it is; how it is measured is the parent's business.
 */
import { dirname, join } from 'node:path';
import { readEnvironment } from '../../measure/environment.ts';
import { writeTensors } from '../../measure/inputs.ts';
import { WORKER_PROTOCOL } from '../../measure/messages.ts';
import { DEFAULT_TIMING, type CasePlan, type WorkerHome } from '../../measure/plan.ts';
import type { PairSettings } from '../../measure/pairs.ts';
import { fixedBatch } from '../../onnx/bind.ts';
import { readModel } from '../../onnx/model.ts';
import type { Case, Provenance } from '../../results/record.ts';
import { RECORD_SCHEMA_VERSION } from '../../results/record.ts';
import { selectedOutputs } from '../../suite/accuracy.ts';
import type { AccuracyBudget, Suite } from '../../suite/schema.ts';
import { TOOL_VERSION } from '../../version.ts';
import { inModelFile, readModelFile } from '../model-file.ts';
import { type AccuracyOutcome, assessAccuracy, numericsKey } from '../run/accuracy.ts';
import { datasetOf } from '../run/dataset.ts';
import { buildSweep } from '../run/build-sweep.ts';
import { type BuiltEngine, engineKey } from '../run/engines.ts';
import { timingInputs } from '../run/inputs.ts';
import type { PrebuiltEngines } from '../run/prebuilt.ts';
import { type PreparedRun, prepareRun } from '../run/prepare.ts';
import { createProvenance, gitRevision, NO_DEVICE, PACKAGES } from '../run/provenance.ts';
import type { EngineFacts, UnbuiltEngine } from '../run/records.ts';
import { rightAnswer, whyUnchecked } from '../run/plan.ts';
import { openReferences, type References } from '../run/reference.ts';
import type { RunRequest } from '../run/request.ts';
import type { Sweep } from '../run/sweep.ts';

/** What a side is made from. */
export type SideRequest = Omit<RunRequest, 'resume' | 'limit' | 'rebuild'>;

/** An engine of a side, with what its workers need. */
export interface ReadyEngine {
  readonly status: 'ready';
  readonly facts: EngineFacts;
  readonly plan: Pick<CasePlan, 'enginePath' | 'device' | 'inputs' | 'environment'>;
  /** File of the right answers (measure/inputs.ts), or why there are none. */
  readonly answers: { readonly path: string } | { readonly unknown: string };
  /** Undefined where it was not asked for. */
  readonly accuracy: AccuracyOutcome | undefined;
}

export interface SideCase {
  /** By which the sides are paired: the case's own id, unless a caller says otherwise. */
  readonly id: string;
  readonly case: Case;
  readonly engine: ReadyEngine | UnbuiltEngine;
}

export interface PreparedSide {
  /** Compared before anything is measured: a side of another protocol or schema is refused. */
  readonly protocol: { readonly worker: number; readonly record: number };
  readonly suite: Pick<Suite, 'name' | 'gate'>;
  readonly facts: Omit<Provenance, 'environment'>;
  readonly packages: Provenance['environment']['packages'];
  readonly untrained: boolean;
  readonly budget: AccuracyBudget;
  readonly settings: PairSettings;
  readonly cases: readonly SideCase[];
  /** Where the engines run in another checkout's worker. */
  readonly worker?: WorkerHome;
}

/** A suite with its model and backends, of which sides are made. */
export interface OpenSide extends PreparedRun {
  readonly request: SideRequest;
}

/** Reads suite and model. Throws what `run` throws before its first engine. */
export async function openSide(request: SideRequest): Promise<OpenSide> {
  return { ...(await prepareRun({ ...request, resume: false, limit: undefined })), request };
}

export interface SideParts {
  /** Where engines, inputs and answers go; as long as the side is used. */
  readonly folder: string;
  /** In place of the suite's, each with the id it is paired by. */
  readonly cases?: readonly Pick<SideCase, 'id' | 'case'>[];
  /** Engines that are there already, by engineKey; default: those that the request named. */
  readonly prebuilt?: PrebuiltEngines;
  readonly accuracy?: boolean;
}

/** Builds the engines and writes what measuring them needs. Throws MODEL_INVALID, DATASET_INVALID, what `signal` aborts with. */
export async function makeSide(open: OpenSide, parts: SideParts): Promise<PreparedSide> {
  const { registry, suite, model, facts } = open;
  const { seed } = facts;
  const { cases: entries = open.cases.map((entry) => ({ id: entry.id, case: entry })) } = parts;
  const sweep = await sweepOf(open, parts, entries.map((entry) => entry.case));
  const outcomes = await buildSweep(sweep);
  const built = [...outcomes.values()].filter((outcome): outcome is BuiltEngine => outcome.status === 'built');
  const { inputs: modelInputs } = await inModelFile(model.path, () => readModel(sweep.modelBytes, { folder: dirname(model.path) }));
  const references = openReferences({ bytes: sweep.modelBytes, path: model.path, ownBatch: fixedBatch(modelInputs) }, registry);
  try {
    const accuracy = parts.accuracy === true && built.length > 0 ? await accuracyOf(sweep, built, references) : undefined;
    const ready = readyEngines(sweep, built, references, accuracy);
    const cases: SideCase[] = [];
    for (const entry of entries) {
      const outcome = outcomes.get(engineKey(entry.case.variant))!;
      cases.push({ ...entry, engine: outcome.status === 'built' ? await ready(outcome) : outcome });
    }
    return {
      protocol: { worker: WORKER_PROTOCOL, record: RECORD_SCHEMA_VERSION },
      suite: { name: suite.name, gate: suite.gate },
      facts: { ...facts, tool: { version: TOOL_VERSION, revision: gitRevision() } },
      packages: readEnvironment({ device: NO_DEVICE, packages: PACKAGES }).packages,
      untrained: model.untrained,
      budget: suite.accuracy,
      settings: {
        plugins: registry.plugins.flatMap(({ source }) => (source === 'built-in' ? [] : [source])),
        seed,
        timing: { ...DEFAULT_TIMING, sampleMs: suite.measure.timeMs },
        budgetMs: suite.measure.budgetMs,
        timeoutMs: suite.measure.timeoutMs,
      },
      cases,
    };
  } finally {
    await references.dispose();
  }
}

async function sweepOf(open: OpenSide, { folder, prebuilt = open.prebuilt }: SideParts, cases: readonly Case[]): Promise<Sweep> {
  const { registry, probe, suite, model, facts } = open;
  const context = { provenance: createProvenance(facts), fallbackDevice: () => NO_DEVICE, untrained: model.untrained, budget: suite.accuracy };
  const request: RunRequest = { ...open.request, resume: false, limit: undefined };
  return { request, registry, probe, suite, model, modelBytes: await readModelFile(model.path), cases, prebuilt, folder, context };
}

function accuracyOf(sweep: Sweep, engines: readonly BuiltEngine[], references: References): Promise<ReadonlyMap<string, AccuracyOutcome>> {
  const { request, suite, model } = sweep;
  const { signal, onEvent, settings } = request;
  onEvent({ kind: 'stage', stage: 'accuracy', text: 'against the fp32 reference' });
  return assessAccuracy({
    engines,
    references,
    task: suite.task,
    untrained: model.untrained,
    plugins: settings.config.plugins,
    timeoutMs: suite.measure.timeoutMs,
    openDataset: (batch) => datasetOf(sweep, engines, batch, undefined),
    signal,
    onEvent,
  });
}

/** Engines with their inputs and answers; files of a batch are written once. */
function readyEngines(sweep: Sweep, built: readonly BuiltEngine[], references: References, accuracy: ReadonlyMap<string, AccuracyOutcome> | undefined) {
  const { folder, request } = sweep;
  const inputs = timingInputs(folder, (batch) => datasetOf(sweep, built, batch, batch), references, request.signal);
  const written = new Map<string, Promise<ReadyEngine['answers']>>();
  const answersOf = (engine: BuiltEngine): Promise<ReadyEngine['answers']> => {
    const { backend, header: { outputs, options: { batch, precision } } } = engine;
    const key = [backend.reference ? backend.name : '', batch, ...selectedOutputs(outputs, precision)].join(' ');
    const path = join(folder, `answers-${written.size}.bin`);
    const known =
      written.get(key) ??
      rightAnswer(inputs, engine).then(
        async (answer) => {
          await writeTensors(path, answer);
          return { path };
        },
        (error: unknown) => ({ unknown: `the answers are unchecked: ${whyUnchecked(error)}` }),
      );
    written.set(key, known);
    return known;
  };
  return async (engine: BuiltEngine): Promise<ReadyEngine> => {
    request.signal.throwIfAborted();
    const { variant, path, device, environment, header, sha256, prebuilt } = engine;
    const facts: EngineFacts = { ...pickFigures(engine), header: { notices: header.notices, ...(header.activations && { activations: header.activations }) } };
    const source = { kind: 'file', path: await inputs.path(variant.options.batch, header) } as const;
    const plan = { enginePath: path, device, inputs: source, environment };
    const assessed = accuracy?.get(numericsKey(variant.options, prebuilt && sha256));
    return { status: 'ready', facts, plan, answers: await answersOf(engine), accuracy: assessed };
  };
}

/** What crosses a process boundary of an engine. */
function pickFigures({ sha256, bytes, buildMs, buildsMs, prebuilt }: BuiltEngine): Omit<EngineFacts, 'header'> {
  return { sha256, bytes, buildMs, ...(buildsMs && { buildsMs }), ...(prebuilt !== undefined && { prebuilt }) };
}
