/**
 * How the values of a tensor spread in each of its channels, in two folds of the samples, and the grid by channel that this asks for.
 *
 * What one fold chooses, the other judges: two-fold cross-validation. Channels of late layers have few values. In MobileNetV2 other photographs
 * exceed what 24 of them show of a channel so far that clipping costs 8 dB of the output, though each step is finer.
 */
import type { Dims } from '../ir/tensor.ts';
import type { Range, Scheme } from './params.ts';

/** Of one tensor [N, C, …], by channel. */
export interface ChannelSpread {
  /** Rows of the first axis go to the two folds in turns. */
  add(values: Float32Array, dims: Dims): void;
  /** Smallest and largest value of each channel in one fold, or in both; zero lies between them. */
  extremes(fold?: Fold): readonly Range[];
  /** Sum of squared errors of a fold's values of a channel on a grid of this step that saturates at the ends of `range`. */
  squaredError(fold: Fold, channel: number, range: Range, step: number): number;
}

export type Fold = 0 | 1;

/** Four bins for each power of two, as a float's first two bits of fraction part it, over twelve of them; what is smaller falls into the lowest. */
const BINS = 48;
const MANTISSA_SHIFT = 21;
const INFINITE = 0x7f800000;

export function createChannelSpread(channels: number): ChannelSpread {
  /** By fold, sign, channel and bin. */
  const counts = new Float64Array(4 * channels * BINS);
  const sums = new Float64Array(4 * channels * BINS);
  const largest = new Float64Array(4 * channels);
  /** Of the lowest bin, in a float's leading bits. */
  let base = 0;
  let rows = 0;

  /** Makes room above: bins that leave at the lower end are joined to the lowest. */
  const raise = (top: number): void => {
    const by = top - (base + BINS - 1);
    if (by <= 0) return;
    base += by;
    for (const all of [counts, sums]) {
      for (let start = 0; start < all.length; start += BINS) {
        const moved = all.slice(start, start + BINS);
        all.fill(0, start, start + BINS);
        for (let bin = 0; bin < BINS; bin++) all[start + Math.max(0, bin - by)]! += moved[bin]!;
      }
    }
  };

  return {
    add(values, dims) {
      const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
      let top = 0;
      for (const word of bits) {
        const magnitude = word & 0x7fffffff;
        if (magnitude > top && magnitude < INFINITE) top = magnitude;
      }
      raise(top >>> MANTISSA_SHIFT);
      const inner = values.length / (dims[0]! * channels);
      for (let start = 0, row = 0; start < values.length; row++) {
        const fold = (rows + row) % 2;
        for (let channel = 0; channel < channels; channel++) {
          for (const end = start + inner; start < end; start++) {
            const magnitude = bits[start]! & 0x7fffffff;
            if (magnitude === 0 || magnitude >= INFINITE) continue;
            const side = ((2 * fold + (bits[start]! >>> 31)) * channels) + channel;
            const size = Math.abs(values[start]!);
            const bin = side * BINS + Math.max(0, (magnitude >>> MANTISSA_SHIFT) - base);
            counts[bin]!++;
            sums[bin]! += size;
            if (size > largest[side]!) largest[side] = size;
          }
        }
      }
      rows += dims[0]!;
    },
    extremes: (fold) =>
      Array.from({ length: channels }, (_, channel) => {
        const most = (negative: number): number => Math.max(...(fold === undefined ? [0, 1] : [fold]).map((each) => largest[(2 * each + negative) * channels + channel]!));
        return { low: 0 - most(1), high: most(0) };
      }),
    squaredError(fold, channel, { low, high }, step) {
      let error = 0;
      for (const [negative, bound] of [[0, high], [1, -low]] as const) {
        const start = ((2 * fold + negative) * channels + channel) * BINS;
        for (let bin = start; bin < start + BINS; bin++) {
          if (counts[bin] === 0) continue;
          const mean = sums[bin]! / counts[bin]!;
          // Rounding is off by step² / 12 on average, and by no more than the value where that becomes zero.
          error += counts[bin]! * (mean > bound ? (mean - bound) ** 2 : Math.min(step ** 2 / 12, mean ** 2));
        }
      }
      return error;
    },
  };
}

