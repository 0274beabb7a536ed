/** What slices of two processes that took turns say: the change of the program, and little of the machine. */
import { describe, expect, test } from 'vitest';
import { shiftOfSlices } from '../../../src/gate/slices.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { sampleRound } from '../../helpers/measure.ts';

/** A round of slices of ten samples each, `levels` long, of executions of so many nanoseconds. */
function roundOf(levels: readonly number[], executionsPerSample = 1) {
  const random = createRandom(levels.length);
  const samplesNs = levels.flatMap((level) => Array.from({ length: 10 }, () => level * executionsPerSample * (1 + 0.01 * normal(random))));
  const slices = levels.map((level) => ({ samples: 10, elapsedNs: 10 * level * executionsPerSample }));
  return sampleRound({ samplesNs, slices, executionsPerSample, requests: samplesNs.length * executionsPerSample });
}

describe('shiftOfSlices', () => {
  // The machine is at half its speed for a while: it falls on the slices of both.
  const machine = Array.from({ length: 20 }, (_, i) => (i > 4 && i < 17 ? 2e6 : 1e6));

  test.each(['latency-p50', 'throughput'] as const)('%s: what falls on both sides cancels', (metric) => {
    const slower = machine.map((level) => level * 1.1);
    const sign = metric === 'throughput' ? -1 : 1;
    expect(shiftOfSlices(metric, roundOf(machine), roundOf(slower))).toBeCloseTo(sign * Math.log(1.1), 2);
    expect(shiftOfSlices(metric, roundOf(machine), roundOf(machine))).toBeCloseTo(0, 2);
  });

  test('bursts that fall on one side of a few pairs do not show', () => {
    const hit = machine.map((level, i) => (i % 3 === 0 ? level * 4 : level));
    expect(shiftOfSlices('latency-p50', roundOf(machine), roundOf(hit))).toBeCloseTo(0, 2);
    expect(shiftOfSlices('throughput', roundOf(machine), roundOf(hit))).toBeCloseTo(0, 2);
  });

  test('samples of several executions count by execution', () => {
    expect(shiftOfSlices('latency-p50', roundOf(machine), roundOf(machine, 4))).toBeCloseTo(0, 2);
    expect(shiftOfSlices('throughput', roundOf(machine), roundOf(machine, 4))).toBeCloseTo(0, 2);
  });

  test('rounds that were not sliced alike say nothing', () => {
    expect(shiftOfSlices('latency-p50', sampleRound(), sampleRound())).toBeUndefined();
    expect(shiftOfSlices('latency-p50', roundOf(machine), roundOf(machine.slice(2)))).toBeUndefined();
  });
});
