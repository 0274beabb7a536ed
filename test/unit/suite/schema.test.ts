import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { parseSuite } from '../../../src/suite/load.ts';
import { minimalSuite } from './helpers.ts';

function mistakes(data: unknown): readonly string[] {
  try {
    parseSuite(data, 'suite.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(TsrtError);
    expect((error as TsrtError).code).toBe('SUITE_INVALID');
    expect((error as TsrtError).place).toBe('suite.yaml');
    return (error as TsrtError).details;
  }
  throw new Error('the suite was accepted');
}

describe('suite schema', () => {
  it('fills in defaults', () => {
    const suite = parseSuite(minimalSuite(), '/somewhere/suite.yaml');
    expect(suite.folder).toBe('/somewhere');
    expect(suite.batches).toEqual([1]);
    expect(suite.scenarios).toEqual([{ name: 'single-stream', streams: 1, transfers: true }]);
    expect(suite.variants[0]).toMatchObject({ backend: ['null'], precision: ['fp32'], fusion: ['on'], backendOptions: {} });
    expect(suite.measure).toMatchObject({ rounds: 5, timeMs: 1000, isolation: 'round' });
    expect(suite.gate.thresholds).toMatchObject({ 'latency-p50': 5, throughput: 5 });
  });

  it('takes a single value where a list may stand', () => {
    const suite = parseSuite(minimalSuite({ batches: 4, variants: [{ backend: 'null', fusion: 'off', backendOptions: { threads: 'all' } }] }), 'f');
    expect(suite.batches).toEqual([4]);
    expect(suite.variants[0]).toMatchObject({ fusion: ['off'], backendOptions: { threads: ['all'] } });
  });

  it('hashes the meaning, not the writing', () => {
    const reversed = Object.fromEntries(Object.entries(minimalSuite()).reverse());
    const one = parseSuite(minimalSuite(), 'a');
    expect(parseSuite(reversed, 'b').sha256).toBe(one.sha256);
    expect(parseSuite(minimalSuite({ batches: [1] }), 'c').sha256).toBe(one.sha256);
    expect(parseSuite(minimalSuite({ batches: [2] }), 'd').sha256).not.toBe(one.sha256);
  });

  it.each([
    ['at the top', { bathces: [1] }, "bathces: unknown key; did you mean 'batches'?"],
    ['in a section', { measure: { round: 3 } }, "measure.round: unknown key; did you mean 'rounds'?"],
    ['in a list', { variants: [{ backend: 'null', fussion: 'on' }] }, "variants[0].fussion: unknown key; did you mean 'fusion'?"],
    [
      'in one of several kinds',
      { inputs: [{ kind: 'synthetic', values: { distribution: 'uniform', hihg: 2 } }] },
      "inputs[0].values.hihg: unknown key; did you mean 'high'?",
    ],
    [
      'far from every known key',
      { task: { kind: 'raw', zzzzzzzz: 1 } },
      'task.zzzzzzzz: unknown key; known: kind',
    ],
  ])('refuses an unknown key %s', (_where, change, expected) => {
    expect(mistakes(minimalSuite(change))).toEqual([expected]);
  });

  it.each([
    ['a wrong value', { variants: [{ backend: 'null', precision: 'fp31' }] }, /^variants\[0\]\.precision: "fp31" is not one of .*did you mean 'fp32'/],
    ['a wrong kind', { task: { kind: 'clasification' } }, /task\.kind: "clasification" is not one of classification, embedding, raw/],
    ['a wrong type', { measure: { rounds: 'many' } }, /measure\.rounds: .*expected number/],
    ['a missing key', { task: undefined }, /task.*: missing|task.*nothing is none of/],
    ['a number out of range', { gate: { confidence: 95 } }, /gate\.confidence: too big/],
    ['no model source', { model: { name: 'm' } }, /model: needs at least one of file, download, builder/],
    ['several requests of a single stream', { scenarios: [{ name: 'single-stream', streams: 4 }] }, /scenarios\[0\]\.streams: single-stream has one request under way/],
    ['a server without load', { scenarios: [{ name: 'server' }] }, /scenarios\[0\]\.targetQps: targetQps goes with/],
    ['requests that are collected without coming', { scenarios: [{ name: 'offline', maxQueueDelayMs: 2 }] }, /scenarios\[0\]\.maxQueueDelayMs: maxQueueDelayMs goes with the 'server' scenario/],
    ['requests that are collected where they lie', { scenarios: [{ name: 'server', targetQps: 5, maxQueueDelayMs: 2, transfers: false }] }, /scenarios\[0\]\.transfers: requests that are collected are brought/],
    ['a wait of hours', { scenarios: [{ name: 'server', targetQps: 5, maxQueueDelayMs: 1e7 }] }, /scenarios\[0\]\.maxQueueDelayMs: too big/],
    ['an empty range', { inputs: [{ kind: 'synthetic', values: { distribution: 'integers', low: 3, high: 3 } }] }, /inputs\[0\]\.values\.high: low must be/],
    ['an unsafe download', { model: { name: 'm', download: { urls: 'file:///etc/passwd', sha256: 'a'.repeat(64), bytes: 1 } } }, /^model\.download\.urls: /],
    ['an unknown gate metric', { gate: { thresholds: { 'latency-p51': 5 } } }, /gate\.thresholds\.latency-p51: unknown key; did you mean 'latency-p50'/],
    [
      'a crop larger than the picture',
      { inputs: [{ kind: 'image', preprocess: { resize: { shortSide: 20 }, crop: { width: 32, height: 32 } } }] },
      /inputs\[0\]\.preprocess\.crop: the crop is larger/,
    ],
  ])('refuses %s', (_what, change, expected) => {
    const found = mistakes(minimalSuite(change));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(expected);
  });

  it('reports all mistakes at once', () => {
    expect(mistakes(minimalSuite({ bathces: [1], measure: { round: 3, timeMs: -1 }, task: { kind: 'x' } }))).toHaveLength(4);
  });

  it.each([[null], ['text'], [[]], [7]])('refuses %j as a whole', (data) => {
    expect(mistakes(data)[0]).toMatch(/^the file: /);
  });
});
