/**
 * How much a side of a pair was slower in one round, where its processes took turns (measure/turns.ts): from pairs of neighbouring
 * slices, the median of the logarithm of their ratio; for latencies that of the quieter half of the pairs.
 *
 * What the machine does for longer than a slice falls on both of a pair and leaves their ratio alone; what falls on one of them
 * spoils one pair of many, and the median does not ask by how much. A machine only ever makes slower, so that of latencies the
 * pairs that took the least together are the least disturbed; to choose by the sum favours neither side. Throughput is what it is
 * because of the stalls: it keeps all pairs. docs/methodology.md has the figures by which this was chosen.
 */
import type { Round } from '../results/record.ts';
import { quantile, sortSamples } from '../stats/samples.ts';

/** The metrics that a slice has enough samples for. */
export type SlicedMetric = 'latency-p50' | 'throughput';

export function isSliced(metric: string): metric is SlicedMetric {
  return metric === 'latency-p50' || metric === 'throughput';
}

/** log(after / before) of a metric; undefined where the two did not take turns. Throughputs are of requests. */
export function shiftOfSlices(metric: SlicedMetric, before: Round, after: Round): number | undefined {
  const [one, other] = [slicesOf(metric, before), slicesOf(metric, after)];
  if (!one || !other || one.length !== other.length) return undefined;
  const pairs = one.map((value, i) => ({ shift: Math.log(other[i]! / value), sum: Math.log(value * other[i]!) }));
  if (metric === 'throughput') return median(pairs.map(({ shift }) => shift));
  const quieter = pairs.sort((a, b) => a.sum - b.sum).slice(0, Math.ceil(pairs.length / 2));
  return median(quieter.map(({ shift }) => shift));
}

function slicesOf(metric: SlicedMetric, { slices, samplesNs, executionsPerSample }: Round): readonly number[] | undefined {
  if (metric === 'throughput') return slices?.map(({ samples, elapsedNs }) => (samples * executionsPerSample) / elapsedNs);
  let end = 0;
  return slices?.map(({ samples }) => median(samplesNs.slice(end, (end += samples))) / executionsPerSample);
}

function median(values: readonly number[]): number {
  return quantile(sortSamples(values), 0.5);
}
