/**
 * Sequential tests: an error rate that holds although the data are looked at several times on the way.
 *
 * The rate is spent by a function of the information gathered (Lan and DeMets, "Discrete sequential boundaries for clinical
 * trials", Biometrika 70(3), 1983); each look tests at what was spent since the last. Because the spent parts add up to the
 * rate, the union bound alone makes it hold, for any test and any dependence between looks: no joint normal distribution is
 * assumed, which exact tests on few values do not have. That costs a little power against the classical boundaries.
 */
/** Shares of the error rate for each look; they add up to 1. */
export type Spending = readonly number[];

/**
 * Little early and most at the end: the square of the information, of Kim and DeMets' family (Biometrika 74(1), 1987), between
 * O'Brien and Fleming's shape, which lets early looks decide next to nothing, and an even one. `fractions` ascend to 1: the
 * information at each look over that at the last.
 */
export function spendLate(fractions: readonly number[]): Spending {
  return increments(fractions.map((fraction) => fraction ** 2));
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
