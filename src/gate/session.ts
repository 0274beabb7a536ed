/**
 * What another day may do to a timing. Two runs of one engine differ by the state of the machine, which no number of rounds
 * averages out; the yardsticks, timed beside every case, tell part of it.
 *
 * The ratio is normalized by the yardsticks' change, and the interval widened on both sides: by what the yardsticks disagree
 * among themselves, since no engine is bound exactly as they are; by half of what they moved, since an engine may follow them
 * more or less; by how much they vary within a run, since a machine that is restless for minutes is so for days; and by a
 * floor for what they can't see. Executions that had to share a core add what that may have cost. Sides that were measured in the same rounds need none of it.
 */
import type { Round, YardstickReading } from '../results/record.ts';
import { YARDSTICKS } from '../results/record.ts';
import { robustDeviation } from '../stats/modes.ts';
import { quantile, sortSamples } from '../stats/samples.ts';

type YardstickRound = Pick<Round, 'yardstick'>;

/** In natural logarithms of time, so that 0.01 is about a percent. */
export interface SessionEffect {
  /** What the yardsticks say that everything became slower. */
  readonly shift: number;
  /** How far from it the truth may lie. */
  readonly allowance: number;
}

/** Sides measured together. */
export const NO_SESSION_EFFECT: SessionEffect = { shift: 0, allowance: 0 };

/** What remains between runs of one engine on a machine that its yardsticks call the same. */
const UNSEEN = 0.005;

/** Between runs, for what hangs on file caches, allocators and code that runs once, of which the yardsticks know little. */
const STARTUP_UNSEEN = 0.1;

/** The session's effect on loading, building and a first inference: not normalized, and the more in doubt. */
export function startupEffect({ shift, allowance }: SessionEffect): SessionEffect {
  return { shift: 0, allowance: STARTUP_UNSEEN + Math.abs(shift) + allowance };
}

/** Of the machine of one side. */
export interface MachineRounds {
  readonly rounds: readonly Pick<Round, 'cpuLoad'>[];
  readonly cores: number;
}

/** Less of a core than this is not told from none. */
const LEAST_SPARE = 0.05;

/**
 * How much slower an execution may have run because others wanted its core: yardsticks are too short to be interrupted, long
 * executions are not. Where a whole core was to spare in the median round, not at all; of less, as much as is missing.
 */
export function contention(sides: readonly MachineRounds[]): number {
  const spares = sides.filter(({ rounds }) => rounds.length > 0).map(({ rounds, cores }) => cores - quantile(sortSamples(rounds.map(({ cpuLoad }) => cpuLoad)), 0.5));
  return Math.abs(Math.log(Math.max(LEAST_SPARE, Math.min(1, ...spares))));
}

/** From the yardsticks of both sides; without any, only the floor is known. A GPU's engines go by its own yardstick. */
export function sessionEffect(baseline: readonly YardstickRound[], candidate: readonly YardstickRound[]): SessionEffect {
  const known = YARDSTICKS.flatMap((workload) => changeOf(workload, baseline, candidate) ?? []);
  const gpu = known.filter(({ workload }) => isOfDevice(workload));
  // The processor's say nothing of a GPU whose own were read by two clocks.
  const changes = gpu.length > 0 || hasDevice(baseline) || hasDevice(candidate) ? gpu : known;
  if (changes.length === 0) return { shift: 0, allowance: UNSEEN };
  const shift = changes.reduce((sum, change) => sum + change.shift, 0) / changes.length;
  const disagreement = Math.max(...changes.map((change) => Math.abs(change.shift - shift)));
  const unrest = Math.max(...changes.map((change) => change.unrest));
  return { shift, allowance: UNSEEN + disagreement + Math.abs(shift) / 2 + unrest };
}

/** Whether the executions waited for cores: not on a device with a yardstick of its own, nor on a fake one, which has none. */
export function ranOnCores(rounds: readonly YardstickRound[]): boolean {
  return !hasDevice(rounds) && rounds.some(({ yardstick }) => yardstick.length > 0);
}

const isOfDevice = (workload: YardstickReading['workload']): boolean => workload === 'gpu' || workload === 'gpu-clock';

function hasDevice(rounds: readonly YardstickRound[]): boolean {
  return rounds.some(({ yardstick }) => yardstick.some(({ workload, durationNs }) => isOfDevice(workload) && durationNs > 0));
}

interface YardstickChange {
  readonly workload: YardstickReading['workload'];
  readonly shift: number;
  /** Standard deviation between rounds of the side where it is larger, by the median absolute deviation. */
  readonly unrest: number;
}

function changeOf(workload: YardstickReading['workload'], baseline: readonly YardstickRound[], candidate: readonly YardstickRound[]): YardstickChange | undefined {
  const ratio = yardstickRatio(baseline, candidate, workload);
  if (ratio === undefined) return undefined;
  const unrest = [baseline, candidate].map((rounds) => robustDeviation(readingsOf(rounds, workload).map(Math.log)));
  return { workload, shift: Math.log(ratio), unrest: Math.max(...unrest) };
}

/** Median time of a yardstick in the candidate's rounds over that in the baseline's; undefined where either has none. */
export function yardstickRatio(
  baseline: readonly YardstickRound[],
  candidate: readonly YardstickRound[],
  workload: YardstickReading['workload'],
): number | undefined {
  const [before, after] = [readingsOf(baseline, workload), readingsOf(candidate, workload)];
  return before.length === 0 || after.length === 0 ? undefined : quantile(sortSamples(after), 0.5) / quantile(sortSamples(before), 0.5);
}

/** Nanoseconds; a reading of zero, which a simulated clock gives, says nothing. */
function readingsOf(rounds: readonly YardstickRound[], workload: YardstickReading['workload']): number[] {
  return rounds.flatMap((round) => round.yardstick.filter((reading) => reading.workload === workload && reading.durationNs > 0).map((reading) => reading.durationNs));
}
