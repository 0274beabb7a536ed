import { describe, expect, it } from 'vitest';
import { checkCalibration, formatCalibration, parseCalibration, type Calibration } from '../../../src/quantize/calibration.ts';
import { compareDrift } from '../../../src/quantize/drift.ts';
import { createObserver, type Distribution } from '../../../src/quantize/observer.ts';
import { seededRandom } from '../../helpers/random.ts';

const SHA = 'a'.repeat(64);
const range = { low: -1, high: 2 };
const cache: Calibration = {
  kind: 'tsrt-bench calibration',
  formatVersion: 1,
  tool: '0.1.0',
  model: { name: 'net', sha256: SHA },
  graph: { fusion: 'on', disabledPasses: ['cse', 'reshapes'] },
  dataset: { description: 'photos', sha256: SHA, samples: 3 },
  method: 'mse',
  scheme: 'affine',
  percentile: 99.99,
  quantization: { biasCorrection: true, equalization: false, firstLayer: 'int8', lastLayer: 'keep', keep: ['conv"1"'] },
  beyondHalf: [],
  tensors: { 'a "b"\n': { range, seen: range, bulk: range, clippedShare: 0.25, channelMeans: [1, -2] }, c: { range, seen: range, bulk: range, clippedShare: 0 } },
};

describe('calibration cache', () => {
  it('reads back what it writes, a tensor a line', () => {
    const text = formatCalibration(cache);
    expect(parseCalibration(text, 'x.json')).toEqual(cache);
    expect(text.split('\n').filter((line) => line.includes('clippedShare'))).toHaveLength(2);
    expect(parseCalibration(formatCalibration({ ...cache, tensors: {} }), 'x.json').tensors).toEqual({});
  });

  it.each([
    ['no JSON', '{', /JSON/],
    ['another document', '{"a":1}', /the file is not a calibration of this version/],
    ['an unknown key', formatCalibration(cache).replace('"kind"', '"colour": 1, "kind"'), /the file is not a calibration of this version/],
    ['a range upside down', formatCalibration({ ...cache, tensors: { c: { ...cache.tensors['c']!, range: { low: 1, high: 0 } } } }), /the file is not a calibration of this version/],
    ['a share above one', formatCalibration({ ...cache, tensors: { c: { ...cache.tensors['c']!, clippedShare: 2 } } }), /the file is not a calibration of this version/],
  ])('refuses %s with one clear error', (_what, text, message) => {
    expect(() => parseCalibration(text, 'x.json')).toThrow(expect.objectContaining({ code: 'CALIBRATION_INVALID', place: 'x.json', message: expect.stringMatching(message) }));
  });

  it('fits the model and the passes it was made for, and no other', () => {
    const use = { model: { name: 'net', sha256: SHA }, fusion: 'on', disabledPasses: ['reshapes', 'cse'] } as const;
    expect(() => checkCalibration(cache, use)).not.toThrow();
    for (const other of [{ model: { name: 'x', sha256: 'b'.repeat(64) } }, { fusion: 'off' }, { disabledPasses: [] }] as const) {
      expect(() => checkCalibration(cache, { ...use, ...other })).toThrow(expect.objectContaining({ code: 'CALIBRATION_INVALID' }));
    }
  });
});

describe('drift', () => {
  const seen = (factor: number, offset: number): Distribution => {
    const random = seededRandom(11);
    const observer = createObserver();
    observer.add(Float32Array.from({ length: 20_000 }, () => factor * (random() * 3 - 1) + offset));
    return observer.distribution();
  };
  const tensors = { c: { range, seen: range, bulk: range, clippedShare: 0 } };

  it.each([
    ['the same pictures', 1, 0, false],
    ['half the range', 0.5, 0, true],
    ['moved up, so that it clips', 1, 0.3, true],
    ['all zero', 0, 0, true],
  ])('%s', (_what, factor, offset, suspicious) => {
    expect(compareDrift({ tensors }, new Map([['c', seen(factor, offset)]]))).toEqual([expect.objectContaining({ tensor: 'c', suspicious })]);
  });

  it('names the worst first, and counts what clips', () => {
    const both = { worse: tensors.c, c: tensors.c };
    const rows = compareDrift({ tensors: both }, new Map([['c', seen(1, 0)], ['worse', seen(2, 0)]]));
    expect(rows.map(({ tensor }) => tensor)).toEqual(['worse', 'c']);
    expect(rows[0]!.clippedShare).toBeCloseTo(0.5, 1);
  });
});
