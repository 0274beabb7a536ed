/** Finds the run that `--resume` goes on with, and makes sure that it is the same experiment. */
import { TsrtError } from '../../errors.ts';
import type { BenchRecord } from '../../results/record.ts';
import { finishedCases, latestRun, readRun } from '../../results/store.ts';

export interface ResumedRun {
  readonly runId: string;
  readonly startedAt: string;
  readonly files: readonly string[];
  /** Records of the cases that need no second try. */
  readonly finished: readonly BenchRecord[];
  readonly notices: readonly string[];
}

export interface Experiment {
  readonly suite: string;
  readonly suiteSha256: string;
  readonly modelSha256: string;
  readonly seed: number;
}

/** Throws RESULTS_NOT_FOUND where there is no run, USAGE where the latest one measured something else. */
export async function resumeRun(results: string, experiment: Experiment): Promise<ResumedRun> {
  const run = await latestRun(results, experiment.suite);
  if (!run) {
    throw new TsrtError('RESULTS_NOT_FOUND', `there is no run of suite ${experiment.suite} to resume`, {
      place: results,
      fix: 'leave out --resume, or name the folder with --results',
    });
  }
  const { records, notices } = await readRun(run);
  const first = records[0]?.provenance;
  const differing = first
    ? [
        first.suiteSha256 !== experiment.suiteSha256 && 'the suite or its overrides',
        first.model.sha256 !== experiment.modelSha256 && 'the model',
        first.seed !== experiment.seed && `the seed (${first.seed} then, ${experiment.seed} now)`,
      ].filter((what) => what !== false)
    : [];
  if (differing.length > 0) {
    throw new TsrtError('USAGE', `run ${run.runId} can't be resumed: it differs in ${differing.join(', ')}`, {
      fix: 'give the same suite, model, flags and seed, or leave out --resume for a new run',
    });
  }
  const done = finishedCases(records);
  return {
    runId: run.runId,
    startedAt: first?.startedAt ?? new Date().toISOString(),
    files: run.files.map(({ path }) => path),
    finished: records.filter((record) => done.has(record.case.id)),
    notices,
  };
}
