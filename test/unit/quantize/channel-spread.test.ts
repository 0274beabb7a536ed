import { describe, expect, it } from 'vitest';
import { channelGrid, type ChannelSpread, createChannelSpread } from '../../../src/quantize/channel-spread.ts';
import { fakeQuantize, paramsOf, type Range } from '../../../src/quantize/params.ts';
import { seededRandom } from '../../helpers/random.ts';

const INNER = 200;

/** Rows of channels, each uniform over its range; `reach` multiplies the values of a row. */
function rows(ranges: readonly Range[], count: number, reach: (row: number, channel: number) => number = () => 1): Float32Array {
  const random = seededRandom(7);
  return Float32Array.from({ length: count * ranges.length * INNER }, (_, i) => {
    const [row, channel] = [Math.floor(i / (ranges.length * INNER)), Math.floor(i / INNER) % ranges.length];
    const { low, high } = ranges[channel]!;
    return reach(row, channel) * (low + random() * (high - low));
  });
}

function spreadOf(values: Float32Array, channels: number): ChannelSpread {
  const spread = createChannelSpread(channels);
  const row = channels * INNER;
  for (let start = 0; start < values.length; start += row) spread.add(values.subarray(start, start + row), [1, channels, INNER]);
  return spread;
}

describe('createChannelSpread', () => {
  // From 6 down to 2⁻⁸ of it, on either side of zero.
  const ranges = [{ low: 0, high: 6 }, { low: -0.3, high: 1 }, { low: -3, high: 0 }, { low: -0.02, high: 0.02 }];
  const values = rows(ranges, 4);
  const spread = spreadOf(values, 4);
  const ofFold = (fold: number, channel: number): number[] => [...values].filter((_, i) => Math.floor(i / (4 * INNER)) % 2 === fold && Math.floor(i / INNER) % 4 === channel);

  it('has the extremes of each channel, by fold and of all', () => {
    for (const channel of [0, 1, 2, 3]) {
      const seen = ofFold(1, channel);
      expect(spread.extremes(1)[channel]).toEqual({ low: Math.min(0, ...seen), high: Math.max(0, ...seen) });
      expect(spread.extremes()[channel]!.high).toBe(Math.max(0, ...seen, ...ofFold(0, channel)));
    }
  });

  it.each([0.25, 1, 4])('tells the error of a grid that reaches to %d of the values', (reach) => {
    for (const [channel, { low, high }] of ranges.entries()) {
      const params = paramsOf({ low: low * reach, high: high * reach }, 'affine');
      const exact = ofFold(0, channel).reduce((sum, x) => sum + (x - fakeQuantize(x, params)) ** 2, 0);
      const told = spread.squaredError(0, channel, { low: low * reach, high: high * reach }, params.scale);
      expect(told / exact).toBeGreaterThan(0.8);
      expect(told / exact).toBeLessThan(1.25);
    }
  });

  it('does not depend on whether small or large values come first, and leaves out what is not finite', () => {
    const [small, large] = [Float32Array.of(0.001, -0.002, 0.5, Number.NaN), Float32Array.of(700, Number.POSITIVE_INFINITY, -3, 0)];
    const seen = [[small, small, large, large], [large, large, small, small]].map((order) => {
      const each = createChannelSpread(1);
      for (const values of order) each.add(values, [1, 1, 4]);
      return [0, 1].map((fold) => [each.extremes(fold as 0 | 1), each.squaredError(fold as 0 | 1, 0, { low: -1, high: 1 }, 1 / 64)]);
    });
    expect(seen[0]).toEqual(seen[1]);
    expect(seen[0]![0]![0]).toEqual([{ low: -3, high: 700 }]);
  });
});

describe('channelGrid', () => {
  const unequal = [{ low: 0, high: 60 }, { low: 0, high: 3 }, { low: 0, high: 0.3 }, { low: 0, high: 0 }];
  const whole = { low: 0, high: 60 };

  it('brings channels to one range where the small ones count, and leaves a channel without values as it is', () => {
    const { factors, range } = channelGrid(spreadOf(rows(unequal, 4), 4), [1, 100, 10_000, 1], whole, 'affine')!;
    expect(range.low).toBe(0);
    expect(range.high).toBeGreaterThan(59);
    for (const [channel, { high }] of unequal.entries()) {
      expect(factors[channel]! * high).toBeLessThanOrEqual(range.high);
      if (high > 0) expect(factors[channel]! * high).toBeGreaterThan(range.high / 3.1);
    }
    expect(factors[3]).toBe(1);
    // A float16 holds them.
    for (const factor of factors) expect(Number.isInteger(factor / 2 ** (Math.floor(Math.log2(factor)) - 7))).toBe(true);
  });

  it('covers both signs, around zero if the scheme is', () => {
    const ranges = [{ low: -0.28, high: 50 }, { low: -0.28, high: 0.5 }, { low: -0.2, high: 0.02 }];
    const spread = spreadOf(rows(ranges, 4), 3);
    for (const scheme of ['affine', 'symmetric'] as const) {
      const { factors, range } = channelGrid(spread, [1, 1000, 1000], { low: -0.28, high: 50 }, scheme)!;
      if (scheme === 'symmetric') expect(range.low).toBe(-range.high);
      for (const [channel, { low, high }] of spread.extremes().entries()) {
        expect(low * factors[channel]!).toBeGreaterThanOrEqual(range.low);
        expect(high * factors[channel]!).toBeLessThanOrEqual(range.high);
      }
    }
  });

  it('gives none where channels are alike, where nothing was seen, and where the folds disagree on what a channel reaches', () => {
    const alike = [{ low: 0, high: 6 }, { low: 0, high: 5 }];
    expect(channelGrid(spreadOf(rows(alike, 4), 2), [1, 1], { low: 0, high: 6 }, 'affine')).toBeUndefined();
    expect(channelGrid(createChannelSpread(2), [1, 1], { low: 0, high: 0 }, 'affine')).toBeUndefined();
    // Each channel but the first has one row of four in which it is active: its range was seen by one fold alone.
    const sparse = Array.from({ length: 5 }, (_, channel) => ({ low: 0, high: channel === 0 ? 60 : 20 }));
    const values = rows(sparse, 4, (row, channel) => (channel === 0 || channel - 1 === row ? 1 : 0.02));
    expect(channelGrid(spreadOf(values, 5), [1, 1, 1, 1, 1], whole, 'affine')).toBeUndefined();
  });
});
