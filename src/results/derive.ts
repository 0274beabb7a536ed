/**
 * Numbers derived from the raw samples of a record: latencies per request, throughput per round. One home for what the
 * table shows and the gate judges, so that both mean the same.
 */
import { quantilesOfRounds, type Rounds, type RoundsEstimate } from '../stats/rounds.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import type { Case, CompletedRecord, Round } from './record.ts';

const NS_PER_MS = 1e6;
const NS_PER_S = 1e9;

/** Estimates of one case. Latency is per request, which holds as many items as {@link itemsPerRequest} says; throughput counts items. */
export interface CaseEstimates {
  readonly samples: number;
  readonly latencyMs: { readonly p50: RoundsEstimate; readonly p95: RoundsEstimate; readonly p99: RoundsEstimate };
  /** Median of the rounds. */
  readonly itemsPerSecond: RoundsEstimate;
}

/** Milliseconds per request of each round that has samples. */
export function latencyRoundsMs(rounds: readonly Round[]): Rounds {
  return rounds
    .filter((round) => round.samplesNs.length > 0)
    .map((round) => round.samplesNs.map((ns) => ns / round.executionsPerSample / NS_PER_MS));
}

/** What a request holds: the engine's batch, or one item where the scenario collects requests into batches. */
export function itemsPerRequest({ scenario, variant }: Case): number {
  return scenario.maxQueueDelayMs === undefined ? variant.options.batch : 1;
}

/** How many requests a batch held, where they were collected. */
export function itemsPerBatch(rounds: readonly Round[]): number | undefined {
  const batches = rounds.reduce((sum, round) => sum + (round.batches ?? 0), 0);
  return batches === 0 ? undefined : rounds.reduce((sum, { requests }) => sum + requests, 0) / batches;
}

/** Items per second of each round that took time; one value a round. */
export function throughputRounds(rounds: readonly Round[], perRequest: number): Rounds {
  return rounds
    .filter((round) => round.requests > 0 && round.elapsedNs > 0)
    .map((round) => [(round.requests * perRequest * NS_PER_S) / round.elapsedNs]);
}

/** Estimates with intervals where the rounds suffice; undefined for a record without samples. */
export function estimatesOf(record: CompletedRecord, confidence = 0.95): CaseEstimates | undefined {
  const latency = latencyRoundsMs(record.rounds);
  const throughput = throughputRounds(record.rounds, itemsPerRequest(record.case));
  if (latency.length === 0 || throughput.length === 0) return undefined;
  const [p50, p95, p99] = quantilesOfRounds(latency, [0.5, 0.95, 0.99], confidence);
  const [itemsPerSecond] = quantilesOfRounds(throughput, [0.5], confidence);
  return { samples: countSamples(latency), latencyMs: { p50: p50!, p95: p95!, p99: p99! }, itemsPerSecond: itemsPerSecond! };
}

/** Milliseconds that the device itself takes for one execution, the median of the rounds; undefined where none tells. */
export function deviceMsOf(rounds: readonly Round[]): number | undefined {
  const told = rounds.flatMap(({ deviceNs }) => deviceNs ?? []);
  return told.length === 0 ? undefined : quantile(sortSamples(told), 0.5) / NS_PER_MS;
}

export function countSamples(rounds: Rounds): number {
  return rounds.reduce((sum, round) => sum + round.length, 0);
}
