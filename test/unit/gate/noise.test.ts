/** What a gate says about the machine: each kind of trouble by its name, and nothing on quiet rounds. */
import { describe, expect, it } from 'vitest';
import { describeNoise, noiseOf } from '../../../src/gate/noise.ts';
import { contention, NO_SESSION_EFFECT, ranOnCores, sessionEffect, yardstickRatio } from '../../../src/gate/session.ts';
import type { CompletedRecord, Round } from '../../../src/results/record.ts';
import { createRandom, normal } from '../../../src/stats/random.ts';
import { completed } from '../../helpers/records.ts';

const random = createRandom(5);

/** Rounds with these levels in milliseconds. */
function record(levels: readonly number[], change: (round: Round) => Partial<Round> = () => ({})): CompletedRecord {
  const made = completed({ latencyMs: levels.map((level) => Array.from({ length: 15 }, (_, i) => level * (1 + i / 5000))) });
  return { ...made, rounds: made.rounds.map((round) => ({ ...round, ...change(round) })) };
}

const levels = (draw: (i: number) => number) => Array.from({ length: 16 }, (_, i) => 10 * draw(i));
const quiet = record(levels(() => 1 + 0.003 * normal(random)));
const sentences = (before: CompletedRecord, after: CompletedRecord) => noiseOf(before, after).map(describeNoise);

describe('noiseOf', () => {
  it('has nothing to say about quiet rounds, nor about three', () => {
    expect(noiseOf(quiet, quiet)).toEqual([]);
    expect(noiseOf(completed(), completed())).toEqual([]);
    expect(noiseOf(record([0, 0, 0]), quiet)).toEqual([]);
  });

  it('names two modes', () => {
    const modes = record(levels((i) => (i % 4 === 0 ? 1.04 : 1) + 0.002 * normal(random)));
    expect(sentences(quiet, modes)).toEqual([expect.stringMatching(/^the candidate's rounds have two modes, (3\.\d|4\.\d) % apart; 25 % are slow$/)]);
  });

  it('names heat', () => {
    const hot = record(levels((i) => 1 + i * 0.004 + 0.001 * normal(random)));
    expect(sentences(hot, quiet)).toEqual([expect.stringMatching(/^the baseline became (5\.\d|6\.\d) % slower from its first round to its last$/)]);
  });

  it('names a clock that changed, a busy neighbour, and rounds that scatter', () => {
    const slow = record(levels(() => 1), () => ({ clockMhz: 2100 }));
    expect(sentences(quiet, slow)).toEqual(['the CPU ran at 2400 MHz for the baseline and at 2100 MHz for the candidate']);
    const busy = record(levels(() => 1), () => ({ cpuLoad: 1.25 }));
    expect(sentences(quiet, busy)).toEqual(['other programs kept 1.3 cores busy while the candidate was measured']);
    const wild = record(levels(() => Math.exp(0.2 * normal(random))));
    expect(sentences(wild, quiet)).toEqual([expect.stringMatching(/^the baseline's rounds scatter by \d\d %$/)]);
  });
});

describe('sessionEffect', () => {
  const rounds = (readings: readonly (readonly [number, number])[]) =>
    readings.map(([arithmetic, memory]) => ({
      yardstick: [
        { workload: 'cpu-arithmetic', durationNs: arithmetic },
        { workload: 'memory', durationNs: memory },
      ] as const,
    }));
  const still = rounds([[100, 200], [100, 200], [100, 200]]);

  it('is the floor alone where the yardsticks stand still, or where there is none', () => {
    expect(sessionEffect(still, still)).toEqual({ shift: 0, allowance: 0.005 });
    expect(sessionEffect([], still)).toEqual({ shift: 0, allowance: 0.005 });
    expect(NO_SESSION_EFFECT.allowance).toBe(0);
  });

  it('moves with the yardsticks and widens by half of it, and by their disagreement', () => {
    const slower = sessionEffect(still, rounds([[110, 220], [110, 220]]));
    expect(slower.shift).toBeCloseTo(Math.log(1.1), 12);
    expect(slower.allowance).toBeCloseTo(0.005 + Math.log(1.1) / 2, 12);
    const apart = sessionEffect(still, rounds([[110, 200], [110, 200]]));
    expect(apart.shift).toBeCloseTo(Math.log(1.1) / 2, 12);
    expect(apart.allowance).toBeCloseTo(0.005 + Math.log(1.1) / 2 + Math.log(1.1) / 4, 12);
  });

  it('widens by what the yardsticks vary within a run', () => {
    const restless = rounds([[90, 200], [100, 200], [110, 200]]);
    // Median absolute deviation of the logarithms: ln 1.1 above, ln(10/9) below; their median with 0 is ln 1.1.
    expect(sessionEffect(still, restless).allowance).toBeCloseTo(0.005 + 1.4826 * Math.log(1.1), 12);
  });

  it('counts what sharing a core may have cost, where cores were waited for', () => {
    const side = (cores: number, ...loads: readonly number[]) => ({ cores, rounds: loads.map((cpuLoad) => ({ cpuLoad })) });
    expect(contention([side(2, 0.1, 0.9, 1), side(16, 15)])).toBe(0);
    expect(contention([side(2, 0, 1.5, 1.6), side(2, 0)])).toBeCloseTo(Math.log(2), 12);
    expect(contention([side(2, 0), side(2, 9)])).toBeCloseTo(Math.log(20), 12);
    expect(contention([side(2), side(2)])).toBe(0);
    expect(ranOnCores(still)).toBe(true);
    expect(ranOnCores([{ yardstick: [] }])).toBe(false);
    expect(ranOnCores([{ yardstick: [...still[0]!.yardstick, { workload: 'gpu', durationNs: 1 }] }])).toBe(false);
  });

  it('goes by the GPU alone where it was timed, and ignores readings of zero', () => {
    const gpu = (durationNs: number) => [{ yardstick: [...still[0]!.yardstick, { workload: 'gpu', durationNs } as const] }];
    expect(sessionEffect(gpu(100), gpu(150)).shift).toBeCloseTo(Math.log(1.5), 12);
    expect(sessionEffect(gpu(0), gpu(150)).shift).toBe(0);
    expect(yardstickRatio(gpu(100), gpu(150), 'gpu')).toBe(1.5);
    expect(yardstickRatio(gpu(0), gpu(150), 'gpu')).toBeUndefined();
    // By another clock it is another workload, and the processor's yardsticks stand for no GPU.
    const slowed = [{ yardstick: [...still[0]!.yardstick.map((reading) => ({ ...reading, durationNs: 2 * reading.durationNs })), { workload: 'gpu-clock', durationNs: 40 } as const] }];
    expect(sessionEffect(gpu(100), slowed)).toEqual({ shift: 0, allowance: 0.005 });
    expect(ranOnCores(slowed)).toBe(false);
  });
});
