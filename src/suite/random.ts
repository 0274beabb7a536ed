/**
 * Seeded, counter-based random numbers: element i of a stream does not depend on the elements before it, so that a tensor
 * is the same however many samples are asked for and in whatever order. Only integer and IEEE double arithmetic is used:
 * the same seed gives the same bytes on every machine.
 *
 * Prior art: counter-based generators (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011); the mixing
 * function is lowbias32 (Wellons, "Prospecting for hash functions", 2018).
 */

/** A bijection on 32-bit integers with low bias. */
export function mix32(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** The key of a stream: the seed and the names of what the stream is for (FNV-1a over their letters). */
export function streamKey(seed: number, ...names: readonly (string | number)[]): number {
  let hash = mix32(seed ^ 0x9e3779b9);
  for (const name of names) {
    for (const char of `${name}\0`) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
    hash = mix32(hash);
  }
  return hash >>> 0;
}

/** Element `index` of stream `key`, uniform over the 32-bit integers. */
export function randomUint32(key: number, index: number): number {
  return mix32(mix32(index) ^ key);
}

/** Element `index` of stream `key`, uniform in [0, 1). */
export function randomUniform(key: number, index: number): number {
  return randomUint32(key, index) / 2 ** 32;
}

/**
 * Element `index` of stream `key`, nearly normal with mean 0 and variance 1, within ±3.46: the sum of four uniform numbers
 * (Irwin–Hall), so a truncated bell as initializers use.
 */
export function randomNormal(key: number, index: number): number {
  const a = mix32(mix32(index) ^ key);
  const b = mix32(a ^ 0x6a09e667);
  return ((a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) - NORMAL_CENTRE) * NORMAL_SCALE;
}

// Four integers uniform on 0…65535: mean 4 × 32767.5, variance 4 × (65536² − 1) / 12.
const NORMAL_CENTRE = 4 * 32767.5;
const NORMAL_SCALE = 1 / Math.sqrt((65536 ** 2 - 1) / 3);
