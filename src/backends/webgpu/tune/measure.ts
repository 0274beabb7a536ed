/**
 * Timing candidates against each other: in rounds over all of them (A B C A B C …), so that whatever drifts meets each alike, with
 * the median of the rounds as the time and their interquartile range as the spread. Candidates that are far off leave early.
 *
 * What is timed is the kernel repeated back to back: caches hold the activations that the repetition before left in them, as in a network, and
 * weights only where the device's caches hold more than all copies of them.
 */
import { quantile, sortSamples } from '../../../stats/samples.ts';
import type { TimedCandidate } from './problems.ts';

/** How thoroughly to measure; a device knows what suits it. */
export interface Rules {
  readonly rounds: number;
  /** Device time of one candidate in one round. */
  readonly targetNs: number;
  readonly minRepetitions: number;
  readonly maxRepetitions: number;
  /** Candidates whose kernels are compiled ahead while others are timed. */
  readonly lookahead: number;
}

/** A candidate on the device, with its pipelines. */
export interface Ready {
  readonly candidate: TimedCandidate;
}

/** A candidate to run, so many times. */
export interface Runs {
  readonly ready: Ready;
  readonly repetitions: number;
}

/** Whether the clocks were at their full rate: software has none. */
export type Clocks = 'proven' | 'unproven' | 'software';

/** What the tuner needs of a device. */
export interface TuningDevice {
  readonly rules: Rules;
  /** How to measure whole networks. */
  readonly networkRules: Rules;
  /** The smallest difference of two times that its clock shows. */
  readonly quantumNs: number;
  /** Compiles the kernels; rejects, with the reason, where the device refuses them. */
  prepare(candidate: TimedCandidate): Promise<Ready>;
  /** Nanoseconds of one execution of each, all under the same conditions, one after the other. Rejects where there is no memory for them. */
  round(runs: readonly Runs[]): Promise<readonly number[]>;
  /** Keeps the device at work until the promise settles, then until its clock is seen to stand; 'unproven', with nothing left under way, once `enough` is aborted. */
  warmUp(until: Promise<unknown>, enough?: AbortSignal): Promise<Clocks>;
  /** Whether the clock still stands where it was. */
  holds(): Promise<boolean>;
  /** Throws TsrtError where the device is lost. */
  check(): void;
  destroy(): void;
}

export interface Sample {
  readonly ns: number;
  readonly spreadNs: number;
}

/** One that takes so many times the best is no contender. */
const DROP_RATIO = 2;

/** Times the candidates, the first of which is never dropped. Throws what `check` throws, between rounds. */
export async function sample(device: TuningDevice, candidates: readonly Ready[], check: () => void, rules: Rules = device.rules): Promise<Sample[]> {
  const { quantumNs } = device;
  const once = candidates.map((ready): Runs => ({ ready, repetitions: 1 }));
  // The first execution pays for what is made lazily.
  const cold = await device.round(once);
  check();
  const guess = await device.round(once);
  const bestGuess = Math.min(...guess);
  // Where one execution is as long as a whole turn, it is a turn.
  const samples = guess.map((ns) => (ns >= rules.targetNs && rules.minRepetitions === 1 ? [ns] : []));
  // Half as much again of slack: a single execution is a poor witness.
  const live = candidates.flatMap((ready, i) => {
    if (i > 0 && guess[i]! > 1.5 * DROP_RATIO * bestGuess) return [];
    const wanted = Math.ceil(rules.targetNs / Math.max(1, guess[i]!));
    return [{ i, ready, repetitions: Math.max(rules.minRepetitions, Math.min(rules.maxRepetitions, wanted)) }];
  });
  for (let round = 0; round < rules.rounds; round++) {
    check();
    const best = Math.min(...live.map(({ i }) => medianOf(samples[i]!)));
    const runs = live.filter(({ i }) => i === 0 || samples[i]!.length < 2 || medianOf(samples[i]!) <= DROP_RATIO * best);
    const times = await device.round(runs);
    for (const [at, { i }] of runs.entries()) samples[i]!.push(times[at]!);
  }
  return samples.map((taken, i) => {
    if (taken.length === 0) return { ns: guess[i]!, spreadNs: Math.max(quantumNs, Math.abs(cold[i]! - guess[i]!)) };
    const repetitions = live.find((run) => run.i === i)?.repetitions ?? 1;
    return { ns: medianOf(taken), spreadNs: Math.max(quantumNs / repetitions, spreadOf(taken)) };
  });
}

function medianOf(samples: readonly number[]): number {
  return samples.length === 0 ? Number.POSITIVE_INFINITY : quantile(sortSamples(samples), 0.5);
}

function spreadOf(samples: readonly number[]): number {
  const sorted = sortSamples(samples);
  return quantile(sorted, 0.75) - quantile(sorted, 0.25);
}
