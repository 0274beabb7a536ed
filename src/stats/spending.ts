/**
 * Sequential tests: an error rate that holds although the data are looked at several times on the way.
 *
 * The rate is spent by a function of the information gathered (Lan and DeMets, "Discrete sequential boundaries for clinical
 * trials", Biometrika 70(3), 1983); each look tests at what was spent since the last. Because the spent parts add up to the
 * rate, the union bound alone makes it hold, for any test and any dependence between looks: no joint normal distribution is
 * assumed, which exact tests on few values do not have. That costs a little power against the classical boundaries.
 */
import { normalTail } from './student.ts';

/** Shares of the error rate for each look; they add up to 1. */
export type Spending = readonly number[];

/**
 * O'Brien and Fleming's shape (Biometrics 35(3), 1979; as a spending function Lan and DeMets' first): next to nothing early,
 * nearly all at the end. `fractions` ascend to 1: the information at each look over that at the last.
 */
export function spendLate(fractions: readonly number[], rate: number): Spending {
  const quantile = normalQuantile(rate / 2);
  return increments(fractions.map((fraction) => (fraction === 1 ? 1 : (2 * normalTail(quantile / Math.sqrt(fraction))) / rate)));
}

/** In proportion to the information: where stopping early is worth more than power at the end. */
export function spendEvenly(fractions: readonly number[]): Spending {
  return increments(fractions);
}

function increments(spent: readonly number[]): Spending {
  if (spent.at(-1) !== 1) throw new RangeError('the last look spends what is left');
  return spent.map((share, i) => {
    const part = share - (spent[i - 1] ?? 0);
    if (!(part > 0)) throw new RangeError('information grows from look to look');
    return part;
  });
}

/** The z that is exceeded with probability `tail`, in (0, 0.5]. */
function normalQuantile(tail: number): number {
  let [low, high] = [0, 40];
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (normalTail(middle) > tail) low = middle;
    else high = middle;
  }
  return low;
}
