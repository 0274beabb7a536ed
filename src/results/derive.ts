/**
 * Numbers derived from the raw samples of a record: latencies per request, throughput per round. One home for what the
 * table shows and the gate judges, so that both mean the same.
 */
import { quantilesOfRounds, type Rounds } from '../stats/bootstrap.ts';
import type { Estimate } from '../stats/interval.ts';
import { createRandom } from '../stats/random.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import type { CompletedRecord, Round } from './record.ts';

const NS_PER_MS = 1e6;
const NS_PER_S = 1e9;

/** A resample costs one draw per sample; so many draws take a tenth of a second, which a table of a dozen cases can bear. */
const TABLE_DRAWS = 5e6;

/** Estimates of one case. Latency is per request, which holds `batch` items; throughput counts items. */
export interface CaseEstimates {
  readonly samples: number;
  readonly latencyMs: { readonly p50: Estimate; readonly p95: Estimate; readonly p99: Estimate };
  /** Median of the rounds. */
  readonly itemsPerSecond: Estimate;
}

/** Milliseconds per request of each round that has samples. */
export function latencyRoundsMs(rounds: readonly Round[]): Rounds {
  return rounds
    .filter((round) => round.samplesNs.length > 0)
    .map((round) => round.samplesNs.map((ns) => ns / round.executionsPerSample / NS_PER_MS));
}

/** Items per second of each round that took time; one value a round, shaped for the hierarchical bootstrap. */
export function throughputRounds(rounds: readonly Round[], batch: number): Rounds {
  return rounds
    .filter((round) => round.requests > 0 && round.elapsedNs > 0)
    .map((round) => [(round.requests * batch * NS_PER_S) / round.elapsedNs]);
}

/** Estimates with bootstrap intervals; undefined for a record without samples. The same record always gives the same ones. */
export function estimatesOf(record: CompletedRecord, confidence = 0.95): CaseEstimates | undefined {
  const latency = latencyRoundsMs(record.rounds);
  const throughput = throughputRounds(record.rounds, record.case.variant.options.batch);
  if (latency.length === 0 || throughput.length === 0) return undefined;
  const samples = countSamples(latency);
  const random = createRandom(record.provenance.seed);
  const options = { random, confidence, resamples: resamplesFor(samples, TABLE_DRAWS) };
  const [p50, p95, p99] = quantilesOfRounds(latency, [0.5, 0.95, 0.99], options);
  const [itemsPerSecond] = quantilesOfRounds(throughput, [0.5], options);
  return { samples, latencyMs: { p50: p50!, p95: p95!, p99: p99! }, itemsPerSecond: itemsPerSecond! };
}

/** Milliseconds that the device itself takes for one execution, the median of the rounds; undefined where none tells. */
export function deviceMsOf(rounds: readonly Round[]): number | undefined {
  const told = rounds.flatMap(({ deviceNs }) => deviceNs ?? []);
  return told.length === 0 ? undefined : quantile(sortSamples(told), 0.5) / NS_PER_MS;
}

export function countSamples(rounds: Rounds): number {
  return rounds.reduce((sum, round) => sum + round.length, 0);
}

/** Between 200 and 1000 resamples within a budget of draws: fewer for very many samples, whose intervals are narrow anyway. */
export function resamplesFor(samples: number, draws: number): number {
  return Math.round(Math.min(1000, Math.max(200, draws / Math.max(1, samples))));
}
