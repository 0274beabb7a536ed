import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import type { Precision } from '../../../src/engine/engine.ts';
import { accuracyAccumulator, brokenBudget, comparable, outputName } from '../../../src/suite/accuracy.ts';
import type { Task } from '../../../src/suite/schema.ts';
import { buildOptions } from '../../helpers/options.ts';

const about = { inputs: 'test', untrained: false };
const classification: Task = { kind: 'classification', output: 0 };

function batchOf(variant: readonly (readonly number[])[], reference: readonly (readonly number[])[], labels: (number | undefined)[] = []) {
  const pack = (rows: readonly (readonly number[])[]) => ({ y: fromNumbers('float32', [rows.length, rows[0]!.length], rows.flat()) });
  return { variant: pack(variant), reference: pack(reference), labels, count: variant.length, batch: variant.length };
}

describe('accuracyAccumulator', () => {
  it('counts top-1, top-5 and agreement', () => {
    const accuracy = accuracyAccumulator(classification, about);
    const scores = [9, 8, 7, 6, 5, 4, 3];
    accuracy.add(batchOf([scores, scores, scores, scores], [scores, [...scores].reverse(), scores, scores], [0, 4, 5, undefined]));
    const { reading, referenceTop1Percent } = accuracy.result();
    expect(reading).toMatchObject({ samples: 4, agreementPercent: 75 });
    // Labelled: three; right first: label 0; among five: labels 0 and 4, not 5.
    expect(reading.top1Percent).toBeCloseTo(100 / 3, 10);
    expect(reading.top5Percent).toBeCloseTo(200 / 3, 10);
    expect(referenceTop1Percent).toBeCloseTo(100 / 3, 10);
  });

  it('gives ties to the lower index, as argmax does', () => {
    const accuracy = accuracyAccumulator(classification, about);
    accuracy.add(batchOf([[1, 1], [1, 1]], [[1, 0], [1, 0]], [0, 1]));
    expect(accuracy.result().reading).toMatchObject({ top1Percent: 50, top5Percent: 100, agreementPercent: 100 });
  });

  it('leaves out what it can not know', () => {
    const accuracy = accuracyAccumulator({ kind: 'embedding', output: 'y' }, about);
    accuracy.add(batchOf([[1, 2]], [[1, 2]], [0]));
    expect(accuracy.result().reading).toEqual({
      samples: 1,
      top1Percent: undefined,
      top5Percent: undefined,
      agreementPercent: undefined,
      cosineMin: 1,
      maxAbsError: 0,
      snrDb: undefined,
      inputs: 'test',
      untrained: false,
    });
  });

  it('does not count the padding of the last batch', () => {
    const accuracy = accuracyAccumulator(classification, about);
    accuracy.add({ ...batchOf([[1, 0], [0, 1]], [[1, 0], [1, 0]], [0]), count: 1 });
    expect(accuracy.result().reading).toMatchObject({ samples: 1, agreementPercent: 100, maxAbsError: 0 });
  });

  it('agrees with the definitions in float64, however the samples are batched', () => {
    const row = fc.array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(fc.tuple(row, row), { minLength: 1, maxLength: 9 }), fc.integer({ min: 1, max: 4 }), (pairs, size) => {
        const accuracy = accuracyAccumulator(classification, about);
        for (let start = 0; start < pairs.length; start += size) {
          const part = pairs.slice(start, start + size);
          accuracy.add(batchOf(part.map(([a]) => a), part.map(([, b]) => b)));
        }
        const { reading } = accuracy.result();
        const flat = pairs.flatMap(([a, b]) => a.map((value, i) => [value, b[i]!] as const));
        const noise = flat.reduce((sum, [a, b]) => sum + (a - b) ** 2, 0);
        const signal = flat.reduce((sum, [, b]) => sum + b ** 2, 0);
        if (noise === 0) expect(reading.snrDb).toBeUndefined();
        else if (signal > 0) expect(reading.snrDb).toBeCloseTo(10 * Math.log10(signal / noise), 8);
        expect(reading.maxAbsError).toBe(Math.max(...flat.map(([a, b]) => Math.abs(a - b))));
        const cosines = pairs.map(([a, b]) => {
          const dot = a.reduce((sum, value, i) => sum + value * b[i]!, 0);
          const norms = Math.hypot(...a) * Math.hypot(...b);
          return norms === 0 ? (Math.hypot(...a) === Math.hypot(...b) ? 1 : 0) : dot / norms;
        });
        expect(reading.cosineMin).toBeCloseTo(Math.min(1, ...cosines), 6);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it('takes numbers that are none for the worst answer, and the same infinity for agreement', () => {
    const accuracy = accuracyAccumulator(classification, about);
    accuracy.add(batchOf([[1, Number.NaN], [1, -Infinity]], [[1, 0], [1, -Infinity]], [0, 0]));
    const { reading, nonFiniteSamples } = accuracy.result();
    expect(nonFiniteSamples).toBe(1);
    expect(reading).toMatchObject({ cosineMin: 0, snrDb: -1000, top1Percent: 50 });
    expect(Number.isFinite(reading.maxAbsError)).toBe(true);
  });

  it('compares every output of a raw task, and outputs without a batch whole', () => {
    const accuracy = accuracyAccumulator({ kind: 'raw' }, about);
    const tensors = (last: number, b: number) => ({ n: fromNumbers('int64', [3], [1, 2, b]), a: fromNumbers('float32', [2, 1], [1, last]) });
    accuracy.add({ variant: tensors(2, 7), reference: tensors(2, 3), labels: [], count: 2, batch: 2 });
    expect(accuracy.result().reading).toMatchObject({ samples: 2, maxAbsError: 4 });
    accuracy.add({ variant: tensors(9, 3), reference: tensors(2, 3), labels: [], count: 2, batch: 2 });
    expect(accuracy.result().reading).toMatchObject({ samples: 4, maxAbsError: 7 });
  });

  it('reads float16', () => {
    const accuracy = accuracyAccumulator(classification, about);
    const half = { y: fromNumbers('float16', [1, 3], [0.5, 2, 1]) };
    const single = { y: fromNumbers('float32', [1, 3], [0.5, 2, 1]) };
    accuracy.add({ variant: half, reference: single, labels: [1], count: 1, batch: 1 });
    expect(accuracy.result().reading).toMatchObject({ top1Percent: 100, maxAbsError: 0 });
  });
});

describe('comparable', () => {
  const reference = { boxes: fromNumbers('float32', [1, 2], [1, 2]), picked: fromNumbers('float32', [1], [1]) };
  const header = (precision: Precision) => ({
    outputs: [{ name: 'boxes', dtype: 'float32', dims: [1, 2] }, { name: 'picked', dtype: 'float32', dims: [9], dynamic: true }] as const,
    options: buildOptions({ precision }),
  });

  it('leaves out what a lower precision may select otherwise', () => {
    expect(Object.keys(comparable(reference, header('fp32'), { kind: 'raw' }))).toEqual(['boxes', 'picked']);
    expect(Object.keys(comparable(reference, header('int8'), { kind: 'raw' }))).toEqual(['boxes']);
    expect(comparable(reference, header('fp16'), { kind: 'embedding', output: 0 })).toBe(reference);
  });

  it('refuses by name where nothing is left', () => {
    const { picked } = reference;
    for (const [given, task] of [[reference, { kind: 'embedding', output: 1 }], [{ picked }, { kind: 'raw' }]] as const) {
      expect(() => comparable(given, header('int8'), task)).toThrow(expect.objectContaining({ code: 'SUITE_INVALID', message: expect.stringMatching(/length of 'picked'.* int8 .*outputs of the model too$/) as string }));
    }
  });
});

describe('outputName', () => {
  it('finds by name and by position, and says what there is', () => {
    expect(outputName('b', ['a', 'b'])).toBe('b');
    expect(outputName(0, ['a', 'b'])).toBe('a');
    expect(() => outputName('c', ['a', 'b'])).toThrow(expect.objectContaining({ code: 'SUITE_INVALID', details: ['0: a', '1: b'] }));
    expect(() => outputName(2, ['a', 'b'])).toThrow('no output number 2');
  });
});

describe('brokenBudget', () => {
  const accuracy = accuracyAccumulator(classification, about);
  accuracy.add(batchOf([[0, 1], [0, 1], [2, 0], [3, 0]], [[1, 0], [0, 1], [2, 0], [3, 0]], [0, 1, 0, 0]));
  const result = accuracy.result();

  it.each([
    [{ maxTop1DropPoints: 24 }, /top-1 is 25\.00 points below/],
    [{ minSnrDb: 20 }, /signal-to-noise ratio is 8\.8 dB/],
    [{ minCosine: 0.9 }, /cosine falls to 0\.000000/],
    [{ minAgreementPercent: 80 }, /agrees with fp32 in 75\.0 %/],
  ])('says that %j is broken', (budget, expected) => {
    expect(brokenBudget({ samples: 4, ...budget }, result)).toEqual([expect.stringMatching(expected)]);
  });

  it('is silent where all holds, or nothing is asked', () => {
    expect(brokenBudget({ samples: 4, maxTop1DropPoints: 25, minSnrDb: 8, minCosine: 0, minAgreementPercent: 75 }, result)).toEqual([]);
    expect(brokenBudget({ samples: 4 }, result)).toEqual([]);
    expect(brokenBudget({ samples: 4 }, { ...result, nonFiniteSamples: 2 })).toHaveLength(1);
  });
});
