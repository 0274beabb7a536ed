/** Thresholds and confidence as typed on the command line. */
import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY, parseConfidence, parseThresholds, thresholdOf } from '../../../src/gate/policy.ts';

describe('parseThresholds', () => {
  it('reads numbers, percent signs and off', () => {
    expect(parseThresholds(['latency-p50=3', 'throughput=2.5%', 'top1=off'])).toEqual({ 'latency-p50': 3, throughput: 2.5, top1: undefined });
    expect(parseThresholds([])).toEqual({});
  });

  it.each(['latency-p50', 'latency-p50=', 'latency-p50=-1', 'latency-p50=abc', '=3', 'speed=3', 'constructor=3'])('refuses %j', (word) => {
    expect(() => parseThresholds([word])).toThrow(expect.objectContaining({ code: 'USAGE', fix: expect.stringContaining('latency-p50') }));
  });

  it('helps with a slip', () => {
    expect(() => parseThresholds(['latency-p5=3'])).toThrow(/did you mean 'latency-p50'/);
  });

  it('`off` takes a metric out of the policy', () => {
    const policy = { ...DEFAULT_POLICY, thresholds: { ...DEFAULT_POLICY.thresholds, ...parseThresholds(['memory-peak=off']) } };
    expect(thresholdOf(policy, 'memory-peak')).toBeUndefined();
    expect(thresholdOf(policy, 'memory-device')).toBeUndefined();
    expect(thresholdOf(DEFAULT_POLICY, 'memory-device')).toBe(DEFAULT_POLICY.thresholds['memory-peak']);
  });
});

describe('parseConfidence', () => {
  it('reads shares and percent, refuses the rest', () => {
    expect(parseConfidence('0.99')).toBe(0.99);
    expect(parseConfidence('95%')).toBe(0.95);
    expect(parseConfidence(undefined)).toBeUndefined();
    for (const text of ['0.5', '1', '99', '', 'high', 'NaN']) expect(() => parseConfidence(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});
