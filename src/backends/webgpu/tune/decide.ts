/**
 * From measured times to a choice. The model's first candidate holds unless another is faster by more than what the
 * measurement can tell apart; among those that are, equals are decided by the model's order.
 */
import type { TacticTime } from '../../../engine/engine.ts';

/** How long a candidate takes, or why the device does not take it. */
export type Timing = { readonly ns: number; readonly spreadNs: number } | { readonly refused: string };

/** What became of a problem. */
export interface Decision {
  /** Undefined where nothing was measured; else the choice among those that were, which are the model's first so many. */
  readonly tactic: string | undefined;
  readonly times: readonly TacticTime[];
  /** Of the whole network, with each of the candidates that were tried in it. */
  readonly inNetwork?: readonly TacticTime[];
}

/** A candidate must be this much faster, as a share, to replace the first: below it, no measurement is worth a change. */
const LEAST_GAIN = 0.01;

export interface Timed {
  readonly name: string;
  readonly timing: Timing;
}

type Ran = { readonly name: string; readonly ns: number; readonly spreadNs: number };

/** The chosen name, of candidates in the model's order; undefined where the device refuses all of them. `leastGain`: the share of the first's time that a change must bring. */
export function decide(candidates: readonly Timed[], leastGain = LEAST_GAIN): string | undefined {
  const ran = candidates.flatMap(({ name, timing }): Ran[] => ('refused' in timing ? [] : [{ name, ...timing }]));
  const [first] = ran;
  if (!first) return undefined;
  const better = ran.filter((other) => first.ns - other.ns > Math.max(resolution(first, other), leastGain * first.ns));
  const best = better.reduce<Ran | undefined>((least, other) => (least && least.ns <= other.ns ? least : other), undefined);
  if (!best) return first.name;
  return better.find((other) => other.ns - best.ns <= resolution(other, best))!.name;
}

/** The difference that the two measurements can't tell from none. */
function resolution(a: Ran, b: Ran): number {
  return Math.max(a.spreadNs, b.spreadNs);
}

/** The mean over forms of one problem, each with the number of layers that have it. One refusal refuses all. */
export function combine(forms: readonly { readonly timing: Timing; readonly count: number }[]): Timing {
  let total = 0;
  const sum = { ns: 0, spreadNs: 0 };
  for (const { timing, count } of forms) {
    if ('refused' in timing) return timing;
    total += count;
    sum.ns += count * timing.ns;
    sum.spreadNs += count * timing.spreadNs;
  }
  return { ns: sum.ns / total, spreadNs: sum.spreadNs / total };
}
