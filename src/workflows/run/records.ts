/** From what became of a case to its record. */
import type { DeviceInfo } from '../../backends/backend.ts';
import { precisionShares } from '../../engine/precision.ts';
import type { ErrorReport } from '../../errors.ts';
import type { CaseOutcome } from '../../measure/plan.ts';
import type { AccuracyReading, BenchRecord, Case, FailureCause, Provenance, RecordWarning, Variant } from '../../results/record.ts';
import { RECORD_SCHEMA_VERSION } from '../../results/record.ts';
import { brokenBudget } from '../../suite/accuracy.ts';
import type { AccuracyBudget } from '../../suite/schema.ts';
import type { AccuracyOutcome } from './accuracy.ts';
import type { BuiltEngine } from './engines.ts';

export interface RecordContext {
  readonly provenance: (device: DeviceInfo) => Provenance;
  /** Of a backend's cases that reached no device. */
  readonly fallbackDevice: (backend: string) => DeviceInfo;
  readonly untrained: boolean;
  /** What the suite allows a variant to lose. */
  readonly budget: AccuracyBudget;
}

/** Why there is no engine. */
export type UnbuiltEngine =
  | { readonly status: 'skipped'; readonly variant?: Variant; readonly reason: string; readonly fix: string | undefined }
  | { readonly status: 'failed'; readonly variant?: Variant; readonly error: ErrorReport };

/** The record of a case whose engine was not built. */
export function unbuiltRecord(context: RecordContext, entry: Case, outcome: UnbuiltEngine): BenchRecord {
  const base = { schemaVersion: RECORD_SCHEMA_VERSION, case: entry, provenance: context.provenance(context.fallbackDevice(entry.variant.options.backend)), warnings: [] } as const;
  switch (outcome.status) {
    case 'skipped':
      return { ...base, status: 'skipped', reason: outcome.reason, fix: outcome.fix };
    case 'failed':
      return { ...base, status: 'failed', stage: 'build', cause: causeOf(outcome.error), error: outcome.error, stderr: '', rounds: [] };
    default:
      return outcome satisfies never;
  }
}

function causeOf(error: ErrorReport): FailureCause {
  return error.code === 'OUT_OF_MEMORY' ? 'out-of-memory' : 'error';
}

/** What a record says of an engine. */
export type EngineFacts = Pick<BuiltEngine, 'sha256' | 'bytes' | 'buildMs' | 'buildsMs' | 'prebuilt'> & { readonly header: Pick<BuiltEngine['header'], 'notices' | 'tactics' | 'activations'> & Partial<Pick<BuiltEngine['header'], 'layers'>> };

/** The record of a case that was handed to the measurement. `remarks` become warnings. */
export function measuredRecord(
  context: RecordContext,
  entry: Case,
  engine: EngineFacts,
  outcome: CaseOutcome,
  accuracy: AccuracyOutcome | undefined,
  remarks: readonly string[],
): BenchRecord {
  const device = outcome.status === 'completed' ? outcome.device : context.fallbackDevice(entry.variant.options.backend);
  const base = { schemaVersion: RECORD_SCHEMA_VERSION, case: entry, provenance: context.provenance(device) } as const;
  const shares = precisionShares(engine.header.layers ?? []);
  const warnings: RecordWarning[] = [
    ...engineWarnings(engine, context),
    ...accuracyWarnings(accuracy, context.budget),
    ...remarks.map((text): RecordWarning => ({ kind: 'notice', text })),
  ];
  switch (outcome.status) {
    case 'completed':
      return {
        ...base,
        status: 'completed',
        warnings: [...outcome.warnings, ...warnings],
        build: {
          engineSha256: engine.sha256,
          engineBytes: engine.bytes,
          buildMs: engine.buildMs,
          ...(engine.buildsMs && { buildsMs: engine.buildsMs }),
          ...(engine.prebuilt !== undefined && { engineFile: engine.prebuilt }),
          loadMs: outcome.loadMs,
          ...(outcome.loadSteps && { loadSteps: outcome.loadSteps }),
          ...(outcome.loadFirstMs !== undefined && { loadFirstMs: outcome.loadFirstMs }),
          firstRunMs: outcome.firstRunMs,
          ...(engine.header.tactics?.tuning && { tuning: engine.header.tactics.tuning }),
          ...(shares && { precision: shares }),
        },
        rounds: outcome.rounds,
        memory: outcome.memory,
        accuracy: readingOf(accuracy),
      };
    case 'failed': {
      const { stage, cause, error, stderr, rounds } = outcome;
      return { ...base, status: 'failed', warnings, stage, cause, error, stderr, rounds };
    }
    case 'aborted':
      return { ...base, status: 'aborted', warnings, rounds: outcome.rounds };
    default:
      return outcome satisfies never;
  }
}

/** Tensors named in a warning. */
const NAMED = 3;

function rangeWarnings({ ranges }: AccuracyReading): RecordWarning[] {
  const moved = ranges?.tensors.filter(({ suspicious }) => suspicious) ?? [];
  if (moved.length === 0) return [];
  const worst = moved.slice(0, NAMED).map(({ tensor, clippedShare, drift }) => `${tensor} (${percent(clippedShare)} clips, moved by ${percent(drift)})`);
  const text = `int8 ranges of ${moved.length} of ${ranges!.tensors.length} tensors do not fit these inputs: ${worst.join(', ')}; calibrate on samples like those that the model will see`;
  return [{ kind: 'notice', text }];
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))} %`;
}

function readingOf(accuracy: AccuracyOutcome | undefined): AccuracyReading | undefined {
  return accuracy?.status === 'assessed' ? accuracy.result.reading : undefined;
}

function engineWarnings(engine: EngineFacts, { untrained }: RecordContext): RecordWarning[] {
  const notes = engine.header.notices.map((text): RecordWarning => ({ kind: 'note', text }));
  return untrained ? [...notes, { kind: 'untrained-weights' }] : notes;
}

function accuracyWarnings(accuracy: AccuracyOutcome | undefined, budget: AccuracyBudget): RecordWarning[] {
  if (accuracy === undefined) return [];
  switch (accuracy.status) {
    case 'failed':
      return [{ kind: 'notice', text: `accuracy is unknown: ${accuracy.error.message}` }];
    case 'assessed':
      return [...brokenBudget(budget, accuracy.result).map((text): RecordWarning => ({ kind: 'over-budget', text })), ...rangeWarnings(accuracy.result.reading)];
    default:
      return accuracy satisfies never;
  }
}
