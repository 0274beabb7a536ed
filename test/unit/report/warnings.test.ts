/** Every kind of warning has a sentence, and its advice fits what the user did. */
import { describe, expect, it } from 'vitest';
import { formatBytes, formatChange, formatNumber, formatPercent } from '../../../src/report/units.ts';
import type { Precision } from '../../../src/engine/engine.ts';
import { collectWarnings, describeWarning } from '../../../src/report/warnings.ts';
import type { RecordWarning } from '../../../src/results/record.ts';
import { completed } from '../../helpers/records.ts';

describe('warnings', () => {
  it('are sentences', () => {
    const warnings: readonly RecordWarning[] = [
      { kind: 'not-steady', rounds: 2 },
      { kind: 'busy-machine', loadAverage: 3.25, cores: 2 },
      { kind: 'clock-quantum', quantumNs: 100, executionsPerSample: 64 },
      { kind: 'few-samples', samples: 30, percentile: 99 },
      { kind: 'drift', yardstick: 'memory', ratio: 1.31 },
      { kind: 'outliers', share: 0.124 },
      { kind: 'host-bound', latencyNs: 426_000, deviceNs: 241_000 },
      { kind: 'overloaded', offeredQps: 5000, answeredQps: 3210 },
      { kind: 'untrained-weights' },
      { kind: 'notice', text: 'passed through unoptimized' },
    ];
    expect(warnings.map((warning) => describeWarning(warning, completed()).sentence)).toMatchInlineSnapshot(`
      [
        "timings were still changing when the warm-up ended, in 2 of 3 rounds",
        "the machine was busy: other programs kept 3.25 of 2 cores",
        "one execution is too short for the clock (100 ns), so 64 are timed together",
        "p99 rests on 30 samples, too few to bound it",
        "the machine drifted during the run: the slowest round's memory yardstick took 1.31× the fastest's",
        "12.4 % of the samples are outliers",
        "the host limits the latency: of 0.426 ms per request, the device works 0.241 ms",
        "5000 requests per second arrived but only 3210 were answered: the queue grew, and latency with it, for as long as they arrived",
        "the weights are seeded, not trained: accuracy only compares variants with each other",
        "passed through unoptimized",
      ]
    `);
  });

  it('advise by what was done', () => {
    const few: RecordWarning = { kind: 'few-samples', samples: 30, percentile: 99 };
    const many = completed({ latencyMs: Array.from({ length: 12 }, () => [10, 11]) });
    expect(describeWarning(few, completed()).advice).toBe('raise --rounds or --time');
    expect(describeWarning(few, many).advice).toBe('raise --time: there are enough rounds');
  });

  it('are told once, with the worst instance and all cases', () => {
    const records = [
      completed({ warnings: [{ kind: 'drift', yardstick: 'memory', ratio: 1.1 }] }),
      completed({ batch: 2, warnings: [{ kind: 'drift', yardstick: 'memory', ratio: 1.4 }, { kind: 'drift', yardstick: 'gpu', ratio: 1.2 }] }),
      completed({ batch: 4, warnings: [{ kind: 'note', text: 'of itself' }, { kind: 'notice', text: 'a' }, { kind: 'notice', text: 'b' }] }),
    ];
    expect(collectWarnings(records).map(({ sentence, cases }) => [sentence.match(/\d\.\d+/)?.[0] ?? sentence, cases.length])).toEqual([
      ['1.40', 2],
      ['1.20', 1],
      ['a', 1],
      ['b', 1],
      ['of itself', 1],
    ]);
  });
});

describe('units', () => {
  it.each([
    [0, '0'],
    [0.0004, '0.000'],
    [0.1234, '0.123'],
    [0.9996, '1.00'],
    [1.234, '1.23'],
    [9.996, '10.0'],
    [12.34, '12.3'],
    [99.96, '100'],
    [1234.5, '1235'],
    [-12.34, '-12.3'],
    [Infinity, '∞'],
    [NaN, 'NaN'],
  ])('%d is %s', (value, text) => {
    expect(formatNumber(value)).toBe(text);
  });

  it('bytes, percent and changes', () => {
    expect([0, 812, 1536, 102_583_340, 5 * 2 ** 40].map(formatBytes)).toEqual(['0 B', '812 B', '1.50 KiB', '97.8 MiB', '5.00 TiB']);
    expect([100, 99.96, 79.2, 0].map(formatPercent)).toEqual(['100 %', '100.0 %', '79.2 %', '0 %']);
    expect([1, 1.052, 0.997, 1.0001, Infinity].map(formatChange)).toEqual(['0.0 %', '+5.2 %', '−0.3 %', '0.0 %', 'n/a']);
  });

  it('advises on a broken budget by the precision that broke it', () => {
    const adviceFor = (precision: Precision) => {
      const record = completed();
      const variant = { ...record.case.variant, options: { ...record.case.variant.options, precision } };
      return describeWarning({ kind: 'over-budget', text: 'SNR is 8 dB, required are 20' }, { ...record, case: { ...record.case, variant } }).advice;
    };
    expect(adviceFor('int8')).toContain('tsrt-bench debug precision');
    expect(adviceFor('mixed')).toContain('--samples');
    expect(adviceFor('fp16')).toContain('tsrt-bench debug layers --precision fp16');
  });
});
