/**
 * The entropy calibrator: the clip threshold whose quantized distribution loses the least information.
 *
 * Migacz, "8-bit Inference with TensorRT" (GTC 2017): over 2,048 bins of |x|, each threshold from 128 bins on is tried; the
 * clipped distribution P (outliers added to its last bin) is compared with Q, the same bins quantized to 128 levels and
 * spread back over those of them that are not empty; the least Kullback–Leibler divergence KL(P‖Q) wins. Where the last bin is
 * empty, the last that is not takes the outliers: otherwise a far outlier, with nothing before it, could never be clipped.
 *
 * Instead of building P and Q for each candidate, sums over prefixes give every term of the divergence level by level:
 *   KL = 1/N · (Σ p·log p − Σ_levels (Σ p)·log(S/n)) + log(N_Q/N)
 * with S the count and n the number of non-empty bins of a level, N all values and N_Q those below the threshold.
 */

export const ENTROPY_BINS = 2048;
export const ENTROPY_LEVELS = 128;

/**
 * The number of bins to keep, from `levels` to `counts.length`; the smallest of equals.
 */
export function entropyThreshold(counts: ArrayLike<number>, levels = ENTROPY_LEVELS): number {
  const sums = prefixSums(counts);
  let best = counts.length;
  let least = Number.POSITIVE_INFINITY;
  for (let kept = Math.min(levels, counts.length); kept <= counts.length; kept++) {
    const divergence = divergenceAt(counts, sums, kept, levels);
    if (divergence < least) {
      least = divergence;
      best = kept;
    }
  }
  return best;
}

/** KL(P‖Q) in nats for a threshold after `kept` bins. Infinite where all of them are empty and others are not. */
export function entropyDivergence(counts: ArrayLike<number>, kept: number, levels = ENTROPY_LEVELS): number {
  return divergenceAt(counts, prefixSums(counts), kept, levels);
}

/** Entry i sums over the bins before i. */
interface PrefixSums {
  readonly count: Float64Array;
  readonly filled: Float64Array;
  /** Of count · log(count). */
  readonly information: Float64Array;
  /** Not a sum: the last bin before i that is not empty, −1 where there is none. */
  readonly last: Int32Array;
}

function prefixSums(counts: ArrayLike<number>): PrefixSums {
  const count = new Float64Array(counts.length + 1);
  const filled = new Float64Array(counts.length + 1);
  const information = new Float64Array(counts.length + 1);
  const last = new Int32Array(counts.length + 1).fill(-1);
  for (let i = 0; i < counts.length; i++) {
    const value = counts[i]!;
    count[i + 1] = count[i]! + value;
    filled[i + 1] = filled[i]! + (value > 0 ? 1 : 0);
    information[i + 1] = information[i]! + timesLog(value);
    last[i + 1] = value > 0 ? i : last[i]!;
  }
  return { count, filled, information, last };
}

function timesLog(value: number): number {
  return value > 0 ? value * Math.log(value) : 0;
}

function divergenceAt(counts: ArrayLike<number>, sums: PrefixSums, kept: number, levels: number): number {
  const { count, filled, information } = sums;
  const total = count[count.length - 1]!;
  const inside = count[kept]!;
  if (total === 0) return 0;
  if (inside === 0) return Number.POSITIVE_INFINITY;
  const outliers = total - inside;
  const last = sums.last[kept]!;

  // log of P, with the outliers; then log of Q, a level at a time.
  let sum = information[kept]! - timesLog(counts[last]!) + timesLog(counts[last]! + outliers);
  for (let level = 0; level < levels; level++) {
    const start = Math.floor((level * kept) / levels);
    const end = Math.floor(((level + 1) * kept) / levels);
    const inLevel = count[end]! - count[start]!;
    if (inLevel === 0) continue;
    const mass = inLevel + (last >= start && last < end ? outliers : 0);
    sum -= mass * Math.log(inLevel / (filled[end]! - filled[start]!));
  }
  return sum / total + Math.log(inside / total);
}
