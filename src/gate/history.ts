/** A case over many runs: its series, and where its level changed. */
import { deviceMsOf, itemsPerRequest, latencyRoundsMs, throughputRounds } from '../results/derive.ts';
import type { BenchRecord, CompletedRecord } from '../results/record.ts';
import { levelChanges } from '../stats/levels.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { snrOf } from './compare.ts';
import type { MetricName } from './metrics.ts';

/** One run's value, in the metric's unit. */
export interface HistoryPoint {
  readonly runId: string;
  readonly startedAt: string;
  readonly revision: string | undefined;
  readonly modelSha256: string;
  readonly value: number;
}

/** A level that began with a run, against the level before. */
export interface LevelChange {
  readonly at: HistoryPoint;
  /** Medians of the levels before and after. */
  readonly before: number;
  readonly after: number;
  /** Whether the run before it measured other weights. */
  readonly otherModel: boolean;
}

export interface CaseHistory {
  readonly caseId: string;
  readonly device: string;
  readonly metric: MetricName;
  /** Oldest first. */
  readonly points: readonly HistoryPoint[];
  readonly changes: readonly LevelChange[];
}

/** The histories of all cases that completed anywhere, by device; records in the order of their runs. */
export function historiesOf(records: readonly BenchRecord[], metric: MetricName, seed: number): readonly CaseHistory[] {
  const cases = new Map<string, { caseId: string; device: string; points: HistoryPoint[] }>();
  for (const record of records) {
    const value = record.status === 'completed' ? valueOf(record, metric) : undefined;
    if (value === undefined) continue;
    const { device } = record.provenance.environment;
    const key = JSON.stringify([record.case.id, device.slug]);
    const entry = cases.get(key) ?? { caseId: record.case.id, device: device.slug, points: [] };
    const { runId, startedAt, tool, model } = record.provenance;
    entry.points.push({ runId, startedAt, revision: tool.revision, modelSha256: model.sha256, value });
    cases.set(key, entry);
  }
  return [...cases.values()].map((entry) => ({ ...entry, metric, changes: changesOf(entry.points, seed) }));
}

function changesOf(points: readonly HistoryPoint[], seed: number): readonly LevelChange[] {
  const values = points.map(({ value }) => value);
  const cuts = levelChanges(values, { seed });
  const level = (from: number, to: number): number => quantile(sortSamples(values.slice(from, to)), 0.5);
  return cuts.map((at, i) => {
    const otherModel = points[at]!.modelSha256 !== points[at - 1]!.modelSha256;
    return { at: points[at]!, before: level(cuts[i - 1] ?? 0, at), after: level(at, cuts[i + 1] ?? values.length), otherModel };
  });
}

function valueOf(record: CompletedRecord, metric: MetricName): number | undefined {
  switch (metric) {
    case 'latency-p50':
      return quantileOf(latencyRoundsMs(record.rounds).flat(), 0.5);
    case 'latency-p95':
      return quantileOf(latencyRoundsMs(record.rounds).flat(), 0.95);
    case 'latency-p99':
      return quantileOf(latencyRoundsMs(record.rounds).flat(), 0.99);
    case 'throughput':
      return quantileOf(throughputRounds(record.rounds, itemsPerRequest(record.case)).flat(), 0.5);
    case 'device-time':
      return deviceMsOf(record.rounds);
    case 'build-time':
      // Of an engine that the run did not build there is no time.
      return record.build.engineFile === undefined ? record.build.buildMs : undefined;
    case 'load-time':
      return record.build.loadMs;
    case 'first-inference':
      return record.build.firstRunMs;
    case 'memory-peak':
      return record.memory.residentPeakBytes;
    case 'memory-device':
      return record.memory.deviceBytes;
    case 'engine-bytes':
      return record.build.engineBytes;
    case 'top1':
      return record.accuracy?.top1Percent;
    case 'agreement':
      return record.accuracy?.agreementPercent;
    case 'snr':
      return snrOf(record.accuracy);
    default:
      return metric satisfies never;
  }
}

function quantileOf(values: readonly number[], p: number): number | undefined {
  return values.length === 0 ? undefined : quantile(sortSamples(values), p);
}
