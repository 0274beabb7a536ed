/**
 * `run`: suite → model → engines → accuracy → measurement → records. One call that wires the stages; each of them knows
 * nothing of the others.
 */
import type { Backend, DeviceInfo } from '../../backends/backend.ts';
import { type ErrorReport, reportError, TsrtError } from '../../errors.ts';
import { inSuiteOrder } from '../../results/reader.ts';
import type { BenchRecord, SuitePlace } from '../../results/record.ts';
import { measuredCases } from '../../results/store.ts';
import { openRunWriter, type RunWriter } from '../../results/writer.ts';
import { baselineVariantId, isBaseline, standInForBaseline } from '../../suite/expand.ts';
import { withEngineFolder } from '../engine-folder.ts';
import type { OnRunEvent } from '../events.ts';
import { readModelFile } from '../model-file.ts';
import { stepTimes } from '../step-times.ts';
import { KeptEngines } from './kept-engines.ts';
import { type PreparedRun, prepareRun } from './prepare.ts';
import { createProvenance, NO_DEVICE } from './provenance.ts';
import type { RunRequest, RunResult } from './request.ts';
import { sweepRecords } from './stages.ts';
import type { Sweep } from './sweep.ts';

/** Runs a suite. Throws TsrtError for what keeps the whole run from starting; what befalls one case is in its record. */
export async function runSuite(asked: RunRequest): Promise<RunResult> {
  const notices: string[] = [];
  const times = stepTimes();
  const onEvent: OnRunEvent = (event) => {
    if (event.kind === 'notice') notices.push(event.text);
    // The dataset is opened within another stage.
    if (event.kind === 'stage' && event.stage !== 'dataset') times.onProgress(event.stage, 0, 1);
    asked.onEvent(event);
  };
  const request: RunRequest = { ...asked, onEvent };
  const { signal, settings } = request;
  const prepared = await prepareRun(request);
  const { suite, facts, resumed } = prepared;
  const writer = await openRunWriter({ results: settings.config.results, suite: suite.name, runId: facts.runId, resume: resumed !== undefined });
  const records: BenchRecord[] = [...(resumed?.finished ?? [])];
  let unsaved: ErrorReport | undefined;
  try {
    const kept = new KeptEngines({ cache: settings.config.cache, suite: suite.name, runId: facts.runId, stamps: prepared.registry.stamps });
    await withEngineFolder(async (folder) => {
      try {
        await collectRecords(request, prepared, { folder, kept, writer, records });
      } finally {
        const isCutOff = signal.aborted || records.some(({ status }) => status === 'aborted');
        // Cut off before its first record a new run can't be resumed; the one before it still can.
        if (isCutOff && (resumed !== undefined || records.length > 0)) await keepEngines(kept, onEvent);
      }
      if (!signal.aborted && records.every(({ status }) => status !== 'aborted')) await kept.drop();
    });
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await writer.close().catch((error: unknown) => {
      unsaved = reportError(error);
    });
  }
  const ordered = inSuiteOrder(records);
  const measured = measuredCases(ordered);
  // Files take the place of the suite's variants, the baseline's among them.
  const standIn = prepared.prebuilt.size > 0 ? undefined : standInForBaseline(suite, measured, prepared.machine);
  if (standIn !== undefined) onEvent({ kind: 'notice', text: standIn });
  return {
    suite: suite.name,
    runId: facts.runId,
    files: [...new Set([...(resumed?.files ?? []), ...writer.paths])],
    records: ordered,
    baselineVariant: baselineVariantId(suite, measured, prepared.machine),
    notices,
    stagesMs: times.end(),
    interrupted: signal.aborted,
    unsaved,
  };
}

interface Collection {
  /** Engines and inputs of this run; removed at its end. */
  readonly folder: string;
  readonly kept: KeptEngines;
  readonly writer: RunWriter;
  /** Receives every record as its case ends. */
  readonly records: BenchRecord[];
}

async function collectRecords(request: RunRequest, prepared: PreparedRun, { folder, kept, writer, records }: Collection): Promise<void> {
  const { suite, registry, probe, cases, prebuilt, backends, model, facts } = prepared;
  const finished = new Set(records.map((record) => record.case.id));
  const sweep: Sweep = {
    request,
    registry,
    probe,
    suite,
    model,
    modelBytes: await readModelFile(model.path),
    cases: cases.filter((entry) => !finished.has(entry.id)),
    prebuilt,
    kept,
    folder,
    context: {
      provenance: createProvenance(facts),
      fallbackDevice: await firstDevices(backends, probe),
      untrained: model.untrained,
      budget: suite.accuracy,
    },
  };
  const places = new Map(cases.map((entry, index): [string, SuitePlace] => [entry.id, { index, baseline: isBaseline(suite, entry, prepared.machine) }]));
  for await (const swept of sweepRecords(sweep)) {
    const record: BenchRecord = { ...swept, inSuite: places.get(swept.case.id)! };
    records.push(record);
    await writer.append(record).catch(notice(request.onEvent));
    request.onEvent({ kind: 'record', record, done: records.length, total: cases.length });
  }
}

/** What can't be kept is built again: no reason to fail. */
async function keepEngines(kept: KeptEngines, onEvent: OnRunEvent): Promise<void> {
  const bytes = await kept.keep().catch((error: unknown) => {
    onEvent({ kind: 'notice', text: `the engines can't be kept for --resume: ${error instanceof Error ? error.message : String(error)}` });
    return 0;
  });
  if (bytes > 0) onEvent({ kind: 'notice', text: `the engines (${(bytes / 2 ** 20).toFixed(1)} MiB) are kept in the cache folder until this suite's next run; --resume uses them` });
}

/** Where records of cases that reached no device are kept: under the first of their backend, or of the first backend that is there. */
async function firstDevices(backends: readonly Backend[], probe: Sweep['probe']): Promise<(backend: string) => DeviceInfo> {
  const devices = new Map<string, DeviceInfo>();
  for (const backend of backends) {
    const availability = await probe(backend);
    if (availability.status === 'available' && availability.devices[0]) devices.set(backend.name, availability.devices[0]);
  }
  const [first = NO_DEVICE] = devices.values();
  return (backend) => devices.get(backend) ?? first;
}

/** A record that can't be saved is kept by the writer and tried again with the next; the run goes on. */
function notice(onEvent: OnRunEvent): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof TsrtError)) throw error;
    onEvent({ kind: 'notice', text: `${error.message} (${error.place}); it is kept and tried again` });
  };
}

