/** The engines of a suite for commands that measure no cases: built as `run` builds them, once each, and gone when the work is done. */
import { withEngineFolder } from '../engine-folder.ts';
import { readModelFile } from '../model-file.ts';
import { buildSweep } from './build-sweep.ts';
import type { EngineOutcome } from './engines.ts';
import { type PreparedRun, prepareRun } from './prepare.ts';
import type { RunRequest } from './request.ts';

/** Outcomes are by engineKey, in the suite's order. */
export async function withSuiteEngines<T>(request: RunRequest, work: (prepared: PreparedRun, outcomes: ReadonlyMap<string, EngineOutcome>) => Promise<T>): Promise<T> {
  const prepared = await prepareRun(request);
  const { suite, registry, probe, cases, prebuilt, model } = prepared;
  return withEngineFolder(async (folder) => {
    const sweep = { request, registry, probe, suite, model, modelBytes: await readModelFile(model.path), cases, prebuilt, folder };
    return work(prepared, await buildSweep(sweep, { builds: 1 }));
  });
}
