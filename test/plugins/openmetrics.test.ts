/** The openmetrics plugin, read back by a small parser of the text format. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import plugin, { openmetricsReporter } from '../../plugins/openmetrics/index.ts';
import { parsePlugin } from '../../src/plugin-schema.ts';
import type { BenchRecord } from '../../src/results/record.ts';
import { completed, failed, skipped } from '../helpers/records.ts';

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const render = (records: readonly BenchRecord[], suite = 'test'): string => openmetricsReporter.render({ suite, records, baselineVariant: undefined, color: false, width: 80 });

/** The standard's grammar, as far as gauges go; throws on a line that is none. */
function parse(text: string): { readonly types: readonly string[]; readonly samples: readonly Sample[] } {
  expect(text.endsWith('\n# EOF\n') || text === '# EOF\n').toBe(true);
  const types: string[] = [];
  const samples: Sample[] = [];
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (?:TYPE (\w+) gauge|UNIT \w+ \w+|HELP \w+ .*|EOF)$/.exec(line);
    if (comment) {
      if (comment[1]) types.push(comment[1]);
      continue;
    }
    const match = /^([a-z_][a-z0-9_]*)\{((?:[a-z_0-9]+="(?:[^"\\\n]|\\[\\n"])*",?)*)\} (NaN|[+-]Inf|-?\d[\d.e+-]*)$/.exec(line);
    if (!match) throw new Error(`no sample: ${line}`);
    const labels = Object.fromEntries([...match[2]!.matchAll(/([a-z_0-9]+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, value]) => [key!, value!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c))]));
    samples.push({ name: match[1]!, labels, value: Number(match[3]!.replace('Inf', 'Infinity')) });
  }
  return { types, samples };
}

describe('the openmetrics plugin', () => {
  it('is a plugin', () => expect(parsePlugin(plugin, 'plugins/openmetrics')).toBe(plugin));

  it('gives every quantity of a case, in base units, under its labels', () => {
    const { types, samples } = parse(render([completed()]));
    const find = (name: string, label: Readonly<Record<string, string>> = {}) => samples.find((sample) => sample.name === name && Object.entries(label).every(([key, value]) => sample.labels[key] === value));
    const median = find('tsrt_bench_latency_seconds', { quantile: '0.5' })!;
    expect(Object.keys(median.labels)).toEqual(['suite', 'device', 'variant', 'backend', 'precision', 'batch', 'scenario', 'quantile']);
    expect(median.value).toBeGreaterThan(0);
    expect(median.value).toBeLessThan(0.1);
    expect(find('tsrt_bench_throughput_items_per_second')!.value * median.value).toBeCloseTo(Number(median.labels['batch']), 0);
    expect(find('tsrt_bench_case', { status: 'completed' })!.value).toBe(1);
    expect(new Set(types).size).toBe(types.length);
    for (const { name } of samples) expect(types).toContain(name);
  });

  it('leaves out an interval that two rounds are too few for', () => {
    const bounds = (rounds: number) => parse(render([completed({ latencyMs: Array.from({ length: rounds }, () => [10, 11]) })])).samples.filter(({ name }) => name === 'tsrt_bench_latency_interval_seconds');
    expect(bounds(3).map(({ labels }) => labels['bound'])).toEqual(['low', 'high']);
    expect(bounds(2)).toEqual([]);
  });

  it('says what became of cases without numbers, and ends well without any', () => {
    expect(parse(render([failed({ variant: 'other/fp32/fusion-on' }), skipped()])).samples.map(({ name, labels }) => [name, labels['status']])).toEqual([['tsrt_bench_case', 'failed'], ['tsrt_bench_case', 'skipped']]);
    expect(render([])).toBe('# EOF\n');
  });

  it('writes each time series once, however many records of a case there are', () => {
    const { samples } = parse(render([completed(), completed(), failed()]));
    const series = samples.map(({ name, labels }) => JSON.stringify([name, labels]));
    expect(new Set(series).size).toBe(series.length);
  });

  it('escapes any name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }).filter((text) => !/[\r\u2028\u2029\u0085]/.test(text)), (suite) => {
        for (const { labels } of parse(render([skipped()], suite)).samples) expect(labels['suite']).toBe(suite);
      }),
    );
  });
});
