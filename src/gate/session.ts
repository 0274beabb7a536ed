/**
 * What another day may do to a timing. Two runs of one engine differ by the state of the machine, which no number of rounds
 * averages out; the yardsticks, timed beside every case, tell part of it.
 *
 * The ratio is normalized by the yardsticks' change, and the interval widened on both sides: by what the yardsticks disagree
 * among themselves, since no engine is bound exactly as they are; by half of what they moved, since an engine may follow them
 * more or less; and by a floor for what they can't see. Sides that were measured in the same rounds need none of it.
 */
import type { Round, YardstickReading } from '../results/record.ts';
import { YARDSTICKS } from '../results/record.ts';
import { quantile, sortSamples } from '../stats/samples.ts';

/** In natural logarithms of time, so that 0.01 is about a percent. */
export interface SessionEffect {
  /** What the yardsticks say that everything became slower. */
  readonly shift: number;
  /** How far from it the truth may lie. */
  readonly allowance: number;
}

/** Sides measured together. */
export const NO_SESSION_EFFECT: SessionEffect = { shift: 0, allowance: 0 };

/** What runs of the same engine an hour apart differ by where the yardsticks agree to a percent. */
const UNSEEN = 0.01;

/** From the yardsticks of both sides; without any, only the floor is known. A GPU's engines go by its own yardstick. */
export function sessionEffect(baseline: readonly Round[], candidate: readonly Round[]): SessionEffect {
  const ratios = new Map(
    YARDSTICKS.flatMap((workload): [YardstickReading['workload'], number][] => {
      const ratio = yardstickRatio(baseline, candidate, workload);
      return ratio === undefined ? [] : [[workload, Math.log(ratio)]];
    }),
  );
  const gpu = ratios.get('gpu');
  const shifts = gpu === undefined ? [...ratios.values()] : [gpu];
  if (shifts.length === 0) return { shift: 0, allowance: UNSEEN };
  const shift = shifts.reduce((sum, value) => sum + value, 0) / shifts.length;
  const disagreement = Math.max(...shifts.map((value) => Math.abs(value - shift)));
  return { shift, allowance: UNSEEN + disagreement + Math.abs(shift) / 2 };
}

/** Median time of a yardstick in the candidate's rounds over that in the baseline's; undefined where either has none. */
export function yardstickRatio(baseline: readonly Round[], candidate: readonly Round[], workload: YardstickReading['workload']): number | undefined {
  const [before, after] = [baseline, candidate].map((rounds) =>
    rounds.flatMap((round) => round.yardstick.filter((reading) => reading.workload === workload).map((reading) => reading.durationNs)),
  );
  if (!before?.length || !after?.length) return undefined;
  const [denominator, numerator] = [quantile(sortSamples(before), 0.5), quantile(sortSamples(after), 0.5)];
  return denominator > 0 && numerator > 0 ? numerator / denominator : undefined;
}
