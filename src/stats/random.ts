/**
 * Seeded random numbers: the same seed gives the same run order, arrivals and permutations everywhere.
 *
 * The generator is xoshiro128** 1.1 (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", ACM TOMS 47(4),
 * 2021), seeded through SplitMix32 as its authors advise, because JavaScript multiplies 32-bit integers fast and 64-bit ones not.
 */

/** A stream of random numbers. Advancing it is its only state. */
export interface Random {
  /** Uniform integer in [0, 2³²). */
  uint32(): number;
  /** Uniform in [0, 1), 53 bits. */
  uniform(): number;
  /** Uniform integer in [0, bound), without modulo bias; `bound` in [1, 2³²). */
  below(bound: number): number;
}

/** A generator from an integer seed; every distinct 32-bit seed gives its own stream. Throws RangeError on a seed that is no safe integer. */
export function createRandom(seed: number): Random {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`a seed is a safe integer, not ${seed}`);
  const next = splitMix32(seed);
  // The high half of a large seed enters too, so that timestamps in milliseconds make good seeds.
  const high = Math.floor(seed / 2 ** 32) | 0;
  let [a, b, c, d] = [next(), next() ^ high, next(), next()];
  if ((a | b | c | d) === 0) a = 1;

  const uint32 = (): number => {
    const scrambled = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotateLeft(d, 11);
    return scrambled >>> 0;
  };
  return {
    uint32,
    uniform: () => ((uint32() >>> 5) * 2 ** 26 + (uint32() >>> 6)) * 2 ** -53,
    below: (bound) => below(uint32, bound),
  };
}

/** A seed for a part of a run, from the run's seed and the part's number: streams of different parts do not overlap in practice. */
export function deriveSeed(seed: number, part: number): number {
  return splitMix32((seed ^ Math.imul(part + 1, 0x9e3779b1)) | 0)() >>> 0;
}

/** A shuffled copy (Fisher and Yates, in Durstenfeld's form: CACM 7(7), 1964). */
export function shuffle<T>(items: readonly T[], random: Random): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    const kept = shuffled[last]!;
    shuffled[last] = shuffled[other]!;
    shuffled[other] = kept;
  }
  return shuffled;
}

/** An exponential variate of mean 1/rate, by inversion: the gaps between Poisson arrivals (Devroye, 1986, II.2). */
export function exponential(rate: number, random: Random): number {
  return -Math.log1p(-random.uniform()) / rate;
}

/** A standard normal variate (Box and Muller, Ann. Math. Statist. 29(2), 1958). */
export function normal(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log1p(-random.uniform()));
  return radius * Math.cos(2 * Math.PI * random.uniform());
}

/** Rejection below the largest multiple of `bound` (Lemire, "Fast Random Integer Generation in an Interval", 2019, §2). */
function below(uint32: () => number, bound: number): number {
  if (!Number.isInteger(bound) || bound < 1 || bound >= 2 ** 32) throw new RangeError(`a bound is an integer in [1, 2^32), not ${bound}`);
  const limit = 2 ** 32 - (2 ** 32 % bound);
  let value = uint32();
  while (value >= limit) value = uint32();
  return value % bound;
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function splitMix32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return mixed ^ (mixed >>> 16);
  };
}