/** Factors by which channels are multiplied before they are quantized, and the range that they have then. */
export interface ChannelGrid {
  /** One for each channel: 1 or more, of eight significant bits, so that a float16 holds them. */
  readonly factors: readonly number[];
  readonly range: Range;
}

/** How far beyond the extremes that were seen a channel's range may reach. */
const MARGINS = [1, 1.25, 1.5, 2, 3];
/** A grid by channel is taken where it divides the error by this much or more: less is within what other samples change. */
const LEAST_GAIN = 2;
/** Channels that are nearly dead would ask for any factor. */
const MOST = 2 ** 10;
/** Ends below zero that are tried, as shares of the end above. */
const LOW_SHARES = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5];

/**
 * The grid by channel of a value, or undefined where one for all channels is as good. `power` weighs the error of each channel: the squared norm of
 * what its reader multiplies it by.
 */
export function channelGrid(spread: ChannelSpread, power: readonly number[], whole: Range, scheme: Scheme): ChannelGrid | undefined {
  const fit = (fold: Fold | undefined, margin: number): ChannelGrid => fitted(spread.extremes(fold).map((seen) => widened(seen, margin, whole)), power, scheme);
  const even: ChannelGrid = { factors: power.map(() => 1), range: whole };
  const judged = MARGINS.map((margin) => ({ margin, error: errorOf(spread, 1, power, fit(0, margin), scheme) + errorOf(spread, 0, power, fit(1, margin), scheme) }));
  const best = judged.reduce((a, b) => (b.error < a.error ? b : a));
  const before = errorOf(spread, 0, power, even, scheme) + errorOf(spread, 1, power, even, scheme);
  return best.error * LEAST_GAIN <= before && before > 0 ? fit(undefined, best.margin) : undefined;
}

/** Up to the range of the whole where that is wider, since a margin is no reason to have fewer steps than before. A channel in which nothing was seen has that range. */
function widened({ low, high }: Range, margin: number, whole: Range): Range {
  if (low === 0 && high === 0) return whole;
  return { low: Math.max(low * margin, Math.min(low, whole.low)), high: Math.min(high * margin, Math.max(high, whole.high)) };
}

/** The grid that covers a range for each channel: of the ends below zero that are tried, the one of least error of rounding. */
function fitted(ranges: readonly Range[], power: readonly number[], scheme: Scheme): ChannelGrid {
  const shares = scheme === 'symmetric' ? [1] : ranges.every(({ low }) => low === 0) ? [0] : LOW_SHARES;
  const candidates = shares.map((share) => {
    const room = ranges.map(({ low, high }) => Math.min(1 / high, low < 0 ? share / -low : Number.POSITIVE_INFINITY));
    const least = room.reduce((a, b) => Math.min(a, b));
    const factors = room.map((each) => shortened(Math.min(MOST, each / least)));
    const noise = factors.reduce((sum, factor, channel) => sum + power[channel]! * ((1 + share) / (least * factor)) ** 2, 0);
    return { noise, grid: { factors, range: { low: 0 - share / least, high: 1 / least } } };
  });
  return candidates.reduce((a, b) => (b.noise < a.noise ? b : a)).grid;
}

/** The next number below that has eight significant bits. */
function shortened(value: number): number {
  const unit = 2 ** (Math.floor(Math.log2(value)) - 7);
  return Math.floor(value / unit) * unit;
}

function errorOf(spread: ChannelSpread, fold: Fold, power: readonly number[], { factors, range }: ChannelGrid, scheme: Scheme): number {
  const step = scheme === 'symmetric' ? Math.max(-range.low, range.high) / 127 : (Math.max(0, range.high) - Math.min(0, range.low)) / 255;
  return factors.reduce((sum, factor, channel) => sum + power[channel]! * spread.squaredError(fold, channel, { low: range.low / factor, high: range.high / factor }, step / factor), 0);
}
