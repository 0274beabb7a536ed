/** Derived numbers, against values worked out by hand. */
import { describe, expect, it } from 'vitest';
import { deviceMsOf, estimatesOf, itemsPerBatch, latencyRoundsMs, throughputRounds } from '../../../src/results/derive.ts';
import type { Round } from '../../../src/results/record.ts';
import { completed } from '../../helpers/records.ts';

const [template] = completed().rounds;
const round = (parts: Partial<Round>): Round => Object.assign({}, template, parts);

describe('derived numbers', () => {
  it('latency is per request: a sample of several executions is divided by them', () => {
    const rounds = [round({ samplesNs: [4e6, 8e6], executionsPerSample: 4 }), round({ samplesNs: [] }), round({ samplesNs: [3e6], executionsPerSample: 1 })];
    expect(latencyRoundsMs(rounds)).toEqual([[1, 2], [3]]);
  });

  it('throughput counts items: requests × batch over the wall time', () => {
    const rounds = [round({ requests: 10, elapsedNs: 2e9 }), round({ requests: 0, elapsedNs: 1e9 }), round({ requests: 3, elapsedNs: 0 })];
    expect(throughputRounds(rounds, 8)).toEqual([[40]]);
  });

  it('requests that are collected hold one item each', () => {
    const record = completed({ batch: 8 });
    const rounds = [round({ requests: 10, elapsedNs: 2e9, batches: 2 }), round({ requests: 20, elapsedNs: 2e9, batches: 3 })];
    const collected = { ...record, rounds, case: { ...record.case, scenario: { ...record.case.scenario, name: 'server', targetQps: 9, maxQueueDelayMs: 2 } } } as const;
    expect(estimatesOf(collected)!.itemsPerSecond.point).toBe(7.5);
    expect(estimatesOf({ ...record, rounds })!.itemsPerSecond.point).toBe(60);
    expect(itemsPerBatch(rounds)).toBe(6);
    expect(itemsPerBatch(record.rounds)).toBeUndefined();
  });

  it('percentiles are those of all samples, the throughput that of the median round', () => {
    const record = completed({ batch: 2, latencyMs: [[1, 2, 3], [4, 5, 6], [7, 8, 9]] });
    const estimates = estimatesOf(record)!;
    expect(estimates.samples).toBe(9);
    expect(estimates.latencyMs.p50.point).toBe(5);
    // Type 7: h = 8 × 0.95 = 7.6, between the 8th and 9th value.
    expect(estimates.latencyMs.p95.point).toBeCloseTo(8.6, 12);
    // The middle round: three requests of two items in 15 ms.
    expect(estimates.itemsPerSecond.point).toBeCloseTo(400, 9);
    expect(estimates.latencyMs.p50.low).toBeLessThan(5);
    expect(estimates.latencyMs.p50.high).toBeGreaterThan(5);
    expect(estimatesOf(record)).toEqual(estimates);
  });

  it('three rounds give an interval of the median and none of the tail, which says how many would', () => {
    const { latencyMs } = estimatesOf(completed())!;
    expect(latencyMs.p50.roundsNeeded).toBeUndefined();
    for (const [tail, rounds] of [[latencyMs.p95, 144], [latencyMs.p99, 736]] as const) {
      expect(tail).toMatchObject({ low: -Infinity, high: Infinity, roundsNeeded: rounds });
    }
  });

  it('what the device takes is the median of the rounds that tell', () => {
    expect(deviceMsOf([round({ deviceNs: 3e6 }), round({}), round({ deviceNs: 1e6 }), round({ deviceNs: 2e6 })])).toBe(2);
    expect(deviceMsOf([round({})])).toBeUndefined();
  });

  it('a record without samples has no estimates', () => {
    expect(estimatesOf({ ...completed(), rounds: [] })).toBeUndefined();
  });
});
